/**
 * LeaderCalls: what goes from this node to the leader and is carried out here for others: writes,
 * which call-router.ts brings, and calls of transactions. What may not go, by the node's `forward`
 * rule, it refuses.
 */
import { ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { Clock, Random } from '../base/ports.ts'
import type { WriteRequest } from '../engine/engine.ts'
import { decodeRequest } from '../engine/request.ts'
import type { ReplicatedLog } from '../log/log.ts'
import type { Peers } from '../log/peers.ts'
import { Forwarder } from './forward.ts'
import { decodeOutcome, encodeOutcome } from './outcome-codec.ts'
import { changesSchema } from './schema-change.ts'
import {
  decodeCall,
  decodeTransactionOutcome,
  encodeCall,
  encodeTransactionOutcome,
  type TransactionCall,
  type TransactionCallback,
} from './transaction-call.ts'
import type { ForwardRule, ReplicaCounters, WriteCallback } from './types.ts'

export interface LeaderCallsParts {
  readonly log: ReplicatedLog
  readonly peers: Peers
  readonly clock: Clock
  readonly random: Random
  readonly forward: ForwardRule
  readonly maxWaiting: number
  readonly counters: ReplicaCounters
  /** Carries out on this node, as the leader, what another node passed on. */
  readonly submit: (body: Uint8Array, timeoutMs: number, done: WriteCallback) => void
  readonly transact: (call: TransactionCall, timeoutMs: number, done: TransactionCallback) => void
}

export class LeaderCalls {
  readonly #parts: LeaderCallsParts
  readonly #forwarder: Forwarder
  #leader: number | undefined

  constructor(parts: LeaderCallsParts) {
    this.#parts = parts
    const { peers, clock, random, maxWaiting } = parts
    this.#forwarder = new Forwarder({
      peers,
      clock,
      random,
      maxWaiting,
      handlers: {
        write: (body, timeoutMs, done) =>
          parts.submit(body, timeoutMs, outcome => {
            const writer = new ByteWriter()
            encodeOutcome(writer, outcome)
            done(writer.finish())
          }),
        transaction: (body, timeoutMs, done) =>
          parts.transact(decodeCall(body), timeoutMs, outcome =>
            done(encodeTransactionOutcome(outcome)),
          ),
      },
    })
  }

  get waitingCount(): number {
    return this.#forwarder.waitingCount
  }

  /** `leader` leads now, as far as this node knows. */
  leaderChanged(leader: number | undefined): void {
    this.#leader = leader
    if (leader !== undefined) this.#forwarder.leaderChanged(leader)
  }

  /** Whether this node may pass the request on, by its `forward` rule. */
  mayForward(request: WriteRequest): boolean {
    const { forward } = this.#parts
    return forward === 'all' || (forward === 'data' && !changesSchema(request))
  }

  /** Sends a write to `leader`, once. */
  write(
    leader: number,
    write: { readonly body: Uint8Array; readonly hasId: boolean },
    timeoutMs: number,
    done: WriteCallback,
  ): void {
    this.#parts.counters.forwarded += 1
    const { body, hasId } = write
    this.#forwarder.forward(leader, { kind: 'write', body, hasId }, timeoutMs, outcome => {
      done(outcome.type === 'failed' ? outcome : decodeOutcome(outcome.answer))
    })
  }

  transact(call: TransactionCall, timeoutMs: number, done: TransactionCallback): void {
    const leader = this.#leader
    if (!this.mayForwardCall(call)) return done({ type: 'failed', error: this.refusal() })
    if (leader === undefined) {
      const message = 'nobody leads right now; an election takes about a second'
      return done({ type: 'failed', error: new DbError('NO_LEADER', message) })
    }
    this.#parts.counters.forwarded += 1
    const frame = { kind: 'transaction', body: encodeCall(call), hasId: false } as const
    this.#forwarder.forward(leader, frame, timeoutMs, outcome => {
      if (outcome.type === 'answered') done(decodeTransactionOutcome(outcome.answer))
      else done({ type: 'failed', error: lostCall(call, outcome.error) })
    })
  }

  sweep(): void {
    this.#forwarder.sweep()
  }

  /** Ends all waiting: the node stops. */
  fail(): void {
    this.#forwarder.fail()
  }

  /** Whether this node may pass the call on, by its `forward` rule. */
  mayForwardCall(call: TransactionCall): boolean {
    const isStep = call.type === 'execute' || call.type === 'query'
    if (isStep && this.#parts.forward === 'data')
      return this.mayForward(decodeRequest(call.request))
    return this.#parts.forward !== 'none'
  }

  /** For what this node may not pass on. */
  refusal(): DbError {
    const { forward, log } = this.#parts
    const leader = log.status().peers.find(({ raftId }) => raftId === this.#leader)
    const where = leader === undefined ? 'unknown' : `${leader.nodeId} at ${leader.address}`
    const what = forward === 'none' ? 'writes' : 'changes of the schema'
    const message = `this node is a follower and does not forward ${what}; the leader is ${where}`
    const details = { leaderId: leader?.nodeId, leaderAddress: leader?.address, forward }
    return new DbError('NOT_LEADER', message, { details })
  }
}

/**
 * Of a transaction that is not committed nothing takes effect, whatever became of one call; but
 * whether the call was carried out is not known, so that the transaction can't go on.
 */
function lostCall(call: TransactionCall, error: DbError): DbError {
  if (error.fate === 'not-applied' || call.type === 'commit') return error
  const message = `the answer of the leader was lost (${error.message}); run the transaction again`
  return new DbError('TRANSACTION_LOST', message, { cause: error })
}
