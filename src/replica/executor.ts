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
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Clock, Logger, Random } from '../base/ports.ts'
import type {
  AcceptedEntry,
  Divergence,
  Engine,
  EnginePast,
  RequestResult,
  WriterReply,
} from '../engine/engine.ts'
import type { LogEvent, ProposalNumber, ReplicatedLog, Role } from '../log/log.ts'
import { Answers } from './answering.ts'
import { Applier } from './applying.ts'
import {
  type Batch,
  diverged,
  endOverdue,
  fail,
  failBatch,
  ENTRY_BYTES_MAX,
  notLeader,
  type Pending,
  tooLarge,
} from './batch.ts'
import type { ReplicaCounters, ReplicaOptions, WriteCallback } from './types.ts'
import type { TransactionCall, TransactionCallback } from './transaction-call.ts'
import { WaitingWrites } from './waiting.ts'
import { WriterSession } from './writer.ts'
import type { Opened } from './writer.ts'

/** A leader whose engine has not been ready for so long should not lead. */
const UNFIT_MS = 5000
/** Faults of this machine and not of the data: let one lead whose disk works. */
const DISK_FAULTS: ReadonlySet<ErrorCode> = new Set(['DISK_FULL', 'CORRUPT', 'NODE_FAULT'])

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
  /** Why nothing is written at all, if so. */
  readonly refusal: () => DbError | undefined
  /** An own entry was committed: its index and size, for measuring how far others are behind. */
  readonly onOwnCommit: (index: number, sizeBytes: number) => void
  /** `applied` rose, or fell because the engine was restarted. */
  readonly onApplied: () => void
  readonly onDiverged: (divergence: Divergence) => void
  /** SQLite met something in this node's files that can't be. */
  readonly onCorrupt: (reason: string) => void
  /** The log begins after what the engine has: without another's data it can't go on. */
  readonly onGap: () => void
  readonly onFatal: (reason: string) => void
}

export class Executor {
  readonly #parts: ExecutorParts
  readonly #session: WriterSession
  readonly #applier: Applier
  readonly #waiting: WaitingWrites
  readonly #answers: Answers
  #role: Role = 'follower'
  #term = 0
  #durable = 0
  #nowMs = 0
  #batchNumber = 0
  #open: Batch | undefined
  /** Numbers of batches that were given up while the engine executed them. */
  readonly #abandoned = new Set<number>()
  #divergence: Divergence | undefined
  /** The divergence is settled against this replica: only another's data ends it. */
  #isCondemned = false
  #past: EnginePast = { copiedIndex: 0, accepted: [], condemned: undefined }
  #isStopping = false
  /** When this node last was no leader, or had an engine that was ready. */
  #fitAtMs = 0

  constructor(parts: ExecutorParts) {
    this.#parts = parts
    this.#waiting = new WaitingWrites(parts.options)
    this.#answers = new Answers(parts.counters)
    this.#session = new WriterSession(parts.engine, parts.clock, parts.logger, {
      onOpened: opened => this.#onOpened(opened),
      onReply: reply => this.#onReply(reply),
      onLost: error => this.#onWriterLost(error),
      onCorrupt: error => parts.onCorrupt(error.message),
      onHopeless: reason => parts.onFatal(reason),
    })
    this.#applier = new Applier({
      log: parts.log,
      maxApplyBytes: parts.options.maxApplyBytes,
      apply: entries => this.#session.send({ type: 'apply', entries }),
      onAdvanced: () => this.#onAdvanced(),
    })
  }

  start(): void {
    this.#session.start()
  }

  get appliedIndex(): number {
    return this.#applier.applied
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

  get isCondemned(): boolean {
    return this.#isCondemned
  }

  /** What this replica's files know of entries that replicas computed differently. */
  get past(): EnginePast {
    return this.#past
  }

  get queuedRequests(): number {
    return this.#waiting.count
  }

  get queuedBytes(): number {
    return this.#waiting.sizeBytes
  }

  /** Leads, and has handed everything before its own term to the engine. */
  get isReadyToWrite(): boolean {
    return (
      this.#role === 'leader' &&
      this.#session.state === 'ready' &&
      this.#divergence === undefined &&
      this.#applier.hasAllOf(this.#term) &&
      // An entry of ours that may yet be committed would come before what is executed now.
      !this.#answers.hasOrphans
    )
  }

  /**
   * Another node should lead: this one's engine is wrong, or could not be opened for long. Raft
   * looks only at logs when it elects, so that such a node may come to lead again and again.
   */
  get isUnfitToLead(): boolean {
    if (this.#role !== 'leader') return false
    const downMs = this.#parts.clock.monotonicMs() - this.#fitAtMs
    const isWrong = this.#divergence !== undefined || this.#session.isSuspended
    return isWrong || downMs > UNFIT_MS
  }

  /** Takes a request of this node's clients or of a follower. Answered exactly once. */
  submit(body: Uint8Array, timeoutMs: number, done: WriteCallback): void {
    if (this.#isStopping) return fail(done, new DbError('SHUTTING_DOWN', 'this node is stopping'))
    if (this.#role !== 'leader') return fail(done, notLeader())
    if (this.#divergence !== undefined) return fail(done, diverged(this.#divergence))
    const refused = this.#parts.refusal()
    if (refused !== undefined) return fail(done, refused)
    const deadlineMs = this.#parts.clock.monotonicMs() + timeoutMs
    const pending: Pending = { body, deadlineMs, isAlone: false, done }
    const refusal = this.#waiting.add(pending)
    if (refusal !== undefined) return fail(done, refusal)
    this.#parts.counters.requests += 1
    this.#pump()
  }

  /** Takes a call of a transaction from this node's clients or a follower. Answered once. */
  transact(_call: TransactionCall, _timeoutMs: number, done: TransactionCallback): void {
    const message = 'interactive transactions are not there yet; send the statements as one request'
    done({ type: 'failed', error: new DbError('UNSUPPORTED', message) })
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
      // Of no concern to what is executed and applied.
      case 'membership':
      case 'snapshot-needed':
        return
    }
  }

  /** Ends what waited past its deadline; called every few milliseconds. */
  sweep(): void {
    const now = this.#parts.clock.monotonicMs()
    if (this.#role !== 'leader' || this.#session.state === 'ready') this.#fitAtMs = now
    this.#waiting.sweep(now)
    const refusal = this.#waiting.count > 0 ? this.#parts.refusal() : undefined
    if (refusal !== undefined) this.#waiting.fail(refusal)
    this.#answers.sweep(now)
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
    this.#waiting.fail(new DbError('SHUTTING_DOWN', 'this node is stopping; ask another one'))
  }

  get isIdle(): boolean {
    return this.#open === undefined && this.#answers.isIdle && this.#waiting.count === 0
  }

  /** No batch is under way; others may wait for their turn. */
  get isDrained(): boolean {
    return this.#open === undefined && this.#answers.isIdle
  }

  /** Ends the session for good: everything still open has an unknown fate. */
  stop(): void {
    this.#isStopping = true
    this.#session.stop()
    const error = new DbError('LEADERSHIP_LOST', 'this node stopped before the write was settled')
    this.#waiting.fail(new DbError('SHUTTING_DOWN', 'this node is stopping; ask another one'))
    const open = this.#open
    if (open !== undefined) failBatch(open, open.state === 'executing' ? notLeader() : error)
    this.#answers.stop(error)
  }

  /** For whoever has the engine's files stand still, made durable or replaced. */
  get session(): WriterSession {
    return this.#session
  }

  /** The others computed an entry as this replica did: it goes on, with these outcomes. */
  accept(entry: AcceptedEntry): void {
    if (this.#session.state === 'ready') this.#session.send({ type: 'accept', ...entry })
  }

  /** This replica is wrong: it stops, for good, and what it answered last may not be so. */
  condemn(divergence: Divergence): void {
    this.#isCondemned = true
    this.#diverge(divergence)
    const open = this.#open
    if (open?.state === 'executing') this.#abandon(open, diverged(divergence))
    const message = 'this node was found to compute something else; the write may still take effect'
    const error = new DbError('LEADERSHIP_LOST', message)
    if (this.#open !== undefined) this.#abandon(this.#open, error)
    this.#answers.stop(error)
    if (this.#session.state === 'ready') this.#session.send({ type: 'condemn', divergence })
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
    this.#answers.leadershipLost(lost, notLeader())
    if (this.#open !== undefined) {
      // Executed on a state that others may have left behind: undo it before anything is applied.
      this.#abandon(this.#open, this.#open.state === 'executing' ? notLeader() : lost)
    }
    if (role !== 'leader') this.#waiting.fail(notLeader())
    this.#pump()
  }

  #onCommitted(event: Extract<LogEvent, { type: 'committed' }>): void {
    this.#applier.committed(event.commitIndex)
    for (const { proposal, index } of event.own) this.#onOwnCommitted(proposal, index)
    this.#pump()
  }

  #onOwnCommitted(proposal: ProposalNumber, index: number): void {
    const orphan = this.#answers.takeOrphan(proposal)
    if (orphan !== undefined) {
      this.#settle(orphan, index)
      return
    }
    const open = this.#open
    if (open?.proposal !== proposal) return
    assert(open.state === 'replicating', `batch ${open.number} was committed while ${open.state}`)
    this.#applier.commitsOwn(index, open.term)
    this.#session.send({ type: 'commit', batch: open.number, index })
    this.#open = undefined
    this.#settle(open, index)
  }

  #settle(batch: Batch, index: number): void {
    this.#answers.settle(batch, index)
    this.#parts.onOwnCommit(index, batch.sizeBytes)
  }

  #onRejected(proposal: ProposalNumber): void {
    const error = new DbError('NOT_LEADER', 'the write was refused by the log; nothing was applied')
    const orphan = this.#answers.takeOrphan(proposal)
    if (orphan !== undefined) failBatch(orphan, error)
    if (this.#open?.proposal === proposal) this.#abandon(this.#open, error)
    this.#pump()
  }

  // What the engine says.

  #onOpened(opened: Opened): void {
    const { firstIndex, lastIndex } = this.#parts.log.status()
    if (opened.appliedIndex + 1 < firstIndex) {
      this.#session.suspend(() => this.#parts.onGap())
      return
    }
    if (opened.appliedIndex > lastIndex) {
      const what = `the engine has applied ${opened.appliedIndex}, the log ends at ${lastIndex}`
      this.#parts.onFatal(`${what}: they are not of the same life of this node`)
      return
    }
    this.#applier.opened(opened)
    this.#recall(opened.past)
    this.#durable = opened.durableIndex
    this.#nowMs = Math.max(this.#nowMs, opened.nowMs)
    // The last writer may have ended after a checkpoint of what it never said to be committed.
    this.#answers.applied(opened.appliedIndex)
    this.#parts.onApplied()
    this.#pump()
  }

  #onReply(reply: Exclude<WriterReply, { type: 'opened' } | { type: 'fault' }>): void {
    switch (reply.type) {
      case 'executed':
        this.#onExecuted(reply)
        return
      case 'committed': {
        const batch = must(this.#answers.nextToSettle, 'the batch that was committed')
        assert(batch.index === reply.index, `engine committed ${reply.index}, not ${batch.index}`)
        this.#durable = reply.durableIndex
        this.#applier.ownCommitted(reply.index)
        this.#pump()
        return
      }
      case 'applied':
        this.#onEntriesApplied(reply)
        return
      case 'accepted':
        this.#onAccepted(reply)
        return
      case 'checkpointed':
        this.#durable = reply.durableIndex
        return
      case 'stepped':
      case 'rolled-back':
      case 'condemned':
        return
    }
  }

  #onExecuted(reply: Extract<WriterReply, { type: 'executed' }>): void {
    if (this.#abandoned.delete(reply.batch)) return
    const batch = must(this.#open, 'the open batch')
    assert(batch.number === reply.batch, `batch ${reply.batch} was executed, not ${batch.number}`)
    assert(reply.taken > 0 && reply.taken === reply.results.length, `took ${reply.taken}`)
    const left = batch.requests.slice(reply.taken)
    this.#waiting.putBack(left)
    batch.requests = batch.requests.slice(0, reply.taken)
    batch.results = reply.results
    this.#noteCorruption(reply.results)
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
    this.#session.send({ type: 'rollback', batch: batch.number })
    this.#open = undefined
    const confirmed = this.#answers.confirm(batch, this.#applier.dispatched)
    const timeoutMs = Math.max(...batch.requests.map(({ deadlineMs }) => deadlineMs), 0)
    this.#parts.log.readIndex(timeoutMs - this.#parts.clock.monotonicMs(), outcome => {
      const isSameReign = this.#role === 'leader' && this.#term === batch.term
      if (typeof outcome !== 'number') confirmed(outcome)
      else confirmed(isSameReign ? undefined : notLeader())
    })
    this.#pump()
  }

  #onEntriesApplied(reply: Extract<WriterReply, { type: 'applied' }>): void {
    this.#durable = reply.durableIndex
    if (reply.divergence !== undefined) {
      // Whatever was sent after the entry is answered in the same way.
      if (this.#divergence !== undefined) return
      this.#applier.stoppedAt(reply.index)
      this.#diverge(reply.divergence)
      return
    }
    this.#parts.counters.appliedEntries += 1
    this.#applier.entriesApplied(reply)
    this.#pump()
  }

  /** A new writer: what it holds may be another replica's data, or what was found wrong before. */
  #recall(past: EnginePast): void {
    this.#past = past
    const { condemned, copiedIndex } = past
    const known = this.#isCondemned ? this.#divergence : undefined
    if (condemned === undefined && known !== undefined && copiedIndex < known.index) {
      this.#session.send({ type: 'condemn', divergence: known })
      return
    }
    if (this.#isCondemned && condemned === undefined) {
      this.#parts.counters.heals += 1
      this.#parts.logger.warn({ copiedIndex }, 'this replica has the data of a healthy one now')
    }
    this.#isCondemned = condemned !== undefined
    this.#divergence = undefined
    if (condemned !== undefined) this.#diverge(condemned)
  }

  #onAccepted(reply: Extract<WriterReply, { type: 'accepted' }>): void {
    const { index, digest } = this.#divergence ?? { index: 0, digest: '' }
    // It may have been said twice.
    if (index !== reply.index || this.#isCondemned) return
    this.#past = { ...this.#past, accepted: [...this.#past.accepted, { index, digest }] }
    this.#divergence = undefined
    this.#applier.stoppedAt(reply.appliedIndex)
    this.#pump()
  }

  #diverge(divergence: Divergence): void {
    const isKnown = this.#divergence?.index === divergence.index
    this.#divergence = divergence
    if (!isKnown) this.#parts.counters.divergences += 1
    const message = this.#isCondemned
      ? 'this replica is wrong, serves nothing, and needs the data of another'
      : 'this replica computed something else, and waits for what the others say'
    this.#parts.logger.error({ ...divergence }, message)
    this.#waiting.fail(diverged(divergence))
    this.#parts.onDiverged(divergence)
  }

  #onAdvanced(): void {
    this.#session.progressed()
    this.#answers.applied(this.#applier.applied)
    this.#parts.onApplied()
  }

  #onWriterLost(error: DbError): void {
    this.#parts.counters.engineRestarts += 1
    this.#applier.lost()
    this.#abandoned.clear()
    const batch = this.#open
    this.#open = undefined
    if (batch?.state === 'replicating') {
      // The entry is in the log and its answers are known: only the engine has to catch up.
      this.#answers.orphan(batch)
    } else if (batch !== undefined) {
      this.#retryAlone(batch, error)
    }
    if (DISK_FAULTS.has(error.code)) {
      this.#waiting.fail(error)
      this.#parts.log.transferLeadership()
    }
  }

  /** One of these was too much; which one shows when each runs by itself. */
  #retryAlone(batch: Batch, error: DbError): void {
    if (batch.requests.length === 1 || DISK_FAULTS.has(error.code)) {
      failBatch(batch, error)
      return
    }
    for (const request of batch.requests) request.isAlone = true
    this.#waiting.putBack(batch.requests.filter(({ done }) => done !== undefined))
  }

  // What to do next.

  #pump(): void {
    if (this.#session.state !== 'ready' || this.#divergence !== undefined) return
    if (this.#open !== undefined) return
    this.#applier.follow()
    if (this.#role === 'leader' && this.isReadyToWrite) this.#lead()
  }

  #lead(): void {
    if (this.#waiting.count === 0 || this.#parts.isPaused()) return
    const { clock, random, counters } = this.#parts
    const requests = this.#waiting.take(clock.monotonicMs())
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
      commitIndex: this.#applier.commitIndex,
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
}
