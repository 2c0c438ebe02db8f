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
import { transactionLost } from './open-transactions.ts'
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
import type { ReplicaCounters, ReplicaOptions, WriteCallback } from './types.ts'
import { enoughWrites } from './waiting.ts'
import type { WriteStages } from './write-stages.ts'

/** A leader that refused a write, because too many wait there, is spared others for so long. */
const SPARED_MS = 20
/** As many as lose a step at once when the connection to the leader breaks. */
const BROKEN_MAX = 10_000

type LeaderCallsOptions = Pick<
  ReplicaOptions,
  'forward' | 'maxForwardedRequests' | 'maxBatchRequests' | 'maxQueuedRequests'
>

export interface LeaderCallsParts {
  readonly log: ReplicatedLog
  readonly peers: Peers
  readonly clock: Clock
  readonly random: Random
  readonly options: LeaderCallsOptions
  readonly counters: ReplicaCounters
  readonly stages: WriteStages
  /** Carries out on this node, as the leader, what another node passed on. */
  readonly submit: (body: Uint8Array, timeoutMs: number, done: WriteCallback) => void
  readonly transact: (call: TransactionCall, timeoutMs: number, done: TransactionCallback) => void
}

export class LeaderCalls {
  readonly #parts: LeaderCallsParts
  readonly #forwarder: Forwarder
  #leader: number | undefined
  /** The leader's word that too many writes wait there, and until when it holds here. */
  #refusal: DbError | undefined
  #sparedUntilMs = -Infinity
  /** Transactions of which this node lost a step, the newest ones. */
  readonly #broken = new Set<string>()

  constructor(parts: LeaderCallsParts) {
    this.#parts = parts
    const { peers, clock, random, options } = parts
    this.#forwarder = new Forwarder({
      peers,
      clock,
      random,
      maxWaiting: options.maxForwardedRequests,
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
    this.#refusal = undefined
    if (leader !== undefined) this.#forwarder.leaderChanged(leader)
  }

  /** Whether this node may pass the request on, by its `forward` rule. */
  mayForward(request: WriteRequest): boolean {
    const { forward } = this.#parts.options
    return forward === 'all' || (forward === 'data' && !changesSchema(request))
  }

  /** Why a write for the leader would be refused right now because too many wait, if so. */
  get overload(): DbError | undefined {
    const { isFull, full } = this.#forwarder
    if (isFull) return full
    return this.#parts.clock.monotonicMs() < this.#sparedUntilMs ? this.#refusal : undefined
  }

  /** How many more keep the leader's writer busy: it would not take more from one that it leads. */
  get wantedWrites(): number {
    const { options } = this.#parts
    const enough = Math.min(enoughWrites(options), options.maxForwardedRequests / 2)
    return Math.max(0, enough - this.waitingCount)
  }

  /** Sends a write to `leader`, once. */
  write(
    leader: number,
    write: { readonly body: Uint8Array; readonly hasId: boolean },
    timeoutMs: number,
    done: WriteCallback,
  ): void {
    const { overload } = this
    if (overload !== undefined) return done({ type: 'failed', error: overload })
    const { counters, clock, stages } = this.#parts
    counters.forwarded += 1
    const sentMs = clock.monotonicMs()
    const { body, hasId } = write
    this.#forwarder.forward(leader, { kind: 'write', body, hasId }, timeoutMs, answer => {
      const outcome = answer.type === 'failed' ? answer : decodeOutcome(answer.answer)
      const answeredMs = clock.monotonicMs()
      if (outcome.type === 'failed' && outcome.error.code === 'OVERLOADED') {
        this.#refusal = outcome.error
        this.#sparedUntilMs = answeredMs + SPARED_MS
      }
      done(outcome)
      if (answer.type === 'failed') return
      stages.forwarded(answeredMs - sentMs, clock.monotonicMs() - answeredMs)
    })
  }

  transact(call: TransactionCall, timeoutMs: number, done: TransactionCallback): void {
    if (!this.mayForwardCall(call)) return done({ type: 'failed', error: this.refusal() })
    if (call.type !== 'commit' || !this.#broken.has(call.transaction)) {
      return this.#passOn(call, timeoutMs, done)
    }
    // Its client may not know yet that a step before it was lost. If the leader has heard of an
    // earlier commit it refuses the rollback, and tells what became of that.
    const rollback = { type: 'rollback', transaction: call.transaction } as const
    const passOn = (): void => this.#passOn(call, timeoutMs, done)
    this.#send(rollback, timeoutMs, passOn, error => done({ type: 'failed', error }))
  }

  #passOn(call: TransactionCall, timeoutMs: number, done: TransactionCallback): void {
    this.#send(call, timeoutMs, done, error =>
      done({ type: 'failed', error: this.#lost(call, error) }),
    )
  }

  /** `answered` is called with the leader's word, `failed` if there is none. */
  #send(
    call: TransactionCall,
    timeoutMs: number,
    answered: TransactionCallback,
    failed: (error: DbError) => void,
  ): void {
    const leader = this.#leader
    if (leader === undefined) {
      const message = 'nobody leads right now; an election takes about a second'
      return failed(new DbError('NO_LEADER', message))
    }
    this.#parts.counters.forwarded += 1
    // A change of leader ends what is open, and a beginning can be sent again. Only the answer to a
    // commit, that may be on its way, is worth waiting for.
    const hasId = call.type !== 'commit'
    const frame = { kind: 'transaction', body: encodeCall(call), hasId } as const
    this.#forwarder.forward(leader, frame, timeoutMs, outcome => {
      if (outcome.type === 'answered') answered(decodeTransactionOutcome(outcome.answer))
      else failed(outcome.error)
    })
  }

  /** What the client of a call is told that did not get to the leader and back. */
  #lost(call: TransactionCall, error: DbError): DbError {
    if (isStep(call)) {
      // Whether it was run is not known, or it surely was not: either way what its client sent
      // after it would commit something else than it meant.
      this.#broken.add(call.transaction)
      const [oldest = ''] = this.#broken
      if (this.#broken.size > BROKEN_MAX) this.#broken.delete(oldest)
      return unheard(error)
    }
    return call.type === 'rollback' && error.fate === 'unknown' ? unheard(error) : error
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
    if (isStep(call) && this.#parts.options.forward === 'data')
      return this.mayForward(decodeRequest(call.request))
    return this.#parts.options.forward !== 'none'
  }

  /** For what this node may not pass on. */
  refusal(): DbError {
    const { log, options } = this.#parts
    const { forward } = options
    const leader = log.status().peers.find(({ raftId }) => raftId === this.#leader)
    const where = leader === undefined ? 'unknown' : `${leader.nodeId} at ${leader.address}`
    const what = forward === 'none' ? 'writes' : 'changes of the schema'
    const message = `this node is a follower and does not forward ${what}; the leader is ${where}`
    const details = { leaderId: leader?.nodeId, leaderAddress: leader?.address, forward }
    return new DbError('NOT_LEADER', message, { details })
  }
}

/** For a call of a transaction that did not get to the leader and back. Nothing takes effect. */
export function unheard(error: DbError): DbError {
  const message = `a call of it did not get to the leader and back (${error.message})`
  return transactionLost(message, error)
}

type StepCall = Extract<TransactionCall, { readonly request: Uint8Array }>

function isStep(call: TransactionCall): call is StepCall {
  return call.type === 'execute' || call.type === 'query'
}
