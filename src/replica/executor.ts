/**
 * The Executor decides what the engine does next. On a leader it gathers requests into batches,
 * has them executed, replicated and then committed; on any other node it hands over what the log
 * has committed. Both go through one writer in one order, so that an entry is dispatched to the
 * engine exactly once per life of the writer, and only ever after the entry before it.
 *
 * A batch goes: executing (in an open transaction) → replicating (its entry is in the log) →
 * settling (its index is known; answered once the engine has applied that far).
 */
import { assert, must } from '../base/assert.ts'
import { BoundedQueue } from '../base/bounded-queue.ts'
import { DbError } from '../base/errors.ts'
import type { Clock, Logger, Random } from '../base/ports.ts'
import type { Divergence, Engine, WriterReply } from '../engine/engine.ts'
import type { LogEvent, ProposalNumber, ReplicatedLog, Role } from '../log/log.ts'
import {
  answerOverdue,
  type Application,
  type Batch,
  diverged,
  endOverdue,
  endUnconfirmed,
  fail,
  failBatch,
  end,
  ENTRY_BYTES_MAX,
  gather,
  notLeader,
  type Pending,
  tooLarge,
} from './batch.ts'
import type { ReplicaCounters, ReplicaOptions, WriteCallback } from './types.ts'
import { WriterSession } from './writer.ts'
import type { Opened } from './writer.ts'

const APPLICATIONS_IN_FLIGHT_MAX = 2
/** A leader whose engine has not been ready for so long should not lead. */
const UNFIT_MS = 5000

export interface ExecutorParts {
  readonly log: ReplicatedLog
  readonly engine: Engine
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly options: ReplicaOptions
  readonly counters: ReplicaCounters
  /** Whether replicas lag so far that no new batch may begin. */
  readonly isPaused: () => boolean
  /** An own entry was committed: its index and size, for measuring how far others are behind. */
  readonly onOwnCommit: (index: number, sizeBytes: number) => void
  /** `applied` rose, or fell because the engine was restarted. */
  readonly onApplied: () => void
  readonly onDiverged: (divergence: Divergence) => void
  readonly onFatal: (reason: string) => void
}

export class Executor {
  readonly #parts: ExecutorParts
  readonly #session: WriterSession
  readonly #queue: BoundedQueue<Pending>
  #role: Role = 'follower'
  #term = 0
  #commitIndex = 0
  /** Last entry handed to the engine, and its term. */
  #dispatched = 0
  #dispatchedTerm = 0
  #applied = 0
  #durable = 0
  #nowMs = 0
  #batchNumber = 0
  #open: Batch | undefined
  /**
   * Batches whose writer died after they were proposed, by proposal: their entry may yet commit.
   */
  readonly #orphaned = new Map<ProposalNumber, Batch>()
  #settling: Batch[] = []
  #applications: Application[] = []
  /** `commit` messages that this writer has not answered. */
  #commitsUnderWay = 0
  /** Numbers of batches that were given up while the engine executed them. */
  readonly #abandoned = new Set<number>()
  /** Batches of which nothing is logged, waiting for a proof of leadership. */
  readonly #confirming = new Set<Batch>()
  #divergence: Divergence | undefined
  #isStopping = false
  /** When this node last was no leader, or had an engine that was ready. */
  #fitAtMs = 0

  constructor(parts: ExecutorParts) {
    this.#parts = parts
    this.#queue = new BoundedQueue({
      countMax: parts.options.maxQueuedRequests,
      sizeBytesMax: parts.options.maxQueuedBytes,
    })
    this.#session = new WriterSession(parts.engine, parts.clock, parts.logger, {
      onOpened: opened => this.#onOpened(opened),
      onReply: reply => this.#onReply(reply),
      onLost: error => this.#onWriterLost(error),
      onHopeless: reason => parts.onFatal(reason),
    })
  }

  start(): void {
    this.#session.start()
  }

  get appliedIndex(): number {
    return this.#applied
  }

  get durableIndex(): number {
    return this.#durable
  }

  get engineState(): 'opening' | 'ready' | 'down' {
    return this.#session.state
  }

  get engineBuild(): string {
    return this.#session.build
  }

  get lastError(): string {
    return this.#session.lastError
  }

  get divergence(): Divergence | undefined {
    return this.#divergence
  }

  get queuedRequests(): number {
    return this.#queue.count
  }

  get queuedBytes(): number {
    return this.#queue.sizeBytes
  }

  /** Leads, and has handed everything before its own term to the engine. */
  get isReadyToWrite(): boolean {
    return (
      this.#role === 'leader' &&
      this.#session.state === 'ready' &&
      this.#divergence === undefined &&
      this.#dispatched === this.#commitIndex &&
      this.#dispatchedTerm === this.#term &&
      this.#applications.length === 0 &&
      // An entry of ours that may yet be committed would come before what is executed now.
      this.#orphaned.size === 0
    )
  }

  /**
   * Another node should lead: this one's engine is wrong, or could not be opened for long. Raft
   * looks only at logs when it elects, so that such a node may come to lead again and again.
   */
  get isUnfitToLead(): boolean {
    if (this.#role !== 'leader') return false
    const downMs = this.#parts.clock.monotonicMs() - this.#fitAtMs
    return this.#divergence !== undefined || downMs > UNFIT_MS
  }

  /** Takes a request of this node's clients or of a follower. Answered exactly once. */
  submit(body: Uint8Array, timeoutMs: number, done: WriteCallback): void {
    if (this.#isStopping) return fail(done, new DbError('SHUTTING_DOWN', 'this node is stopping'))
    if (this.#role !== 'leader') return fail(done, notLeader())
    if (this.#divergence !== undefined) return fail(done, diverged(this.#divergence))
    const deadlineMs = this.#parts.clock.monotonicMs() + timeoutMs
    const pending: Pending = { body, deadlineMs, isAlone: false, done }
    if (!this.#queue.push(pending, body.byteLength)) {
      const limits = { maxQueuedRequests: this.#parts.options.maxQueuedRequests }
      const message = `${this.#queue.count} writes are waiting already; back off and send it again`
      return fail(done, new DbError('OVERLOADED', message, { details: limits }))
    }
    this.#parts.counters.requests += 1
    this.#pump()
  }

  onLogEvent(event: LogEvent): void {
    switch (event.type) {
      case 'role':
        this.#onRole(event.role, event.term)
        return
      case 'committed':
        this.#onCommitted(event)
        return
      case 'rejected':
        this.#onRejected(event.proposal)
        return
    }
  }

  /** Ends what waited past its deadline; called every few milliseconds. */
  sweep(): void {
    const now = this.#parts.clock.monotonicMs()
    if (this.#role !== 'leader' || this.#session.state === 'ready') this.#fitAtMs = now
    // Behind one with more time they keep their place, and are passed over when they are gathered.
    for (const waiting of this.#queue.values())
      if (waiting.deadlineMs <= now) answerOverdue(waiting)
    while ((this.#queue.peek()?.deadlineMs ?? Infinity) <= now) this.#queue.shift()
    for (const batch of [...this.#orphaned.values(), ...this.#settling]) endOverdue(batch, now)
    for (const batch of this.#confirming) endUnconfirmed(batch, now)
    const open = this.#open
    if (open?.state === 'replicating') endOverdue(open, now)
    if (open?.state === 'executing') this.#endLongExecution(open, now)
    this.#pump()
  }

  /** Only the end of its process stops a statement: when it is over the limit, or nobody waits. */
  #endLongExecution(batch: Batch, now: number): void {
    const { maxExecuteMs } = this.#parts.options
    const latestMs = Math.max(...batch.requests.map(({ deadlineMs }) => deadlineMs))
    const limitMs = Math.min(maxExecuteMs, latestMs - batch.startedMs)
    if (now - batch.startedMs <= limitMs) return
    const took = `it ran longer than ${Math.round(limitMs)} ms`
    const message = `${took} and was stopped; nothing was logged`
    this.#session.kill(new DbError('STATEMENT_TIMEOUT', message, { details: { maxExecuteMs } }))
  }

  /** No new work; what is in flight goes on. True once nothing is. */
  stopAdmission(): void {
    this.#isStopping = true
    this.#failQueue(new DbError('SHUTTING_DOWN', 'this node is stopping; ask another one'))
  }

  get isIdle(): boolean {
    return (
      this.#open === undefined &&
      this.#orphaned.size === 0 &&
      this.#settling.length === 0 &&
      this.#confirming.size === 0 &&
      this.#queue.count === 0
    )
  }

  /** Ends the session for good: everything still open has an unknown fate. */
  stop(): void {
    this.#isStopping = true
    this.#session.stop()
    const error = new DbError('LEADERSHIP_LOST', 'this node stopped before the write was settled')
    this.#failQueue(new DbError('SHUTTING_DOWN', 'this node is stopping; ask another one'))
    const open = this.#open
    if (open !== undefined) failBatch(open, open.state === 'executing' ? notLeader() : error)
    for (const batch of [...this.#orphaned.values(), ...this.#settling]) failBatch(batch, error)
  }

  /** Lets the writer make everything applied durable, for compaction or a fast next start. */
  checkpoint(): void {
    if (this.#session.state === 'ready' && this.#open === undefined) {
      this.#session.send({ type: 'checkpoint' })
    }
  }

  // What the log says.

  #onRole(role: Role, term: number): void {
    const isSameReign = role === 'leader' && this.#role === 'leader' && term === this.#term
    this.#role = role
    this.#term = term
    if (isSameReign) return
    const lost = new DbError(
      'LEADERSHIP_LOST',
      `leadership was lost in term ${term} after the write was sent to the others`,
    )
    for (const batch of this.#orphaned.values()) failBatch(batch, lost)
    this.#orphaned.clear()
    for (const batch of this.#confirming) failBatch(batch, notLeader())
    if (this.#open !== undefined) {
      // Executed on a state that others may have left behind: undo it before anything is applied.
      this.#abandon(this.#open, this.#open.state === 'executing' ? notLeader() : lost)
    }
    if (role !== 'leader') this.#failQueue(notLeader())
    this.#pump()
  }

  #onCommitted(event: Extract<LogEvent, { type: 'committed' }>): void {
    this.#commitIndex = event.commitIndex
    for (const { proposal, index } of event.own) this.#onOwnCommitted(proposal, index)
    this.#pump()
  }

  #onOwnCommitted(proposal: ProposalNumber, index: number): void {
    const orphan = this.#orphaned.get(proposal)
    if (orphan !== undefined) {
      this.#orphaned.delete(proposal)
      this.#settle(orphan, index)
      return
    }
    const open = this.#open
    if (open?.proposal !== proposal) return
    assert(open.state === 'replicating', `batch ${open.number} was committed while ${open.state}`)
    assert(index > this.#dispatched, `own entry ${index} after ${this.#dispatched} was dispatched`)
    for (const entry of index > this.#dispatched + 1 ? this.#between(index) : []) {
      assert(entry.type !== 'data', `entry ${entry.index} stands before the only open proposal`)
    }
    this.#session.send({ type: 'commit', batch: open.number, index })
    this.#commitsUnderWay += 1
    this.#dispatched = index
    this.#dispatchedTerm = open.term
    this.#open = undefined
    this.#settle(open, index)
  }

  #between(index: number): ReturnType<ReplicatedLog['read']> {
    const entries = this.#parts.log.read(this.#dispatched + 1, this.#parts.options.maxApplyBytes)
    return entries.filter(entry => entry.index < index)
  }

  #settle(batch: Batch, index: number): void {
    batch.state = 'settling'
    batch.index = index
    this.#settling.push(batch)
    this.#parts.onOwnCommit(index, batch.sizeBytes)
  }

  #onRejected(proposal: ProposalNumber): void {
    const error = new DbError('NOT_LEADER', 'the write was refused by the log; nothing was applied')
    const orphan = this.#orphaned.get(proposal)
    this.#orphaned.delete(proposal)
    if (orphan !== undefined) failBatch(orphan, error)
    if (this.#open?.proposal === proposal) this.#abandon(this.#open, error)
    this.#pump()
  }

  // What the engine says.

  #onOpened(opened: Opened): void {
    const { lastIndex, term, isCommitCurrent } = this.#parts.log.status()
    if (opened.appliedIndex > lastIndex) {
      const what = `the engine has applied ${opened.appliedIndex}, the log ends at ${lastIndex}`
      this.#parts.onFatal(`${what}: they are not of the same life of this node`)
      return
    }
    this.#dispatched = opened.appliedIndex
    // With nothing left to apply no entry will come to tell the term of the last one.
    const hasAll = opened.appliedIndex === this.#commitIndex && isCommitCurrent
    this.#dispatchedTerm = hasAll ? term : 0
    this.#applied = opened.appliedIndex
    this.#durable = opened.durableIndex
    this.#nowMs = Math.max(this.#nowMs, opened.nowMs)
    // The last writer may have ended after a checkpoint of what it never said to be committed.
    this.#answerSettled()
    this.#parts.onApplied()
    this.#pump()
  }

  #onReply(reply: Exclude<WriterReply, { type: 'opened' } | { type: 'fault' }>): void {
    switch (reply.type) {
      case 'executed':
        this.#onExecuted(reply)
        return
      case 'committed': {
        const batch = must(this.#settling[0], 'the batch that was committed')
        assert(batch.index === reply.index, `engine committed ${reply.index}, not ${batch.index}`)
        this.#durable = reply.durableIndex
        this.#advance(reply.index)
        // All batches were sent before the entries that came after a change of role.
        this.#commitsUnderWay -= 1
        if (this.#commitsUnderWay === 0) this.#advanceOverEmpty()
        this.#pump()
        return
      }
      case 'applied':
        this.#onEntriesApplied(reply)
        return
      case 'checkpointed':
        this.#durable = reply.durableIndex
        return
      case 'rolled-back':
        return
    }
  }

  #onExecuted(reply: Extract<WriterReply, { type: 'executed' }>): void {
    if (this.#abandoned.delete(reply.batch)) return
    const batch = must(this.#open, 'the open batch')
    assert(batch.number === reply.batch, `batch ${reply.batch} was executed, not ${batch.number}`)
    assert(reply.taken > 0 && reply.taken === reply.results.length, `took ${reply.taken}`)
    const left = batch.requests.slice(reply.taken)
    this.#queue.unshift(left.map(value => ({ value, sizeBytes: value.body.byteLength })))
    batch.requests = batch.requests.slice(0, reply.taken)
    batch.results = reply.results
    if (reply.entry === undefined) {
      this.#confirm(batch)
      return
    }
    if (reply.entry.byteLength > ENTRY_BYTES_MAX) {
      this.#session.send({ type: 'rollback', batch: batch.number })
      this.#open = undefined
      this.#retryAlone(batch, tooLarge(reply.entry.byteLength))
      this.#pump()
      return
    }
    batch.state = 'replicating'
    batch.sizeBytes = reply.entry.byteLength
    // Appending may commit at once (a group of one), and that must find the batch ready.
    batch.proposal = this.#parts.log.nextProposal
    const proposal = this.#parts.log.append(batch.term, reply.entry)
    if (proposal === undefined) this.#abandon(batch, notLeader())
    else assert(proposal === batch.proposal, `proposal ${proposal} is not ${batch.proposal}`)
    this.#pump()
  }

  /**
   * Nothing of the batch is to be logged, but its answers speak of a state: that a key is taken, or
   * what a SELECT saw. Another leader may have changed that state already, so they wait for a proof
   * of leadership begun after the execution, in the same term.
   */
  #confirm(batch: Batch): void {
    const index = this.#dispatched
    this.#session.send({ type: 'rollback', batch: batch.number })
    this.#open = undefined
    this.#confirming.add(batch)
    const timeoutMs = Math.max(...batch.requests.map(({ deadlineMs }) => deadlineMs), 0)
    this.#parts.log.readIndex(timeoutMs - this.#parts.clock.monotonicMs(), outcome => {
      this.#confirming.delete(batch)
      const isSameReign = this.#role === 'leader' && this.#term === batch.term
      if (typeof outcome !== 'number') failBatch(batch, outcome)
      else if (!isSameReign) failBatch(batch, notLeader())
      else this.#answer(batch, index)
    })
    this.#pump()
  }

  #onEntriesApplied(reply: Extract<WriterReply, { type: 'applied' }>): void {
    this.#durable = reply.durableIndex
    if (reply.divergence !== undefined) {
      this.#diverge(reply.divergence, reply.index)
      return
    }
    const first = must(this.#applications[0], 'the entries that were applied')
    assert(first.dataIndex === reply.index, `applied ${reply.index}, not ${first.dataIndex}`)
    this.#applications.shift()
    this.#parts.counters.appliedEntries += 1
    this.#advance(first.lastIndex)
    this.#advanceOverEmpty()
    this.#pump()
  }

  /** Entries that the engine isn't asked to apply count once all before them are applied. */
  #advanceOverEmpty(): void {
    while (this.#applications[0]?.dataIndex === 0) {
      this.#advance(must(this.#applications.shift()).lastIndex)
    }
  }

  #diverge(divergence: Divergence, applied: number): void {
    this.#divergence = divergence
    this.#applied = applied
    this.#parts.logger.error({ ...divergence }, 'this replica computed something else')
    this.#failQueue(diverged(divergence))
    this.#parts.onDiverged(divergence)
  }

  #advance(index: number): void {
    this.#applied = index
    this.#session.progressed()
    this.#answerSettled()
    this.#parts.onApplied()
  }

  /** Answers the batches that the engine has applied. */
  #answerSettled(): void {
    while ((this.#settling[0]?.index ?? Infinity) <= this.#applied) {
      const batch = must(this.#settling.shift())
      this.#answer(batch, batch.index)
    }
  }

  #onWriterLost(error: DbError): void {
    this.#parts.counters.engineRestarts += 1
    this.#applications = []
    this.#commitsUnderWay = 0
    this.#abandoned.clear()
    const batch = this.#open
    this.#open = undefined
    if (batch?.state === 'replicating') {
      // The entry is in the log and its answers are known: only the engine has to catch up.
      this.#orphaned.set(batch.proposal, batch)
    } else if (batch !== undefined) {
      this.#retryAlone(batch, error)
    }
    if (error.code === 'DISK_FULL' || error.code === 'CORRUPT') {
      // This machine's fault, not the data's: let one lead whose disk works.
      this.#failQueue(error)
      this.#parts.log.transferLeadership()
    }
  }

  /** One of these was too much; which one shows when each runs by itself. */
  #retryAlone(batch: Batch, error: DbError): void {
    if (batch.requests.length === 1 || error.code === 'DISK_FULL') {
      failBatch(batch, error)
      return
    }
    for (const request of batch.requests) request.isAlone = true
    const again = batch.requests.filter(({ done }) => done !== undefined)
    this.#queue.unshift(again.map(value => ({ value, sizeBytes: value.body.byteLength })))
  }

  // What to do next.

  #pump(): void {
    if (this.#session.state !== 'ready' || this.#divergence !== undefined) return
    if (this.#open !== undefined) return
    this.#follow()
    if (this.#role === 'leader' && this.isReadyToWrite) this.#lead()
  }

  #follow(): void {
    const { log, options } = this.#parts
    while (
      this.#dispatched < this.#commitIndex &&
      this.#applications.length < APPLICATIONS_IN_FLIGHT_MAX
    ) {
      const entries = log.read(this.#dispatched + 1, options.maxApplyBytes)
      const last = must(entries.at(-1), `entry ${this.#dispatched + 1}`)
      const data = entries.filter(({ type }) => type === 'data')
      this.#dispatched = last.index
      this.#dispatchedTerm = last.term
      const isNextToApply = this.#applications.length === 0 && this.#commitsUnderWay === 0
      if (data.length === 0 && isNextToApply) {
        this.#advance(last.index)
        continue
      }
      if (data.length > 0) this.#session.send({ type: 'apply', entries: data })
      const dataIndex = data.at(-1)?.index ?? 0
      this.#applications.push({ lastIndex: last.index, lastTerm: last.term, dataIndex })
    }
  }

  #lead(): void {
    if (this.#queue.count === 0 || this.#parts.isPaused()) return
    const { clock, random, counters, options } = this.#parts
    const requests = gather(this.#queue, options, clock.monotonicMs())
    if (requests.length === 0) return
    this.#batchNumber += 1
    counters.batches += 1
    this.#nowMs = Math.max(this.#nowMs, clock.wallMs())
    this.#open = {
      number: this.#batchNumber,
      term: this.#term,
      startedMs: clock.monotonicMs(),
      requests,
      results: [],
      state: 'executing',
      proposal: 0,
      index: 0,
      sizeBytes: 0,
    }
    this.#session.send({
      type: 'execute',
      batch: this.#batchNumber,
      nowMs: this.#nowMs,
      seed: random.bytes(16),
      requests: requests.map(({ body }) => body),
    })
  }

  /** Gives up the open batch: the engine forgets it, its clients hear `error`. */
  #abandon(batch: Batch, error: DbError): void {
    if (batch.state === 'executing') this.#abandoned.add(batch.number)
    this.#open = undefined
    if (this.#session.state === 'ready') {
      this.#session.send({ type: 'rollback', batch: batch.number })
    }
    failBatch(batch, error)
  }

  #answer(batch: Batch, index: number): void {
    batch.requests.forEach(({ done }, at) => {
      const result = must(batch.results[at], 'the result of a request')
      if (result.type === 'ok') {
        done?.({ type: 'ok', index, results: result.results })
        return
      }
      this.#parts.counters.failedRequests += 1
      const { code, message, details = {} } = result.error
      if (done !== undefined) fail(done, new DbError(code, message, { details }))
    })
  }

  #failQueue(error: DbError): void {
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      end(next, error)
    }
  }
}
