/**
 * The door of the core: what whoever drives a node calls. Everything is synchronous and changes
 * only memory; what must happen outside is in the `Ready`. Not to be called from within its own
 * callbacks.
 */
import { assert } from '../base/assert.ts'
import { encodeConfChange } from './conf-change.ts'
import type { RaftConfig } from './config.ts'
import { RaftCore } from './core.ts'
import { doubtLeadership, forgetLeader } from './election.ts'
import { draftEntry, entriesSizeBytes } from './entries.ts'
import { isJoint, toConfState } from './membership.ts'
import { applyConfChange, propose } from './proposals.ts'
import { campaign, step, tick } from './raft.ts'
import type { RaftLog } from './raft-log.ts'
import {
  storageAppend,
  storageAppendResponse,
  storageApply,
  storageApplyResponse,
} from './ready.ts'
import { reportUnreachable } from './replication.ts'
import { installSnapshot, reportSnapshot } from './snapshots.ts'
import {
  type ConfChange,
  type ConfState,
  type HardState,
  LOCAL_APPEND,
  LOCAL_APPLY,
  type Message,
  type MessageType,
  NO_ID,
  type ProgressState,
  type ProgressStatus,
  type ProposeResult,
  type RaftId,
  type RaftStatus,
  type Ready,
  type Role,
  type Snapshot,
  type SoftState,
  type StepResult,
  createMessage,
} from './types.ts'

/** Only a node's own storage may send these. */
const LOCAL: ReadonlySet<MessageType> = new Set([
  'storage-append',
  'storage-append-response',
  'storage-apply',
  'storage-apply-response',
])

/** Only members may send these. */
const RESPONSES: ReadonlySet<MessageType> = new Set([
  'append-response',
  'vote-response',
  'heartbeat-response',
  'read-index-response',
  'pre-vote-response',
])

/** One member of one group. */
export class RawNode {
  readonly #core: RaftCore
  readonly #isAsync: boolean
  #previousSoftState: SoftState
  #previousHardState: HardState
  /** Responses that `advance` delivers, in synchronous mode. */
  #onAdvance: Message[] = []
  #isAdvanceDue = false

  constructor(config: RaftConfig) {
    this.#core = new RaftCore(config)
    this.#isAsync = config.asyncStorageWrites
    this.#previousSoftState = this.#softState()
    this.#previousHardState = this.#hardState()
  }

  /** Lets one tick pass. */
  tick(): void {
    tick(this.#core)
  }

  /** Campaigns now. */
  campaign(): void {
    campaign(this.#core)
  }

  /** Proposes one entry. A leader's answer names its index; a dropped proposal is in no log. */
  propose(data: Uint8Array): ProposeResult {
    return this.proposeBatch([data])
  }

  /** Proposes several entries, all or none. */
  proposeBatch(batch: readonly Uint8Array[]): ProposeResult {
    const drafts = batch.map(data => draftEntry('normal', data))
    return propose(this.#core, this.#core.id, drafts)
  }

  /**
   * Proposes a change of membership. One that is not allowed now is appended as an empty normal
   * entry; whoever applies it sees that at the index returned.
   */
  proposeConfChange(change: ConfChange): ProposeResult {
    const draft = draftEntry('config', encodeConfChange(change))
    return propose(this.#core, this.#core.id, [draft])
  }

  /**
   * Puts a committed change in force. To be called for every `config` entry as it is applied; to
   * make a change ineffective on all nodes alike, set its steps' ids to 0.
   */
  applyConfChange(change: ConfChange): ConfState {
    return applyConfChange(this.#core, change)
  }

  /** Acts upon a message from another node, or upon a response of this node's storage. */
  step(message: Message): StepResult {
    const isFromStorage = message.from === LOCAL_APPEND || message.from === LOCAL_APPLY
    if (LOCAL.has(message.type) && !isFromStorage) return 'local-message'
    if (RESPONSES.has(message.type) && !this.#core.tracker.progress.has(message.from)) {
      return 'unknown-peer'
    }
    return step(this.#core, message)
  }

  /** Hands leadership to a voter. As follower: asks the leader to. */
  transferLeader(to: RaftId): void {
    step(this.#core, createMessage({ type: 'transfer-leader', from: to, to: this.#core.id }))
  }

  /** Makes a follower forget its leader, so that it gives its vote to whoever asks for it. */
  forgetLeader(): void {
    forgetLeader(this.#core)
  }

  /** Asks for a read index; it comes in a Ready, with the same context, or never. */
  readIndex(context: Uint8Array): void {
    step(this.#core, createMessage({ type: 'read-index', to: this.#core.id, context }))
  }

  /** Tells that a message to a node could not be delivered. */
  reportUnreachable(id: RaftId): void {
    reportUnreachable(this.#core, id)
  }

  /** Tells what became of a snapshot sent to a node. Until then it is sent nothing. */
  reportSnapshot(id: RaftId, isDelivered: boolean): void {
    reportSnapshot(this.#core, id, isDelivered)
  }

  /**
   * Takes a snapshot that did not come from the leader, of data that the outside has durably at
   * hand. False if the log has these entries anyway. Otherwise the next Ready has it stored.
   */
  installSnapshot(snapshot: Snapshot): boolean {
    return installSnapshot(this.#core, snapshot)
  }

  /** This node was not running for long: a leader has to prove anew that it is heard. */
  doubtLeadership(): void {
    doubtLeadership(this.#core)
  }

  /** Makes a leader a follower that knows of no leader, until the next election. */
  stepDown(): void {
    if (this.#core.role === 'leader') this.#core.becomeFollower(this.#core.term, NO_ID)
  }

  /** Whether a proposed change of membership would be appended as such now. */
  get mayChangeMembership(): boolean {
    const { role, leadTransferee, log, pendingConfIndex, tracker } = this.#core
    const isFree = role === 'leader' && leadTransferee === NO_ID
    return isFree && pendingConfIndex <= log.applied && !isJoint(tracker.membership)
  }

  /** Whether `ready` has anything to say. */
  hasReady(): boolean {
    const core = this.#core
    return (
      core.messages.length > 0 ||
      core.messagesAfterAppend.length > 0 ||
      core.readStates.length > 0 ||
      core.log.unstable.hasNextEntries() ||
      core.log.unstable.nextSnapshot() !== undefined ||
      core.log.hasNextCommittedEntries(this.#allowUnstable()) ||
      this.#changedSoftState() !== undefined ||
      this.#changedHardState() !== undefined
    )
  }

  /**
   * Everything to do now. It must be done; in synchronous mode `advance` is to be called after it.
   */
  ready(): Ready {
    const core = this.#core
    assert(!this.#isAdvanceDue, 'ready() was called twice without advance() in between')
    const ready = this.#collect()
    const { softState, hardState, committedEntries } = ready
    if (softState !== undefined) this.#previousSoftState = softState
    if (hardState !== undefined) this.#previousHardState = hardState
    if (!this.#isAsync) {
      this.#isAdvanceDue = true
      this.#onAdvance = core.messagesAfterAppend.filter(message => message.to === core.id)
      const stored = storageAppendResponse(core, ready)
      if (stored !== undefined) this.#onAdvance.push(stored)
      if (committedEntries.length > 0) {
        this.#onAdvance.push(storageApplyResponse(core, committedEntries))
      }
    }
    core.messages = []
    core.messagesAfterAppend = []
    core.readStates = []
    core.log.unstable.acceptInProgress()
    const last = committedEntries.at(-1)
    if (last !== undefined) {
      const sizeBytes = entriesSizeBytes(committedEntries)
      core.log.acceptApplying(last.index, sizeBytes, this.#allowUnstable())
    }
    return ready
  }

  /** Everything of the last `ready` is done. Only in synchronous mode. */
  advance(): void {
    assert(!this.#isAsync, 'advance() has no meaning with asynchronous storage writes')
    const responses = this.#onAdvance
    this.#onAdvance = []
    this.#isAdvanceDue = false
    for (const message of responses) step(this.#core, message)
  }

  /** What this node is doing now, without the copying of `status`. */
  get role(): Role {
    return this.#core.role
  }

  get term(): number {
    return this.#core.term
  }

  /** The leader as this node knows it, or `NO_ID`. */
  get lead(): RaftId {
    return this.#core.lead
  }

  /** As leader: how `id` is being fed, undefined if it is no member. */
  progressState(id: RaftId): ProgressState | undefined {
    return this.#core.role === 'leader' ? this.#core.tracker.progress.get(id)?.state : undefined
  }

  /** As leader: up to where `id` is known to have this log, 0 if that is not known. */
  matchIndex(id: RaftId): number {
    return this.#core.role === 'leader' ? (this.#core.tracker.progress.get(id)?.match ?? 0) : 0
  }

  /** A copy of the node's state. */
  status(): RaftStatus {
    const core = this.#core
    const progress = new Map<RaftId, ProgressStatus>()
    if (core.role === 'leader') {
      for (const [id, one] of core.tracker.progress) progress.set(id, one.status())
    }
    return {
      id: core.id,
      ...this.#hardState(),
      ...this.#softState(),
      applied: core.log.applied,
      leadTransferee: core.leadTransferee,
      confState: toConfState(core.tracker.membership),
      progress,
    }
  }

  /** The log, to look at. */
  get log(): Pick<
    RaftLog,
    'firstIndex' | 'isUpToDate' | 'lastIndex' | 'term' | 'slice' | 'committed' | 'applied'
  > {
    return this.#core.log
  }

  /** Sets the election timeout until the next change of role; only tests want to know it. */
  setRandomizedElectionTicks(ticks: number): void {
    this.#core.randomizedElectionTicks = ticks
  }

  #collect(): Ready {
    const core = this.#core
    const softState = this.#changedSoftState()
    const hardState = this.#changedHardState()
    const snapshot = core.log.unstable.nextSnapshot()
    const entries = core.log.unstable.nextEntries()
    const committedEntries = core.log.nextCommittedEntries(this.#allowUnstable())
    const work = {
      ...(hardState === undefined ? {} : { hardState }),
      entries,
      ...(snapshot === undefined ? {} : { snapshot }),
    }
    const messages = [...core.messages]
    if (this.#isAsync) {
      const append = storageAppend(core, work)
      if (append !== undefined) messages.push(append)
      if (committedEntries.length > 0) messages.push(storageApply(core, committedEntries))
    } else {
      messages.push(...core.messagesAfterAppend.filter(message => message.to !== core.id))
    }
    return {
      ...work,
      ...(softState === undefined ? {} : { softState }),
      readStates: core.readStates,
      committedEntries,
      messages,
      mustSync: this.#mustSync(entries.length),
    }
  }

  /**
   * In synchronous mode what is stored and what is applied is done by the same hand, in this order,
   * so that entries may be applied in the very Ready that has them stored.
   */
  #allowUnstable(): boolean {
    return !this.#isAsync
  }

  #mustSync(entryCount: number): boolean {
    const { term, vote } = this.#previousHardState
    return entryCount > 0 || this.#core.vote !== vote || this.#core.term !== term
  }

  #softState(): SoftState {
    return { lead: this.#core.lead, role: this.#core.role }
  }

  #hardState(): HardState {
    return { term: this.#core.term, vote: this.#core.vote, commit: this.#core.log.committed }
  }

  #changedSoftState(): SoftState | undefined {
    const { lead, role } = this.#core
    const previous = this.#previousSoftState
    return lead === previous.lead && role === previous.role ? undefined : { lead, role }
  }

  #changedHardState(): HardState | undefined {
    const now = this.#hardState()
    const { term, vote, commit } = this.#previousHardState
    const isSame = now.term === term && now.vote === vote && now.commit === commit
    // A node that knows nothing has nothing to store.
    const isEmpty = now.term === 0 && now.vote === NO_ID && now.commit === 0
    return isSame || isEmpty ? undefined : now
  }
}
