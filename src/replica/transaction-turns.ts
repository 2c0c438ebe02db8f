/**
 * TransactionTurns: which interactive transaction has the writer. One keeps its turn while its
 * client speaks. When others wait it gives way: it is rolled back, and when its turn comes again it
 * is repeated and compared. Where conflicts are rare a short one gives way at once, and those that
 * have a step ready run one after another (interleaving.ts); else one that idles does so after a
 * moment, and one that does not after a while. Those that ask to be committed do so together.
 *
 * Whoever has begun goes before who begins: the fewer are half done, the fewer conflict. Every few
 * turns one that begins goes first all the same, so that nobody waits for ever.
 */
import { assert, must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { Clock, Timer } from '../base/ports.ts'
import type { TransactionStart, WriterMessage, WriterReply } from '../engine/engine.ts'
import { type Interleaving, isShort } from './interleaving.ts'
import {
  type OpenTransaction,
  type OpenTransactions,
  transactionLost,
  type WaitingCall,
} from './open-transactions.ts'
import type { ReplicaCounters, ReplicaOptions } from './types.ts'

/** A transaction that has the writer, or is sent to it behind others. */
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
  /** How long the writer worked on it. */
  spentMs: number
  /** It is rolled back as soon as its step is done. */
  readonly givesWay: boolean
}

/** What the writer is to do for transactions that are ready. */
type Plan =
  /** One keeps the writer while its client speaks. */
  | { readonly type: 'turn'; readonly first: OpenTransaction }
  /** Each is rolled back as soon as its step is done. */
  | { readonly type: 'steps'; readonly ready: readonly OpenTransaction[] }
  | { readonly type: 'commits'; readonly ready: readonly OpenTransaction[] }
  | { readonly type: 'none' }

/** A transaction with the writer that asks to be committed. */
export interface CommitTurn {
  readonly transaction: OpenTransaction
  readonly call: WaitingCall
  readonly number: number
  /** Given if the writer does not have it open. */
  readonly start?: TransactionStart
  /** They ask so too, and may go into the same entry. */
  readonly others: readonly CommitOther[]
}

export interface CommitOther {
  readonly transaction: OpenTransaction
  readonly call: WaitingCall
  readonly start: TransactionStart
}

/** Steps that are sent at once: a statement that is slow holds up no more of them. */
const STEPS_AT_ONCE = 16
/** Commits that go into one entry, the steps of all that are repeated for it, and their bytes. */
const COMMITS_AT_ONCE = 64
const REPEATED_STEPS_MAX = 1000
const REPEATED_BYTES_MAX = 1 << 20
/** A step that waited behind others in the writer runs so long, though its client has given up. */
const LATE_STEP_MS = 100
/** Every so many turns the one that waits longest begins, whoever it is. */
const BEGINNER_TURN = 8
/** A transaction that a writer dies of once more is given up. */
const DEATHS_MAX = 2

export interface TransactionTurnsParts {
  readonly open: OpenTransactions
  readonly interleaving: Interleaving
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
  /** Steps that were sent together and are not answered yet, in their order. */
  readonly #sent: Turn[] = []
  #turnCount = 0
  /** Steps were sent last: if commits are ready, they are next. */
  #areCommitsNext = false
  #timer: Timer | undefined

  constructor(parts: TransactionTurnsParts) {
    this.#parts = parts
  }

  /** A step runs, or will as soon as those before it are done. */
  isRunning(transaction: OpenTransaction): boolean {
    if (this.#sent.some(turn => turn.transaction === transaction)) return true
    return this.#turn?.transaction === transaction && this.#turn.runningSinceMs !== undefined
  }

  /** Some transaction other than the one with the writer has a call that is to run now. */
  get hasReady(): boolean {
    return this.#hasOthers && this.#plan().type !== 'none'
  }

  /** Some transaction other than the one with the writer has a call. */
  get #hasOthers(): boolean {
    const { called } = this.#parts.open
    return called.size > (this.#turn !== undefined && called.has(this.#turn.transaction) ? 1 : 0)
  }

  /**
   * Whether the writer is free for others. It goes on with the transaction that has it, or takes it
   * away; `mustFollow`: entries wait for the writer, `writesWait`: requests do.
   */
  makeWay(waiting: { readonly mustFollow: boolean; readonly writesWait: boolean }): boolean {
    if (this.#sent.length > 0) return false
    const turn = this.#turn
    const hasOthers = this.#hasOthers
    if (turn === undefined) {
      // Those that begin wait for those that are half done, but not for silent ones.
      if (hasOthers && !this.hasReady) this.#wake(this.#parts.options.transactionIdleMs)
      return true
    }
    if (turn.runningSinceMs !== undefined) return false
    if (waiting.mustFollow) return this.#giveWay(turn)
    const { clock, open, options, interleaving } = this.#parts
    const { patience } = interleaving
    const now = clock.monotonicMs()
    if (hasOthers && this.#mayGiveWay(turn)) return this.#giveWay(turn)
    const othersWait = waiting.writesWait || hasOthers
    turn.contestedMs = othersWait ? (turn.contestedMs ?? now) : undefined
    const contestedForMs = now - (turn.contestedMs ?? now)
    if (contestedForMs >= patience.of(options.transactionTurnMs)) return this.#giveWay(turn)
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
    const leftMs = turn.idleSinceMs + patience.of(options.transactionIdleMs) - now
    if (leftMs <= 0) return this.#giveWay(turn)
    this.#wake(leftMs)
    return false
  }

  /** Gives the free writer to the transactions that need it next. */
  begin(): void {
    this.#parts.open.endLate()
    const plan = this.#plan()
    this.#turnCount += 1
    if (plan.type === 'none') return
    if (plan.type === 'commits') {
      const first = must(plan.ready[0], 'a transaction that asks to be committed')
      return this.#commit(this.#newTurn(first, false), plan.ready, this.#start(first))
    }
    this.#areCommitsNext = true
    if (plan.type === 'turn') {
      const turn = this.#newTurn(plan.first, false)
      this.#turn = turn
      return this.#run(turn, this.#start(plan.first))
    }
    const now = this.#parts.clock.monotonicMs()
    for (const each of plan.ready) {
      this.#parts.interleaving.enter(each, now)
      const turn = this.#newTurn(each, true)
      turn.runningSinceMs = turn.idleSinceMs
      this.#sent.push(turn)
      this.#sendStep(turn, this.#start(each))
    }
  }

  stepped(reply: Extract<WriterReply, { type: 'stepped' }>): void {
    const { open, clock } = this.#parts
    const turn = must(this.#sent.shift() ?? this.#turn, 'the turn of a step')
    assert(turn.number === reply.batch, `turn ${reply.batch} was stepped, not ${turn.number}`)
    const { transaction } = turn
    const call = open.take(transaction)
    const now = clock.monotonicMs()
    turn.spentMs += now - (turn.runningSinceMs ?? now)
    transaction.costMs = turn.spentMs
    turn.runningSinceMs = undefined
    turn.idleSinceMs = now
    const [next] = this.#sent
    if (next !== undefined) next.runningSinceMs = now
    const { result, nowMs, proof, isReadOnly } = reply
    transaction.nowMs = nowMs
    transaction.isReadOnly = isReadOnly
    if (!reply.isOver) {
      open.keep(transaction, { request: call.request, isQuery: call.type === 'query', proof })
    } else if (!turn.givesWay) this.#endTurn()
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
   * numbers of the turns whose steps still run.
   */
  abandon(): readonly number[] {
    const running = this.#sent.splice(0).map(({ number }) => number)
    const turn = this.#turn
    if (turn === undefined) return running
    this.#giveWay(turn)
    return turn.runningSinceMs === undefined ? running : [...running, turn.number]
  }

  /** The writer died, with what it ran. */
  writerLost(error: DbError, isFaultOfDisk: boolean): void {
    // Those behind the first one have not run.
    const [first, ...behind] = this.#sent.splice(0)
    const turn = first ?? this.#turn
    this.#endTurn()
    for (const { transaction } of behind) {
      if (transaction.doomed !== undefined) this.#parts.open.end(transaction, transaction.doomed)
    }
    if (turn?.runningSinceMs === undefined) return
    this.interrupted(turn.transaction, error, isFaultOfDisk)
  }

  /**
   * The writer died while it ran a step, or the commit, that is the first call again. `isAlone`:
   * nobody else can be why.
   */
  interrupted(
    transaction: OpenTransaction,
    error: DbError,
    isFaultOfDisk: boolean,
    isAlone = true,
  ): void {
    const { open } = this.#parts
    transaction.deaths += 1
    const isItsFault = isAlone && error.code === 'STATEMENT_TIMEOUT'
    if (transaction.doomed !== undefined) {
      open.end(transaction, transaction.doomed)
    } else if (isItsFault || isFaultOfDisk) {
      const details = { ...error.details, transaction: 'over' }
      open.end(transaction, new DbError(error.code, error.message, { cause: error, details }))
    } else if (transaction.deaths >= DEATHS_MAX) {
      open.end(transaction, transactionLost(`writers died of it (${error.message})`))
    }
  }

  /** The limit that a running step is over, undefined if none is. */
  overLimit(now: number): number | undefined {
    const turn = this.#sent[0] ?? this.#turn
    if (turn?.runningSinceMs === undefined) return undefined
    const { deadlineMs } = must(turn.transaction.calls[0], 'the call of a step')
    const leastMs = turn.givesWay ? LATE_STEP_MS : 0
    const limitMs = Math.min(
      this.#parts.options.maxExecuteMs,
      Math.max(leastMs, deadlineMs - turn.runningSinceMs),
    )
    return now - turn.runningSinceMs > limitMs ? limitMs : undefined
  }

  /**
   * What is to run next. If several may be half done at once: all steps that are ready, and then in
   * turn those that ask to be committed. Who begins waits while as many as may are half done.
   */
  #plan(): Plan {
    const { interleaving, open, clock } = this.#parts
    if (open.called.size === 0) return { type: 'none' }
    const ready = this.#ready()
    const commits = ready.filter(isCommit)
    if (interleaving.width < 2) {
      const first = this.#first(ready)
      if (first === undefined) return { type: 'none' }
      return isCommit(first) ? { type: 'commits', ready: commits } : { type: 'turn', first }
    }
    const steps = interleaving.choose(
      ready.filter(each => !isCommit(each)),
      clock.monotonicMs(),
    )
    const mayRun = (each: OpenTransaction): boolean =>
      isCommit(each) || !isShort(each) || steps.includes(each)
    const first = this.#first(ready.filter(mayRun))
    if (first === undefined) return { type: 'none' }
    // One that is not to be repeated for others keeps the writer when its turn comes.
    if (!isShort(first) && !isCommit(first)) return { type: 'turn', first }
    if (commits.length > 0 && (this.#areCommitsNext || steps.length === 0)) {
      return { type: 'commits', ready: commits }
    }
    const [only] = steps
    if (only !== undefined && steps.length + commits.length === 1) {
      return { type: 'turn', first: only }
    }
    return { type: 'steps', ready: steps.slice(0, STEPS_AT_ONCE) }
  }

  /** Who has begun before who begins, but every few turns whoever waits longest. */
  #first(ready: readonly OpenTransaction[]): OpenTransaction | undefined {
    const isForAll = (this.#turnCount + 1) % BEGINNER_TURN === 0
    const begun = isForAll ? undefined : ready.find(({ earlier }) => earlier.length > 0)
    return begun ?? ready[0]
  }

  /** Whether the one that has the writer is to be half done while others run. */
  #mayGiveWay({ transaction }: Turn): boolean {
    const { interleaving, clock } = this.#parts
    if (isCommit(transaction) || !interleaving.enter(transaction, clock.monotonicMs())) return false
    return this.#plan().type !== 'none'
  }

  /** Those with a call to run; who waits longest first. */
  #ready(): OpenTransaction[] {
    const since = ({ calls }: OpenTransaction): number => calls[0]?.sinceMs ?? 0
    const ready = [...this.#parts.open.called]
    return ready.sort((a, b) => since(a) - since(b) || a.number - b.number)
  }

  #newTurn(transaction: OpenTransaction, givesWay: boolean): Turn {
    return {
      transaction,
      number: this.#parts.nextNumber(),
      runningSinceMs: undefined,
      contestedMs: undefined,
      idleSinceMs: this.#parts.clock.monotonicMs(),
      spentMs: 0,
      givesWay,
    }
  }

  #start(transaction: OpenTransaction): { readonly start: TransactionStart } {
    const { database, seed, earlier } = transaction
    if (earlier.length > 0) this.#parts.counters.transactionReplays += 1
    const nowMs = transaction.nowMs ?? this.#parts.nowMs()
    return { start: { database, nowMs, seed, earlier: [...earlier] } }
  }

  #run(turn: Turn, started: { readonly start?: TransactionStart } = {}): void {
    this.#timer?.cancel()
    this.#timer = undefined
    if (isCommit(turn.transaction))
      return this.#commit(turn, this.#ready().filter(isCommit), started)
    turn.runningSinceMs = this.#parts.clock.monotonicMs()
    this.#sendStep(turn, started)
  }

  #sendStep({ transaction, number, givesWay }: Turn, started: { start?: TransactionStart }): void {
    const { request, type } = must(transaction.calls[0], 'a call to run')
    const step = { type: 'step', batch: number, ...started, request } as const
    this.#parts.send({ ...step, isQuery: type === 'query', ...(givesWay && { givesWay }) })
  }

  /** Ends the transaction of a turn, and with it others that can go into its entry. */
  #commit(
    { transaction, number }: Turn,
    ready: readonly OpenTransaction[],
    started: { readonly start?: TransactionStart },
  ): void {
    this.#turn = undefined
    this.#areCommitsNext = false
    const take = (each: OpenTransaction): WaitingCall => this.#parts.open.take(each)
    const isOne = this.#parts.interleaving.isOff
    const others = (isOne ? [] : fitting(transaction, ready)).map(each => {
      return { transaction: each, call: take(each), ...this.#start(each) }
    })
    this.#parts.commit({ transaction, call: take(transaction), number, ...started, others })
  }

  #wake(afterMs: number): void {
    this.#timer ??= this.#parts.clock.setTimer(afterMs, () => {
      this.#timer = undefined
      this.#parts.pump()
    })
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
    if (isConflict) {
      this.#parts.counters.transactionConflicts += 1
      this.#parts.interleaving.conflicted()
    }
    const later = isConflict
      ? error
      : transactionLost(`a failure has undone all of it (${error.message})`)
    this.#parts.open.end(transaction, later)
  }
}

function isCommit({ calls }: OpenTransaction): boolean {
  return calls[0]?.type === 'commit'
}

/**
 * Those that may be committed in one entry with `first`. One that a writer may have died of, or
 * that is large, is alone.
 */
function fitting(
  first: OpenTransaction,
  ready: readonly OpenTransaction[],
): readonly OpenTransaction[] {
  if (first.deaths > 0) return []
  let steps = first.earlier.length
  let { sizeBytes } = first
  const fits = (each: OpenTransaction): boolean => {
    if (each === first || each.database !== first.database || each.deaths > 0) return false
    steps += each.earlier.length
    sizeBytes += each.sizeBytes
    return steps <= REPEATED_STEPS_MAX && sizeBytes <= REPEATED_BYTES_MAX
  }
  return ready.filter(fits).slice(0, COMMITS_AT_ONCE - 1)
}
