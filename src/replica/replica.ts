/**
 * One replica: it takes writes and reads, and binds the log, the engine and the other members. The
 * work is done by its parts; here stands only who hears of what.
 */
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Clock, Logger, Random, SnapshotTransfer, Timer } from '../base/ports.ts'
import type { RowFormat } from '../base/result-json.ts'
import type { DigestRequest, Engine, ReadRequest, WriteRequest } from '../engine/engine.ts'
import { encodeRequest } from '../engine/request.ts'
import type { SnapshotFile } from '../engine/snapshot.ts'
import type { LogEvent, Membership, ReplicatedLog } from '../log/log.ts'
import type { Peers } from '../log/peers.ts'
import { ApplyLag } from './apply-lag.ts'
import { stopping } from './batch.ts'
import { CallRouter } from './call-router.ts'
import { DigestTaker } from './digest-taker.ts'
import { Disputes } from './disputes.ts'
import { disputedError } from './divergence.ts'
import { compactionTarget, presentFloor } from './compaction.ts'
import { newCounters } from './counters.ts'
import { Executor } from './executor.ts'
import { HandOver, type HandOverCallback } from './hand-over.ts'
import { LeaderCalls, unheard } from './leader-calls.ts'
import { Reads } from './reads.ts'
import { Reports } from './reports.ts'
import { Room } from './room.ts'
import { SnapshotSource } from './snapshot-source.ts'
import { type HealRequest, Snapshots } from './snapshots.ts'
import { toCall, type TransactionCallback, type TransactionOperation } from './transaction-call.ts'
import type {
  Admission,
  DigestAnswer,
  JsonReadAnswer,
  MemberReport,
  Outcome,
  ReadAnswer,
  ReadCallback,
  ReadOptions,
  ReplicaOptions,
  ReplicaStatus,
  WriteCallback,
} from './types.ts'
import { WriteStages } from './write-stages.ts'

/** How often deadlines are looked at. */
const SWEEP_MS = 20
/** A replica whose files are garbled again so soon after they were replaced is left alone. */
const CORRUPT_MS_MIN = 10 * 60_000
/** Between checkpoints that only the size of the log asks for. */
const CHECKPOINT_MS_MIN = 250

export interface ReplicaParts {
  readonly raftId: number
  readonly log: ReplicatedLog
  readonly engine: Engine
  readonly peers: Peers
  readonly transfer: SnapshotTransfer
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly options: ReplicaOptions
  /** What is free on the disk, as it was seen last; without it the disk is never short of room. */
  readonly freeBytes?: () => number | undefined
  /** The members changed; also told once at the start. */
  readonly onMembership?: (membership: Membership) => void
  /** The node can't go on: its owner ends the process. */
  readonly onFatal: (reason: string, code?: ErrorCode) => void
}

export class Replica {
  readonly #parts: ReplicaParts
  readonly #executor: Executor
  readonly #reads: Reads
  readonly #leaderCalls: LeaderCalls
  readonly #router: CallRouter
  readonly #reports: Reports
  readonly #snapshots: Snapshots
  readonly #disputes: Disputes
  readonly #digests: DigestTaker
  readonly #handOver: HandOver
  readonly #room: Room
  readonly #source: SnapshotSource
  readonly #applyLag = new ApplyLag()
  readonly #counters = newCounters()
  readonly #stages = new WriteStages()
  readonly #timers: Timer[] = []
  #leader: number | undefined
  #isLeader = false
  #isStopped = false
  #corruptAtMs = -Infinity
  #checkpointAtMs = -Infinity

  constructor(parts: ReplicaParts) {
    this.#parts = parts
    const { log, engine, peers, clock, random, logger, options } = parts
    this.#executor = new Executor({
      log,
      engine,
      clock,
      random,
      logger,
      options,
      counters: this.#counters,
      stages: this.#stages,
      isPaused: () =>
        this.#handOver.isHolding ||
        this.#isAdmissionPaused() ||
        this.#disputes.dispute !== undefined,
      refusal: () => disputedError(this.#disputes.dispute),
      // What comes during a hand-over is held and goes to the next leader.
      noRoom: () => (this.#handOver.isHolding ? undefined : this.#room.refusal()),
      isAwaited: () => this.#reads.isWaiting,
      onOwnCommit: (index, sizeBytes) =>
        this.#applyLag.committed(index, sizeBytes, clock.monotonicMs()),
      onApplied: () => {
        this.#reads.onApplied()
        this.#disputes.changed()
      },
      onDiverged: () => {
        this.#reads.fail(this.#divergedError())
        this.transferLeadership()
        // What was made of these files may be wrong as well, and must not outlive them.
        this.#source.discard()
        this.#digests.cancel()
        this.#disputes.changed()
      },
      onDigestPoint: index => this.#digests.reached(index),
      onCorrupt: reason => this.#onCorrupt(reason),
      onGap: () => this.#snapshots.gap(),
      onDiskFault: () => this.transferLeadership(),
      onFatal: parts.onFatal,
    })
    this.#reads = new Reads({
      log,
      engine,
      clock,
      maxWaiting: options.maxWaitingReads,
      appliedIndex: () => this.#executor.appliedIndex,
      lagMs: () => this.#reports.lagMs(),
      onWaiting: () => this.#executor.hurry(),
      refusal: () => this.#readRefusal(),
      outage: () => this.#executor.outage,
      onCorrupt: reason => this.#onCorrupt(reason),
    })
    this.#leaderCalls = new LeaderCalls({
      log,
      peers,
      clock,
      random,
      options,
      counters: this.#counters,
      stages: this.#stages,
      submit: (body, timeoutMs, done) => this.#executor.submit(body, timeoutMs, done),
      transact: (call, timeoutMs, done) => this.#executor.transact(call, timeoutMs, done),
    })
    this.#source = new SnapshotSource({
      store: engine.snapshots,
      log,
      clock,
      random,
      logger,
      appliedIndex: () => this.#executor.appliedIndex,
      pause: pause => this.#executor.session.pause(pause),
      resume: () => this.#executor.session.resume(),
      onCorrupt: reason => this.#onCorrupt(reason),
      refusal: () => this.#giveRefusal(),
    })
    this.#snapshots = new Snapshots({
      store: engine.snapshots,
      log,
      transfer: parts.transfer,
      clock,
      logger,
      appliedIndex: () => this.#executor.appliedIndex,
      reports: () => this.#reports.heard,
      isSuspect: raftId => this.#disputes.isSuspect(raftId),
      suspend: done => this.#executor.session.suspend(done),
      restart: () => this.#executor.session.start(),
      abdicate: () => this.transferLeadership(),
      onNeeded: () => {
        this.#reads.fail(needsSnapshot())
        this.#digests.cancel()
      },
      onInstalled: () => this.#digests.forget(),
    })
    this.#router = new CallRouter({
      clock,
      leader: () => (this.#isLeader ? 'self' : this.#leader),
      maxHeld: options.maxForwardedRequests,
      maxHeldBytes: options.maxQueuedBytes,
    })
    this.#disputes = new Disputes({
      raftId: parts.raftId,
      peers,
      clock,
      logger,
      logStatus: () => log.status(),
      self: () => {
        const { appliedIndex, past, divergence, isCondemned } = this.#executor
        const isStranded = this.#snapshots.isHealing
        return { appliedIndex, past, divergence, isCondemned, isStranded }
      },
      accept: entry => this.#executor.accept(entry),
      condemn: divergence => this.#executor.condemn(divergence),
      taken: () => this.#digests.taken,
      build: () => this.#executor.engineBuild,
      isPreparing: () => this.#digests.isPreparing,
      onPreparing: () => this.#digests.prepare(),
    })
    this.#digests = new DigestTaker({
      store: engine.snapshots,
      clock,
      logger,
      counters: this.#counters,
      intervalMs: options.digestIntervalMs,
      isLeader: () => this.#isLeader,
      mayPropose: () => this.#mayMarkDigestPoint(),
      wantsAnother: () => this.#disputes.data.wantsAnother,
      propose: () => this.#executor.proposeDigestPoint(),
      pause: pause => this.#executor.session.pause(pause),
      resume: () => this.#executor.session.resume(),
      isUnfit: () => this.#executor.divergence !== undefined || this.#snapshots.isHealing,
      onTaken: () => this.#disputes.dataChanged(),
      onCorrupt: reason => this.#onCorrupt(reason),
    })
    this.#reports = new Reports({
      raftId: parts.raftId,
      peers,
      clock,
      random,
      logStatus: () => log.status(),
      self: () => this.#selfReport(),
    })
    this.#handOver = new HandOver({
      raftId: parts.raftId,
      log,
      clock,
      isDrained: () => this.#executor.isDrained,
      heard: () => this.#reports.heard,
      onResumed: () => this.#executor.sweep(),
    })
    this.#room = new Room({
      clock,
      logger,
      minFreeBytes: options.minFreeBytes,
      freeBytes: () => parts.freeBytes?.(),
      logStatus: () => log.status(),
      heard: () => this.#reports.heard,
      handOver: (timeoutMs, done) => this.#handOver.begin('with-room', timeoutMs, done),
    })
  }

  start(): void {
    this.#parts.log.start(event => this.#onLogEvent(event))
    this.#parts.peers.listen()
    this.#executor.start()
    this.#every(SWEEP_MS, () => this.#sweep())
    this.#every(this.#parts.options.reportMs, () => this.#report())
  }

  /** Writes all of the request or nothing; `receiveMs` ago it came. `done` is called once. */
  execute(request: WriteRequest, timeoutMs: number, done: WriteCallback, receiveMs = 0): void {
    if (this.#isStopped) return done({ type: 'failed', error: stopping() })
    const mayForward = this.#leaderCalls.mayForward(request)
    if (!this.#isLeader && !mayForward) {
      return done({ type: 'failed', error: this.#leaderCalls.refusal() })
    }
    this.#stages.received(receiveMs)
    const write = { body: encodeRequest(request), hasId: request.id !== undefined }
    const { body, hasId } = write
    const call = {
      sizeBytes: body.byteLength,
      hasId,
      mayForward,
      here: (leftMs: number, answer: WriteCallback) => this.#executor.submit(body, leftMs, answer),
      there: (leader: number, leftMs: number, answer: WriteCallback) =>
        this.#leaderCalls.write(leader, write, leftMs, answer),
      done,
    }
    this.#router.route(call, timeoutMs)
  }

  /** What a write that is not read yet would meet here, or at the leader. */
  get admission(): Admission {
    return this.#isLeader ? this.#executor : this.#leaderCalls
  }

  /** One call of an interactive transaction, at any node. `done` is called exactly once. */
  transact(operation: TransactionOperation, timeoutMs: number, done: TransactionCallback): void {
    if (this.#isStopped) {
      return done({ type: 'failed', error: stopping() })
    }
    const call = toCall(operation)
    const here = (leftMs: number, answer: TransactionCallback): void =>
      this.#executor.transact(call, leftMs, answer)
    const there = (_leader: number, leftMs: number, answer: TransactionCallback): void =>
      this.#leaderCalls.transact(call, leftMs, answer)
    // One that is open is bound to its leader and ends with it, so that it waits for no other.
    const mayWait = call.type === 'begin' && this.#leaderCalls.mayForwardCall(call)
    if (mayWait) {
      // Sent twice it begins two, of which one is left to its lease.
      const begin = { sizeBytes: 0, hasId: true, mayForward: true, here, there }
      const begun: TransactionCallback = outcome => {
        const isUnheard = outcome.type === 'failed' && outcome.error.fate === 'unknown'
        done(isUnheard ? { type: 'failed', error: unheard(outcome.error) } : outcome)
      }
      this.#router.route({ ...begin, done: begun }, timeoutMs)
    } else if (this.#isLeader) here(timeoutMs, done)
    else this.#leaderCalls.transact(call, timeoutMs, done)
  }

  query(request: ReadRequest, options: ReadOptions, done: ReadCallback<ReadAnswer>): void {
    this.#reads.query(request, options, done)
  }

  queryJson(
    request: ReadRequest,
    rows: RowFormat,
    options: ReadOptions,
    done: ReadCallback<JsonReadAnswer>,
  ): void {
    this.#reads.queryJson(request, rows, options, done)
  }

  digest(request: DigestRequest, options: ReadOptions, done: ReadCallback<DigestAnswer>): void {
    this.#reads.digest(request, options, done)
  }

  /** Replaces this replica's data by a snapshot of a healthy member. */
  heal(request: HealRequest): void {
    this.#snapshots.heal(request)
  }

  /** An operator decides which node is right in what is in dispute now. */
  trust(nodeId: string): DbError | undefined {
    return this.#disputes.trust(nodeId)
  }

  /** The manifest of a snapshot for another member; see {@link SnapshotSource.offer}. */
  offerSnapshot(minIndex: number): Outcome<string> {
    return this.#source.offer(minIndex)
  }

  /** Directory of the files of a snapshot that was offered, undefined if it is gone. */
  snapshotLocation(id: string): string | undefined {
    return this.#giveRefusal() === undefined ? this.#source.location(id) : undefined
  }

  /** What a file of that snapshot should be, undefined if it is gone. */
  snapshotFile(id: string, name: string): SnapshotFile | undefined {
    return this.#giveRefusal() === undefined ? this.#source.file(id, name) : undefined
  }

  /** A file of that snapshot is not what it should be: others get another one. */
  snapshotDamaged(id: string, reason: string): void {
    this.#source.damaged(id, reason)
  }

  /** Hands leadership to another node, best to one with room, to none that computed otherwise. */
  transferLeadership(): void {
    const { heard } = this.#reports
    const isSound = (raftId: number): boolean => heard.get(raftId)?.isDiverged !== true
    const hasRoom = (raftId: number): boolean =>
      isSound(raftId) && heard.get(raftId)?.isShortOfRoom !== true
    const { peers, voters } = this.#parts.log.status()
    // One without room could do no more than pass it on, but is better than one that is wrong.
    const isRoomAnywhere = peers.some(
      ({ raftId, isConnected }) => isConnected && voters.includes(raftId) && hasRoom(raftId),
    )
    this.#parts.log.transferLeadership(isRoomAnywhere ? hasRoom : isSound)
  }

  /**
   * Hands leadership over without failing a write: to `target`, or to the best other voter. `done`
   * is called once, without an error when this node does not lead any more.
   */
  handOver(target: number | undefined, timeoutMs: number, done: HandOverCallback): void {
    this.#handOver.begin(target, timeoutMs, done)
  }

  status(): ReplicaStatus {
    const executor = this.#executor
    return {
      log: this.#parts.log.status(),
      appliedIndex: executor.appliedIndex,
      durableIndex: executor.durableIndex,
      engine: executor.engineState,
      engineBuild: executor.engineBuild,
      isReadyToWrite: executor.isReadyToWrite,
      divergence: executor.divergence,
      isCondemned: executor.isCondemned,
      dispute: this.#disputes.dispute,
      snapshot: this.#snapshots.status(),
      snapshotSource: this.#source.status(),
      dataDigest: {
        isRunning: this.#digests.isRunning,
        verifiedIndex: this.#disputes.data.verifiedIndex,
        verifiedAgoMs: this.#disputes.data.verifiedAgoMs,
        durationMs: this.#digests.durationMs,
        lastError: this.#digests.lastError,
      },
      lastError: executor.lastError,
      queuedRequests: executor.queuedRequests,
      queuedBytes: executor.queuedBytes,
      waitingReads: this.#reads.waitingCount,
      forwardedRequests: this.#leaderCalls.waitingCount,
      heldRequests: this.#router.heldCount,
      lagMs: this.#reports.lagMs(),
      quorumApplyLagMs: this.#applyLag.lagMs(this.#parts.clock.monotonicMs()),
      isAdmissionPaused: this.#isAdmissionPaused(),
      freeBytes: this.#room.freeBytes,
      isShortOfRoom: this.#room.isShort,
      openTransactions: executor.openTransactions,
      reports: this.#reports.heard,
      counters: { ...this.#counters },
      stages: this.#stages.histograms,
    }
  }

  /** No write is being executed or replicated here: leadership can be handed over. */
  get isIdle(): boolean {
    return this.#executor.isIdle
  }

  /** No write of this node's clients waits for another node. */
  get isPassedOn(): boolean {
    return this.#leaderCalls.waitingCount === 0 && this.#router.heldCount === 0
  }

  /** Executes nothing more; what is in flight may end, all else is held for the next leader. */
  stopAdmission(): void {
    this.#executor.stopAdmission()
  }

  /** Ends the writes that wait for a leader: this node won't be there when there is one. */
  refuseHeld(): void {
    this.#router.stop(stopping())
  }

  /** Ends this replica; everything that still waits is told so. `done` when all is closed. */
  stop(done: () => void): void {
    this.#isStopped = true
    this.#handOver.stop()
    this.refuseHeld()
    for (const timer of this.#timers) timer.cancel()
    this.#snapshots.stop()
    this.#source.discard()
    this.#digests.cancel()
    this.#executor.stop()
    this.#leaderCalls.fail()
    this.#reads.fail(stopping())
    this.#parts.log.stop(() => this.#parts.engine.stop(done))
  }

  #onLogEvent(event: LogEvent): void {
    if (this.#isStopped) return
    if (event.type === 'role') {
      this.#leader = event.leader
      this.#isLeader = event.role === 'leader'
      this.#counters.roleChanges += 1
      this.#applyLag.reset()
      this.#room.roleChanged(event.role)
    }
    if (event.type === 'snapshot-needed') this.#snapshots.needed(event.from, event.index)
    this.#executor.onLogEvent(event)
    if (event.type === 'membership') this.#parts.onMembership?.(event.membership)
    if (event.type === 'role') {
      this.#leaderCalls.leaderChanged(event.leader)
      this.#handOver.roleChanged(event.role)
      this.#router.leaderChanged()
    }
  }

  #every(delayMs: number, work: () => void): void {
    const at = this.#timers.length
    const again = (): void => {
      if (this.#isStopped) return
      this.#timers[at] = this.#parts.clock.setTimer(delayMs, again)
      work()
    }
    this.#timers[at] = this.#parts.clock.setTimer(delayMs, again)
  }

  #sweep(): void {
    this.#executor.sweep()
    this.#reads.sweep()
    this.#leaderCalls.sweep()
    this.#router.sweep()
  }

  #report(): void {
    this.#room.tick()
    if (this.#executor.isUnfitToLead) this.transferLeadership()
    this.#reports.send()
    this.#disputes.tick()
    this.#healIfWrong()
    this.#digests.tick()
    this.#applyLag.applied(this.#reports.quorumApplied())
    this.#source.sweep()
    this.#snapshots.sweep()
    this.#compact()
  }

  #compact(): void {
    const { log, clock, options } = this.#parts
    const status = log.status()
    const { durableIndex } = this.#executor
    const { floor } = this.#reports
    const held = { durableIndex, floor, presentFloor: presentFloor(status.peers) }
    const { upTo, isHeldByEngine } = compactionTarget(status, held, options)
    // Whoever has not come to an entry in dispute must be able to compute it.
    const { dispute } = this.#disputes
    log.compact(Math.min(upTo, (dispute?.index ?? Infinity) - 1))
    const now = clock.monotonicMs()
    if (!isHeldByEngine || now - this.#checkpointAtMs < CHECKPOINT_MS_MIN) return
    this.#checkpointAtMs = now
    this.#executor.session.checkpoint()
  }

  /** A replica that is known to be wrong takes the data of one that nobody suspects. */
  #healIfWrong(): void {
    const { divergence, isCondemned, engineState } = this.#executor
    if (divergence === undefined || !isCondemned || this.#snapshots.isHealing) return
    // A writer that is just opening may say that it has another's data already.
    if (engineState !== 'ready') return
    this.heal({
      reason: `this replica computed something else at entry ${divergence.index}`,
      minIndex: divergence.index,
      isSuspect: raftId => this.#disputes.isSuspect(raftId),
    })
  }

  /** A garbled file is no divergence, but no less to be replaced by one of a healthy member. */
  #onCorrupt(reason: string): void {
    if (this.#parts.log.status().peers.length === 0 || this.#snapshots.isHealing) return
    const now = this.#parts.clock.monotonicMs()
    // Data that is garbled everywhere would be passed round for ever.
    if (now - this.#corruptAtMs < CORRUPT_MS_MIN) return
    this.#corruptAtMs = now
    this.#parts.logger.error({ reason }, "this node's files are garbled; it takes another's data")
    this.transferLeadership()
    this.heal({
      reason: `files of this node are garbled: ${reason}`,
      minIndex: this.#executor.appliedIndex,
      isSuspect: raftId => this.#disputes.isSuspect(raftId),
    })
  }

  /** A digest is for quiet times; only a dispute about data is itself a reason for one. */
  #mayMarkDigestPoint(): boolean {
    // Alone there is nobody to compare with.
    if (this.#parts.log.status().peers.length === 0) return false
    const isBusy = this.#source.isMaking || this.#snapshots.isHealing || this.#handOver.isHolding
    if (isBusy || this.#isAdmissionPaused() || this.#room.refusal() !== undefined) return false
    if (!this.#executor.isReadyToWrite) return false
    return this.#disputes.dispute?.subject !== 'outcome' && this.#disputes.data.isAnswered
  }

  #isAdmissionPaused(): boolean {
    const { maxApplyLagMs, maxApplyLagBytes } = this.#parts.options
    const lagMs = this.#applyLag.lagMs(this.#parts.clock.monotonicMs())
    return lagMs > maxApplyLagMs || this.#applyLag.lagBytes > maxApplyLagBytes
  }

  #selfReport(): MemberReport {
    return {
      appliedIndex: this.#executor.appliedIndex,
      durableIndex: this.#executor.durableIndex,
      isDiverged: this.#executor.divergence !== undefined,
      isShortOfRoom: this.#room.isShort,
      lastError: this.#executor.lastError,
    }
  }

  #readRefusal(): DbError | undefined {
    if (this.#isStopped) return stopping()
    if (this.#executor.divergence !== undefined) return this.#divergedError()
    return this.#snapshots.isHealing ? needsSnapshot() : undefined
  }

  /** Why this node's data must go to no other. */
  #giveRefusal(): DbError | undefined {
    if (this.#disputes.dispute === undefined) return this.#readRefusal()
    const message = 'replicas computed different things, and it is not known yet who is right'
    return new DbError('NOT_READY', message)
  }

  #divergedError(): DbError {
    const message = 'this replica computed something else than the others; ask another node'
    return new DbError('DIVERGED', message, { details: { ...this.#executor.divergence } })
  }
}

function needsSnapshot(): DbError {
  const message = 'this node takes over the data of another one; ask another node meanwhile'
  return new DbError('NOT_READY', message)
}
