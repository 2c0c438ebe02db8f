/**
 * Nodes for the tests of the core: one alone whose messages are looked at, or a group over a network
 * that delivers at once, and loses what a test says. Both watch that no term has two leaders and that
 * no two nodes apply different entries at one index.
 */
import assert from 'node:assert/strict'
import type { RaftConfig } from '../../src/raft/config.ts'
import { decodeConfChange } from '../../src/raft/conf-change.ts'
import { draftEntry } from '../../src/raft/entries.ts'
import { MemoryStorage } from '../../src/raft/memory-storage.ts'
import { RawNode } from '../../src/raft/raw-node.ts'
import {
  type ConfChange,
  type ConfChangeStep,
  EMPTY_BYTES,
  EMPTY_CONF_STATE,
  type Entry,
  type EntryType,
  type HardState,
  type Message,
  type MessageFields,
  NO_LIMIT,
  type ProposeResult,
  type RaftId,
  type ReadState,
  type Ready,
  type Snapshot,
  createMessage,
} from '../../src/raft/types.ts'

/** What a test says about a node; the rest is without limits, 10 ticks and 1 tick. */
export type Options = Partial<Omit<RaftConfig, 'storage' | 'id'>>

const DEFAULTS: Omit<RaftConfig, 'storage' | 'id'> = {
  electionTicks: 10,
  heartbeatTicks: 1,
  appliedIndex: 0,
  maxSizePerMessageBytes: NO_LIMIT,
  maxInflightMessages: 256,
  maxInflightBytes: NO_LIMIT,
  maxUncommittedBytes: NO_LIMIT,
  maxCommittedSizePerReadyBytes: NO_LIMIT,
  preVote: false,
  checkQuorum: false,
  readOnly: 'quorum',
  asyncStorageWrites: false,
  stepDownOnRemoval: false,
  shareCommit: false,
  disableProposalForwarding: false,
  disableConfChangeValidation: false,
  randomTicks: () => 0,
}

export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

export function text(data: Uint8Array): string {
  return new TextDecoder().decode(data)
}

export function entry(term: number, index: number, data = '', type: EntryType = 'normal'): Entry {
  return { ...draftEntry(type, bytes(data)), term, index }
}

/** A log with an entry of each of these terms, from index 1. */
export function log(...terms: number[]): Entry[] {
  return terms.map((term, position) => entry(term, position + 1))
}

export function change(
  steps: readonly ConfChangeStep[],
  fields: Partial<ConfChange> = {},
): ConfChange {
  return { version: 2, transition: 'auto', steps, context: EMPTY_BYTES, ...fields }
}

export function voterStep(nodeId: RaftId): ConfChangeStep {
  return { type: 'add-voter', nodeId }
}

export function learnerStep(nodeId: RaftId): ConfChangeStep {
  return { type: 'add-learner', nodeId }
}

export function removeStep(nodeId: RaftId): ConfChangeStep {
  return { type: 'remove', nodeId }
}

export function snapshotAt(
  index: number,
  term: number,
  voters: readonly RaftId[],
  learners: readonly RaftId[] = [],
): Snapshot {
  const confState = { ...EMPTY_CONF_STATE, voters, learners }
  return { metadata: { index, term, confState }, data: bytes(`state at ${index}`) }
}

/** What is stored when a node starts. */
export interface Stored {
  readonly entries?: readonly Entry[]
  readonly hardState?: HardState
  readonly voters?: readonly RaftId[]
  readonly learners?: readonly RaftId[]
}

/** Storage with entries from 1 and a membership as of before them. */
export function storageWith(stored: Stored): TestStorage {
  const storage = new TestStorage({
    ...EMPTY_CONF_STATE,
    voters: stored.voters ?? [],
    learners: stored.learners ?? [],
  })
  if (stored.entries !== undefined) storage.append(stored.entries)
  if (stored.hardState !== undefined) storage.setHardState(stored.hardState)
  return storage
}

/** Memory storage that knows members without having a snapshot. */
export class TestStorage extends MemoryStorage {
  readonly #members: Snapshot['metadata']['confState']

  constructor(members: Snapshot['metadata']['confState']) {
    super()
    this.#members = members
  }

  override initialState(): ReturnType<MemoryStorage['initialState']> {
    const { hardState, confState } = super.initialState()
    return { hardState, confState: confState.voters.length > 0 ? confState : this.#members }
  }
}

/** One node with its storage, driven by hand. */
export class TestNode {
  readonly id: RaftId
  readonly storage: MemoryStorage
  readonly raw: RawNode
  readonly applied: Entry[] = []
  readonly readStates: ReadState[] = []
  /** Set to keep committed entries from being applied. */
  isApplyStopped = false

  constructor(id: RaftId, storage: MemoryStorage, options: Options = {}) {
    this.id = id
    this.storage = storage
    this.raw = new RawNode({ ...DEFAULTS, ...options, id, storage })
  }

  get status(): ReturnType<RawNode['status']> {
    return this.raw.status()
  }

  get role(): string {
    return this.status.role
  }

  /** Everything in the log, stored or not. */
  get entries(): readonly Entry[] {
    const { log } = this.raw
    const entries = log.slice(log.firstIndex(), log.lastIndex() + 1, NO_LIMIT)
    assert(entries !== 'compacted')
    return entries
  }

  get terms(): number[] {
    return this.entries.map(one => one.term)
  }

  ticks(count: number): void {
    for (let tick = 0; tick < count; tick++) this.raw.tick()
  }

  /** Gives the node a message from another (or, by default, from nobody special). */
  receive(fields: Omit<MessageFields, 'to'>): void {
    this.raw.step(createMessage({ ...fields, to: this.id }))
  }

  /** Handles everything there is to do; returns the messages to others, in order. */
  flush(): Message[] {
    const messages: Message[] = []
    while (this.raw.hasReady()) {
      messages.push(...this.handleReady())
      assert(messages.length < 10_000, `node ${this.id} never comes to rest`)
    }
    return messages
  }

  /** Handles one Ready and returns its messages. */
  handleReady(): readonly Message[] {
    const ready = this.raw.ready()
    this.store(ready)
    this.apply(ready.committedEntries)
    this.readStates.push(...ready.readStates)
    this.raw.advance()
    return ready.messages
  }

  store(work: Pick<Ready, 'hardState' | 'entries' | 'snapshot'>): void {
    if (work.hardState !== undefined) this.storage.setHardState(work.hardState)
    if (work.snapshot !== undefined) this.storage.applySnapshot(work.snapshot)
    this.storage.append(work.entries)
  }

  apply(entries: readonly Entry[]): void {
    for (const one of entries) {
      this.applied.push(one)
      if (one.type === 'config') this.raw.applyConfChange(decodeConfChange(one.data))
    }
  }
}

/** The types of messages, for short comparisons: `append->2`. */
export function outline(messages: readonly Message[]): string[] {
  return messages.map(message => `${message.type}->${message.to}`)
}

/** A group over a network that loses what `isLost` says. */
export class Cluster {
  readonly nodes = new Map<RaftId, TestNode>()
  isLost: (message: Message) => boolean = () => false
  readonly #leaderByTerm = new Map<number, RaftId>()
  readonly #appliedAt = new Map<number, Entry>()
  readonly #checkedCount = new Map<RaftId, number>()

  /** Nodes 1 to `count`, all voters, with empty logs unless `stored` says what is in them. */
  static of(count: number, options: Options = {}, stored: readonly Stored[] = []): Cluster {
    const voters = Array.from({ length: count }, (_, position) => position + 1)
    const cluster = new Cluster()
    for (const id of voters) {
      cluster.add(new TestNode(id, storageWith({ voters, ...stored[id - 1] }), options))
    }
    return cluster
  }

  add(node: TestNode): TestNode {
    this.nodes.set(node.id, node)
    return node
  }

  node(id: RaftId): TestNode {
    const node = this.nodes.get(id)
    assert(node !== undefined, `no node ${id}`)
    return node
  }

  get leaders(): RaftId[] {
    return [...this.nodes.values()].filter(node => node.role === 'leader').map(node => node.id)
  }

  /** Delivers until nobody has anything to do; fails if that never comes. */
  settle(): void {
    let roundCount = 0
    for (let isDone = false; !isDone;) {
      isDone = true
      assert(roundCount++ < 1000, 'the group never comes to rest')
      const messages: Message[] = []
      for (const node of this.nodes.values()) {
        this.#watch(node)
        if (node.raw.hasReady()) isDone = false
        messages.push(...node.flush())
        this.#watch(node)
      }
      for (const message of messages) {
        if (!this.isLost(message)) this.nodes.get(message.to)?.raw.step(message)
      }
    }
  }

  campaign(id: RaftId): void {
    this.node(id).raw.campaign()
    this.settle()
  }

  propose(id: RaftId, data: string): ProposeResult {
    const result = this.node(id).raw.propose(bytes(data))
    this.settle()
    return result
  }

  proposeChange(id: RaftId, proposed: ConfChange): ProposeResult {
    const result = this.node(id).raw.proposeConfChange(proposed)
    this.settle()
    return result
  }

  tick(id: RaftId, count = 1): void {
    for (let tick = 0; tick < count; tick++) {
      this.node(id).raw.tick()
      this.settle()
    }
  }

  /** From now on nothing passes between these and the others. */
  isolate(...ids: RaftId[]): void {
    this.isLost = message => ids.includes(message.from) !== ids.includes(message.to)
  }

  heal(): void {
    this.isLost = () => false
  }

  #watch(node: TestNode): void {
    const { role, term } = node.status
    if (role === 'leader') {
      const other = this.#leaderByTerm.get(term)
      assert(other === undefined || other === node.id, `${other} and ${node.id} lead term ${term}`)
      this.#leaderByTerm.set(term, node.id)
    }
    for (const one of node.applied.slice(this.#checkedCount.get(node.id) ?? 0)) {
      const other = this.#appliedAt.get(one.index) ?? one
      assert.deepEqual(one, other, `node ${node.id} applies something else at ${one.index}`)
      this.#appliedAt.set(one.index, one)
    }
    this.#checkedCount.set(node.id, node.applied.length)
  }
}

/** A leader of a group of `count` whose other nodes exist only in messages. */
export function leaderOf(count: number, options: Options = {}, stored: Stored = {}): TestNode {
  const voters = Array.from({ length: count }, (_, position) => position + 1)
  const node = new TestNode(1, storageWith({ voters, ...stored }), options)
  elect(node)
  return node
}

/** Makes a node leader by giving it everybody's vote. */
export function elect(node: TestNode): void {
  node.raw.campaign()
  node.flush()
  const { confState, term, role } = node.status
  const isPreVote = role === 'pre-candidate'
  for (const from of [...confState.voters, ...confState.votersOutgoing]) {
    if (from === node.id || node.role === 'leader') continue
    if (isPreVote) {
      node.receive({ type: 'pre-vote-response', from, term: term + 1 })
      node.flush()
    }
    node.receive({ type: 'vote-response', from, term: node.status.term })
  }
  assert.equal(node.role, 'leader')
}

/** Answers of a follower that has every entry it was sent. */
export function acknowledge(node: TestNode, messages: readonly Message[]): void {
  for (const message of messages) {
    if (message.type !== 'append') continue
    const index = message.index + message.entries.length
    node.receive({ type: 'append-response', from: message.to, term: message.term, index })
  }
}

/** A node of three that follows node 2 in a term. */
export function followerIn(term: number, options: Options = {}, stored: Stored = {}): TestNode {
  const node = new TestNode(1, storageWith({ voters: [1, 2, 3], ...stored }), options)
  node.receive({ type: 'heartbeat', from: 2, term })
  node.flush()
  return node
}
