/**
 * The words of the algorithm: entries, messages, states and what a node hands out. Only data, no
 * behaviour; everything is readonly because the same objects travel to disk, network and tests.
 */

/** A member's number in its group, from 1. Never reused for another disk. */
export type RaftId = number

/** Stands for "nobody": no leader known, no vote given. */
export const NO_ID: RaftId = 0

/** Addressee of `storage-append` messages: whatever writes this node's log to disk. */
export const LOCAL_APPEND: RaftId = -1

/** Addressee of `storage-apply` messages: whatever applies committed entries on this node. */
export const LOCAL_APPLY: RaftId = -2

/** Means "unlimited" wherever a size or a count is limited. */
export const NO_LIMIT = Number.POSITIVE_INFINITY

/** The empty payload, shared so that "no data" costs no allocation. */
export const EMPTY_BYTES: Uint8Array = new Uint8Array(0)

/**
 * What an entry carries: the application's bytes, or a change of membership. Both encodings of a
 * membership change (one step, or any number of steps through joint consensus) are `config`; the
 * first byte of the data tells them apart (see conf-change.ts).
 */
export type EntryType = 'normal' | 'config'

/** One position of the replicated log. */
export interface Entry {
  /** The term of the leader that created the entry. */
  readonly term: number
  /** Position in the log, from 1, without gaps. */
  readonly index: number
  readonly type: EntryType
  /** Empty in a new leader's first entry and in the entry that leaves a joint membership. */
  readonly data: Uint8Array
}

/** What must be on disk before any message that follows from it is sent (thesis 3.8). */
export interface HardState {
  readonly term: number
  /** Whom this node voted for in `term`, or `NO_ID`. */
  readonly vote: RaftId
  /** Saved beside the others; it need not be flushed, since it can be learned again. */
  readonly commit: number
}

/** The hard state of a node that has never run. */
export const EMPTY_HARD_STATE: HardState = { term: 0, vote: NO_ID, commit: 0 }

/** A membership as it is stored in snapshots: every list ascending. */
export interface ConfState {
  readonly voters: readonly RaftId[]
  readonly learners: readonly RaftId[]
  /** The old half of a joint membership; empty outside of one. */
  readonly votersOutgoing: readonly RaftId[]
  /** Voters of the old half that become learners when the joint membership is left. */
  readonly learnersNext: readonly RaftId[]
  /** The leader leaves the joint membership by itself as soon as it may. */
  readonly autoLeave: boolean
}

/** A membership without anybody. */
export const EMPTY_CONF_STATE: ConfState = {
  voters: [],
  learners: [],
  votersOutgoing: [],
  learnersNext: [],
  autoLeave: false,
}

/** Where a snapshot stands in the log, and the membership as of that index. */
export interface SnapshotMetadata {
  readonly index: number
  readonly term: number
  readonly confState: ConfState
}

/** The state machine at an index. The bytes are the application's; the core never reads them. */
export interface Snapshot {
  readonly metadata: SnapshotMetadata
  readonly data: Uint8Array
}

/** One step of a membership change. */
export interface ConfChangeStep {
  /** `update` changes nothing in the core: a way to send a blob about a node through the log. */
  readonly type: 'add-voter' | 'add-learner' | 'remove' | 'update'
  readonly nodeId: RaftId
}

/**
 * How a change of several steps takes effect: `auto` uses joint consensus only when more than one
 * voter changes; `implicit` and `explicit` always do. A joint membership entered by `auto` or
 * `implicit` is left by the leader itself, one entered by `explicit` by a change without steps.
 */
export type ConfChangeTransition = 'auto' | 'implicit' | 'explicit'

/** A change of membership as it is proposed. */
export interface ConfChange {
  /**
   * 1 is the old one-step encoding, which must have exactly one step and `auto`; 2 is any other.
   */
  readonly version: 1 | 2
  readonly transition: ConfChangeTransition
  /** No steps at all (and `auto`) means: leave the joint membership. */
  readonly steps: readonly ConfChangeStep[]
  /** Opaque to the core, for the application (a node's address, for instance). */
  readonly context: Uint8Array
}

/** What a node is doing now. A learner is a follower that has no vote. */
export type Role = 'follower' | 'pre-candidate' | 'candidate' | 'leader'

/** The part of a node's state that is never stored. */
export interface SoftState {
  /** The leader as this node knows it, or `NO_ID`. */
  readonly lead: RaftId
  readonly role: Role
}

/** The answer to a `readIndex` request: once this index is applied, the read may be served. */
export interface ReadState {
  readonly index: number
  /** The context that was given with the request. */
  readonly context: Uint8Array
}

/**
 * Every kind of message. The first group travels between nodes; the second goes between a node and
 * its own storage when storage is asynchronous, and never leaves the machine.
 */
export type MessageType =
  | 'propose'
  | 'append'
  | 'append-response'
  | 'vote'
  | 'vote-response'
  | 'pre-vote'
  | 'pre-vote-response'
  | 'snapshot'
  | 'heartbeat'
  | 'heartbeat-response'
  | 'transfer-leader'
  | 'timeout-now'
  | 'read-index'
  | 'read-index-response'
  | 'storage-append'
  | 'storage-append-response'
  | 'storage-apply'
  | 'storage-apply-response'

/** One message, flat: which fields mean something depends on `type`; the others are zero. */
export interface Message {
  readonly type: MessageType
  readonly from: RaftId
  readonly to: RaftId
  /** The sender's term; 0 in local messages, proposals and read requests. */
  readonly term: number
  /** Term of the entry at `index`: in `append` the one before `entries`, in `vote` the last one. */
  readonly logTerm: number
  readonly index: number
  readonly commit: number
  /** Only with `shareCommit`, in what is said in campaigns: the term of the entry at `commit`. */
  readonly commitTerm: number
  /** Only in `storage-append`: with term and commit the hard state to store, if term is not 0. */
  readonly vote: RaftId
  readonly entries: readonly Entry[]
  readonly reject: boolean
  /** In a rejecting `append-response`: the index up to which the follower's log may agree. */
  readonly rejectHint: number
  /** Echoed by heartbeats for read-index rounds; marks votes of a leadership transfer. */
  readonly context: Uint8Array
  readonly snapshot?: Snapshot
  /** Only in storage messages: to be delivered, in order, once the write is done. */
  readonly responses?: readonly Message[]
}

/** The fields of a message that differ from zero. */
export type MessageFields = Partial<Message> & Pick<Message, 'type' | 'to'>

/** Makes a whole message from the fields that matter, always in one shape. */
export function createMessage(fields: MessageFields): Message {
  const message: Message = {
    type: fields.type,
    from: fields.from ?? NO_ID,
    to: fields.to,
    term: fields.term ?? 0,
    logTerm: fields.logTerm ?? 0,
    index: fields.index ?? 0,
    commit: fields.commit ?? 0,
    commitTerm: fields.commitTerm ?? 0,
    vote: fields.vote ?? NO_ID,
    entries: fields.entries ?? [],
    reject: fields.reject ?? false,
    rejectHint: fields.rejectHint ?? 0,
    context: fields.context ?? EMPTY_BYTES,
  }
  if (fields.snapshot !== undefined) return { ...message, ...extras(fields) }
  if (fields.responses !== undefined) return { ...message, responses: fields.responses }
  return message
}

function extras(fields: MessageFields): Pick<Message, 'snapshot' | 'responses'> {
  const { snapshot, responses } = fields
  return {
    ...(snapshot === undefined ? {} : { snapshot }),
    ...(responses === undefined ? {} : { responses }),
  }
}

/**
 * What the outside must do now, in this order: store `hardState`, `entries` and `snapshot` (flushed
 * if `mustSync`), then send `messages`, then apply `committedEntries`, then call `advance`. With
 * asynchronous storage writes the same work is also in `messages` as `storage-append` and
 * `storage-apply`, whose responses come back through `step`; then there is no `advance`, and the
 * fields here only inform.
 */
export interface Ready {
  /** Present when leader or role changed; need not be stored. */
  readonly softState?: SoftState
  /** Present when term, vote or commit changed. */
  readonly hardState?: HardState
  /** Reads that may be served once their index is applied. */
  readonly readStates: readonly ReadState[]
  /** To append to the stored log; replaces any stored entry from the first index on. */
  readonly entries: readonly Entry[]
  /** To install in place of log and state machine, before `entries`. */
  readonly snapshot?: Snapshot
  /**
   * To apply to the state machine. In synchronous mode they are stored already, or in `entries`.
   */
  readonly committedEntries: readonly Entry[]
  /** To send. In synchronous mode only after everything above is on disk. */
  readonly messages: readonly Message[]
  /** Whether what is to be stored must be flushed before messages are sent. */
  readonly mustSync: boolean
}

/** What became of a proposal. */
export type ProposeResult =
  /** This node leads and put the proposal's entries at these indexes of its log, in this term. */
  | {
      readonly type: 'appended'
      readonly firstIndex: number
      readonly lastIndex: number
      readonly term: number
    }
  /** Handed to the leader `to`; nothing more will be heard of it here. */
  | { readonly type: 'forwarded'; readonly to: RaftId }
  /** Surely not in any log: no leader, transfer under way, too much uncommitted, … */
  | { readonly type: 'dropped'; readonly reason: DropReason }

/** Why a proposal was dropped. */
export type DropReason =
  | 'no-leader'
  | 'not-forwarding'
  | 'not-a-member'
  | 'transferring'
  | 'too-much-uncommitted'

/** What became of a message given to `step`. */
export type StepResult =
  /** It was acted upon, or ignored for a good reason. */
  | 'done'
  /** A proposal inside it was dropped. */
  | 'proposal-dropped'
  /** It is of a kind that never comes from another node. */
  | 'local-message'
  /** It is a response of somebody who is not a member. */
  | 'unknown-peer'

/** What a leader knows of how to feed a follower. */
export type ProgressState = 'probe' | 'replicate' | 'snapshot'

/** A copy of one follower's progress, for status pages and tests. */
export interface ProgressStatus {
  /** Last index known to be equal on both sides. */
  readonly match: number
  /** First index that will be sent next. */
  readonly next: number
  readonly state: ProgressState
  /** Index of the snapshot on its way; 0 when there is none. */
  readonly pendingSnapshot: number
  /** Whether anything was heard of it in the current check-quorum interval. */
  readonly isRecentlyActive: boolean
  readonly isLearner: boolean
  /** Append messages sent and not yet answered. */
  readonly inflightCount: number
  readonly isInflightFull: boolean
  /** No entries are sent for the moment. */
  readonly isPaused: boolean
}

/** A copy of a node's state, for status pages and tests. */
export interface RaftStatus extends HardState, SoftState {
  readonly id: RaftId
  readonly applied: number
  /** The member that leadership is being handed to, or `NO_ID`. */
  readonly leadTransferee: RaftId
  readonly confState: ConfState
  /** By id, ascending; empty unless this node leads. */
  readonly progress: ReadonlyMap<RaftId, ProgressStatus>
}

/** Where the core writes what it does, for people. */
export interface RaftLogger {
  debug(text: string): void
  info(text: string): void
  warn(text: string): void
  error(text: string): void
}
