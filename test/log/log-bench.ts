/**
 * Logs over real WALs whose disks write, and whose frames arrive, only when a test says so. The
 * first one's patience ends first, so that who campaigns is known.
 */
import { assert, must } from '../../src/base/assert.ts'
import type { DbError } from '../../src/base/errors.ts'
import type { Clock, Lane, MemberList, PeerHandler, PeerTransport } from '../../src/base/ports.ts'
import type { LogEvent, Member, Membership, MembersChange, OwnEntry } from '../../src/log/log.ts'
import { foundingMembership, storedMembers } from '../../src/log/membership.ts'
import { decodeMessage, encodeMessage } from '../../src/log/peer-codec.ts'
import { Peers } from '../../src/log/peers.ts'
import { RaftLog } from '../../src/log/raft-log.ts'
import type { Message, MessageType } from '../../src/raft/types.ts'
import { Wal } from '../../src/wal/wal.ts'
import { SimDisk } from '../../sim/sim-disk.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { ManualClock, ManualNetwork, SILENT } from '../replica/doubles.ts'

export const TICK_MS = 50
/** How long the first waits for a leader; each of the others waits 200 ms more. */
export const ELECTION_MS = 500
const FRAME_HEAD_BYTES = 6

export interface Sent {
  readonly to: number
  readonly lane: Lane
  readonly message: Message
}

/** One log, everything that it said to the others, and everything that it told its owner. */
export class LogNode {
  readonly id: number
  readonly disk: SimDisk
  wal: Wal
  log: RaftLog
  events: LogEvent[] = []
  sent: Sent[] = []
  /** The members that the transport was told of. */
  lists: MemberList[] = []
  readonly #bench: LogBench
  /** The disk takes what is asked, and does nothing. */
  isDiskStuck = false
  #isStalled = false
  /** What the disk has still to do. */
  #diskWork: (() => void)[] = []

  constructor(bench: LogBench, id: number) {
    this.#bench = bench
    this.id = id
    this.disk = new SimDisk({
      random: new SimRandom(id, 'disk'),
      later: (_delayMs, callback) => this.#diskWork.push(callback),
    })
    this.wal = this.#openWal()
    this.log = this.#openLog()
  }

  start(): void {
    this.log.start(event => this.events.push(event))
  }

  /** What is held back while the process stands still: timers, then frames. */
  readonly #heldTimers: (() => void)[] = []
  readonly #heldFrames: (() => void)[] = []

  /** The process stands still; its clock goes on, and what comes waits in the sockets. */
  stall(): void {
    this.#isStalled = true
  }

  /** It goes on: timers that are due come first, the sockets are read after that. */
  resume(): void {
    this.#isStalled = false
    for (const callback of this.#heldTimers.splice(0)) callback()
    for (const deliver of this.#heldFrames.splice(0)) deliver()
  }

  /** Does what the disk has to do, and what follows from it. True if there was anything. */
  write(): boolean {
    if (this.#isStalled || this.isDiskStuck) return false
    const hadWork = this.#diskWork.length > 0
    for (let work = this.#diskWork.shift(); work !== undefined; work = this.#diskWork.shift())
      work()
    return hadWork
  }

  /** Does only so much of what the disk has to do. */
  writeOnly(count: number): void {
    for (let left = count; left > 0; left -= 1) this.#diskWork.shift()?.()
  }

  /** The power fails, with all that was not flushed gone, and another process begins. */
  restart(): void {
    this.log.stop(() => {})
    this.#diskWork = []
    this.disk.powerCut('nothing')
    this.events = []
    this.sent = []
    this.wal = this.#openWal()
    this.log = this.#openLog()
    this.start()
  }

  get clock(): Clock {
    const { clock } = this.#bench
    return {
      wallMs: () => clock.wallMs(),
      monotonicMs: () => clock.monotonicMs(),
      setTimer: (delayMs, callback) =>
        clock.setTimer(delayMs, () => {
          if (this.#isStalled) this.#heldTimers.push(callback)
          else callback()
        }),
    }
  }

  /** Has the log hear from its transport of what became of a connection. */
  transport: PeerHandler | undefined

  /** The handler as the sockets call it. */
  reading(handler: PeerHandler): PeerHandler {
    this.transport = handler
    return {
      ...handler,
      onFrame: (from, lane, frame) => {
        const deliver = (): void => handler.onFrame(from, lane, frame)
        if (this.#isStalled) this.#heldFrames.push(deliver)
        else deliver()
      },
    }
  }

  /** What the members were told to be, newest last. */
  get memberships(): Membership[] {
    return this.events.flatMap(event => (event.type === 'membership' ? event.membership : []))
  }

  /** Changes the members and waits until that is answered. */
  change(change: MembersChange): Membership | DbError {
    const outcomes: (Membership | DbError)[] = []
    this.log.changeMembers(change, 10_000, outcome => outcomes.push(outcome))
    for (let ticks = 0; outcomes.length === 0 && ticks < 400; ticks += 1) this.#bench.pass(TICK_MS)
    return must(outcomes[0])
  }

  sentOf(type: MessageType): Sent[] {
    return this.sent.filter(({ message }) => message.type === type)
  }

  /** Numbers of own proposals that were told to be committed, with their index. */
  get own(): { proposal: number; index: number }[] {
    return this.ownEntries.map(({ proposal, index }) => ({ proposal, index }))
  }

  get ownEntries(): OwnEntry[] {
    return this.events.flatMap(event => (event.type === 'committed' ? event.own : []))
  }

  #openWal(): Wal {
    const { ids } = this.#bench
    return Wal.open({
      disk: this.disk.mount(),
      directory: 'log',
      identity: { clusterId: 'c', groupId: 1, raftId: this.id },
      options: { segmentSizeBytes: 1 << 16, fillSizeBytes: 0 },
      initialMembers: storedMembers(foundingMembership(ids.map(memberOf))),
      onFatal: error => {
        throw error
      },
    })
  }

  #openLog(): RaftLog {
    const { clock } = this
    const peers = new Peers(this.#bench.transportOf(this), clock, 1)
    const log = new RaftLog({
      raftId: this.id,
      wal: this.wal,
      peers,
      clock,
      random: {
        // All have a patience of their own, or votes would be split for ever.
        below: bound =>
          Math.min(bound - 1, Math.floor((this.id - 1) * bound * (bound > 100 ? 0.25 : 0.4))),
        bytes: count => new Uint8Array(count),
      },
      options: {
        tickMs: TICK_MS,
        electionTicks: ELECTION_MS / TICK_MS,
        heartbeatTicks: 2,
        maxSizePerMessageBytes: 1 << 20,
        maxInflightMessages: 256,
        maxInflightBytes: 32 << 20,
      },
      logger: SILENT,
    })
    peers.listen()
    return log
  }
}

/** The member of this number. */
export function memberOf(raftId: number): Member {
  return { raftId, nodeId: `n${raftId}`, address: `n${raftId}:1`, incarnation: `disk-${raftId}` }
}

/** A group of logs. */
export class LogBench {
  readonly ids: readonly number[]
  readonly clock = new ManualClock()
  readonly nodes: LogNode[]
  /** Frames that are lost on their way, without the sender hearing of it. */
  isLost: (from: number, to: number, lane: Lane, message: Message) => boolean = () => false
  /** Frames that the transport does not even take. */
  isRefused: (from: number, to: number) => boolean = () => false
  readonly #network = new ManualNetwork()
  #framesUnderWay = 0

  constructor(ids: readonly number[] = [1, 2, 3]) {
    this.ids = ids
    this.nodes = ids.map(id => new LogNode(this, id))
    for (const node of this.nodes) node.start()
  }

  /** Another machine, which knows the founders and has an empty log; nobody knows it yet. */
  join(id: number): LogNode {
    const node = new LogNode(this, id)
    this.nodes.push(node)
    node.start()
    this.settle()
    return node
  }

  /** Adds a learner through the leader `by`, and starts it. */
  addLearner(by: number, id: number): LogNode {
    const { raftId: _, ...node } = memberOf(id)
    const outcome = this.node(by).change({ type: 'add-learner', node })
    assert('members' in outcome, JSON.stringify(outcome))
    const joined = this.join(id)
    this.pass(2 * ELECTION_MS)
    return joined
  }

  node(id: number): LogNode {
    return must(this.nodes.find(node => node.id === id))
  }

  transportOf(self: LogNode): PeerTransport {
    const { id } = self
    const transport = this.#network.transportOf(id)
    return {
      setMembers: list => self.lists.push(list),
      listen: handler => transport.listen(self.reading(handler)),
      send: (to, lane, frame) => {
        const message = decodeMessage(frame.subarray(FRAME_HEAD_BYTES))
        if (this.isRefused(id, to)) return false
        self.sent.push({ to, lane, message })
        if (this.isLost(id, to, lane, message)) return true
        this.#framesUnderWay += 1
        return transport.send(to, lane, frame)
      },
    }
  }

  /** Sends a message of a test's own on the connections of `from`. */
  say(from: number, to: number, message: Message): void {
    const peers = new Peers(this.#network.transportOf(from), this.clock, 1)
    this.#framesUnderWay += 1
    peers.send(to, 'control', 'raft', encodeMessage(message))
  }

  /** Has everything that was sent arrive, once. */
  deliver(): boolean {
    const hadFrames = this.#framesUnderWay > 0
    this.#framesUnderWay = 0
    this.#network.deliver()
    return hadFrames
  }

  /** Lets disks write and frames arrive until there is nothing left, in no time. */
  settle(): void {
    for (let isBusy = true; isBusy;) {
      isBusy = this.deliver()
      for (const node of this.nodes) if (node.write()) isBusy = true
    }
  }

  /** Lets time pass tick by tick, and everything arrive after each. */
  pass(ms: number): void {
    for (let left = ms; left > 0; left -= TICK_MS) {
      this.clock.pass(Math.min(left, TICK_MS))
      this.settle()
    }
  }

  /** Cuts one off from all others. */
  isolate(id: number): void {
    this.isLost = (from, to) => from === id || to === id
  }

  /** The process of this one ends, and its machine says so to all who dial it again. */
  kill(id: number): void {
    this.isolate(id)
    for (const { transport, id: other } of this.nodes) {
      if (other !== id) must(transport).onAbsent(id)
    }
  }

  heal(): void {
    this.isLost = () => false
  }
}

/** A group in which the first leads, and everybody knows everything. */
export function ledBench(ids?: readonly number[]): LogBench {
  const bench = new LogBench(ids)
  bench.settle()
  bench.pass(ELECTION_MS + 4 * TICK_MS)
  for (const node of bench.nodes) node.sent = []
  return bench
}
