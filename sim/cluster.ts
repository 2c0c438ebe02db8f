/**
 * The whole simulation: nodes as in production but for their ports, clients, faults, and the
 * invariants that are looked at after every event. A run goes through faults, then calm, and must
 * come out of it complete.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { decodeMessage } from '../src/log/peer-codec.ts'
import { must } from '../src/base/assert.ts'
import type { ReadRequest } from '../src/engine/engine.ts'
import type { Member, Membership } from '../src/log/log.ts'
import { EMPTY_BYTES } from '../src/raft/types.ts'
import type { Consistency, Outcome, ReadAnswer } from '../src/replica/types.ts'
import { describeMessage } from './describe-message.ts'
import { Faults } from './faults.ts'
import type { Action } from './model.ts'
import { machine, Operator } from './operator.ts'
import { Oracle } from './oracle.ts'
import { RaftInvariants } from './raft-invariants.ts'
import { readEverything } from './requests.ts'
import type { EventOwner } from './scheduler.ts'
import { CALM, type FrameKnowledge, SimNetwork } from './sim-network.ts'
import { type NodeSurroundings, SimNode } from './sim-node.ts'
import { hashBytes } from './sim-random.ts'
import type { Swarm } from './swarm.ts'
import { Workload } from './workload.ts'
import { check, Violation, type World } from './world.ts'

/** Virtual time in which everything must be well again. */
const RECOVERY_MS_MAX = 60_000
/** When the faults end, processes may stand still for so long yet. */
const PAUSES_MS_MAX = 2000
/** In so many election timeouts somebody must lead then: clocks differ, and votes may be split. */
const LEADER_TIMEOUTS_MAX = 20
/** How long nothing is asked again after it was answered. */
const REFUSED_MS = 10
/** How often the operator looks whether the nodes need a word. */
const OPERATOR_MS = 2000
/** In that time every member has told every other what it knows of wrong entries, several times. */
const HEARING_MS = 1000

/** How long a scripted read may take. */
const QUERY_TIMEOUT_MS = 5000

const RAFT_KIND = 0
const KIND_OFFSET = 5
const FRAME_HEAD_BYTES = 6

/** Only messages of consensus may arrive twice; for all others the transport promises the contrary. */
const FRAMES: FrameKnowledge = {
  mayRepeat: frame => frame[KIND_OFFSET] === RAFT_KIND,
  describe: frame =>
    frame[KIND_OFFSET] === RAFT_KIND
      ? describeMessage(decodeMessage(frame.subarray(FRAME_HEAD_BYTES)))
      : `kind ${frame[KIND_OFFSET]}, ${frame.length} bytes`,
}

export class Cluster implements NodeSurroundings {
  readonly world: World
  readonly swarm: Swarm
  readonly network: SimNetwork
  readonly invariants: RaftInvariants
  readonly members: readonly Member[]
  readonly directory: string
  readonly oracle: Oracle
  /** Every machine there is, members or not; in the order of their numbers. */
  readonly nodes: SimNode[]
  readonly operator: Operator
  readonly workload: Workload
  readonly faults: Faults
  readonly wrongSnapshots = new Map<string, { readonly rotIndex: number | undefined }>()
  #isCalm = false
  #isTruthLost = false

  /** `parent` is where the engines' files go; they are removed by `close`. */
  constructor(world: World, swarm: Swarm, parent = temporaryDirectory()) {
    this.world = world
    this.swarm = swarm
    this.directory = mkdtempSync(join(parent, 'lockstep-sim-'))
    this.members = Array.from({ length: swarm.nodeCount }, (_, position) => ({
      raftId: position + 1,
      ...machine(position + 1),
    }))
    this.network = new SimNetwork(world, swarm.network, FRAMES)
    this.invariants = new RaftInvariants(
      world,
      { durableTerm: (node, index) => this.node(node).durableTerm(index) },
      { index: 0, term: 0 },
    )
    this.oracle = new Oracle(world)
    this.oracle.wasWrongSince = timeMs => this.nodes.some(node => node.wasWrongSince(timeMs))
    this.nodes = this.members.map(({ raftId }) => new SimNode(raftId, this))
    this.operator = new Operator({ world, nodes: this.nodes, spareCount: swarm.spareCount })
    this.workload = new Workload(this)
    this.faults = new Faults(this)
    world.scheduler.onExecuted = owner => this.#observe(owner)
  }

  get isCalm(): boolean {
    return this.#isCalm
  }

  get isTruthLost(): boolean {
    return this.#isTruthLost
  }

  node(id: number): SimNode {
    const node = this.nodes[id - 1]
    if (node === undefined) throw new RangeError(`there is no node ${id}`)
    return node
  }

  /** For scripted runs: all nodes run, and nothing happens but what the script does. */
  start(): void {
    for (const node of this.nodes) node.start()
  }

  /** Runs until somebody leads and takes writes. */
  runUntilLeader(): SimNode {
    const ready = (): SimNode | undefined =>
      this.nodes.find(node => node.isRunning && node.replica.status().isReadyToWrite)
    this.runUntil('a leader', () => ready() !== undefined)
    return must(ready())
  }

  runFor(durationMs: number): void {
    this.world.scheduler.runUntil(this.world.nowMs + durationMs, () => false)
  }

  /** Makes a database with the tables of the workload. */
  makeDatabase(name: string): void {
    const { keyCount } = this.swarm
    this.#executeOnce('a database', (leader, next) =>
      this.workload.changeDatabases(leader, 'create-database', name, next),
    )
    this.#executeOnce('tables', (leader, next) =>
      this.workload.write(leader, name, { type: 'set-up', keyCount }, next),
    )
  }

  /** Writes on a node and runs until it has answered; the answer's index, or 0 for a failure. */
  write(node: SimNode, database: string, action: Action): number {
    let answer: number | undefined
    this.workload.write(node, database, action, index => {
      answer = index
    })
    this.runUntil('an answer', () => answer !== undefined)
    return must(answer)
  }

  /** Reads on a node and runs until it has answered. */
  query(node: SimNode, request: ReadRequest, consistency: Consistency): Outcome<ReadAnswer> {
    let outcome: Outcome<ReadAnswer> | undefined
    const options = { consistency, timeoutMs: QUERY_TIMEOUT_MS }
    node.replica.query(request, options, answer => {
      outcome = answer
    })
    this.runUntil('an answer', () => outcome !== undefined)
    return must(outcome)
  }

  /** Runs `steps` events with faults, then heals everything and waits until all is well again. */
  run(steps: number): void {
    for (const node of this.nodes) node.start()
    this.workload.start()
    this.faults.start()
    const { scheduler } = this.world
    const end = scheduler.executedCount + steps
    while (scheduler.executedCount < end && scheduler.runNext());
    this.recover()
  }

  close(): void {
    for (const node of this.nodes) node.close()
    rmSync(this.directory, { recursive: true, force: true })
  }

  /** A process that ends by itself is started again, as a supervisor would do. */
  onExit(node: SimNode, reason: string): void {
    const { diskErrorProbability, diskCrashProbability, engine } = this.swarm
    const isExpected =
      diskErrorProbability > 0 || diskCrashProbability > 0 || engine.deathProbability > 0
    check(isExpected, () => `node ${node.id} ended by itself: ${reason}`)
    this.world.after(100, () => {
      if (!node.isRunning) node.start()
    })
  }

  onCommitted(node: SimNode): void {
    node.observe()
    this.#learnCommitted(node)
  }

  /** A machine that was added to the cluster is switched on, with an empty disk. */
  onMembership({ members }: Membership): void {
    for (const { raftId } of members) {
      while (this.nodes.length < raftId) {
        const node = new SimNode(this.nodes.length + 1, this)
        this.nodes.push(node)
        this.world.note('added', node.id)
        this.world.after(10, () => {
          if (!node.isRunning) node.start()
        })
      }
    }
  }

  /** What reaches an engine is what was committed. */
  onEngineApplied(node: SimNode, index: number, data: Uint8Array): void {
    const expected = this.invariants.committedHash(index)
    check(
      expected === hashBytes(data),
      () => `the engine of node ${node.id} applied something else than entry ${index}`,
    )
  }

  /**
   * Without faults the cluster must come back: a leader, a write, every answer given, and the same
   * data everywhere: what was committed and nothing else.
   */
  recover(): void {
    this.#isCalm = true
    this.faults.stop()
    this.workload.stop()
    this.network.options = CALM
    this.network.healAll()
    this.world.note('calm', 0)
    for (const node of this.nodes) if (!node.isRunning) node.start()
    // A frame waits for those before it: behind what was sent on a slow link there is no calm yet.
    // Nor is there any on a machine whose disk is still stuck with what was asked of it.
    const quietAtMs = Math.max(
      this.network.quietAtMs,
      ...this.nodes.map(node => node.diskStuckUntilMs),
    )
    this.runFor(quietAtMs - this.world.nowMs)
    const { electionTicks, tickMs } = this.swarm.log
    const leaderMs = PAUSES_MS_MAX + LEADER_TIMEOUTS_MAX * electionTicks * tickMs
    const leads = (node: SimNode): boolean => node.isRunning && node.role === 'leader'
    this.runUntil('a leader', () => this.nodes.some(leads), leaderMs)
    this.runUntil('answers to everything', () => this.workload.pendingCount === 0)
    this.#decideTies()
    this.#writeOnce()
    this.runUntil('the same state on all nodes', () => this.#hasConverged())
    // Who was wrong and is only just back has not heard yet what the others agreed on meanwhile.
    if (this.nodes.some(node => node.isWrong)) {
      this.runFor(HEARING_MS)
      this.runUntil('the same state after the verdicts', () => this.#hasConverged())
    }
    this.#compareAll()
  }

  /**
   * The operator: where no majority can come about, one that is right is believed. If all who have
   * their data are wrong, since others copied what one of them had, one of those is: from then on
   * nobody knows what is right, but all must still have the same.
   */
  #decideTies(): void {
    const again = (): void => {
      const ties = this.nodes.filter(
        node => node.isRunning && node.replica.status().dispute?.isTie === true,
      )
      const whole = this.nodes.filter(node => node.isRunning && isWholeVoter(node))
      const right = whole.find(node => !node.isWrong)
      const believed = right ?? whole.at(-1)
      if (ties.length > 0 && right === undefined && believed !== undefined) {
        this.#isTruthLost = true
        this.world.note('truth lost', believed.id)
      }
      for (const node of ties) {
        if (believed === undefined) continue
        this.world.note('trust', node.id, believed.id)
        node.replica.trust(`n${believed.id}`)
      }
      this.world.after(OPERATOR_MS, again)
    }
    this.world.after(OPERATOR_MS, again)
  }

  #executeOnce(what: string, ask: (leader: SimNode, next: (index: number) => void) => void): void {
    let isDone = false
    ask(this.runUntilLeader(), index => {
      check(index > 0, () => `no ${what}`)
      isDone = true
    })
    this.runUntil(what, () => isDone)
  }

  #writeOnce(): void {
    let isWritten = false
    let isAsking = false
    this.runUntil('a write', () => {
      const leader = this.nodes.find(node => node.isRunning && node.role === 'leader')
      if (leader === undefined || isAsking) return isWritten
      isAsking = true
      this.workload.write(leader, 'first', { type: 'mark' }, index => {
        isWritten ||= index > 0
        if (!isWritten) this.#prepareFirst(leader)
        // What is refused at once would be refused again and again, and no time would pass.
        this.world.after(REFUSED_MS, () => {
          isAsking = false
        })
      })
      return isWritten
    })
  }

  /** The faults may have struck before the database was made. */
  #prepareFirst(leader: SimNode): void {
    const database = this.oracle.model.database('first')
    if (!leader.isRunning || database?.registers.size === this.swarm.keyCount) return
    if (database === undefined) {
      this.workload.changeDatabases(leader, 'create-database', 'first', () => undefined)
    } else {
      const action = { type: 'set-up', keyCount: this.swarm.keyCount } as const
      this.workload.write(leader, 'first', action, () => undefined)
    }
  }

  #hasConverged(): boolean {
    const leaders = this.nodes.filter(node => node.isRunning && node.role === 'leader')
    if (leaders.length !== 1 || this.workload.pendingCount > 0) return false
    const last = must(leaders[0]).view.lastIndex()
    const { membership } = must(leaders[0]).log.status()
    if (membership.votersOutgoing.length > 0) return false
    return this.#memberNodes().every(node => {
      // A machine that was added this moment is switched on a little later.
      if (!node.isRunning) return false
      const { appliedIndex, divergence, snapshot } = node.replica.status()
      const isComplete = node.view.lastIndex() === last && appliedIndex === last
      const isWell = isComplete && divergence === undefined && snapshot.step === 'none'
      return isWell && node.isSound
    })
  }

  /** Those that belong to the cluster by the newest word of it. */
  #memberNodes(): SimNode[] {
    const leader = this.nodes.find(node => node.isRunning && node.role === 'leader')
    const { members } = must(leader, 'somebody leads').log.status().membership
    return members.map(({ raftId }) => this.node(raftId))
  }

  #compareAll(): void {
    const { model } = this.oracle
    let pending = 0
    for (const node of this.#memberNodes()) {
      const { divergence, lastError } = node.replica.status()
      check(divergence === undefined, () => `node ${node.id} diverged: ${lastError}`)
      for (const database of model.names()) {
        pending++
        const options = { consistency: 'local', timeoutMs: RECOVERY_MS_MAX } as const
        const isSetUp = (model.database(database)?.registers.size ?? 0) > 0
        const ended = (): void => {
          pending--
        }
        if (isSetUp && !this.#isTruthLost) {
          node.replica.query(readEverything(database), options, outcome => {
            if (outcome.type === 'failed') throw outcome.error
            this.oracle.everything(node.id, database, outcome.value.results)
            ended()
          })
        } else {
          ended()
        }
        pending++
        node.digest({ database }, options, (index, digest) => {
          check(digest !== undefined, () => `node ${node.id} has no digest of ${database}`)
          this.oracle.digest(database, index, digest ?? '')
          ended()
        })
      }
    }
    this.runUntil('the last comparison', () => pending === 0)
  }

  /** Runs until `isDone`; fails, naming `what`, if that takes longer than a recovery may. */
  runUntil(what: string, isDone: () => boolean, durationMs = RECOVERY_MS_MAX): void {
    const deadlineMs = this.world.nowMs + durationMs
    if (this.world.scheduler.runUntil(deadlineMs, isDone)) return
    const states = this.nodes.map(node => JSON.stringify(node.describe()))
    throw new Violation(`liveness: no ${what} within ${durationMs} ms\n${states.join('\n')}`)
  }

  #observe(owner: EventOwner | undefined): void {
    for (const node of this.nodes) {
      if (!node.isRunning || node.process !== owner) continue
      this.onCommitted(node)
      return
    }
  }

  /** Whatever is committed for the first time becomes part of what all answers are judged by. */
  #learnCommitted(node: SimNode): void {
    for (let index = this.oracle.model.index + 1; index <= this.invariants.commitIndex; index++) {
      const { type, data } = node.entry(index)
      const expected = this.invariants.committedHash(index)
      const isSame = type === 'config' || hashBytes(data) === expected
      check(isSame, () => `entry ${index} of node ${node.id} is another`)
      this.oracle.committed(index, type === 'config' ? EMPTY_BYTES : data)
    }
  }
}

/** It votes, and has all its data. */
function isWholeVoter({ id, replica }: SimNode): boolean {
  const { log, snapshot } = replica.status()
  return log.isMember && log.voters.includes(id) && snapshot.step === 'none'
}

/** Memory, where there is such a directory: the simulated disk decides what is durable. */
function temporaryDirectory(): string {
  try {
    rmSync(mkdtempSync('/dev/shm/lockstep-sim-'), { recursive: true })
    return '/dev/shm'
  } catch {
    // No such directory, or not for us: any other is only slower.
    return tmpdir()
  }
}
