/**
 * One simulated node: the composition root of `cli/node.ts` with simulated ports. It outlives its
 * processes, as a machine does, and remembers what its disk promised, to hold it to that.
 */
import { assert, must } from '../src/base/assert.ts'
import type { Lane, PeerTransport } from '../src/base/ports.ts'
import type { DigestRequest } from '../src/engine/engine.ts'
import type { AlterSql } from '../src/engine/sqlite/request-runner.ts'
import type { LogEvent, Member, Membership, ReplicatedLog } from '../src/log/log.ts'
import { decodeMessage } from '../src/log/peer-codec.ts'
import { confStateOf, foundingMembership, storedMembers } from '../src/log/membership.ts'
import { Peers } from '../src/log/peers.ts'
import { RaftLog } from '../src/log/raft-log.ts'
import { type ConfState, EMPTY_CONF_STATE, type Entry, type Role } from '../src/raft/types.ts'
import { Replica } from '../src/replica/replica.ts'
import type { ReadOptions } from '../src/replica/types.ts'
import { Wal } from '../src/wal/wal.ts'
import { EngineDisk } from './engine-disk.ts'
import { LogMirror } from './log-mirror.ts'
import type { RaftInvariants, RaftView } from './raft-invariants.ts'
import { SimClock } from './sim-clock.ts'
import { type DiskFault, SimDisk } from './sim-disk.ts'
import { SimEngine } from './sim-engine.ts'
import type { SimNetwork } from './sim-network.ts'
import { SimProcess } from './sim-process.ts'
import type { SimRandom } from './sim-random.ts'
import { SimTransfer } from './sim-transfer.ts'
import type { Swarm } from './swarm.ts'
import { check, type World } from './world.ts'

const GROUP_ID = 1
/** What an UPDATE of the workload says, and what a replica that miscomputes makes of it. */
const RIGHT = 'version + 1'
const WRONG = 'version + 2'
/** What changes silently: something that outcomes may tell, and something that they never do. */
const ROTTING = [
  'UPDATE registers SET writer = writer + 1000000 WHERE key = 0',
  'UPDATE marks SET chance = 0 WHERE id = 1',
]
const FRAME_HEAD_BYTES = 6
const RAFT_KIND = 0

export interface NodeSurroundings {
  readonly world: World
  readonly swarm: Swarm
  readonly network: SimNetwork
  readonly invariants: RaftInvariants
  readonly members: readonly Member[]
  /** Directory for the engine's files of all nodes. */
  readonly directory: string
  node(id: number): SimNode
  /** Faults are over. */
  readonly isCalm: boolean
  /** An operator had to believe a copy of wrong data: no right ones were left. */
  readonly isTruthLost: boolean
  /** Snapshots of data that were wrong; as of when, if by a row that changed silently. */
  readonly wrongSnapshots: Map<string, { readonly rotIndex: number | undefined }>
  /** A node has more that is committed, and may answer for it within this call. */
  onCommitted(node: SimNode): void
  /** A node has read of members. */
  onMembership(membership: Membership): void
  /** The process ended by itself. */
  onExit(node: SimNode, reason: string): void
  /** The engine took an entry, or executed and then committed it. */
  onEngineApplied(node: SimNode, index: number, data: Uint8Array): void
}

/** What exists while the process runs. */
interface Life {
  readonly process: SimProcess
  readonly wal: Wal
  readonly log: RaftLog
  readonly engine: SimEngine
  readonly replica: Replica
  readonly view: RaftView
}

export class SimNode {
  readonly id: number
  readonly clock: SimClock
  readonly disk: SimDisk
  readonly #around: NodeSurroundings
  readonly #random: SimRandom
  readonly #engineDisk: EngineDisk
  readonly #mirror = new LogMirror()
  #life: Life | undefined
  #process: SimProcess
  #role: Role = 'follower'
  /** The last vote that left this node. */
  #sentVote = { term: 0, candidate: 0 }
  #hasLog = false
  #confState: ConfState = EMPTY_CONF_STATE
  #diskStuckUntilMs = 0
  alterSql: AlterSql | undefined
  /** It computes something else, for a while. */
  #isMiscomputing = false
  /** Since when its data, or its answers, may be wrong; and until when they were, if no more. */
  #wrongFromMs: number | undefined
  #wrongUntilMs = -Infinity
  /** What was committed when a row was changed silently, until the data are right again. */
  #rotIndex: number | undefined

  constructor(id: number, around: NodeSurroundings) {
    const { world, swarm, directory } = around
    this.id = id
    this.#around = around
    this.#random = world.random(`node/${id}`)
    this.clock = new SimClock(world, {
      rate: this.#random.float(1 - swarm.clockSkew, 1 + swarm.clockSkew),
      originMs: this.#random.below(1_000_000),
      wallOffsetMs: this.#random.below(2000) - 1000,
    })
    this.#process = new SimProcess(world)
    const diskRandom = world.random(`disk/${id}`)
    this.disk = new SimDisk({
      random: diskRandom,
      later: (delayMs, callback) => this.#process.after(delayMs, callback),
      latencyMs: ({ type }) => {
        const mean = type.startsWith('sync') ? swarm.syncMsMean : swarm.writeMsMean
        const stuckMs = around.isCalm ? 0 : Math.max(0, this.#diskStuckUntilMs - world.nowMs)
        return stuckMs + diskRandom.exponential(around.isCalm ? 0.05 : mean)
      },
    })
    this.disk.onOperation = operation => {
      const { type, path, sizeBytes, number } = operation
      const fault = this.#diskFault(diskRandom)
      const name = `disk ${type}${fault === undefined ? '' : ' fault'}`
      world.note(name, id, number, sizeBytes, () => `${path} ${sizeBytes} ${fault?.type ?? ''}`)
      return fault
    }
    this.disk.onCrash = () => this.#end('crash at a disk operation', diskRandom.chance(0.5))
    this.#engineDisk = new EngineDisk(`${directory}/n${id}`, world.random(`engine-disk/${id}`))
  }

  get isRunning(): boolean {
    return this.#life !== undefined
  }

  get process(): SimProcess {
    return this.#process
  }

  get replica(): Replica {
    return must(this.#life, `node ${this.id} runs`).replica
  }

  get role(): Role {
    return this.#role
  }

  get log(): RaftLog {
    return must(this.#life, `node ${this.id} runs`).log
  }

  get view(): RaftView {
    return must(this.#life, `node ${this.id} runs`).view
  }

  /** The term on disk at `index` if power were lost now. */
  durableTerm(index: number): number | 'covered' | undefined {
    return this.#mirror.durableTerm(index)
  }

  start(): void {
    assert(this.#life === undefined, `node ${this.id} runs already`)
    const { world, swarm, network, members, invariants } = this.#around
    const process = new SimProcess(world)
    this.#process = process
    const clock = this.clock.portFor(process)
    const random = this.#random
    const logger = world.logger(this.id)
    const transport = this.#tap(network.attach(this.id, process))
    const peers = new Peers(transport, clock, GROUP_ID)
    const wal = Wal.open({
      disk: this.disk.mount(),
      directory: 'group-1/log',
      identity: { clusterId: 'simulated', groupId: GROUP_ID, raftId: this.id },
      options: swarm.wal,
      mustExist: this.#hasLog,
      initialMembers: storedMembers(foundingMembership(members)),
      onFatal: error => this.#end(error.message, false),
    })
    this.#checkRecovered(wal)
    const log = new RaftLog({
      raftId: this.id,
      wal,
      peers,
      clock,
      random,
      options: swarm.log,
      logger,
    })
    const engine = this.#makeEngine(process)
    const replica = new Replica({
      raftId: this.id,
      log: this.#watch(log),
      engine,
      peers,
      transfer: this.#makeTransfer(process),
      clock,
      random,
      logger,
      options: swarm.replica,
      onFatal: reason => this.#end(reason, false),
    })
    this.#role = 'follower'
    this.#confState = wal.base().confState
    const view = this.#makeView(wal)
    this.#life = { process, wal, log, engine, replica, view }
    world.note('start', this.id, wal.lastIndex(), wal.initialState().hardState.term)
    invariants.started(view)
    replica.start()
    wal.flush(() => {
      this.#hasLog = true
    })
  }

  /** The process or the whole machine is gone at once. */
  crash(isPowerCut: boolean): void {
    const life = this.#life
    if (life === undefined) return
    this.#around.world.note(isPowerCut ? 'power cut' : 'crash', this.id)
    this.observe()
    this.#discard(life, isPowerCut)
  }

  /** Lets go of everything, without a look at it: the run is over. */
  close(): void {
    if (this.#life !== undefined) this.#discard(this.#life, false)
  }

  #discard(life: Life, isPowerCut: boolean): void {
    this.#life = undefined
    this.#mirror.lifeEnded()
    life.process.kill()
    this.#around.network.detach(this.id, isPowerCut)
    if (isPowerCut) {
      this.disk.powerCut()
      life.engine.powerCut()
    } else {
      this.disk.processCrash()
      life.engine.processDeath()
    }
  }

  /** For a while it computes something else than is right. */
  miscompute(durationMs: number): void {
    const { world } = this.#around
    this.#isMiscomputing = true
    world.note('miscompute', this.id, Math.round(durationMs))
    world.after(durationMs, () => {
      this.#isMiscomputing = false
    })
  }

  /** A row of one of its databases is another from now on; false if none could be changed. */
  rot(): boolean {
    const { world, invariants } = this.#around
    if (!this.isRunning) return false
    const databases = this.#engineDisk.databases()
    if (databases.length === 0) return false
    const path = this.#random.pick(databases)
    if (!this.#engineDisk.tamper(path, this.#random.pick(ROTTING))) return false
    world.note('rot', this.id, invariants.commitIndex)
    this.#wrongFromMs ??= world.nowMs
    this.#rotIndex = invariants.commitIndex
    return true
  }

  /**
   * A later digest may have found nothing: because power was lost before the row was on disk, or
   * because somebody has written it anew. The last comparison shows whether that is so.
   */
  get isSound(): boolean {
    const index = this.#rotIndex
    if (index !== undefined && this.replica.status().dataDigest.verifiedIndex > index) {
      this.#healed()
    }
    return this.#rotIndex === undefined
  }

  /** Its data may be wrong. */
  get isWrong(): boolean {
    return this.#isMiscomputing || this.#wrongFromMs !== undefined
  }

  /** Whether what it said at some moment since then may rest on wrong data. */
  wasWrongSince(timeMs: number): boolean {
    return this.isWrong || this.#wrongUntilMs >= timeMs
  }

  #alter(sql: string): string {
    const given = this.alterSql?.(sql) ?? sql
    const altered = this.#isMiscomputing ? given.replace(RIGHT, WRONG) : given
    if (altered !== sql) this.#wrongFromMs ??= this.#around.world.nowMs
    return altered
  }

  /** It has the data of another now. */
  #healed(): void {
    if (this.#wrongFromMs === undefined) return
    this.#wrongFromMs = undefined
    this.#rotIndex = undefined
    this.#wrongUntilMs = this.#around.world.nowMs
    this.#around.world.note('healed', this.id)
  }

  /** When the disk answers again what was asked of it while it was stuck. */
  get diskStuckUntilMs(): number {
    return this.#diskStuckUntilMs
  }

  /** Whatever is asked of the disk from now on ends after this time only. */
  stickDisk(durationMs: number): void {
    this.#diskStuckUntilMs = this.#around.world.nowMs + durationMs
  }

  /** Only the process that writes SQL dies. */
  killEngine(): void {
    this.#life?.engine.killWriter()
  }

  /** A digest as of an index of the database's own file; undefined if there is none to be had. */
  digest(
    request: DigestRequest,
    options: ReadOptions,
    done: (index: number, digest: string | undefined) => void,
  ): void {
    const { engine } = must(this.#life, `node ${this.id} runs`)
    engine.digest(request, options.timeoutMs, outcome => {
      if (outcome.type === 'ok') done(outcome.appliedIndex, outcome.digest)
      else done(0, undefined)
    })
  }

  /** For the message of a failure. */
  describe(): unknown {
    if (this.#life === undefined) return { id: this.id, state: 'down' }
    const { log, reports, counters, ...status } = this.#life.replica.status()
    return {
      id: this.id,
      ...status,
      ...counters,
      log,
      reports: [...reports],
    }
  }

  /** Called after every event that happened in this node. */
  observe(): void {
    const life = this.#life
    if (life === undefined) return
    const { invariants } = this.#around
    this.#mirror.follow(life.wal, (entries: readonly Entry[], replaced) =>
      invariants.appended(life.view, entries, replaced),
    )
    invariants.observe(life.view)
  }

  /** The committed entry at `index`, as this node has it. */
  entry(index: number): Entry {
    const entries = must(this.#life).wal.entries(index, index + 1, 0)
    assert(typeof entries !== 'string', `entry ${index} of node ${this.id} is gone`)
    return must(entries[0], `entry ${index}`)
  }

  #makeEngine(process: SimProcess): SimEngine {
    const { world, swarm } = this.#around
    const engine = new SimEngine({
      world,
      node: this.id,
      random: world.random(`engine/${this.id}/${world.scheduler.executedCount}`),
      disk: this.#engineDisk,
      process,
      clock: this.clock.portFor(process),
      options: () =>
        this.#around.isCalm ? { ...swarm.engine, deathProbability: 0 } : swarm.engine,
      onApplied: (index, data) => this.#around.onEngineApplied(this, index, data),
      alterSql: sql => this.#alter(sql),
      onCondemned: () => {
        const mayBe = this.isWrong || this.#around.isTruthLost
        check(mayBe, () => `node ${this.id} is right and was condemned`)
      },
    })
    this.#followData(engine.snapshots)
    return engine
  }

  /** What is wrong in a snapshot is wrong on the node that takes it over. */
  #followData(snapshots: SimEngine['snapshots']): void {
    const { wrongSnapshots, world } = this.#around
    const take = snapshots.take.bind(snapshots)
    snapshots.take = (id, handler) =>
      take(id, {
        onReady: () => handler.onReady(),
        onBegun: () => {
          if (this.#wrongFromMs !== undefined) wrongSnapshots.set(id, { rotIndex: this.#rotIndex })
          handler.onBegun()
        },
        onDone: outcome => handler.onDone(outcome),
      })
    const adopt = snapshots.adopt.bind(snapshots)
    snapshots.adopt = (id, done): void =>
      adopt(id, outcome => {
        const wrong = wrongSnapshots.get(id)
        if (outcome.type === 'ok' && wrong === undefined) this.#healed()
        if (outcome.type === 'ok' && wrong !== undefined) {
          this.#wrongFromMs ??= world.nowMs
          this.#rotIndex = wrong.rotIndex
          world.note('wrong data adopted', this.id)
        }
        done(outcome)
      })
  }

  #makeTransfer(process: SimProcess): SimTransfer {
    const { world, swarm, network } = this.#around
    return new SimTransfer({
      world,
      id: this.id,
      process,
      random: world.random(`transfer/${this.id}/${world.scheduler.executedCount}`),
      fileSystem: this.#engineDisk.fileSystem,
      options: () =>
        this.#around.isCalm
          ? { ...swarm.transfer, breakProbability: 0, garbleProbability: 0 }
          : swarm.transfer,
      giver: id => this.#around.node(id),
      isConnected: (from, to) => !network.isCut(from, to),
    })
  }

  /** Sees changes of role and of members as the replica is told of them. */
  #watch(log: RaftLog): ReplicatedLog {
    const start = log.start.bind(log)
    log.start = (listener: (event: LogEvent) => void): void =>
      start(event => {
        if (event.type === 'role') {
          this.#role = event.role
          this.observe()
        }
        if (event.type === 'committed') this.#around.onCommitted(this)
        if (event.type === 'membership') {
          // What was committed until now was by the members until now.
          this.observe()
          this.#confState = confStateOf(event.membership)
          this.#around.onMembership(event.membership)
        }
        listener(event)
      })
    return log
  }

  /** Sees the frames that leave: promises about the disk that must be true at that moment. */
  #tap(transport: PeerTransport): PeerTransport {
    return {
      setMembers: list => transport.setMembers(list),
      listen: handler => transport.listen(handler),
      send: (to: number, lane: Lane, frame: Uint8Array): boolean => {
        if (frame[FRAME_HEAD_BYTES - 1] === RAFT_KIND) this.#checkPromise(frame)
        return transport.send(to, lane, frame)
      },
    }
  }

  #checkPromise(frame: Uint8Array): void {
    const life = this.#life
    if (life === undefined) return
    const message = decodeMessage(frame.subarray(FRAME_HEAD_BYTES))
    const { type, term, to, index, reject } = message
    if (reject) return
    if (type === 'vote-response') {
      this.#around.invariants.voted(this.id, term, to)
      this.#sentVote = { term, candidate: to }
    }
    // A word of an earlier term tells of entries that were flushed in it, as if it had been under
    // way for longer, and that this log may have replaced since: nobody counts it in a later term,
    // and who could win that one without them is settled by this node's vote, which came after.
    const isOfThisTerm = term >= life.wal.initialState().hardState.term
    if (type === 'append-response' && isOfThisTerm) {
      const flushed = life.wal.flushedIndex()
      // A follower may also answer with its commit index, when it is sent what it has long had.
      check(
        index <= flushed,
        () => `node ${this.id} acknowledged ${index}, flushed is only ${flushed}`,
      )
    }
  }

  /** What the disk promised before the crash is there after it. */
  #checkRecovered(wal: Wal): void {
    const { term, vote } = wal.initialState().hardState
    const { term: sentTerm, candidate } = this.#sentVote
    check(
      term > sentTerm || (term === sentTerm && (vote === candidate || candidate === 0)),
      () =>
        `node ${this.id} voted for ${candidate} in term ${sentTerm}, ` +
        `and remembers ${vote} in term ${term}`,
    )
    this.#mirror.recovered(wal, this.id)
  }

  #makeView(wal: Wal): RaftView {
    const hardState = (): { term: number; commit: number } => wal.initialState().hardState
    const role = (): Role => this.#role
    return {
      id: this.id,
      get term() {
        return hardState().term
      },
      get role() {
        return role()
      },
      get commitIndex() {
        return hardState().commit
      },
      get appliedIndex() {
        return hardState().commit
      },
      lastIndex: () => wal.lastIndex(),
      termAt: index => {
        const term = wal.term(index)
        return typeof term === 'number' ? term : undefined
      },
      confState: () => this.#confState,
    }
  }

  #diskFault(random: SimRandom): DiskFault | undefined {
    const { swarm, isCalm } = this.#around
    if (isCalm) return undefined
    if (random.chance(swarm.diskCrashProbability)) return { type: 'crash' }
    if (random.chance(swarm.diskErrorProbability)) {
      return { type: 'error', code: random.pick(['EIO', 'ENOSPC']) }
    }
    return undefined
  }

  /** The process ends by itself, for a reason. */
  #end(reason: string, isPowerCut: boolean): void {
    if (this.#life === undefined) return
    this.#around.world.note('exit', this.id, 0, 0, reason)
    this.crash(isPowerCut)
    this.#around.onExit(this, reason)
  }
}
