/**
 * A group of nodes in one process, without threads, network or disk: every step is a command of a
 * script, and everything that happens is written down.
 */
import { must } from '../../src/base/assert.ts'
import type { RaftConfig } from '../../src/raft/config.ts'
import { decodeConfChange } from '../../src/raft/conf-change.ts'
import { MemoryStorage } from '../../src/raft/memory-storage.ts'
import { RawNode } from '../../src/raft/raw-node.ts'
import {
  EMPTY_BYTES,
  EMPTY_CONF_STATE,
  type Entry,
  type HardState,
  LOCAL_APPEND,
  LOCAL_APPLY,
  type Message,
  NO_LIMIT,
  type RaftId,
  type RaftLogger,
  type Ready,
  type Snapshot,
  createMessage,
} from '../../src/raft/types.ts'
import { describeMessage, describeMessageType, describeReady } from './describe.ts'

const LEVELS: readonly string[] = ['DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL', 'NONE']

/** An error that a command answers with. */
export class CommandError extends Error {}

/** Options that a script can give to a node. */
export type NodeOptions = Omit<RaftConfig, 'id' | 'storage' | 'logger'>

/** What nodes are made with unless a script says otherwise: no limits, short times. */
export const DEFAULT_OPTIONS: NodeOptions = {
  electionTicks: 3,
  heartbeatTicks: 1,
  appliedIndex: 0,
  maxSizePerMessageBytes: NO_LIMIT,
  maxInflightMessages: NO_LIMIT,
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
  // The latest timeout: an election interval of ticks alone makes nobody campaign.
  randomTicks: bound => bound - 1,
}

/** Storage whose newest snapshot is the state as of the last applied entry. */
class HistoryStorage extends MemoryStorage {
  readonly history: Snapshot[]

  constructor(first: Snapshot) {
    super()
    this.history = [first]
  }

  override snapshot(): Snapshot {
    return must(this.history.at(-1))
  }
}

/** A node with its storage and what waits for its threads. */
export interface EnvironmentNode {
  readonly id: RaftId
  readonly raw: RawNode
  readonly storage: HistoryStorage
  readonly options: NodeOptions
  readonly appendWork: Message[]
  readonly applyWork: Message[]
}

/** Whom messages are delivered to, or whose messages are lost. */
export interface Recipient {
  readonly id: RaftId
  readonly isDropped: boolean
}

/** The nodes, the messages between them, and the text so far. */
export class Environment {
  readonly nodes: EnvironmentNode[] = []
  /** Sent and not delivered, in order. */
  messages: Message[] = []
  #output = ''
  #level = 0

  get isQuiet(): boolean {
    return this.#level === LEVELS.length - 1
  }

  get level(): number {
    return this.#level
  }

  setLevel(level: number): void {
    this.#level = level
  }

  setLevelByName(name: string): void {
    const level = LEVELS.indexOf(name.toUpperCase())
    if (level < 0) throw new CommandError(`log levels must be either of [${LEVELS.join(' ')}]`)
    this.#level = level
  }

  write(text: string): void {
    if (!this.isQuiet) this.#output += text
  }

  takeOutput(): string {
    const output = this.#output
    this.#output = ''
    return output
  }

  /** Runs `action` and moves what it wrote two columns to the right. */
  indented(action: () => void): void {
    const before = this.#output
    this.#output = ''
    try {
      action()
    } finally {
      const text = this.#output.replace(/\n$/, '')
      this.#output = before
      if (text !== '') this.#output += `${text.replaceAll(/^/gm, '  ')}\n`
    }
  }

  node(id: RaftId): EnvironmentNode {
    const node = this.nodes[id - 1]
    if (node === undefined) throw new Error(`there is no node ${id}`)
    return node
  }

  addNodes(count: number, options: NodeOptions, template: Snapshot): void {
    const { confState, index } = template.metadata
    const isBootstrap =
      index > 0 ||
      template.data.length > 0 ||
      confState.voters.length > 0 ||
      confState.learners.length > 0
    if (isBootstrap && index <= 1) {
      throw new CommandError('index must be specified as > 1 due to bootstrap')
    }
    const snapshot: Snapshot = isBootstrap
      ? { ...template, metadata: { ...template.metadata, term: 1 } }
      : template
    for (let added = 0; added < count; added++) {
      const id = this.nodes.length + 1
      const storage = new HistoryStorage(snapshot)
      if (isBootstrap) storage.applySnapshot(snapshot)
      const raw = new RawNode({ ...options, id, storage, logger: this.#logger() })
      this.nodes.push({ id, raw, storage, options, appendWork: [], applyWork: [] })
    }
  }

  /** Handles one Ready of a node: stores, applies, sends. */
  processReady(id: RaftId): void {
    const node = this.node(id)
    const ready = node.raw.ready()
    this.write(describeReady(ready))
    if (!node.options.asyncStorageWrites) {
      store(node, ready)
      apply(node, ready.committedEntries)
    }
    for (const message of ready.messages) {
      if (message.to === LOCAL_APPEND) node.appendWork.push(message)
      else if (message.to === LOCAL_APPLY) node.applyWork.push(message)
      else this.messages.push(message)
    }
    if (!node.options.asyncStorageWrites) node.raw.advance()
  }

  /** Does the oldest piece of work of a node's append thread. */
  processAppendThread(id: RaftId): void {
    const node = this.node(id)
    const message = node.appendWork.shift()
    if (message === undefined) {
      this.write('no append work to perform')
      return
    }
    this.#processWork(message, () => {
      const { term, vote, commit, entries, snapshot } = message
      const isHardState = term !== 0 || vote !== 0 || commit !== 0
      store(node, {
        ...(isHardState ? { hardState: { term, vote, commit } } : {}),
        entries,
        ...(snapshot === undefined ? {} : { snapshot }),
      })
    })
  }

  /** Does the oldest piece of work of a node's apply thread. */
  processApplyThread(id: RaftId): void {
    const node = this.node(id)
    const message = node.applyWork.shift()
    if (message === undefined) {
      this.write('no apply work to perform')
      return
    }
    this.#processWork(message, () => apply(node, message.entries))
  }

  /** Messages for a node, of one type or all; messages that can't get lost are left out of a drop. */
  messagesFor(recipient: Recipient, typeName: string | undefined): Message[] {
    return this.messages.filter(
      message =>
        message.to === recipient.id &&
        !(recipient.isDropped && isLocal(message)) &&
        (typeName === undefined || describeMessageType(message.type) === typeName),
    )
  }

  /** Delivers or drops messages; returns how many. */
  deliver(recipients: readonly Recipient[], typeName: string | undefined): number {
    let count = 0
    for (const recipient of recipients) {
      const chosen = new Set(this.messagesFor(recipient, typeName))
      this.messages = this.messages.filter(message => !chosen.has(message))
      count += chosen.size
      for (const message of chosen) {
        this.write(`${recipient.isDropped ? 'dropped: ' : ''}${describeMessage(message)}\n`)
        if (recipient.isDropped) continue
        const result = this.node(message.to).raw.step(message)
        if (result !== 'done') this.write(`${STEP_ERRORS[result]}\n`)
      }
    }
    return count
  }

  /** Lets the given nodes work until there is nothing left to do. */
  stabilize(ids: readonly RaftId[]): void {
    const nodes = ids.length > 0 ? ids.map(id => this.node(id)) : [...this.nodes]
    for (let isDone = false; !isDone;) {
      isDone = true
      for (const node of nodes) {
        if (!node.raw.hasReady()) continue
        this.write(`> ${node.id} handling Ready\n`)
        this.indented(() => this.processReady(node.id))
        isDone = false
      }
      for (const node of nodes) {
        const recipient = { id: node.id, isDropped: false }
        if (this.messagesFor(recipient, undefined).length === 0) continue
        this.write(`> ${node.id} receiving messages\n`)
        this.indented(() => this.deliver([recipient], undefined))
        isDone = false
      }
      for (const node of nodes) {
        if (node.appendWork.length === 0) continue
        this.write(`> ${node.id} processing append thread\n`)
        while (node.appendWork.length > 0) {
          this.indented(() => this.processAppendThread(node.id))
        }
        isDone = false
      }
      for (const node of nodes) {
        if (node.applyWork.length === 0) continue
        this.write(`> ${node.id} processing apply thread\n`)
        while (node.applyWork.length > 0) {
          this.indented(() => this.processApplyThread(node.id))
        }
        isDone = false
      }
    }
  }

  /** Puts a snapshot of one node on the way to another, as if its leader had sent it. */
  sendSnapshot(from: RaftId, to: RaftId): void {
    const node = this.node(from)
    const message = createMessage({
      type: 'snapshot',
      from,
      to,
      term: node.raw.status().term,
      snapshot: node.storage.snapshot(),
    })
    this.messages.push(message)
    this.write(describeMessage(message))
  }

  #processWork(message: Message, work: () => void): void {
    const { responses = [], ...rest } = message
    this.write(`Processing:\n${describeMessage(rest)}\n`)
    work()
    this.write('Responses:\n')
    for (const response of responses) this.write(`${describeMessage(response)}\n`)
    this.messages.push(...responses)
  }

  #logger(): RaftLogger {
    const writeAt = (level: number) => (text: string) => {
      if (this.#level <= level) this.write(`${LEVELS[level]} ${text}\n`)
    }
    return { debug: writeAt(0), info: writeAt(1), warn: writeAt(2), error: writeAt(3) }
  }
}

/** A node that knows nothing. */
export const EMPTY_SNAPSHOT: Snapshot = {
  metadata: { index: 0, term: 0, confState: EMPTY_CONF_STATE },
  data: EMPTY_BYTES,
}

const STEP_ERRORS = {
  'proposal-dropped': 'raft proposal dropped',
  'local-message': 'raft: cannot step raft local message',
  'unknown-peer': 'raft: cannot step as peer not found',
} as const

interface StorageWork {
  readonly hardState?: HardState
  readonly entries: readonly Entry[]
  readonly snapshot?: Snapshot
}

function store(node: EnvironmentNode, work: StorageWork | Ready): void {
  const { hardState, entries, snapshot } = work
  if (hardState !== undefined) node.storage.setHardState(hardState)
  if (snapshot === undefined) {
    node.storage.append(entries)
    return
  }
  if (entries.length > 0) {
    throw new CommandError("can't apply snapshot and entries at the same time")
  }
  if (node.storage.applySnapshot(snapshot) === 'out-of-date') {
    throw new CommandError('requested index is older than the existing snapshot')
  }
}

/** The state machine appends what it gets; every entry leaves a snapshot behind. */
function apply(node: EnvironmentNode, entries: readonly Entry[]): void {
  for (const entry of entries) {
    const last = must(node.storage.history.at(-1))
    let confState = last.metadata.confState
    let update = entry.data
    if (entry.type === 'config') {
      const change = decodeConfChange(entry.data)
      update = change.context
      confState = node.raw.applyConfChange(change)
    }
    const data = new Uint8Array(last.data.length + update.length)
    data.set(last.data)
    data.set(update, last.data.length)
    node.storage.history.push({
      metadata: { index: entry.index, term: entry.term, confState },
      data,
    })
  }
}

/** Messages of a node to itself, or from or to its threads. */
function isLocal(message: Message): boolean {
  return message.from === message.to || message.from < 0 || message.to < 0
}
