/**
 * Leading: what a leader executes. It gathers requests into batches, has them executed, replicated
 * and then committed, and lets interactive transactions take turns with them. At most one batch or
 * transaction has the writer.
 *
 * A batch goes: executing (in an open transaction) → replicating (its entry is in the log) →
 * settling (its index is known; answered once the engine has applied that far). A transaction that
 * commits is from there on a batch of one request.
 */
import { assert, must } from '../base/assert.ts'
import type { DbError } from '../base/errors.ts'
import type { Clock, Random } from '../base/ports.ts'
import type { RequestResult, WriterMessage, WriterReply } from '../engine/engine.ts'
import { encodeDigestPoint } from '../engine/entry.ts'
import { takesRoom } from '../engine/request.ts'
import type { ProposalNumber, ReplicatedLog, Role } from '../log/log.ts'
import type { Answers } from './answering.ts'
import type { Applier } from './applying.ts'
import {
  type Batch,
  endOverdue,
  fail,
  failBatch,
  ENTRY_BYTES_MAX,
  notLeader,
  type Pending,
  statementTimeout,
  tooLarge,
} from './batch.ts'
import { Gathering } from './gathering.ts'
import { commitError, transactionLost } from './open-transactions.ts'
import type { TransactionCall, TransactionCallback } from './transaction-call.ts'
import { type TransactionCommit, Transactions } from './transactions.ts'
import type { ReplicaCounters, ReplicaOptions, WriteCallback } from './types.ts'
import { WaitingWrites } from './waiting.ts'
import type { WriterSession } from './writer.ts'

export interface LeadingParts {
  readonly log: ReplicatedLog
  readonly session: WriterSession
  readonly applier: Applier
  readonly answers: Answers
  readonly clock: Clock
  readonly random: Random
  readonly options: ReplicaOptions
  readonly counters: ReplicaCounters
  /** Whether the engine repeats the steps of a transaction at little cost. */
  readonly repeatsCheaply: boolean
  /** Whether no new batch may begin. */
  readonly isPaused: () => boolean
  /** Why nothing is written here at all, if so. */
  readonly refusal: () => DbError | undefined
  /** Why nothing is written here that takes room on the disk, if so. */
  readonly noRoom: () => DbError | undefined
  /** SQLite met something in this node's files that can't be. */
  readonly onCorrupt: (reason: string) => void
  /** Looks again at what the engine does next. */
  readonly pump: () => void
}

export class Leading {
  readonly #parts: LeadingParts
  readonly #waiting: WaitingWrites
  readonly #gathering: Gathering
  readonly #transactions: Transactions
  #role: Role = 'follower'
  #term = 0
  #nowMs = 0
  #batchNumber = 0
  #open: Batch | undefined
  /** Writes and transactions take turns: whose is the next, if both wait. */
  #isTransactionNext = false
  /** A place for digests is to be marked in the log. */
  #wantsDigestPoint = false
  /** Numbers of batches and turns that were given up while the engine ran them. */
  readonly #abandoned = new Set<number>()

  constructor(parts: LeadingParts) {
    this.#parts = parts
    this.#waiting = new WaitingWrites(parts.options)
    this.#gathering = new Gathering(parts.clock, () => parts.pump())
    this.#transactions = new Transactions({
      ...parts,
      raftId: () => parts.log.status().raftId,
      send: message => parts.session.send(message),
      nextNumber: () => this.#nextNumber(),
      nowMs: () => this.#readClock(),
      term: () => this.#term,
      commit: (commits, message) => this.#commitTransactions(commits, message),
      confirm: commit => this.#prove(this.#batchOfCommits([commit], this.#nextNumber())),
      submit: (body, timeoutMs, done) => this.submit(body, timeoutMs, done),
      commitIndex: () => parts.applier.commitIndex,
    })
  }

  get queuedRequests(): number {
    return this.#waiting.count
  }

  get queuedBytes(): number {
    return this.#waiting.sizeBytes
  }

  get openTransactions(): number {
    return this.#transactions.openCount
  }

  /** No batch is executed or replicated; writes may wait, and transactions be open. */
  get isDrained(): boolean {
    return this.#open === undefined
  }

  /** Why a write would be refused right now because too many wait, if so. */
  get overload(): DbError | undefined {
    return this.#waiting.refusal(this.#parts.clock.monotonicMs())
  }

  /** How many more writes keep the writer busy; 0 while enough of them wait. */
  get wantedWrites(): number {
    return this.#waiting.wantedCount
  }

  /** Takes a write. Answered exactly once. */
  submit(body: Uint8Array, timeoutMs: number, done: WriteCallback): void {
    const noRoom = takesRoom(body) ? this.#parts.noRoom() : undefined
    const refused = this.#parts.refusal() ?? noRoom
    if (refused !== undefined) return fail(done, refused)
    const arrivedMs = this.#parts.clock.monotonicMs()
    const deadlineMs = arrivedMs + timeoutMs
    const pending: Pending = { body, arrivedMs, deadlineMs, isAlone: false, done }
    const refusal = this.#waiting.add(pending)
    if (refusal !== undefined) return fail(done, refusal)
    this.#parts.counters.requests += 1
    this.#gathering.arrived()
    this.#parts.pump()
  }

  /** Takes a call of a transaction. Answered exactly once. */
  transact(call: TransactionCall, timeoutMs: number, done: TransactionCallback): void {
    const refused = this.#parts.refusal()
    if (refused !== undefined) {
      // A call that comes after this one must not find its transaction open again.
      this.#endTransactions(refused)
      return done({ type: 'failed', error: refused })
    }
    this.#transactions.call(call, timeoutMs, done)
  }

  /** Marks a place for digests, in the next gap between batches. */
  proposeDigestPoint(): void {
    this.#wantsDigestPoint = true
    this.#parts.pump()
  }

  /** Ends what waited past its deadline, and what runs past its limit. */
  sweep(now: number): void {
    this.#waiting.sweep(now, this.#parts.session.outage)
    this.#transactions.sweep()
    const hasWork = this.#waiting.count > 0 || this.openTransactions > 0
    const refusal = hasWork ? this.#parts.refusal() : undefined
    if (refusal !== undefined) this.endWaiting(refusal)
    const noRoom = this.#waiting.count > 0 ? this.#parts.noRoom() : undefined
    if (noRoom !== undefined) this.#waiting.failThose(takesRoom, noRoom)
    const open = this.#open
    if (open?.state === 'replicating') endOverdue(open, now)
    const limitMs =
      open?.state === 'executing'
        ? this.#overLimit(open, now)
        : this.#transactions.stepOverLimit(now)
    // Only the end of its process stops a statement: when it is over the limit, or nobody waits.
    if (limitMs !== undefined) {
      this.#parts.session.kill(statementTimeout(limitMs, this.#parts.options.maxExecuteMs))
    }
  }

  #overLimit(batch: Batch, now: number): number | undefined {
    const latestMs = Math.max(...batch.requests.map(({ deadlineMs }) => deadlineMs))
    const limitMs = Math.min(this.#parts.options.maxExecuteMs, latestMs - batch.startedMs)
    return now - batch.startedMs > limitMs ? limitMs : undefined
  }

  /** Ends the writes that wait. */
  failWrites(error: DbError): void {
    this.#waiting.fail(error)
  }

  /** Ends what waits for the writer, and the transactions that no commit has begun to end. */
  endWaiting(error: DbError): void {
    this.#waiting.fail(error)
    this.#endTransactions(error)
  }

  #endTransactions(error: DbError): void {
    const running = this.#transactions.endAll(commitError(error))
    for (const number of running) this.#abandoned.add(number)
  }

  /** What is executed is not applied; what is in the log has the fate `unknown`. */
  endReign(notApplied: DbError, unknown: DbError): void {
    const open = this.#open
    // Executed on a state that others may have left behind: undo it before anything is applied.
    if (open !== undefined) {
      this.#abandon(open, open.state === 'executing' ? notApplied : unknown)
    }
    this.#endTransactions(notApplied)
  }

  /** Another term, or another role in it. */
  changeReign(role: Role, term: number, lost: DbError): void {
    this.#role = role
    this.#term = term
    this.#wantsDigestPoint = false
    // A transaction is known to nobody but its leader, and rests on what that one had applied.
    this.#endTransactions(transactionLost('the leader has changed since it began'))
    this.endReign(notLeader(), lost)
    if (role !== 'leader') this.#waiting.fail(notLeader())
  }

  /** The node stops. */
  stop(unknown: DbError): void {
    this.#gathering.stop()
    const open = this.#open
    if (open !== undefined) failBatch(open, open.state === 'executing' ? notLeader() : unknown)
  }

  /** A new writer has opened its files, whose newest entry is of this moment. */
  opened(nowMs: number): void {
    this.#nowMs = Math.max(this.#nowMs, nowMs)
  }

  /** The batch of a proposal that is committed: the engine is told to commit it, too. */
  ownCommitted(proposal: ProposalNumber, index: number): Batch | undefined {
    const open = this.#open
    if (open?.proposal !== proposal) return undefined
    assert(open.state === 'replicating', `batch ${open.number} was committed while ${open.state}`)
    if (open.isDigestPoint === true) {
      // Nobody has executed it here: it is applied as on every other node.
      this.#open = undefined
      return undefined
    }
    this.#parts.applier.commitsOwn(index, open.term)
    this.#parts.session.send({ type: 'commit', batch: open.number, index })
    this.#open = undefined
    // Who has committed a transaction begins another one, if anything: that is no write yet.
    if (open.commits === undefined) this.#gathering.committed(open.requests.length)
    return open
  }

  /** The clients of a batch were answered. */
  answered(batch: Batch): void {
    if (batch.commits === undefined) this.#gathering.answered(batch.startedMs)
  }

  /** The log did not take a proposal. */
  rejected(proposal: ProposalNumber, error: DbError): void {
    if (this.#open?.proposal === proposal) this.#abandon(this.#open, error)
  }

  /** The writer died with what it had not committed. */
  writerLost(error: DbError, isFaultOfDisk: boolean): void {
    this.#abandoned.clear()
    this.#gathering.stop()
    const batch = this.#open
    this.#open = undefined
    if (batch?.state === 'replicating') {
      // The entry is in the log and its answers are known: only the engine has to catch up.
      this.#parts.answers.orphan(batch)
    } else if (batch?.commits !== undefined) {
      this.#transactions.commitsInterrupted(batch.commits, error, isFaultOfDisk)
    } else if (batch !== undefined) {
      this.#retryAlone(batch, error, isFaultOfDisk)
    }
    this.#transactions.writerLost(error, isFaultOfDisk)
    if (isFaultOfDisk) this.#waiting.fail(error)
  }

  stepped(reply: Extract<WriterReply, { type: 'stepped' }>): void {
    if (this.#abandoned.delete(reply.batch)) return
    this.#noteCorruption([reply.result])
    this.#transactions.stepped(reply)
  }

  executed(reply: Extract<WriterReply, { type: 'executed' }>): void {
    if (this.#abandoned.delete(reply.batch)) return
    const batch = must(this.#open, 'the open batch')
    assert(batch.number === reply.batch, `batch ${reply.batch} was executed, not ${batch.number}`)
    assert(reply.taken > 0 && reply.taken === reply.results.length, `took ${reply.taken}`)
    if (batch.commits === undefined) this.#waiting.putBack(batch.requests.slice(reply.taken))
    else this.#transactions.putBack(batch.commits.splice(reply.taken))
    batch.requests = batch.requests.slice(0, reply.taken)
    batch.results = reply.results
    this.#noteCorruption(reply.results)
    if (reply.entry === undefined) {
      this.#confirm(batch)
      return
    }
    if (reply.entry.byteLength > ENTRY_BYTES_MAX) {
      this.#parts.session.send({ type: 'rollback', batch: batch.number })
      this.#open = undefined
      this.#retryAlone(batch, tooLarge(reply.entry.byteLength), false)
      this.#parts.pump()
      return
    }
    batch.state = 'replicating'
    batch.isProvisional = reply.isProvisional === true
    batch.sizeBytes = reply.entry.byteLength
    batch.executedMs = this.#parts.clock.monotonicMs()
    // Appending may commit at once (a group of one), and that must find the batch ready.
    batch.proposal = this.#parts.log.nextProposal
    const proposal = this.#parts.log.append(batch.term, reply.entry)
    batch.appendedMs = this.#parts.clock.monotonicMs()
    if (proposal === undefined) this.#abandon(batch, notLeader())
    else assert(proposal === batch.proposal, `proposal ${proposal} is not ${batch.proposal}`)
    this.#parts.pump()
  }

  /** A request that met a garbled page failed alone; but the file is one for the others, too. */
  #noteCorruption(results: readonly RequestResult[]): void {
    for (const result of results) {
      if (result.type === 'failed' && result.error.code === 'CORRUPT') {
        this.#parts.onCorrupt(result.error.message)
        return
      }
    }
  }

  /**
   * Nothing of the batch is to be logged, but its answers speak of a state: that a key is taken, or
   * what a SELECT saw. Another leader may have changed that state already, so they wait for a proof
   * of leadership begun after the execution, in the same term.
   */
  #confirm(batch: Batch): void {
    this.#parts.session.send({ type: 'rollback', batch: batch.number })
    this.#open = undefined
    this.#prove(batch)
    this.#parts.pump()
  }

  #prove(batch: Batch): void {
    const confirmed = this.#parts.answers.confirm(batch, this.#parts.applier.dispatched)
    const timeoutMs = Math.max(...batch.requests.map(({ deadlineMs }) => deadlineMs), 0)
    this.#parts.log.readIndex(timeoutMs - this.#parts.clock.monotonicMs(), outcome => {
      const isSameReign = this.#role === 'leader' && this.#term === batch.term
      if (typeof outcome !== 'number') confirmed(outcome)
      else confirmed(isSameReign ? undefined : notLeader())
    })
  }

  /** One of these was too much; which one shows when each runs by itself. */
  #retryAlone(batch: Batch, error: DbError, isFaultOfDisk: boolean): void {
    assert(batch.commits === undefined || batch.requests.length === 1, 'what is large is alone')
    if (batch.requests.length === 1 || isFaultOfDisk) {
      failBatch(batch, error)
      return
    }
    for (const request of batch.requests) request.isAlone = true
    this.#waiting.putBack(batch.requests.filter(({ done }) => done !== undefined))
  }

  /** Whether the writer is free for what the log has committed. */
  makeWay(): boolean {
    if (this.#open !== undefined) return false
    const mustFollow = !this.#parts.applier.isDispatched
    const writesWait = this.#waiting.count > 0 || this.#wantsDigestPoint
    const isFree = this.#transactions.makeWay({ mustFollow, writesWait })
    // It may have made way by beginning to commit.
    return isFree && this.isDrained
  }

  /** Gives the writer the next batch or transaction. */
  lead(): void {
    // Not paused with the rest: it may be what ends the pause, and changes nothing.
    if (this.#wantsDigestPoint) return this.#markDigestPoint()
    const isTransactionReady = this.#transactions.hasReady
    const hasWork = isTransactionReady || this.#waiting.count > 0
    if (!hasWork || this.#parts.isPaused()) return
    if (isTransactionReady && (this.#isTransactionNext || this.#waiting.count === 0)) {
      this.#isTransactionNext = false
      this.#transactions.begin()
      return
    }
    if (!isTransactionReady && this.#gathering.holds(this.#waiting.count)) return
    const { clock, random, counters } = this.#parts
    const requests = this.#waiting.take(clock.monotonicMs())
    if (requests.length === 0) return
    this.#gathering.began()
    this.#isTransactionNext = true
    counters.batches += 1
    const batch = this.#newBatch(requests, this.#nextNumber())
    this.#open = batch
    this.#parts.session.send({
      type: 'execute',
      batch: batch.number,
      nowMs: this.#readClock(),
      seed: random.bytes(16),
      commitIndex: this.#parts.applier.commitIndex,
      requests: requests.map(({ body }) => body),
    })
  }

  #markDigestPoint(): void {
    this.#wantsDigestPoint = false
    const batch = this.#newBatch([], this.#nextNumber())
    const proposal = this.#parts.log.nextProposal
    const entry = encodeDigestPoint(this.#readClock())
    this.#open = { ...batch, state: 'replicating', isDigestPoint: true, proposal }
    if (this.#parts.log.append(this.#term, entry) === undefined) this.#open = undefined
  }

  /** From here on transactions are as a batch, of one request each. */
  #commitTransactions(
    commits: readonly TransactionCommit[],
    message: WriterMessage & { type: 'finish' },
  ): void {
    this.#open = this.#batchOfCommits(commits, message.batch)
    this.#parts.session.send(message)
  }

  #batchOfCommits(commits: readonly TransactionCommit[], number: number): Batch {
    const body = new Uint8Array()
    const requests = commits.map(({ deadlineMs, call, done }) => {
      return { body, arrivedMs: call.sinceMs, deadlineMs, isAlone: true, done }
    })
    const results = commits.map(() => ({ type: 'ok', results: [] }) as const)
    return { ...this.#newBatch(requests, number), results, commits: [...commits] }
  }

  #newBatch(requests: Pending[], number: number): Batch {
    return {
      number,
      term: this.#term,
      startedMs: this.#parts.clock.monotonicMs(),
      requests,
      results: [],
      isProvisional: false,
      state: 'executing',
      proposal: 0,
      index: 0,
      sizeBytes: 0,
      executedMs: 0,
      appendedMs: 0,
      flushedMs: 0,
      committedMs: 0,
    }
  }

  #nextNumber(): number {
    this.#batchNumber += 1
    return this.#batchNumber
  }

  /** The leader's clock, which never goes back. */
  #readClock(): number {
    this.#nowMs = Math.max(this.#nowMs, this.#parts.clock.wallMs())
    return this.#nowMs
  }

  /** Gives up the open batch: the engine forgets it, its clients hear `error`. */
  #abandon(batch: Batch, error: DbError): void {
    if (batch.state === 'executing') this.#abandoned.add(batch.number)
    this.#open = undefined
    if (this.#parts.session.state === 'ready') {
      this.#parts.session.send({ type: 'rollback', batch: batch.number })
    }
    failBatch(batch, error)
  }
}
