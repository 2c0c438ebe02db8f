/**
 * TransactionTurns: which interactive transaction has the writer. One keeps its turn while its
 * client speaks. When others wait, one that idles gives way after a moment and one that does not
 * after a while: it is rolled back, and when its turn comes again it is repeated and compared.
 *
 * Whoever has begun goes before who begins: the fewer are half done, the fewer conflict. Every few
 * turns one that begins goes first all the same, so that nobody waits for ever.
 */
import { assert, must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { Clock, Timer } from '../base/ports.ts'
import type { TransactionStart, WriterMessage, WriterReply } from '../engine/engine.ts'
import {
  type OpenTransaction,
  type OpenTransactions,
  transactionLost,
  type WaitingCall,
} from './open-transactions.ts'
import type { ReplicaCounters, ReplicaOptions } from './types.ts'

/** The transaction that has the writer. */
interface Turn {
  readonly transaction: OpenTransaction
  /** By which the writer knows it. */
  readonly number: number
  /** A step runs since then; undefined while it idles. */
  runningSinceMs: number | undefined
  /**
   * Since when others wait for it to end; undefined if nobody does, or no step of this turn was
   * answered yet: what comes before is repetition.
   */
  contestedMs: number | undefined
  idleSinceMs: number
}

/** A transaction with the writer that asks to be committed. */
export interface CommitTurn {
  readonly transaction: OpenTransaction
  readonly call: WaitingCall
  readonly number: number
  /** Given if the writer does not have it open. */
  readonly start?: TransactionStart
}

/** Every so many turns the one that waits longest begins, whoever it is. */
const BEGINNER_TURN = 8
/** A transaction that a writer dies of once more is given up. */
const DEATHS_MAX = 2

export interface TransactionTurnsParts {
  readonly open: OpenTransactions
  readonly clock: Clock
  readonly options: ReplicaOptions
  readonly counters: ReplicaCounters
  readonly send: (message: WriterMessage) => void
  readonly nextNumber: () => number
  /** The leader's clock, which never goes back. */
  readonly nowMs: () => number
  /** No step and no commit may begin. */
  readonly isPaused: () => boolean
  readonly commit: (turn: CommitTurn) => void
  /** Looks again at what is to be done. */
  readonly pump: () => void
}

export class TransactionTurns {
  readonly #parts: TransactionTurnsParts
  #turn: Turn | undefined
  #turnCount = 0
  #timer: Timer | undefined

  constructor(parts: TransactionTurnsParts) {
    this.#parts = parts
  }

  /** A step runs. */
  isRunning(transaction: OpenTransaction): boolean {
    return this.#turn?.transaction === transaction && this.#turn.runningSinceMs !== undefined
  }

  /** Some transaction other than the one with the writer has a call to run. */
  get hasReady(): boolean {
    const { called } = this.#parts.open
    return called.size > (this.#turn !== undefined && called.has(this.#turn.transaction) ? 1 : 0)
  }

  /**
   * Whether the writer is free for others. It goes on with the transaction that has it, or takes it
   * away; `mustFollow`: entries wait for the writer, `writesWait`: requests do.
   */
  makeWay(waiting: { readonly mustFollow: boolean; readonly writesWait: boolean }): boolean {
    const turn = this.#turn
    if (turn === undefined) return true
    if (turn.runningSinceMs !== undefined) return false
    if (waiting.mustFollow) return this.#giveWay(turn)
    const { clock, open, options } = this.#parts
    const now = clock.monotonicMs()
    const othersWait = waiting.writesWait || this.hasReady
    turn.contestedMs = othersWait ? (turn.contestedMs ?? now) : undefined
    if (now - (turn.contestedMs ?? now) >= options.transactionTurnMs) return this.#giveWay(turn)
    if (turn.transaction.calls.length > 0) {
      if (open.isLate(turn.transaction)) {
        this.#giveWay(turn)
        open.endLate()
        return true
      }
      if (!this.#parts.isPaused()) this.#run(turn)
      return this.#turn === undefined
    }
    if (!othersWait) return false
    const leftMs = turn.idleSinceMs + options.transactionIdleMs - now
    if (leftMs <= 0) return this.#giveWay(turn)
    this.#timer ??= clock.setTimer(leftMs, () => {
      this.#timer = undefined
      this.#parts.pump()
    })
    return false
  }

  /** Gives the free writer to the next transaction that needs it. */
  begin(): void {
    this.#parts.open.endLate()
    const ready = this.#ready()
    this.#turnCount += 1
    const begun = ready.filter(({ earlier }) => earlier.length > 0)
    const isForBeginners = this.#turnCount % BEGINNER_TURN === 0
    const [transaction] = isForBeginners || begun.length === 0 ? ready : begun
    if (transaction === undefined) return
    const turn = {
      transaction,
      number: this.#parts.nextNumber(),
      runningSinceMs: undefined,
      contestedMs: undefined,
      idleSinceMs: this.#parts.clock.monotonicMs(),
    }
    this.#turn = turn
    this.#run(turn, this.#start(transaction))
  }

  stepped(reply: Extract<WriterReply, { type: 'stepped' }>): void {
    const { open, clock } = this.#parts
    const turn = must(this.#turn, 'the turn of a step')
    assert(turn.number === reply.batch, `turn ${reply.batch} was stepped, not ${turn.number}`)
    const { transaction } = turn
    const call = open.take(transaction)
    turn.runningSinceMs = undefined
    turn.idleSinceMs = clock.monotonicMs()
    const { result, nowMs, proof, isReadOnly } = reply
    transaction.nowMs = nowMs
    transaction.isReadOnly = isReadOnly
    if (reply.isOver) this.#endTurn()
    else open.keep(transaction, { request: call.request, isQuery: call.type === 'query', proof })
    if (result.type === 'ok') {
      const { results } = result
      call.done({ type: 'ok', value: { transaction: transaction.name, index: 0, results } })
    } else {
      const { code, message, details = {} } = result.error
      const error = new DbError(code, message, { details })
      if (reply.isOver) this.#over(transaction, error)
      call.done({ type: 'failed', error })
    }
    if (transaction.doomed !== undefined) {
      this.drop(transaction)
      open.end(transaction, transaction.doomed)
    }
    this.#parts.pump()
  }

  /** The transaction is over, or about to commit without the writer: it has the writer no more. */
  drop(transaction: OpenTransaction): void {
    const turn = this.#turn
    if (turn?.transaction !== transaction) return
    assert(turn.runningSinceMs === undefined, 'a running step is not dropped')
    this.#giveWay(turn)
  }

  /**
   * Nobody leads here any more, or the replica is wrong: whoever has the writer loses it. The
   * number of the turn whose step still runs, if one does.
   */
  abandon(): number | undefined {
    const turn = this.#turn
    if (turn === undefined) return undefined
    this.#giveWay(turn)
    return turn.runningSinceMs === undefined ? undefined : turn.number
  }

  /** The writer died, with what it ran. */
  writerLost(error: DbError, isFaultOfDisk: boolean): void {
    const turn = this.#turn
    this.#endTurn()
    if (turn?.runningSinceMs === undefined) return
    this.interrupted(turn.transaction, error, isFaultOfDisk)
  }

  /** The writer died while it ran a step, or the commit, that is the first call again. */
  interrupted(transaction: OpenTransaction, error: DbError, isFaultOfDisk: boolean): void {
    const { open } = this.#parts
    transaction.deaths += 1
    if (transaction.doomed !== undefined) {
      open.end(transaction, transaction.doomed)
    } else if (error.code === 'STATEMENT_TIMEOUT' || isFaultOfDisk) {
      const details = { ...error.details, transaction: 'over' }
      open.end(transaction, new DbError(error.code, error.message, { cause: error, details }))
    } else if (transaction.deaths >= DEATHS_MAX) {
      open.end(transaction, transactionLost(`writers died of it (${error.message})`))
    }
  }

  /** The limit that a running step is over, undefined if none is. */
  overLimit(now: number): number | undefined {
    const turn = this.#turn
    if (turn?.runningSinceMs === undefined) return undefined
    const { deadlineMs } = must(turn.transaction.calls[0], 'the call of a step')
    const limitMs = Math.min(
      this.#parts.options.maxExecuteMs,
      Math.max(0, deadlineMs - turn.runningSinceMs),
    )
    return now - turn.runningSinceMs > limitMs ? limitMs : undefined
  }

  /** Those with a call to run; who waits longest first. */
  #ready(): OpenTransaction[] {
    const since = ({ calls }: OpenTransaction): number => calls[0]?.sinceMs ?? 0
    const ready = [...this.#parts.open.called]
    return ready.sort((a, b) => since(a) - since(b) || a.number - b.number)
  }

  #start(transaction: OpenTransaction): { readonly start: TransactionStart } {
    const { database, seed, earlier } = transaction
    if (earlier.length > 0) this.#parts.counters.transactionReplays += 1
    const nowMs = transaction.nowMs ?? this.#parts.nowMs()
    return { start: { database, nowMs, seed, earlier: [...earlier] } }
  }

  #run(turn: Turn, started: { readonly start?: TransactionStart } = {}): void {
    const { transaction, number } = turn
    const call = must(transaction.calls[0], 'a call to run')
    this.#timer?.cancel()
    this.#timer = undefined
    if (call.type === 'commit') {
      this.#turn = undefined
      this.#parts.open.take(transaction)
      this.#parts.commit({ transaction, call, number, ...started })
      return
    }
    turn.runningSinceMs = this.#parts.clock.monotonicMs()
    const isQuery = call.type === 'query'
    this.#parts.send({ type: 'step', batch: number, ...started, request: call.request, isQuery })
  }

  /** Lets the engine forget what the transaction did, until it is repeated. */
  #giveWay(turn: Turn): boolean {
    this.#endTurn()
    this.#parts.send({ type: 'rollback', batch: turn.number })
    return true
  }

  #endTurn(): void {
    this.#turn = undefined
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #over(transaction: OpenTransaction, error: DbError): void {
    const isConflict = error.code === 'TRANSACTION_CONFLICT'
    if (isConflict) this.#parts.counters.transactionConflicts += 1
    const later = isConflict
      ? error
      : transactionLost(`a failure has undone all of it (${error.message})`)
    this.#parts.open.end(transaction, later)
  }
}
