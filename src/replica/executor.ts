/**
 * The Executor decides what the engine does next. On a leader it lets leading.ts execute what
 * clients ask; on any other node it hands over what the log has committed. Both go through one
 * writer in one order, so that an entry is dispatched to the engine exactly once per life of the
 * writer, and only ever after the entry before it.
 */
import { assert, must } from '../base/assert.ts'
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Clock, Logger, Random } from '../base/ports.ts'
import type {
  AcceptedEntry,
  Divergence,
  Engine,
  EnginePast,
  WriterReply,
} from '../engine/engine.ts'
import type { LogEvent, OwnEntry, ProposalNumber, ReplicatedLog, Role } from '../log/log.ts'
import { Answers } from './answering.ts'
import { Applier } from './applying.ts'
import { diverged, failBatch, MAY_TAKE_EFFECT, notLeader, stopping } from './batch.ts'
import { Leading } from './leading.ts'
import type { TransactionCall, TransactionCallback } from './transaction-call.ts'
import type { ReplicaCounters, ReplicaOptions, WriteCallback } from './types.ts'
import type { WriteStages } from './write-stages.ts'
import { WriterSession } from './writer.ts'
import type { Opened } from './writer.ts'

/** A leader whose engine has not been ready for so long should not lead. */
const UNFIT_MS = 5000
/** With `--engine mysql`: this node's server is away, or not to be used. */
const SERVER_FAULTS = ['SERVER_DOWN', 'SERVER_REFUSED', 'SERVER_UNFIT'] as const
/** Faults of this machine and not of the data: let one lead whose disk, or server, works. */
const DISK_FAULTS: ReadonlySet<ErrorCode> = new Set([
  'DISK_FULL',
  'CORRUPT',
  'NODE_FAULT',
  ...SERVER_FAULTS,
])
/** Those among them that throw no doubt on what was computed from the files. */
const FULL_OR_FAILING: ReadonlySet<ErrorCode> = new Set([
  'DISK_FULL',
  'NODE_FAULT',
  ...SERVER_FAULTS,
])

export interface ExecutorParts {
  readonly log: ReplicatedLog
  readonly engine: Engine
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly options: ReplicaOptions
  readonly counters: ReplicaCounters
  readonly stages: WriteStages
  /** Whether replicas lag so far that no new batch may begin. */
  readonly isPaused: () => boolean
  /** Why nothing is written at all, if so; and why nothing that takes room on the disk. */
  readonly refusal: () => DbError | undefined
  readonly noRoom: () => DbError | undefined
  /** Somebody waits until more is applied. */
  readonly isAwaited: () => boolean
  /** An own entry was committed: its index and size, for measuring how far others are behind. */
  readonly onOwnCommit: (index: number, sizeBytes: number) => void
  /** `applied` rose, or fell because the engine was restarted. */
  readonly onApplied: () => void
  /** The engine has applied up to here, where all take a digest, and was handed nothing more. */
  readonly onDigestPoint: (index: number) => void
  readonly onDiverged: (divergence: Divergence) => void
  /** SQLite met something in this node's files that can't be. */
  readonly onCorrupt: (reason: string) => void
  /** The log begins after what the engine has: without another's data it can't go on. */
  readonly onGap: () => void
  /** This machine failed the writer: another one had better lead. */
  readonly onDiskFault: () => void
  readonly onFatal: (reason: string, code?: ErrorCode) => void
}

export class Executor {
  readonly #parts: ExecutorParts
  readonly #session: WriterSession
  readonly #applier: Applier
  readonly #answers: Answers
  readonly #leading: Leading
  #role: Role = 'follower'
  #term = 0
  #durable = 0
  #divergence: Divergence | undefined
  /** The divergence is settled against this replica: only another's data ends it. */
  #isCondemned = false
  #past: EnginePast = { copiedIndex: 0, accepted: [], condemned: undefined }
  #isStopping = false
  /** When this node last was no leader, or had an engine that was ready. */
  #fitAtMs = 0

  constructor(parts: ExecutorParts) {
    this.#parts = parts
    this.#answers = new Answers(parts.counters, parts.stages, parts.clock)
    this.#session = new WriterSession(parts.engine, parts.clock, parts.logger, {
      onOpened: opened => this.#onOpened(opened),
      onReply: reply => this.#onReply(reply),
      onLost: error => this.#onWriterLost(error),
      onCorrupt: error => parts.onCorrupt(error.message),
      onHopeless: (reason, code) => parts.onFatal(reason, code),
    })
    this.#applier = new Applier({
      log: parts.log,
      clock: parts.clock,
      maxApplyBytes: parts.options.maxApplyBytes,
      delayMs: parts.engine.applyDelayMs,
      isUrgent: () => this.#role !== 'follower' || parts.isAwaited(),
      onDue: () => this.#pump(),
      apply: entries => this.#session.send({ type: 'apply', entries }),
      onAdvanced: () => this.#onAdvanced(),
      onDigestPoint: index => parts.onDigestPoint(index),
    })
    this.#leading = new Leading({
      ...parts,
      session: this.#session,
      applier: this.#applier,
      answers: this.#answers,
      repeatsCheaply: parts.engine.repeatsCheaply,
      refusal: () => this.#refusal(),
      pump: () => this.#pump(),
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

  /** Why nothing can be executed or applied now, as the engine has told. */
  get outage(): DbError | undefined {
    return this.#session.outage
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
    return this.#leading.queuedRequests
  }

  get queuedBytes(): number {
    return this.#leading.queuedBytes
  }

  get openTransactions(): number {
    return this.#leading.openTransactions
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

  /** Why a write would be refused right now because too many wait, if so. */
  get overload(): DbError | undefined {
    return this.#leading.overload
  }

  /** How many more writes keep the writer busy; 0 while enough of them wait. */
  get wantedWrites(): number {
    return this.#leading.wantedWrites
  }

  /** Takes a request of this node's clients or of a follower. Answered exactly once. */
  submit(body: Uint8Array, timeoutMs: number, done: WriteCallback): void {
    this.#leading.submit(body, timeoutMs, done)
  }

  /** Takes a call of a transaction from this node's clients or a follower. Answered once. */
  transact(call: TransactionCall, timeoutMs: number, done: TransactionCallback): void {
    this.#leading.transact(call, timeoutMs, done)
  }

  /** Why nothing is written on this node, if so. */
  #refusal(): DbError | undefined {
    if (this.#isStopping) return stopping()
    if (this.#role !== 'leader') return notLeader()
    if (this.#divergence !== undefined) return diverged(this.#divergence)
    return this.#parts.refusal()
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

  /** Somebody waits for what is committed: it waits for nothing more. */
  hurry(): void {
    this.#pump()
  }

  /** Ends what waited past its deadline; called every few milliseconds. */
  sweep(): void {
    const now = this.#parts.clock.monotonicMs()
    if (this.#role !== 'leader' || this.#session.state === 'ready') this.#fitAtMs = now
    this.#answers.sweep(now)
    this.#leading.sweep(now)
    this.#pump()
  }

  /** No new work; what is in flight goes on. True once nothing is. */
  stopAdmission(): void {
    this.#isStopping = true
    this.#leading.endWaiting(stopping())
  }

  get isIdle(): boolean {
    return this.isDrained && this.#leading.queuedRequests === 0
  }

  /** No batch is under way; others may wait for their turn. */
  get isDrained(): boolean {
    return this.#leading.isDrained && this.#answers.isIdle
  }

  /** Ends the session for good: everything still open has an unknown fate. */
  stop(): void {
    this.#isStopping = true
    this.#leading.endWaiting(stopping())
    this.#session.stop()
    this.#applier.stop()
    const message = `this node stopped before the write was settled; ${MAY_TAKE_EFFECT}`
    const error = new DbError('LEADERSHIP_LOST', message)
    this.#leading.stop(error)
    this.#answers.stop(error)
  }

  /** Marks a place in the log at which all members take a digest of their data. */
  proposeDigestPoint(): void {
    this.#leading.proposeDigestPoint()
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
    const message = `this node was found to compute something else; ${MAY_TAKE_EFFECT}`
    const error = new DbError('LEADERSHIP_LOST', message)
    this.#leading.endReign(diverged(divergence), error)
    this.#answers.stop(error)
    if (this.#session.state === 'ready') this.#session.send({ type: 'condemn', divergence })
  }

  // What the log says.

  #onRole(role: Role, term: number): void {
    const isSameReign = role === 'leader' && this.#role === 'leader' && term === this.#term
    this.#role = role
    this.#term = term
    if (isSameReign) return
    const away = `leadership was lost by term ${term} after the write was sent to the others`
    const lost = new DbError('LEADERSHIP_LOST', `${away}; ${MAY_TAKE_EFFECT}`)
    this.#answers.leadershipLost(lost, notLeader())
    this.#leading.changeReign(role, term, lost)
    this.#pump()
  }

  #onCommitted(event: Extract<LogEvent, { type: 'committed' }>): void {
    this.#applier.committed(event.commitIndex)
    for (const own of event.own) this.#onOwnCommitted(own)
    this.#pump()
  }

  #onOwnCommitted(own: OwnEntry): void {
    const { proposal, index } = own
    const batch = this.#answers.takeOrphan(proposal) ?? this.#leading.ownCommitted(proposal, index)
    if (batch === undefined) return
    this.#answers.settle(batch, own)
    this.#parts.onOwnCommit(index, batch.sizeBytes)
  }

  #onRejected(proposal: ProposalNumber): void {
    const error = new DbError('NOT_LEADER', 'the write was refused by the log; nothing was applied')
    const orphan = this.#answers.takeOrphan(proposal)
    if (orphan !== undefined) failBatch(orphan, error)
    this.#leading.rejected(proposal, error)
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
    this.#leading.opened(opened.nowMs)
    this.#answers.engineOpened()
    // The last writer may have ended after a checkpoint of what it never said to be committed.
    this.#answers.applied(opened.appliedIndex)
    this.#parts.onApplied()
    this.#pump()
  }

  #onReply(reply: Exclude<WriterReply, { type: 'opened' } | { type: 'fault' }>): void {
    switch (reply.type) {
      case 'executed':
        this.#leading.executed(reply)
        return
      case 'committed': {
        const batch = must(this.#answers.nextToSettle, 'the batch that was committed')
        assert(batch.index === reply.index, `engine committed ${reply.index}, not ${batch.index}`)
        this.#durable = reply.durableIndex
        if (reply.results !== undefined) {
          batch.results = reply.results
          batch.isProvisional = false
        }
        this.#applier.ownCommitted(reply.index)
        this.#leading.answered(batch)
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
        this.#leading.stepped(reply)
        return
      case 'rolled-back':
      case 'condemned':
        return
    }
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
    this.#leading.failWrites(diverged(divergence))
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
    this.#leading.writerLost(error, DISK_FAULTS.has(error.code))
    if (FULL_OR_FAILING.has(error.code)) this.#answers.engineFailed()
    if (DISK_FAULTS.has(error.code)) this.#parts.onDiskFault()
  }

  // What to do next.

  #pump(): void {
    if (this.#session.state !== 'ready' || this.#divergence !== undefined) return
    if (!this.#leading.makeWay()) return
    this.#applier.follow()
    if (this.#role === 'leader' && this.isReadyToWrite) this.#leading.lead()
  }
}
