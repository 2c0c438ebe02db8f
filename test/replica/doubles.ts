/** Doubles for tests of the replica: a log, an engine and a clock that do just what a test says. */
import type { DbError } from '../../src/base/errors.ts'
import { Histogram } from '../../src/base/histogram.ts'
import type {
  CarriedSnapshot,
  Clock,
  Lane,
  Logger,
  PeerHandler,
  PeerTransport,
  Random,
  SnapshotTransfer,
  Timer,
} from '../../src/base/ports.ts'
import type { RowFormat } from '../../src/base/result-json.ts'
import type {
  DigestOutcome,
  Engine,
  EnginePast,
  JsonReadOutcome,
  ReadOutcome,
  ReadRequest,
  Writer,
  WriterHandler,
  WriterMessage,
  WriterReply,
} from '../../src/engine/engine.ts'
import { jsonOutcome } from '../../src/engine/result-codec.ts'
import type {
  DigestHandler,
  DigestTask,
  Done,
  SnapshotHandler,
  SnapshotManifest,
  SnapshotStore,
  SnapshotTask,
} from '../../src/engine/snapshot.ts'
import type {
  LogEntry,
  LogEvent,
  LogStatus,
  MembersChange,
  Membership,
  ProposalNumber,
  ReplicatedLog,
  Role,
  SnapshotPoint,
} from '../../src/log/log.ts'
import { foundingMembership } from '../../src/log/membership.ts'
import { newCounters } from '../../src/replica/counters.ts'
import { WriteStages } from '../../src/replica/write-stages.ts'
import type { ReplicaOptions } from '../../src/replica/types.ts'

export const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} }

export const OPTIONS: ReplicaOptions = {
  forward: 'all',
  maxBatchRequests: 4,
  maxBatchBytes: 1 << 20,
  maxQueuedRequests: 8,
  maxQueuedBytes: 1 << 20,
  maxQueuedMs: 1000,
  maxWaitingReads: 4,
  maxForwardedRequests: 4,
  maxExecuteMs: 1000,
  maxApplyBytes: 1 << 20,
  maxApplyLagMs: 500,
  maxApplyLagBytes: 1 << 26,
  maxLogBytes: 1 << 30,
  logReserveBytes: 1 << 20,
  minFreeBytes: 0,
  transactionIdleMs: 5,
  transactionTurnMs: 50,
  transactionIdleTimeoutMs: 30_000,
  maxTransactionMs: 60_000,
  maxTransactions: 4,
  maxTransactionsBytes: 1 << 20,
  reportMs: 100,
  digestIntervalMs: 0,
}

export class ManualClock implements Clock {
  nowMs = 1000
  readonly #timers = new Set<{ atMs: number; callback: () => void }>()

  wallMs(): number {
    return 1_700_000_000_000 + this.nowMs
  }

  monotonicMs(): number {
    return this.nowMs
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const timer = { atMs: this.nowMs + delayMs, callback }
    this.#timers.add(timer)
    return { cancel: () => this.#timers.delete(timer) }
  }

  /** Lets time pass, timers firing in their order. */
  pass(ms: number): void {
    const end = this.nowMs + ms
    for (;;) {
      const due = [...this.#timers].filter(timer => timer.atMs <= end)
      const next = due.sort((left, right) => left.atMs - right.atMs)[0]
      if (next === undefined) break
      this.#timers.delete(next)
      this.nowMs = next.atMs
      next.callback()
    }
    this.nowMs = end
  }
}

export const fixedRandom: Random = {
  below: bound => 7 % bound,
  bytes: count => new Uint8Array(count),
}

/** What an executor needs beside a log and an engine, for tests that look at neither. */
export function executorParts(clock: Clock, options: Partial<ReplicaOptions>) {
  return {
    clock,
    random: fixedRandom,
    logger: SILENT,
    options: { ...OPTIONS, ...options },
    counters: newCounters(),
    stages: new WriteStages(),
    onGap: () => {},
    onDigestPoint: () => {},
    isAwaited: () => false,
    onOwnCommit: () => {},
    onApplied: () => {},
  }
}

/** A log whose every event a test gives by hand. */
export class ManualLog implements ReplicatedLog {
  readonly #raftId: number
  role: Role = 'follower'
  term = 1
  leader: number | undefined
  entries: LogEntry[] = []
  commitIndex = 0
  nextProposal: ProposalNumber = 1
  readonly proposed: { proposal: ProposalNumber; data: Uint8Array }[] = []
  readonly rounds: ((outcome: number | DbError) => void)[] = []
  transfers = 0
  membership: Membership = foundingMembership(
    [1, 2, 3].map(raftId => ({
      raftId,
      nodeId: `n${raftId}`,
      address: `127.0.0.1:${7000 + raftId}`,
      incarnation: `disk-${raftId}`,
    })),
  )
  readonly changes: MembersChange[] = []
  /** What was asked to be installed, and whom to tell. */
  readonly installs: { point: SnapshotPoint; done: (isTaken: boolean) => void }[] = []
  /** Whether a node was thought fit at the last transfer. */
  mayLead: (raftId: number) => boolean = () => false
  compactedTo = 0
  /** When the disk had kept what is committed next. */
  flushedMs = 0
  /** How far the leader knows each other one's log to reach. */
  matchIndexes: Readonly<Record<number, number>> = {}
  sizeBytes = 0
  #listener: (event: LogEvent) => void = () => {}

  constructor(raftId = 1) {
    this.#raftId = raftId
  }

  status(): LogStatus {
    return {
      raftId: this.#raftId,
      role: this.role,
      term: this.term,
      leader: this.leader,
      firstIndex: 1,
      lastIndex: 1_000_000,
      commitIndex: this.commitIndex,
      isCommitCurrent: true,
      flushedIndex: this.entries.length,
      voters: [1, 2, 3],
      learners: [],
      membership: this.membership,
      isMember: true,
      sizeBytes: this.sizeBytes,
      flushes: new Histogram(),
      peers: [1, 2, 3]
        .filter(raftId => raftId !== this.#raftId)
        .map(raftId => ({
          raftId,
          nodeId: `n${raftId}`,
          address: `127.0.0.1:${7000 + raftId}`,
          isConnected: true,
          lastContactMs: 0,
          retries: 0,
          matchIndex: this.matchIndexes[raftId],
          progress: undefined,
          offeredIndex: undefined,
        })),
    }
  }

  start(listener: (event: LogEvent) => void): void {
    this.#listener = listener
  }

  append(term: number, data: Uint8Array): ProposalNumber | undefined {
    if (this.role !== 'leader' || term !== this.term) return undefined
    const proposal = this.nextProposal
    this.nextProposal += 1
    this.proposed.push({ proposal, data })
    return proposal
  }

  read(from: number, _maxBytes: number): readonly LogEntry[] {
    return this.entries.filter(({ index }) => index >= from && index <= this.commitIndex)
  }

  readIndex(_timeoutMs: number, done: (outcome: number | DbError) => void): void {
    this.rounds.push(done)
  }

  compact(upTo: number): void {
    this.compactedTo = upTo
  }

  changeMembers(change: MembersChange): void {
    this.changes.push(change)
  }

  point(index: number): SnapshotPoint | undefined {
    if (index > this.commitIndex) return undefined
    return { index, term: this.term, membership: this.membership }
  }

  install(point: SnapshotPoint, done: (isTaken: boolean) => void): void {
    this.installs.push({ point, done })
  }

  transferLeadership(mayLead: (raftId: number) => boolean = () => true): void {
    this.transfers += 1
    this.mayLead = mayLead
  }

  stop(done: () => void): void {
    done()
  }

  become(role: Role, term: number, leader?: number): void {
    this.role = role
    this.term = term
    this.leader = leader
    this.#listener({ type: 'role', role, term, leader })
  }

  /** Commits another's entry, or a no-op. */
  commitForeign(type: 'data' | 'noop', data: Uint8Array = new Uint8Array(0)): number {
    const index = this.entries.length + 1
    this.entries.push({ index, term: this.term, type, data })
    this.commitIndex = index
    this.#listener({ type: 'committed', commitIndex: index, own: [] })
    return index
  }

  /** Commits the oldest open proposal; `isOwn` false if its term is over. */
  commitProposal(isOwn = true): number {
    const next = this.proposed.shift()
    if (next === undefined) throw new Error('nothing is proposed')
    const index = this.entries.length + 1
    this.entries.push({ index, term: this.term, type: 'data', data: next.data })
    this.commitIndex = index
    const { flushedMs } = this
    const own = isOwn ? [{ proposal: next.proposal, index, flushedMs }] : []
    this.#listener({ type: 'committed', commitIndex: index, own })
    return index
  }

  /** Ends the oldest read-index round. */
  answerRound(outcome: number | DbError): void {
    const round = this.rounds.shift()
    if (round === undefined) throw new Error('nobody asked for a read index')
    round(outcome)
  }
}

/** Snapshots of which every step is taken by hand. */
export class ManualSnapshots implements SnapshotStore {
  task: { readonly id: string; readonly handler: SnapshotHandler } | undefined
  begun: { readonly index: number; readonly context: string } | undefined
  isCancelled = false
  /** Whoever waits for a digest that is being taken. */
  digesting: DigestHandler | undefined
  digestsBegun: number[] = []
  readonly dropped: string[] = []
  readonly asked: string[] = []
  stagedManifest: SnapshotManifest | undefined
  #answers: ((outcome: Done<never>) => void)[] = []

  take(id: string, handler: SnapshotHandler): SnapshotTask {
    this.task = { id, handler }
    this.begun = undefined
    this.isCancelled = false
    return {
      begin: (index, context) => (this.begun = { index, context }),
      cancel: () => (this.isCancelled = true),
    }
  }

  digest(handler: DigestHandler): DigestTask {
    this.digesting = handler
    this.digestsBegun = []
    return {
      begin: index => this.digestsBegun.push(index),
      cancel: () => {
        if (this.digesting === handler) this.digesting = undefined
      },
    }
  }

  drop(id: string): void {
    this.dropped.push(id)
  }

  stage(manifest: SnapshotManifest, done: (outcome: Done<{ location: string }>) => void): void {
    this.#ask(`stage ${manifest.index}`, done)
  }

  finish(done: (outcome: Done<object>) => void): void {
    this.#ask('finish', done)
  }

  staged(done: (manifest: SnapshotManifest | undefined) => void): void {
    this.#ask('look', () => done(this.stagedManifest))
  }

  discard(done: () => void): void {
    this.#ask('discard', done)
  }

  adopt(id: string, done: (outcome: Done<object>) => void): void {
    this.#ask(`adopt ${id}`, done)
  }

  /** Answers the oldest question; with a failure if an error is given. */
  answer(error?: DbError): void {
    const done = this.#answers.shift()
    if (done === undefined) throw new Error('nothing was asked of the snapshots')
    const outcome = error === undefined ? OK : { type: 'failed' as const, error }
    done(outcome as Done<never>)
  }

  #ask<Result>(what: string, done: (outcome: Done<Result>) => void): void {
    this.asked.push(what)
    this.#answers.push(done)
  }
}

const OK = { type: 'ok', location: '/staging' } as const

/** A transfer that brings what a test says. */
export class ManualTransfer implements SnapshotTransfer {
  readonly asked: { raftId: number; minIndex: number }[] = []
  readonly fetched: { raftId: number; id: string; location: string }[] = []
  #onOffer: (outcome: string | DbError) => void = () => {}
  #onFetched: (error: DbError | undefined) => void = () => {}
  isCancelled = false

  ask(raftId: number, minIndex: number, done: (outcome: string | DbError) => void): void {
    this.asked.push({ raftId, minIndex })
    this.#onOffer = done
  }

  fetch(
    raftId: number,
    snapshot: CarriedSnapshot,
    location: string,
    handler: Parameters<SnapshotTransfer['fetch']>[3],
  ): { cancel(): void } {
    this.fetched.push({ raftId, id: snapshot.id, location })
    this.#onFetched = handler.onDone
    this.isCancelled = false
    return { cancel: () => (this.isCancelled = true) }
  }

  offer(outcome: string | DbError): void {
    this.#onOffer(outcome)
  }

  bring(error?: DbError): void {
    this.#onFetched(error)
  }
}

/** An engine whose every reply a test gives by hand. */
export class ManualEngine implements Engine {
  readonly repeatsCheaply = true
  readonly snapshots = new ManualSnapshots()
  readonly applyDelayMs: number
  sent: WriterMessage[] = []
  writers = 0
  readonly queries: { request: ReadRequest; done: (outcome: ReadOutcome) => void }[] = []
  isKilled = false
  /** What its files know when it is opened. */
  past: Partial<EnginePast> = {}
  #handler: WriterHandler | undefined

  constructor(applyDelayMs = 0) {
    this.applyDelayMs = applyDelayMs
  }

  startWriter(handler: WriterHandler): Writer {
    this.writers += 1
    this.#handler = handler
    this.isKilled = false
    return {
      send: message => this.sent.push(message),
      kill: () => {
        this.isKilled = true
      },
    }
  }

  query(request: ReadRequest, _timeoutMs: number, done: (outcome: ReadOutcome) => void): void {
    this.queries.push({ request, done })
  }

  queryJson(
    request: ReadRequest,
    rows: RowFormat,
    timeoutMs: number,
    done: (outcome: JsonReadOutcome) => void,
  ): void {
    this.query(request, timeoutMs, outcome => done(jsonOutcome(outcome, rows)))
  }

  digest(_request: unknown, _timeoutMs: number, done: (outcome: DigestOutcome) => void): void {
    done({ type: 'ok', appliedIndex: 1, rows: 0, digest: '' })
  }

  databases(done: (names: readonly string[]) => void): void {
    done([])
  }

  stop(done: () => void): void {
    done()
  }

  reply(reply: WriterReply): void {
    this.#handler?.onReply(reply)
  }

  die(reason = 'SIGKILL'): void {
    const handler = this.#handler
    this.#handler = undefined
    handler?.onExit(reason)
  }

  open(appliedIndex = 0): void {
    const past = { copiedIndex: 0, accepted: [], condemned: undefined, ...this.past }
    const at = { appliedIndex, durableIndex: appliedIndex, nowMs: 0 }
    this.reply({ type: 'opened', ...at, build: 'b', past })
  }

  /** The messages sent since the last call, by type. */
  taken(): string[] {
    const types = this.sent.map(({ type }) => type)
    this.sent = []
    return types
  }
}

/** Frames between nodes of one test, delivered when it says so. */
export class ManualNetwork {
  readonly #handlers = new Map<number, PeerHandler>()
  #frames: { from: number; to: number; lane: Lane; frame: Uint8Array }[] = []
  /** Whether `send` takes frames at all. */
  isUp = true

  transportOf(raftId: number): PeerTransport {
    return {
      setMembers: () => {},
      send: (to, lane, frame) => {
        if (this.isUp) this.#frames.push({ from: raftId, to, lane, frame })
        return this.isUp
      },
      listen: handler => this.#handlers.set(raftId, handler),
    }
  }

  /** Delivers everything that waits, `copies` times. */
  deliver(copies = 1): void {
    const frames = this.#frames
    this.#frames = []
    for (const { from, to, lane, frame } of frames) {
      for (let copy = 0; copy < copies; copy += 1) {
        this.#handlers.get(to)?.onFrame(from, lane, frame)
      }
    }
  }

  lose(): void {
    this.#frames = []
  }

  /** The data lane from `at` to `peer` breaks. */
  cut(at: number, peer: number): void {
    this.#handlers.get(at)?.onDisconnected(peer, 'data', 'reset')
  }
}
