/**
 * One node of the raft-only simulation: the core, a log that loses what wasn't flushed, and a state
 * machine that is a chain of hashes. It drives the core as the product does: with asynchronous
 * storage writes, or step by step.
 */
import { assert, must } from '../src/base/assert.ts'
import { SnapshotTraffic } from '../src/log/snapshot-traffic.ts'
import { decodeConfChange, describeSteps } from '../src/raft/conf-change.ts'
import { RawNode } from '../src/raft/raw-node.ts'
import {
  type ConfChange,
  type ConfState,
  type Entry,
  LOCAL_APPEND,
  LOCAL_APPLY,
  type Message,
  NO_ID,
  type RaftId,
  type ReadState,
  type Ready,
  type Snapshot,
} from '../src/raft/types.ts'
import type { RaftInvariants, RaftView } from './raft-invariants.ts'
import { SimRaftStorage, type StorageBatch } from './raft-storage.ts'
import type { RaftSwarm } from './raft-swarm.ts'
import { SimProcess } from './sim-process.ts'
import { hashBytes, mix, type SimRandom } from './sim-random.ts'
import { check, type World } from './world.ts'

/** Election timeouts for which a leader may go on without a quorum. */
const CHECK_QUORUM_TIMEOUTS_MAX = 8

/** What the node needs of the cluster around it. */
export interface RaftSurroundings {
  readonly world: World
  readonly swarm: RaftSwarm
  readonly invariants: RaftInvariants
  /** Faults are over: disks are fast again. */
  readonly isCalm: boolean
  send(message: Message): void
  /** A copy of somebody's state, for a node that fetches one. */
  fetch(id: RaftId): Snapshot | 'unavailable'
  onApplied(node: SimRaftNode, entry: Entry): void
  onRead(node: SimRaftNode, read: ReadState): void
}

export class SimRaftNode {
  readonly id: RaftId
  readonly #around: RaftSurroundings
  readonly #random: SimRandom
  readonly #storage: SimRaftStorage
  readonly #tickMs: number
  #life = 0
  #process: SimProcess
  #core: RawNode | undefined
  #traffic: SnapshotTraffic | undefined
  #isFetching = false
  #isReadyPlanned = false
  /** In step-by-step mode: between a Ready and its `advance`. */
  #isBusy = false
  #appendQueue: Message[] = []
  #isAppending = false
  #applyQueue: Message[] = []
  #isApplying = false

  /** Ticks of this life, and at which of them each node was last heard. */
  #ticks = 0
  #ledSince = 0
  readonly #heardAt = new Map<RaftId, number>()

  /** The state machine: a hash over everything applied, and up to where. */
  #appliedIndex = 0
  #chain = 0
  #confState: ConfState

  constructor(id: RaftId, around: RaftSurroundings, base: Snapshot) {
    this.id = id
    this.#around = around
    this.#random = around.world.random(`node/${id}`)
    this.#storage = new SimRaftStorage(around.world.random(`disk/${id}`), base)
    this.#process = new SimProcess(around.world)
    this.#confState = base.metadata.confState
    const { clockSkew, tickMs } = around.swarm
    this.#tickMs = tickMs * this.#random.float(1 - clockSkew, 1 + clockSkew)
  }

  get isRunning(): boolean {
    return this.#core !== undefined
  }

  get life(): number {
    return this.#life
  }

  get process(): SimProcess {
    return this.#process
  }

  get core(): RawNode {
    return must(this.#core, `core of node ${this.id}`)
  }

  get appliedIndex(): number {
    return this.#appliedIndex
  }

  get chain(): number {
    return this.#chain
  }

  durableTerm(index: number): number | 'covered' | undefined {
    return this.#storage.durableTerm(index)
  }

  start(): void {
    assert(this.#core === undefined, `node ${this.id} runs already`)
    const { swarm, world } = this.#around
    this.#life++
    this.#ticks = 0
    this.#ledSince = 0
    this.#heardAt.clear()
    this.#process = new SimProcess(world)
    const { metadata, data } = this.#storage.base
    this.#appliedIndex = metadata.index
    this.#confState = metadata.confState
    this.#chain = readChain(data)
    this.#storage.takeSnapshot = () =>
      this.#random.chance(0.2) ? 'unavailable' : this.#takeSnapshot()
    this.#core = new RawNode({
      ...swarm,
      id: this.id,
      storage: this.#storage.visible,
      appliedIndex: metadata.index,
      shareCommit: true,
      readOnly: 'quorum',
      disableConfChangeValidation: false,
      randomTicks: bound => this.#random.below(bound),
    })
    this.#traffic = new SnapshotTraffic(this.#core, () => world.nowMs)
    world.note('start', this.id, metadata.index, this.#life)
    this.#around.invariants.started(this.view())
    this.#planTick()
    this.#planReady()
  }

  /** The process is gone and with it what wasn't flushed. */
  crash(): void {
    if (this.#core === undefined) return
    this.#around.world.note('crash', this.id, this.#life)
    this.#process.kill()
    this.#core = undefined
    this.#traffic = undefined
    this.#isFetching = false
    this.#isReadyPlanned = false
    this.#isBusy = false
    this.#isAppending = false
    this.#isApplying = false
    this.#appendQueue = []
    this.#applyQueue = []
    this.#storage.crash()
  }

  /** Does something to the core, and whatever follows from it. */
  act(action: (core: RawNode) => void): void {
    if (this.#core === undefined) return
    action(this.#core)
    this.#around.invariants.observe(this.view())
    this.#planReady()
  }

  /** A message has arrived. */
  receive(message: Message): void {
    if (message.type === 'snapshot' && this.#around.swarm.fetchesSnapshots) {
      this.act(() => {
        if (this.#traffic?.received(message) !== undefined) this.#fetch()
      })
      return
    }
    this.act(core => core.step(message))
  }

  /** Asks somebody for a copy of the data, and takes it into the log whatever it is by then. */
  #fetch(): void {
    if (this.#isFetching) return
    this.#isFetching = true
    const meanMs = this.#around.isCalm ? 5 : this.#around.swarm.fetchMsMean
    this.#process.after(this.#random.exponential(meanMs), () => {
      this.#isFetching = false
      const snapshot = this.#around.fetch(this.id)
      if (snapshot === 'unavailable') return
      this.act(core => {
        const isTaken = core.installSnapshot(snapshot)
        this.#around.world.note('fetch', this.id, snapshot.metadata.index, isTaken ? 1 : 0)
      })
    })
  }

  /** A copy of the data as they are now. */
  snapshot(): Snapshot | 'unavailable' {
    return this.#takeSnapshot()
  }

  /** Drops the log that is applied, all of it or a part, behind a snapshot. */
  compact(isToTheTip: boolean): void {
    const snapshot = this.#core === undefined ? 'unavailable' : this.#takeSnapshot()
    if (snapshot === 'unavailable') return
    const { index } = snapshot.metadata
    const first = this.#storage.visible.firstIndex()
    const dropTo = isToTheTip ? index : this.#random.between(first - 1, index)
    this.#around.world.note('compact', this.id, index, dropTo)
    this.#storage.compact(snapshot, dropTo)
  }

  #takeSnapshot(): Snapshot | 'unavailable' {
    const index = this.#appliedIndex
    const term = this.#storage.visible.term(index)
    if (index === 0 || typeof term !== 'number') return 'unavailable'
    return {
      metadata: { index, term, confState: this.#confState },
      data: writeChain(this.#chain),
    }
  }

  view(): RaftView {
    const core = this.core
    const status = core.status()
    return {
      id: this.id,
      term: status.term,
      role: status.role,
      commitIndex: status.commit,
      appliedIndex: status.applied,
      lastIndex: () => core.log.lastIndex(),
      termAt: index => {
        if (index === 0) return 0
        const term = core.log.term(index)
        return typeof term === 'number' ? term : undefined
      },
      confState: () => status.confState,
    }
  }

  #planTick(): void {
    this.#process.after(this.#tickMs, () => {
      this.#planTick()
      this.#ticks++
      this.act(core => {
        core.tick()
        this.#traffic?.sweep()
      })
      this.#checkHasQuorum()
    })
  }

  /** A message of `from` has come in. */
  heard(from: RaftId): void {
    this.#heardAt.set(from, this.#ticks)
  }

  /**
   * Thesis 6.2: "a leader steps down if an election timeout elapses without a successful round of
   * heartbeats to a majority". Here it may take two, and more while transfers and changes of
   * membership begin the count anew.
   */
  #checkHasQuorum(): void {
    const { checkQuorum, electionTicks } = this.#around.swarm
    const { role, confState, term, leadTransferee } = this.core.status()
    if (!checkQuorum || role !== 'leader' || leadTransferee !== NO_ID) {
      this.#ledSince = this.#ticks
      return
    }
    const since = this.#ticks - CHECK_QUORUM_TIMEOUTS_MAX * electionTicks
    if (since < this.#ledSince) return
    for (const half of [confState.voters, confState.votersOutgoing]) {
      const active = half.filter(id => id === this.id || (this.#heardAt.get(id) ?? 0) >= since)
      check(
        half.length === 0 || active.length > half.length / 2,
        () => `${this.id} leads term ${term} and has long heard only ${active.join()}`,
      )
    }
  }

  #planReady(): void {
    if (this.#isReadyPlanned || this.#isBusy || this.#core?.hasReady() !== true) return
    this.#isReadyPlanned = true
    const { readyMsMax } = this.#around.swarm
    const delayMs = readyMsMax === 0 ? 0 : this.#random.float(0, readyMsMax)
    this.#process.after(delayMs, () => {
      this.#isReadyPlanned = false
      this.#handleReady()
      this.#planReady()
    })
  }

  #handleReady(): void {
    const core = this.core
    if (!core.hasReady()) return
    const ready = core.ready()
    this.#around.invariants.appended(this.view(), ready.entries, index => {
      const term = this.#storage.visible.term(index)
      return typeof term === 'number' ? term : undefined
    })
    for (const read of ready.readStates) this.#around.onRead(this, read)
    if (!this.#around.swarm.asyncStorageWrites) {
      this.#handleInSteps(ready)
      return
    }
    // As the product's driver does: nobody is asked for a vote before the own one is on disk.
    const requests = ready.messages.filter(({ type }) => type === 'vote')
    for (const message of ready.messages) {
      if (message.to === LOCAL_APPEND) {
        const responses = [...requests.splice(0), ...(message.responses ?? [])]
        this.#storage.write(batchOf(message))
        this.#appendQueue.push({ ...message, responses })
      } else if (message.to === LOCAL_APPLY) {
        this.#applyQueue.push(message)
      } else if (message.type !== 'vote') {
        this.#send(message)
      }
    }
    assert(requests.length === 0, 'a vote was asked for, and nothing was to be stored')
    this.#appendNext()
    this.#applyNext()
  }

  /** Persist, send, apply, in this order; nothing else of the core is looked at in between. */
  #handleInSteps(ready: Ready): void {
    this.#isBusy = true
    this.#storage.write(ready)
    this.#process.after(this.#flushMs(ready.mustSync), () => {
      this.#storage.flush(1)
      this.#noteFlushed(ready)
      if (ready.snapshot !== undefined) this.#install(ready.snapshot)
      for (const message of ready.messages) this.#send(message)
      const isIdle = ready.committedEntries.length === 0
      this.#process.after(isIdle ? 0 : this.#applyMs(), () => {
        for (const entry of ready.committedEntries) this.#apply(entry)
        this.#isBusy = false
        this.act(core => core.advance())
      })
    })
  }

  /** One flush at a time; whatever came meanwhile shares the next one. */
  #appendNext(): void {
    if (this.#isAppending || this.#appendQueue.length === 0) return
    this.#isAppending = true
    const batch = this.#appendQueue
    this.#appendQueue = []
    const mustSync = batch.some(message => message.entries.length > 0 || message.term > 0)
    this.#process.after(this.#flushMs(mustSync), () => {
      this.#isAppending = false
      this.#storage.flush(batch.length)
      for (const message of batch) {
        this.#noteFlushed(batchOf(message))
        if (message.snapshot !== undefined) this.#install(message.snapshot)
        this.#respond(message)
      }
      this.#appendNext()
    })
  }

  #applyNext(): void {
    const message = this.#isApplying ? undefined : this.#applyQueue.shift()
    if (message === undefined) return
    this.#isApplying = true
    this.#process.after(this.#applyMs(), () => {
      this.#isApplying = false
      for (const entry of message.entries) this.#apply(entry)
      this.#respond(message)
      this.#applyNext()
    })
  }

  #respond(message: Message): void {
    for (const response of message.responses ?? []) {
      if (response.to === this.id) this.act(core => core.step(response))
      else this.#send(response)
    }
  }

  #send(message: Message): void {
    if (message.type === 'vote-response' && !message.reject) {
      this.#around.invariants.voted(this.id, message.term, message.to)
    }
    const isOffer = message.type === 'snapshot' && this.#around.swarm.fetchesSnapshots
    const baseIndex = this.#storage.visible.firstIndex() - 1
    this.#around.send(isOffer ? must(this.#traffic).offer(message, baseIndex) : message)
  }

  /** A vote on disk counts, whether or not anybody is told; so the one for oneself does. */
  #noteFlushed({ hardState }: StorageBatch): void {
    if (hardState === undefined || hardState.vote === NO_ID) return
    this.#around.invariants.voted(this.id, hardState.term, hardState.vote)
  }

  #install(snapshot: Snapshot): void {
    const { index, confState } = snapshot.metadata
    this.#around.invariants.installed(this.id, snapshot)
    if (index <= this.#appliedIndex) return
    this.#around.world.note('install', this.id, index)
    this.#appliedIndex = index
    this.#confState = confState
    this.#chain = readChain(snapshot.data)
  }

  #apply(entry: Entry): void {
    // A snapshot that came meanwhile covers what was still waiting to be applied. The core has its
    // membership already, even if it is not installed yet: older changes must not be put upon it.
    const isCovered = entry.index < this.core.log.firstIndex()
    if (entry.index <= this.#appliedIndex || isCovered) return
    this.#around.invariants.applied(this.id, entry, this.#appliedIndex)
    let confState = this.#confState
    if (entry.type === 'config') {
      const change = decodeConfChange(entry.data)
      this.#around.world.note('membership', this.id, entry.index, 0, () => describe(change))
      confState = this.core.applyConfChange(change)
      this.#around.invariants.membershipApplied(this.id, entry.index, confState)
      this.#ledSince = this.#ticks
    }
    // Together, and only now: the core may have asked for a snapshot to feed a new member with.
    this.#confState = confState
    this.#appliedIndex = entry.index
    this.#chain = mix(this.#chain ^ hashBytes(entry.data) ^ entry.index)
    this.#around.onApplied(this, entry)
  }

  #flushMs(mustSync: boolean): number {
    if (!mustSync) return 0
    return this.#random.exponential(this.#around.isCalm ? 0.1 : this.#around.swarm.flushMsMean)
  }

  #applyMs(): number {
    return this.#random.exponential(this.#around.isCalm ? 0.1 : this.#around.swarm.applyMsMean)
  }
}

function batchOf(message: Message): StorageBatch {
  const { term, vote, commit, entries, snapshot } = message
  return {
    entries,
    ...(term === 0 ? {} : { hardState: { term, vote, commit } }),
    ...(snapshot === undefined ? {} : { snapshot }),
  }
}

function describe(change: ConfChange): string {
  return `${change.transition} ${describeSteps(change.steps)}`
}

function writeChain(chain: number): Uint8Array {
  const data = new Uint8Array(4)
  new DataView(data.buffer).setUint32(0, chain)
  return data
}

function readChain(data: Uint8Array): number {
  return data.length < 4 ? 0 : new DataView(data.buffer, data.byteOffset).getUint32(0)
}
