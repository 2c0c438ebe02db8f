/**
 * Transactions: what becomes of the calls of interactive transactions on the leader. A transaction
 * runs on the leader's writer only, and is nowhere else until its commit is in the log; so it ends
 * with the reign of its leader.
 */
import { DbError } from '../base/errors.ts'
import type { Clock, Random } from '../base/ports.ts'
import type { RequestId, WriterMessage, WriterReply } from '../engine/engine.ts'
import { encodeRequest } from '../engine/request.ts'
import { Interleaving } from './interleaving.ts'
import {
  askedToCommit,
  commitError,
  manyCommits,
  OpenTransactions,
  type OpenTransaction,
  transactionLost,
  type WaitingCall,
} from './open-transactions.ts'
import type { TransactionCall, TransactionCallback } from './transaction-call.ts'
import { parseTransactionId } from './transaction-id.ts'
import { type CommitOther, type CommitTurn, TransactionTurns } from './transaction-turns.ts'
import type { ReplicaCounters, ReplicaOptions, WriteCallback, WriteOutcome } from './types.ts'

/** A commit on its way, as a batch of one request. */
export interface TransactionCommit {
  readonly transaction: OpenTransaction
  readonly call: WaitingCall
  readonly deadlineMs: number
  readonly done: WriteCallback
}

export interface TransactionsParts {
  readonly raftId: () => number
  readonly clock: Clock
  readonly random: Random
  readonly options: ReplicaOptions
  readonly counters: ReplicaCounters
  readonly send: (message: WriterMessage) => void
  readonly nextNumber: () => number
  readonly nowMs: () => number
  readonly term: () => number
  readonly isPaused: () => boolean
  /** Why nothing is written that takes room on the disk, if so. */
  readonly noRoom: () => DbError | undefined
  /** Has the writer end transactions, and what it logs replicated. */
  readonly commit: (
    commits: readonly TransactionCommit[],
    message: WriterMessage & { type: 'finish' },
  ) => void
  /** Answers a commit of which nothing is logged, once a proof of leadership has come. */
  readonly confirm: (commit: TransactionCommit) => void
  /** Executes an ordinary write. */
  readonly submit: (body: Uint8Array, timeoutMs: number, done: WriteCallback) => void
  readonly commitIndex: () => number
  readonly pump: () => void
  /** Whether the engine repeats steps at little cost. */
  readonly repeatsCheaply: boolean
}

const NO_STATEMENTS = new Uint8Array()

export class Transactions {
  readonly #parts: TransactionsParts
  readonly #open: OpenTransactions
  readonly #turns: TransactionTurns
  readonly #interleaving: Interleaving

  constructor(parts: TransactionsParts) {
    this.#parts = parts
    this.#open = new OpenTransactions(parts)
    this.#interleaving = new Interleaving({
      isCheap: parts.repeatsCheaply,
      idleMs: parts.options.transactionIdleMs,
      isOpen: ({ name }) => this.#open.find(name) !== undefined,
    })
    this.#turns = new TransactionTurns({
      ...parts,
      open: this.#open,
      interleaving: this.#interleaving,
      commit: turn => this.#commit(turn),
    })
  }

  get openCount(): number {
    return this.#open.count
  }

  /** Some transaction needs the writer and does not have it. */
  get hasReady(): boolean {
    return this.#turns.hasReady
  }

  /** Whether the writer is free; see {@link TransactionTurns.makeWay}. */
  makeWay(waiting: { readonly mustFollow: boolean; readonly writesWait: boolean }): boolean {
    return this.#turns.makeWay(waiting)
  }

  /** Gives the free writer to the transaction whose turn it is. */
  begin(): void {
    this.#turns.begin()
  }

  /** Takes a call on the leader. Answered exactly once. */
  call(call: TransactionCall, timeoutMs: number, done: TransactionCallback): void {
    if (call.type === 'begin') return this.#begin(call.database, call.maxMs, done)
    const transaction = this.#open.find(call.transaction)
    if (transaction === undefined) return this.#callNotOpen(call, timeoutMs, done)
    const refusal = this.#refusal(transaction, call)
    if (refusal !== undefined) return done({ type: 'failed', error: refusal })
    if (call.type === 'rollback') return this.#rollback(transaction, done)
    const isWrite = call.type === 'execute' || (call.type === 'commit' && !transaction.isReadOnly)
    const noRoom = isWrite && !transaction.isCommitting ? this.#parts.noRoom() : undefined
    if (noRoom !== undefined) return this.#noRoom(transaction, call, noRoom, done)
    const now = this.#parts.clock.monotonicMs()
    const waiting: WaitingCall = {
      type: call.type,
      request: call.type === 'commit' ? NO_STATEMENTS : call.request,
      id: call.type === 'commit' ? call.id : undefined,
      deadlineMs: now + timeoutMs,
      sinceMs: now,
      done,
    }
    if (transaction.isCommitting) {
      transaction.commits.push(waiting)
      return
    }
    // Nothing that it did is to stay, and what it saw it saw in one state: the writer isn't needed.
    const isDone = call.type === 'commit' && transaction.isReadOnly
    if (isDone && transaction.calls.length === 0) return this.#commitReads(transaction, waiting)
    const error = this.#open.add(transaction, waiting)
    if (error !== undefined) {
      const over = overBy(error)
      this.#end(transaction, over)
      done({ type: 'failed', error: over })
    }
    this.#parts.pump()
  }

  /** A commit may wait for room; behind a step that was not run it would commit a half. */
  #noRoom(
    transaction: OpenTransaction,
    call: TransactionCall,
    error: DbError,
    done: TransactionCallback,
  ): void {
    if (call.type === 'commit') return done({ type: 'failed', error })
    this.#end(transaction, overBy(error))
    done({ type: 'failed', error: withOver(error) })
    this.#parts.pump()
  }

  #refusal(transaction: OpenTransaction, { type }: TransactionCall): DbError | undefined {
    if (type === 'commit') {
      if (transaction.doomed !== undefined) return transaction.doomed
      return this.#open.hasManyCommits(transaction) ? manyCommits() : undefined
    }
    if (transaction.isCommitting) return askedToCommit()
    return type === 'rollback' ? undefined : transaction.doomed
  }

  stepped(reply: Extract<WriterReply, { type: 'stepped' }>): void {
    this.#turns.stepped(reply)
  }

  /** Why the step that runs must be stopped, undefined if none must. */
  stepOverLimit(now: number): number | undefined {
    return this.#turns.overLimit(now)
  }

  sweep(): void {
    this.#open.sweep(
      transaction => this.#turns.isRunning(transaction),
      (transaction, error) => this.#end(transaction, error),
    )
  }

  /** The writer died with what it ran. */
  writerLost(error: DbError, isFaultOfDisk: boolean): void {
    this.#turns.writerLost(error, isFaultOfDisk)
  }

  /** The writer did not look at these: they ask again. */
  putBack(commits: readonly TransactionCommit[]): void {
    for (const { transaction, call } of commits) this.#open.reopen(transaction, call)
  }

  /** The writer died while it ended transactions: nothing of that is in the log. */
  commitsInterrupted(
    commits: readonly TransactionCommit[],
    error: DbError,
    isFaultOfDisk: boolean,
  ): void {
    this.putBack(commits)
    const isAlone = commits.length === 1
    for (const { transaction } of commits) {
      this.#turns.interrupted(transaction, error, isFaultOfDisk, isAlone)
    }
  }

  /**
   * Ends all whose commit is not under way. The numbers of the turns whose steps still run: their
   * replies are for nobody.
   */
  endAll(error: DbError): readonly number[] {
    const running = this.#turns.abandon()
    this.#open.endAll(error)
    return running
  }

  #begin(database: string, maxMs: number | undefined, done: TransactionCallback): void {
    const begun = this.#open.begin(database, maxMs, this.#parts.term())
    if (begun instanceof DbError) return done({ type: 'failed', error: begun })
    done({ type: 'ok', value: { transaction: begun.name, index: 0, results: [] } })
  }

  #rollback(transaction: OpenTransaction, done: TransactionCallback): void {
    const error = transactionLost('it was rolled back')
    transaction.rollback?.({ type: 'failed', error })
    transaction.rollback = done
    this.#end(transaction, error)
    this.#parts.pump()
  }

  /** Rolls it back: now, or when the step that runs is over. */
  #end(transaction: OpenTransaction, error: DbError): void {
    if (this.#turns.isRunning(transaction)) return this.#open.doom(transaction, error)
    this.#turns.drop(transaction)
    this.#open.end(transaction, error)
  }

  #callNotOpen(
    call: Exclude<TransactionCall, { readonly type: 'begin' }>,
    timeoutMs: number,
    done: TransactionCallback,
  ): void {
    const fail = (error: DbError): void => done({ type: 'failed', error })
    const ending = this.#open.ending(call.transaction)
    if (ending.type === 'rolled-back') return fail(ending.error)
    if (call.type !== 'commit') {
      return fail(ending.type === 'unknown' ? notOpen() : askedToCommit())
    }
    const own = keyOf(call.transaction)
    // Its own id tells whether it was committed. The client's may have told of an earlier one.
    const other = ending.type === 'asked-to-commit' ? ending.id : call.id
    const isOwn = other?.type === 'key' && other.key === own.key
    const ids = other === undefined || isOwn ? [own] : [own, other]
    this.#askFate(call.transaction, ids, timeoutMs, done)
  }

  /**
   * A commit of a transaction that isn't open here (any more) may be the second one, of a client
   * that did not hear of the first. Only the log knows what became of that: a cancel of its id
   * tells, and sees to it that no commit under way takes effect after the answer "no". It tells of
   * the id, since the statements are gone that another body could be known by.
   */
  #askFate(
    transaction: string,
    [asked, ...otherIds]: readonly RequestId[],
    timeoutMs: number,
    done: TransactionCallback,
  ): void {
    if (asked === undefined) {
      return done({ type: 'failed', error: transactionLost('it was not committed') })
    }
    const { database, birth } = parseTransactionId(transaction)
    // What was forgotten since it began is not taken for something that never was.
    const id = asked.type === 'key' ? { ...asked, birth } : asked
    this.#parts.submit(encodeRequest({ type: 'cancel', database, id }), timeoutMs, outcome => {
      if (outcome.type === 'ok') {
        if (isOfWrite(outcome)) return done({ type: 'failed', error: reused() })
        const { index } = outcome
        return done({ type: 'ok', value: { transaction, index, results: [], isRepeat: true } })
      }
      const { error } = outcome
      if (error.code === 'REQUEST_CANCELLED') {
        return this.#askFate(transaction, otherIds, timeoutMs, done)
      }
      done({ type: 'failed', error: fateError(error) })
    })
  }

  #commitReads(transaction: OpenTransaction, call: WaitingCall): void {
    this.#turns.drop(transaction)
    this.#open.committing(transaction, call.id ?? keyOf(transaction.name))
    this.#parts.confirm(this.#commitOf(transaction, call))
    this.#parts.pump()
  }

  #commit({ number, others, start, ...first }: CommitTurn): void {
    const commitIndex = this.#parts.commitIndex()
    const begin = (asked: Omit<CommitOther, 'start'>) => this.#committing(asked, commitIndex)
    const ids = begin(first)
    const behind = others.map(other => ({ start: other.start, ...begin(other) }))
    this.#parts.commit(
      [first, ...others].map(({ transaction, call }) => this.#commitOf(transaction, call)),
      {
        type: 'finish',
        batch: number,
        ...(start && { start }),
        ...ids,
        commitIndex,
        ...(behind.length > 0 && { others: behind }),
      },
    )
  }

  /** By what the commit of one is to be known. */
  #committing(
    { transaction, call }: Omit<CommitOther, 'start'>,
    commitIndex: number,
  ): { readonly id: RequestId; readonly ownId?: RequestId } {
    // While it is open here, nobody can have committed it, or have asked what became of it.
    const own = { ...keyOf(transaction.name), birth: commitIndex }
    const ids = call.id === undefined ? { id: own } : { id: call.id, ownId: own }
    this.#open.committing(transaction, ids.id)
    return ids
  }

  #commitOf(transaction: OpenTransaction, call: WaitingCall): TransactionCommit {
    const done = (outcome: WriteOutcome): void => this.#onCommitted(transaction, call, outcome)
    return { transaction, call, deadlineMs: call.deadlineMs, done }
  }

  #onCommitted(transaction: OpenTransaction, call: WaitingCall, outcome: WriteOutcome): void {
    const others = transaction.commits.splice(0)
    if (outcome.type === 'ok') {
      this.#interleaving.committed()
      this.#open.closed(transaction, undefined)
      const { index, isRepeat } = outcome
      const value = { transaction: transaction.name, index, results: [] }
      call.done({ type: 'ok', value: isRepeat === true ? { ...value, isRepeat } : value })
      for (const { done } of others) done({ type: 'ok', value: { ...value, isRepeat: true } })
      return
    }
    const error = commitError(outcome.error)
    if (error.code === 'TRANSACTION_CONFLICT') {
      this.#parts.counters.transactionConflicts += 1
      this.#interleaving.conflicted()
    }
    this.#open.closed(transaction, error.fate === 'unknown' ? undefined : error)
    for (const { done } of [call, ...others]) done({ type: 'failed', error })
  }
}

/** What an error of the question for a commit's fate says of the commit. */
function fateError(error: DbError): DbError {
  if (error.fate === 'unknown') return error
  // That nobody could be asked says nothing of what became of the commit.
  const message = `whether it was committed could not be learnt (${error.message}); ask again`
  return new DbError('COMMIT_TIMEOUT', message, { cause: error })
}

/** The first answer under an id is that of a write: a commit has no results. */
function isOfWrite({ results, rowsDropped }: WriteOutcome & { readonly type: 'ok' }): boolean {
  return results.length > 0 || rowsDropped === true
}

function reused(): DbError {
  const message = 'this request id came before with another write, not with the commit'
  return new DbError('REQUEST_ID_REUSED', message)
}

/** For a transaction of which nothing is known here. */
function notOpen(): DbError {
  const message =
    'it is not open on this leader: if it was asked to commit, commit it again to hear its fate; ' +
    'else run the transaction again'
  return new DbError('TRANSACTION_LOST', message)
}

/** For a transaction whose step could not be taken: what comes after it would miss it. */
function overBy(error: DbError): DbError {
  if (error.retry === 'never') return withOver(error)
  return transactionLost(`a step of it was not run (${error.message})`)
}

function withOver({ code, message, details }: DbError): DbError {
  return new DbError(code, message, { details: { ...details, transaction: 'over' } })
}

/** By this the fate of a commit is known, whatever id its client gave. */
function keyOf(transaction: string): RequestId & { readonly type: 'key' } {
  return { type: 'key', key: `transaction ${transaction}` }
}
