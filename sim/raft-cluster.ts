/**
 * The raft-only simulation: cores, a log and a state machine of their own, and a network that may
 * lose, repeat, delay and reorder every message. It runs an order of magnitude faster than the
 * whole one and knows membership changes, transfers and snapshots.
 */
import { LEAVE_JOINT } from '../src/raft/conf-change.ts'
import {
  type ConfChange,
  type ConfChangeStep,
  type ConfState,
  EMPTY_BYTES,
  type Entry,
  type Message,
  type RaftId,
  type ReadState,
  type Snapshot,
} from '../src/raft/types.ts'
import { must } from '../src/base/assert.ts'
import { describeMessage } from './describe-message.ts'
import { RaftInvariants } from './raft-invariants.ts'
import { SimRaftNode, type RaftSurroundings } from './raft-node.ts'
import type { RaftSwarm } from './raft-swarm.ts'
import type { SimRandom } from './sim-random.ts'
import { check, Violation, type World } from './world.ts'

/** What a run counted, so that a test can see that it was not an idle one. */
export interface RaftRunCounts {
  readonly committed: number
  readonly reads: number
  readonly leaders: number
}

/**
 * The voters of the beginning are born with this much of the log behind them, so that whoever joins
 * later needs a snapshot to learn the membership.
 */
const FOUNDING = { index: 1, term: 1 }

/** When the faults end, processes may stand still for so long yet. */
const PAUSES_MS_MAX = 2000
/** In so many election timeouts somebody must lead: clocks differ, and votes may be split. */
const LEADER_TIMEOUTS_MAX = 20

export class RaftCluster implements RaftSurroundings {
  readonly world: World
  readonly swarm: RaftSwarm
  readonly invariants: RaftInvariants
  readonly #network: SimRandom
  readonly #workload: SimRandom
  readonly #faults: SimRandom
  readonly #nodes: SimRaftNode[] = []
  readonly #cuts = new Set<string>()
  #isCalm = false
  #payloadCount = 0
  #readCount = 0
  /** What each read must at least see, by its number. */
  readonly #readFloors = new Map<number, number>()
  #answeredReads = 0
  /** Payloads that were applied, by number, with their index: each at most at one. */
  readonly #appliedPayloads = new Map<number, number>()
  #lastPayload = 0
  /** Hash of the state machine after each index, as the first node that got there has it. */
  readonly #chains = new Map<number, number>()

  constructor(world: World, swarm: RaftSwarm) {
    this.world = world
    this.swarm = swarm
    this.#network = world.random('network')
    this.#workload = world.random('workload')
    this.#faults = world.random('faults')
    this.invariants = new RaftInvariants(
      world,
      {
        durableTerm: (node, index) => this.node(node).durableTerm(index),
      },
      FOUNDING,
    )
    const voters = Array.from({ length: swarm.voterCount }, (_, position) => position + 1)
    const founding = {
      metadata: { ...FOUNDING, confState: confStateOf(voters) },
      data: EMPTY_BYTES,
    }
    const nothing = {
      metadata: { index: 0, term: 0, confState: confStateOf([]) },
      data: EMPTY_BYTES,
    }
    for (let id = 1; id <= swarm.nodeCount; id++) {
      this.#nodes.push(new SimRaftNode(id, this, id <= swarm.voterCount ? founding : nothing))
    }
    for (const node of this.#nodes) node.start()
  }

  get isCalm(): boolean {
    return this.#isCalm
  }

  get counts(): RaftRunCounts {
    return {
      committed: this.invariants.commitIndex,
      reads: this.#answeredReads,
      leaders: this.world.trace.counts.get('leader') ?? 0,
    }
  }

  node(id: RaftId): SimRaftNode {
    return must(this.#nodes[id - 1], `node ${id}`)
  }

  /** Runs `steps` events with faults, then heals everything and waits until all is well again. */
  run(steps: number): void {
    this.#planFault()
    const { scheduler } = this.world
    const end = scheduler.executedCount + steps
    while (scheduler.executedCount < end && scheduler.runNext());
    this.#recover()
  }

  send(message: Message): void {
    const { from, to } = message
    const target = this.#nodes[to - 1]
    const isLost =
      target === undefined ||
      !target.isRunning ||
      this.#cuts.has(`${from}>${to}`) ||
      (!this.#isCalm && this.#network.chance(this.swarm.dropProbability))
    if (isLost) {
      this.#reportLost(message)
      return
    }
    // A proposal that arrives twice is written twice, as documented; the transport never repeats it.
    const mayRepeat = !this.#isCalm && message.type !== 'propose'
    const copies = mayRepeat && this.#network.chance(this.swarm.repeatProbability) ? 2 : 1
    for (let copy = 0; copy < copies; copy++) this.#deliver(message, target)
  }

  fetch(id: RaftId): Snapshot | 'unavailable' {
    const sources = this.#nodes.filter(node => node.id !== id && node.isRunning)
    const newest = sources.toSorted((left, right) => right.appliedIndex - left.appliedIndex)[0]
    const source = this.#isCalm ? newest : sources[this.#network.below(sources.length || 1)]
    return source?.snapshot() ?? 'unavailable'
  }

  onApplied(node: SimRaftNode, entry: Entry): void {
    const chain = this.#chains.get(entry.index)
    check(
      chain === undefined || chain === node.chain,
      () => `node ${node.id} has another state than the others after ${entry.index}`,
    )
    this.#chains.set(entry.index, node.chain)
    if (entry.type === 'config' || entry.data.length < 4) return
    const payload = new DataView(entry.data.buffer, entry.data.byteOffset).getUint32(0)
    const index = this.#appliedPayloads.get(payload)
    check(
      index === undefined || index === entry.index,
      () => `payload ${payload} was proposed once and applied at ${index} and ${entry.index}`,
    )
    this.#appliedPayloads.set(payload, entry.index)
    this.#lastPayload = Math.max(this.#lastPayload, payload)
  }

  /** A read index must cover everything that anyone knew to be committed when the read began. */
  onRead(node: SimRaftNode, read: ReadState): void {
    const number = new DataView(read.context.buffer, read.context.byteOffset).getUint32(0)
    const floor = this.#readFloors.get(number) ?? 0
    this.#answeredReads++
    this.world.note('read', node.id, number, read.index)
    check(
      read.index >= floor,
      () => `stale read ${number} on ${node.id}: index ${read.index}, committed before: ${floor}`,
    )
  }

  #deliver(message: Message, target: SimRaftNode): void {
    const { life } = target
    const { delayMsMin, delayMsMean } = this.swarm
    const mean = this.#isCalm ? 1 : delayMsMean
    const delayMs = delayMsMin + this.#network.exponential(mean)
    this.world.after(delayMs, () => this.#arrive(message, target, life))
  }

  #arrive(message: Message, target: SimRaftNode, life: number): void {
    // A connection dies with the process at its end: nothing reaches the next life.
    const isThere = target.life === life && target.isRunning
    if (!isThere || this.#cuts.has(`${message.from}>${target.id}`)) {
      this.#reportLost(message)
      return
    }
    const { pausedUntilMs, isPaused } = target.process
    if (isPaused) {
      const waitMs = pausedUntilMs - this.world.nowMs
      this.world.after(waitMs, () => this.#arrive(message, target, life))
      return
    }
    const { type, from, index } = message
    target.heard(from)
    this.world.note(type, target.id, from, index, () => describeMessage(message))
    if (type === 'snapshot') this.#reportSnapshot(message, true)
    target.receive(message)
  }

  #reportLost(message: Message): void {
    if (message.type === 'snapshot') this.#reportSnapshot(message, false)
    if (message.type !== 'append' || !this.#network.chance(0.5)) return
    const sender = this.#nodes[message.from - 1]
    sender?.process.after(1, () => sender.act(core => core.reportUnreachable(message.to)))
  }

  #reportSnapshot(message: Message, isDelivered: boolean): void {
    // Who only offers hears nothing of it, and asks again after a while.
    if (this.swarm.fetchesSnapshots && isDelivered) return
    const sender = this.#nodes[message.from - 1]
    const delayMs = this.#network.exponential(5)
    sender?.process.after(delayMs, () =>
      sender.act(core => core.reportSnapshot(message.to, isDelivered)),
    )
  }

  #planFault(): void {
    this.world.after(this.#faults.exponential(this.swarm.faultMsMean), () => {
      if (this.#isCalm) return
      this.#disturb()
      this.#planFault()
    })
  }

  /** Something happens: a client wants something, an operator does something, something breaks. */
  #disturb(): void {
    const { changeWeight, compactWeight, crashWeight, partitionWeight } = this.swarm
    const actions: readonly (readonly [weight: number, action: (id: RaftId) => void])[] = [
      [30, id => this.#propose(id)],
      [8, id => this.#read(id)],
      [changeWeight, () => this.#change()],
      [2, id => this.#act('transfer', id, core => core.transferLeader(this.#anyId()))],
      [1, id => this.#act('campaign', id, core => core.campaign())],
      [1, id => this.#act('forget leader', id, core => core.forgetLeader())],
      [1, id => this.#act('doubt', id, core => core.doubtLeadership())],
      [1, id => this.#act('step down', id, core => core.stepDown())],
      [compactWeight, id => this.node(id).compact(this.#faults.chance(0.7))],
      [crashWeight, id => this.node(id).crash()],
      [crashWeight * 2, id => this.#restart(id)],
      [1, id => this.#pause(id)],
      [partitionWeight, () => this.#partition()],
      [partitionWeight, () => this.#cutOne()],
      [partitionWeight * 2, () => this.#heal()],
    ]
    let point = this.#faults.below(actions.reduce((sum, [weight]) => sum + weight, 0))
    for (const [weight, action] of actions) {
      point -= weight
      if (point < 0) {
        action(this.#anyId())
        return
      }
    }
  }

  #act(kind: string, id: RaftId, action: (core: SimRaftNode['core']) => void): void {
    const node = this.node(id)
    if (!node.isRunning || node.process.isPaused) return
    this.world.note(kind, id)
    node.act(action)
  }

  /** Mostly asks the leader, as a client would; now and then anyone. */
  #propose(id: RaftId): void {
    const target = this.#workload.chance(0.8) ? (this.#leader()?.id ?? id) : id
    const count = this.#workload.pick([1, 1, 1, 5])
    for (let proposal = 0; proposal < count; proposal++) {
      const data = this.#workload.bytes(4 + this.#workload.below(this.swarm.payloadBytesMax))
      new DataView(data.buffer).setUint32(0, ++this.#payloadCount)
      this.#act('propose', target, core => core.propose(data))
    }
  }

  #read(id: RaftId): void {
    const number = ++this.#readCount
    this.#readFloors.set(number, this.invariants.commitIndex)
    const context = new Uint8Array(4)
    new DataView(context.buffer).setUint32(0, number)
    const target = this.#workload.chance(0.5) ? (this.#leader()?.id ?? id) : id
    this.#act('read begins', target, core => core.readIndex(context))
  }

  /** Asks the leader, as an operator's tool would, for a change that leaves somebody with a vote. */
  #change(): void {
    const leader = this.#leader()
    if (leader === undefined) return
    const { voters } = leader.core.status().confState
    const change = this.#drawChange()
    const kept = new Set(voters)
    for (const { type, nodeId } of change.steps) {
      if (type === 'add-voter') kept.add(nodeId)
      else kept.delete(nodeId)
    }
    if (kept.size > 0) this.#act('change', leader.id, core => core.proposeConfChange(change))
  }

  #drawChange(): ConfChange {
    const random = this.#workload
    if (random.chance(0.2)) return LEAVE_JOINT
    const steps: ConfChangeStep[] = []
    const count = random.pick([1, 1, 2, 3])
    for (const nodeId of random.shuffle(this.#ids()).slice(0, count)) {
      const type = random.pick(['add-voter', 'add-voter', 'add-learner', 'remove'] as const)
      steps.push({ type, nodeId })
    }
    if (steps.length === 1 && random.chance(0.5)) {
      return { version: 1, transition: 'auto', steps, context: EMPTY_BYTES }
    }
    const transition = random.pick(['auto', 'implicit', 'explicit'] as const)
    return { version: 2, transition, steps, context: EMPTY_BYTES }
  }

  #restart(id: RaftId): void {
    const node = this.node(id)
    if (!node.isRunning) node.start()
  }

  #pause(id: RaftId): void {
    const durationMs = this.#faults.exponential(300)
    this.world.note('pause', id, Math.round(durationMs))
    this.node(id).process.pause(durationMs)
  }

  /** Two sides that don't hear each other, or only one of them hears the other. */
  #partition(): void {
    const [left, right] = [[] as RaftId[], [] as RaftId[]]
    for (const id of this.#ids()) (this.#faults.chance(0.5) ? left : right).push(id)
    const isOneWay = this.#faults.chance(0.3)
    this.world.note(
      'partition',
      0,
      left.length,
      right.length,
      () => `${left.join()} | ${right.join()}`,
    )
    for (const from of left) {
      for (const to of right) {
        this.#cuts.add(`${from}>${to}`)
        if (!isOneWay) this.#cuts.add(`${to}>${from}`)
      }
    }
  }

  #cutOne(): void {
    const [from, to] = [this.#anyId(), this.#anyId()]
    this.world.note('cut', from, to)
    this.#cuts.add(`${from}>${to}`)
  }

  #heal(): void {
    this.world.note('heal', 0)
    this.#cuts.clear()
  }

  #ids(): RaftId[] {
    return this.#nodes.map(node => node.id)
  }

  #anyId(): RaftId {
    return this.#faults.pick(this.#ids())
  }

  /** Who leads the highest term, as far as anyone can tell. */
  #leader(): SimRaftNode | undefined {
    let leader: SimRaftNode | undefined
    let highest = 0
    for (const node of this.#nodes) {
      if (!node.isRunning) continue
      const { role, term } = node.core.status()
      if (role === 'leader' && term >= highest) [leader, highest] = [node, term]
    }
    return leader
  }

  /**
   * Without faults the cluster must come back: one leader that all members follow, a new write that
   * all of them apply, and nothing left over.
   */
  #recover(): void {
    this.#isCalm = true
    this.#cuts.clear()
    this.world.note('calm', 0)
    for (const node of this.#nodes) if (!node.isRunning) node.start()
    const { applyMsMean, electionTicks, tickMs } = this.swarm
    const electionMs = electionTicks * tickMs
    this.#runUntil('leader', PAUSES_MS_MAX + LEADER_TIMEOUTS_MAX * electionMs, () => {
      return this.#leader() !== undefined
    })
    const firstPayload = this.#payloadCount + 1
    let nextAttemptMs = 0
    this.#runUntil('recovery', PAUSES_MS_MAX + 100 * electionMs + 200 * applyMsMean, () => {
      const leader = this.#leader()
      if (leader === undefined) return false
      if (this.#hasConverged(leader, firstPayload)) return true
      if (this.world.nowMs >= nextAttemptMs) {
        nextAttemptMs = this.world.nowMs + electionMs
        this.#propose(leader.id)
        const { voters, votersOutgoing } = leader.core.status().confState
        if (votersOutgoing.length > 0) {
          this.#act('change', leader.id, core => core.proposeConfChange(LEAVE_JOINT))
        } else if (!this.swarm.stepDownOnRemoval && !voters.includes(leader.id)) {
          // Then whoever drives the core has to do it: such a leader takes no proposals.
          this.#act('step down', leader.id, core => core.stepDown())
        }
      }
      return false
    })
    const { commitIndex } = this.invariants
    const { appliedIndex } = must(this.#leader())
    check(appliedIndex >= commitIndex, () => `committed ${commitIndex} is not applied`)
  }

  #runUntil(what: string, durationMs: number, isDone: () => boolean): void {
    const { scheduler } = this.world
    if (scheduler.runUntil(scheduler.nowMs + durationMs, isDone)) return
    throw new Violation(`liveness: no ${what}\n${this.#describe()}`)
  }

  /** All members have everything, with a payload among it that is new. */
  #hasConverged(leader: SimRaftNode, firstPayload: number): boolean {
    if (this.#lastPayload < firstPayload) return false
    const { confState, term } = leader.core.status()
    if (confState.votersOutgoing.length > 0) return false
    const lastIndex = leader.core.log.lastIndex()
    return [...confState.voters, ...confState.learners].every(id => {
      const node = this.node(id)
      const status = node.core.status()
      return status.term === term && status.lead === leader.id && node.appliedIndex === lastIndex
    })
  }

  #describe(): string {
    const lines = this.#nodes.map(node => {
      const { term, role, lead, commit, confState, progress } = node.core.status()
      return (
        `${node.id}: ${role} of ${term}, leader ${lead}, commit ${commit}, ` +
        `applied ${node.appliedIndex}, last ${node.core.log.lastIndex()}, ` +
        `${JSON.stringify(confState)} ${JSON.stringify([...progress])}`
      )
    })
    return lines.join('\n')
  }
}

function confStateOf(voters: readonly RaftId[]): ConfState {
  return { voters, learners: [], votersOutgoing: [], learnersNext: [], autoLeave: false }
}
