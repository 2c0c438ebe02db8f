/**
 * OpenTransactions: the interactive transactions that a leader has open, their calls that wait, and
 * their leases. It knows nothing of the engine; transaction-turns.ts decides who has the writer.
 */
import { must } from '../base/assert.ts'
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Clock, Random } from '../base/ports.ts'
import type { EarlierStep, RequestId } from '../engine/engine.ts'
import type { TransactionCallback } from './transaction-call.ts'
import { formatTransactionId } from './transaction-id.ts'
import type { ReplicaCounters, ReplicaOptions } from './types.ts'

/** What waits for the writer: a step, or the end. */
export interface WaitingCall {
  readonly type: 'execute' | 'query' | 'commit'
  /** Of a step: the bytes of its statements. */
  readonly request: Uint8Array
  /** Of a commit. */
  readonly id: RequestId | undefined
  readonly deadlineMs: number
  /** Since when it could run. */
  readonly sinceMs: number
  readonly done: TransactionCallback
}

export interface OpenTransaction {
  readonly name: string
  readonly number: number
  readonly database: string
  readonly seed: Uint8Array
  readonly expiresAtMs: number
  /** In the order in which they came; the first one may be running. */
  readonly calls: WaitingCall[]
  /** What it has run, for when it must run again. */
  readonly earlier: EarlierStep[]
  sizeBytes: number
  /** How long the writer worked on it when it last had its turn: about what a repeat costs. */
  costMs: number
  /** Its moment, once a step has seen it. */
  nowMs: number | undefined
  isReadOnly: boolean
  /** When its client was last answered, or heard of. */
  heardAtMs: number
  /** Writers that died while they ran it. */
  deaths: number
  /** Why it is rolled back as soon as the step that runs is over, if it is. */
  doomed: DbError | undefined
  /** Told then: the client wants it rolled back. */
  rollback: TransactionCallback | undefined
  /** It is executed as a whole, or in the log: only that decides how it ends. */
  isCommitting: boolean
  /** By which the fate of its commit is known, once it is committing. */
  commitId: RequestId | undefined
  /** Commits that came while the first one was under way: they hear what becomes of that. */
  readonly commits: WaitingCall[]
}

/** How a transaction ended. */
export type Ending =
  | { readonly type: 'rolled-back'; readonly error: DbError }
  /** Only the log knows whether it was committed, by this id. */
  | { readonly type: 'asked-to-commit'; readonly id: RequestId }
  /** It began under another leader, or so long ago that nobody remembers. */
  | { readonly type: 'unknown' }

/** Steps of one transaction: all of them run again after each pause. */
const STEPS_MAX = 10_000
/** Bytes of the statements of one transaction, and of what is kept of their answers. */
const TRANSACTION_BYTES_MAX = 16 * 1024 * 1024
/** Commits of one transaction that wait for what becomes of the first of them. */
const COMMITS_MAX = 16
/** Transactions that are over and of which it is still known how they ended. */
const ENDINGS_MAX = 10_000
const SECRET_BYTES = 16

export interface OpenTransactionsParts {
  readonly raftId: () => number
  readonly clock: Clock
  readonly random: Random
  readonly options: ReplicaOptions
  readonly counters: ReplicaCounters
  readonly commitIndex: () => number
}

export class OpenTransactions {
  readonly #parts: OpenTransactionsParts
  readonly #open = new Map<string, OpenTransaction>()
  /** Those of them with a call that waits or runs. */
  readonly #called = new Set<OpenTransaction>()
  /** How those ended that ended last. */
  readonly #endings = new Map<string, Ending>()
  #nextNumber = 1
  #sizeBytes = 0

  constructor(parts: OpenTransactionsParts) {
    this.#parts = parts
  }

  get count(): number {
    return this.#open.size
  }

  /** Those with a call that waits or runs. */
  get called(): ReadonlySet<OpenTransaction> {
    return this.#called
  }

  find(name: string): OpenTransaction | undefined {
    return this.#open.get(name)
  }

  /** Begins one, in the reign of `term`. The error if there are too many. */
  begin(database: string, maxMs: number | undefined, term: number): OpenTransaction | DbError {
    const { raftId, clock, random, options, counters, commitIndex } = this.#parts
    const { maxTransactions, maxTransactionMs } = options
    if (this.#open.size >= maxTransactions) {
      const message = `${maxTransactions} transactions are open already; back off and begin again`
      return new DbError('OVERLOADED', message, { details: { maxTransactions } })
    }
    const now = clock.monotonicMs()
    const number = this.#nextNumber
    this.#nextNumber += 1
    counters.transactions += 1
    const secret = toHex(random.bytes(SECRET_BYTES))
    const facts = { leader: raftId(), term, number, birth: commitIndex(), secret, database }
    const transaction: OpenTransaction = {
      name: formatTransactionId(facts),
      number,
      database,
      seed: random.bytes(16),
      expiresAtMs: now + Math.min(maxMs ?? maxTransactionMs, maxTransactionMs),
      calls: [],
      earlier: [],
      sizeBytes: 0,
      costMs: 0,
      nowMs: undefined,
      isReadOnly: true,
      heardAtMs: now,
      deaths: 0,
      doomed: undefined,
      rollback: undefined,
      isCommitting: false,
      commitId: undefined,
      commits: [],
    }
    this.#open.set(transaction.name, transaction)
    return transaction
  }

  /** Takes a call, to be run when its turn comes. The error if it can't be taken. */
  add(transaction: OpenTransaction, call: WaitingCall): DbError | undefined {
    transaction.heardAtMs = this.#parts.clock.monotonicMs()
    const stepCount = transaction.earlier.length + transaction.calls.length
    const sizeBytes = call.request.byteLength
    if (call.type !== 'commit' && stepCount >= STEPS_MAX) {
      return new DbError('TOO_LARGE', `a transaction has at most ${STEPS_MAX} steps`)
    }
    if (transaction.sizeBytes + sizeBytes > TRANSACTION_BYTES_MAX) {
      const message = `the statements of a transaction have at most ${TRANSACTION_BYTES_MAX} bytes`
      return new DbError('TOO_LARGE', message, { details: { limitBytes: TRANSACTION_BYTES_MAX } })
    }
    const { maxTransactionsBytes } = this.#parts.options
    if (this.#sizeBytes + sizeBytes > maxTransactionsBytes) {
      const message = 'the open transactions hold as much as they may; back off'
      return new DbError('OVERLOADED', message, { details: { maxTransactionsBytes } })
    }
    this.#grow(transaction, sizeBytes)
    transaction.calls.push(call)
    this.#called.add(transaction)
    return undefined
  }

  /** Takes the first call away: it is to be answered. */
  take(transaction: OpenTransaction): WaitingCall {
    const call = must(transaction.calls.shift(), 'the first call of a transaction')
    if (transaction.calls.length === 0) this.#called.delete(transaction)
    return call
  }

  /** A step was run, and is kept for when it must run again. */
  keep(transaction: OpenTransaction, step: EarlierStep): void {
    transaction.heardAtMs = this.#parts.clock.monotonicMs()
    transaction.earlier.push(step)
    this.#grow(transaction, step.proof.byteLength)
  }

  /** As many commits as may wait for what becomes of the first one do. */
  hasManyCommits({ calls, commits }: OpenTransaction): boolean {
    const waiting = calls.filter(({ type }) => type === 'commit')
    return waiting.length + commits.length >= COMMITS_MAX
  }

  /** Its commit begins, under `id`. It runs no more steps. */
  committing(transaction: OpenTransaction, id: RequestId): void {
    transaction.isCommitting = true
    transaction.commitId = id
    const { calls, commits } = transaction
    this.#called.delete(transaction)
    for (const call of calls.splice(0)) {
      if (call.type === 'commit') commits.push(call)
      else call.done({ type: 'failed', error: askedToCommit() })
    }
  }

  /** The writer died before the commit was in the log: it is to be tried again. */
  reopen(transaction: OpenTransaction, commit: WaitingCall): void {
    transaction.isCommitting = false
    transaction.calls.unshift(commit)
    this.#called.add(transaction)
  }

  /** Its commit was answered, with an error that says that it was rolled back or without one. */
  closed(transaction: OpenTransaction, error: DbError | undefined): void {
    const id = must(transaction.commitId, 'the id of a commit')
    const ending: Ending =
      error === undefined ? { type: 'asked-to-commit', id } : { type: 'rolled-back', error }
    this.#remove(transaction, ending)
  }

  /** Ends one: it is rolled back, for this reason. */
  end(transaction: OpenTransaction, error: DbError): void {
    this.#remove(transaction, { type: 'rolled-back', error })
    this.#failCalls(transaction, error)
    const rollback = transaction.rollback
    transaction.rollback = undefined
    rollback?.({ type: 'ok', value: { transaction: transaction.name, index: 0, results: [] } })
  }

  /** It is to end when the step that runs is over; what waits behind that is told now. */
  doom(transaction: OpenTransaction, error: DbError): void {
    transaction.doomed ??= error
    for (const { done } of transaction.calls.splice(1)) done({ type: 'failed', error })
  }

  /** Ends all but those whose commit is under way. */
  endAll(error: DbError): void {
    for (const transaction of this.#open.values().toArray()) {
      if (!transaction.isCommitting) this.end(transaction, error)
    }
  }

  /** How one ended that is not open here (any more), as far as that is known. */
  ending(name: string): Ending {
    return this.#endings.get(name) ?? { type: 'unknown' }
  }

  /** Ends those that wait for the writer with a call past its deadline. None has the writer. */
  endLate(): void {
    for (const transaction of this.#called) {
      if (this.isLate(transaction)) this.end(transaction, lateCall())
    }
  }

  /** A call of it, behind the first `ahead` ones, waited past its deadline. */
  isLate({ calls }: OpenTransaction, ahead = 0): boolean {
    const now = this.#parts.clock.monotonicMs()
    return calls.some(({ deadlineMs }, at) => at >= ahead && deadlineMs <= now)
  }

  /** Answers commits past their deadlines, and has `end` called for what is to be rolled back. */
  sweep(
    isRunning: (transaction: OpenTransaction) => boolean,
    end: (transaction: OpenTransaction, error: DbError) => void,
  ): void {
    const now = this.#parts.clock.monotonicMs()
    const { transactionIdleTimeoutMs } = this.#parts.options
    for (const transaction of this.#open.values().toArray()) {
      if (transaction.commits.length > 0) this.#sweepCommits(transaction, now)
      // How a commit ends is decided by the log.
      if (transaction.isCommitting) continue
      const isRun = isRunning(transaction)
      if (this.isLate(transaction, isRun ? 1 : 0)) {
        end(transaction, lateCall())
        continue
      }
      // What runs is ended by the limit of the statement.
      if (isRun) continue
      const isLeft =
        transaction.calls.length === 0 && now - transaction.heardAtMs > transactionIdleTimeoutMs
      if (!isLeft && now <= transaction.expiresAtMs) continue
      this.#parts.counters.transactionsExpired += 1
      const why = isLeft
        ? `nobody spoke to the transaction for ${transactionIdleTimeoutMs} ms`
        : 'the transaction was open longer than it may be'
      end(transaction, new DbError('TRANSACTION_EXPIRED', `${why}; it is rolled back`))
    }
  }

  #sweepCommits({ commits }: OpenTransaction, now: number): void {
    const late = commits.filter(({ deadlineMs }) => deadlineMs <= now)
    commits.splice(0, commits.length, ...commits.filter(({ deadlineMs }) => deadlineMs > now))
    const message = 'the commit is under way, and was not confirmed in time; it may take effect'
    const error = new DbError('COMMIT_TIMEOUT', message)
    for (const { done } of late) done({ type: 'failed', error })
  }

  #failCalls(transaction: OpenTransaction, error: DbError): void {
    this.#called.delete(transaction)
    const calls = [...transaction.calls.splice(0), ...transaction.commits.splice(0)]
    for (const { done } of calls) done({ type: 'failed', error })
  }

  #remove(transaction: OpenTransaction, ending: Ending): void {
    if (!this.#open.delete(transaction.name)) return
    this.#sizeBytes -= transaction.sizeBytes
    this.#endings.set(transaction.name, ending)
    if (this.#endings.size <= ENDINGS_MAX) return
    const [oldest = ''] = this.#endings.keys()
    this.#endings.delete(oldest)
  }

  #grow(transaction: OpenTransaction, sizeBytes: number): void {
    transaction.sizeBytes += sizeBytes
    this.#sizeBytes += sizeBytes
  }
}

/** For a transaction that is not open (any more) on the node that leads. */
export function transactionLost(why: string, cause?: DbError): DbError {
  return new DbError('TRANSACTION_LOST', `${why}; run the transaction again`, { cause })
}

/**
 * For a transaction of which a call was not run: to run what its client sent after it would commit
 * a half.
 */
function lateCall(): DbError {
  return transactionLost('a call of it waited for its turn past its deadline and was not run')
}

/** For a transaction that has as many commits waiting as it may. */
export function manyCommits(): DbError {
  const message = `${COMMITS_MAX} commits of the transaction are under way; it may take effect`
  return new DbError('COMMIT_TIMEOUT', `${message}; commit it again to hear its fate`)
}

/** For steps of a transaction that was asked to commit. */
export function askedToCommit(): DbError {
  const message = 'the transaction was asked to commit already; commit it again to hear its fate'
  return new DbError('INVALID_REQUEST', message)
}

/** Errors of a commit that say of themselves what a client is to do. */
const OF_COMMIT: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'TRANSACTION_CONFLICT',
  'TRANSACTION_LOST',
  'TRANSACTION_EXPIRED',
  'REQUEST_ID_REUSED',
  'REQUEST_CANCELLED',
  'INVALID_REQUEST',
  'TOO_LARGE',
  'UNKNOWN_DATABASE',
  'STATEMENT_TIMEOUT',
  'DISK_FULL',
  'DISPUTED',
  'CORRUPT',
])

/**
 * The error of a commit, for its client: what another kind of write may simply send again is over
 * for a transaction, and only the whole of it can run again.
 */
export function commitError(error: DbError): DbError {
  if (error.fate === 'unknown' || OF_COMMIT.has(error.code)) return error
  return transactionLost(`nothing was committed (${error.message})`)
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')
}
