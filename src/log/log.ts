/**
 * ReplicatedLog, the interface: one totally ordered log with one writer per term. Everything that
 * members must agree on goes through it. It is a stream of events in one order and a place to read
 * committed entries from; the reader keeps its own pace.
 *
 * Events are calls, not promises: their order is the order of the calls, so that nothing can
 * happen between a change of role and what follows from it, and a simulated run repeats exactly.
 */
import type { DbError } from '../base/errors.ts'
import type { Histogram } from '../base/histogram.ts'

export type Role = 'leader' | 'follower' | 'candidate' | 'pre-candidate'

export interface LogEntry {
  readonly index: number
  readonly term: number
  /** `data` carries an entry of the replica; `noop` and `config` are the log's own. */
  readonly type: 'data' | 'noop' | 'config'
  readonly data: Uint8Array
}

/** Number of a proposal, from 1, unique while the process lives. */
export type ProposalNumber = number

/** One member: a disk with a name, at an address. */
export interface Member {
  /** Given once, never to another disk. */
  readonly raftId: number
  readonly nodeId: string
  readonly address: string
  /** Random name of the disk that the member joined with. */
  readonly incarnation: string
}

/** A member that was removed. Its names are not taken again, its number never. */
export type RemovedMember = Omit<Member, 'address'>

/** Who belongs to the group as of an entry. All lists ascend by raft id, `removed` by time. */
export interface Membership {
  /** The entry that made it; 0 is the founding. */
  readonly index: number
  readonly members: readonly Member[]
  readonly voters: readonly number[]
  /** While voters are replaced: the old half, whose majority is needed too. Otherwise empty. */
  readonly votersOutgoing: readonly number[]
  readonly learners: readonly number[]
  /** Of the old half: those that become learners when it is dropped. */
  readonly learnersNext: readonly number[]
  /** Whoever has a lower number and is not among the members was removed. */
  readonly nextRaftId: number
  /** The latest to be removed; earlier ones are forgotten, but for their numbers. */
  readonly removed: readonly RemovedMember[]
}

/** A place in the log at which a copy of the data was taken, and the members as of it. */
export interface SnapshotPoint {
  readonly index: number
  readonly term: number
  readonly membership: Membership
}

/** What can be changed about the members. Each is one entry, `replace` is two. */
export type MembersChange =
  | { readonly type: 'add-learner'; readonly node: Omit<Member, 'raftId'> }
  | { readonly type: 'promote'; readonly raftId: number }
  | { readonly type: 'demote'; readonly raftId: number }
  | { readonly type: 'remove'; readonly raftId: number }
  /** Through a joint membership: at no moment is there a voter less. */
  | { readonly type: 'replace'; readonly remove: number; readonly promote: number }
  | { readonly type: 'set-address'; readonly raftId: number; readonly address: string }

/** A proposal of ours that is committed. */
export interface OwnEntry {
  readonly proposal: ProposalNumber
  readonly index: number
  /** When this node's disk had kept it, by its clock. */
  readonly flushedMs: number
}

export type LogEvent =
  /**
   * Role, term or leader changed. On a new term every open proposal has lost its certainty: its
   * entry may or may not be committed later, as any other entry.
   */
  | {
      readonly type: 'role'
      readonly role: Role
      readonly term: number
      readonly leader: number | undefined
    }
  /** Entries up to `commitIndex` may be read. `own` are proposals of this term of ours. */
  | {
      readonly type: 'committed'
      readonly commitIndex: number
      readonly own: readonly OwnEntry[]
    }
  /** The proposal is surely not in the log and never will be. */
  | { readonly type: 'rejected'; readonly proposal: ProposalNumber }
  /**
   * The members as of the entries told so far: once at the start, then after the `committed` event
   * of each entry that changed them, and when a snapshot was taken.
   */
  | { readonly type: 'membership'; readonly membership: Membership }
  /**
   * The log of the leader `from` begins after what this node has, so that only a snapshot at
   * `index` or later helps. Repeated while it lasts: whoever fetches one already ignores that.
   */
  | { readonly type: 'snapshot-needed'; readonly from: number; readonly index: number }

export interface PeerHealth {
  readonly raftId: number
  readonly nodeId: string
  readonly address: string
  readonly isConnected: boolean
  /** Milliseconds since a frame came from it, undefined if none came yet. */
  readonly lastContactMs: number | undefined
  /** Failed attempts to connect since the last success. */
  readonly retries: number
  /** As the leader knows it; undefined on other nodes. */
  readonly matchIndex: number | undefined
  readonly progress: string | undefined
  /** It was offered a snapshot, and goes on from one of this entry or a later one. */
  readonly offeredIndex: number | undefined
}

export interface LogStatus {
  readonly raftId: number
  readonly role: Role
  readonly term: number
  readonly leader: number | undefined
  readonly firstIndex: number
  readonly lastIndex: number
  /**
   * As far as this node knows. A leader may know more than it has on its own disk and can read:
   * others may have read that already, so that whoever lacks it is behind.
   */
  readonly commitIndex: number
  /** The entry at the commit index is of the current term: a leader's commit index is complete. */
  readonly isCommitCurrent: boolean
  readonly flushedIndex: number
  readonly voters: readonly number[]
  readonly learners: readonly number[]
  /** As of the entries told so far. */
  readonly membership: Membership
  /**
   * False: this node knows that it was removed. It neither votes nor campaigns. One that was added
   * and has not come to read of it yet counts as a member.
   */
  readonly isMember: boolean
  /** What the log takes on disk. */
  readonly sizeBytes: number
  /** How long each write of entries took, until this disk had kept them. */
  readonly flushes: Histogram
  readonly peers: readonly PeerHealth[]
}

export interface ReplicatedLog {
  status(): LogStatus
  start(listener: (event: LogEvent) => void): void
  /**
   * Appends as the leader of `term`. Its fate comes as an event and in no other way; undefined if
   * this node does not lead that term (any more): nothing was appended.
   */
  append(term: number, data: Uint8Array): ProposalNumber | undefined
  /** The number that the next `append` will get; its fate may be told within the call. */
  readonly nextProposal: ProposalNumber
  /**
   * Committed entries from `from` on, about `maxBytes` of them, at least one if there is one. None
   * if `from` lies before the first index: a snapshot was taken, and the data must follow.
   */
  read(from: number, maxBytes: number): readonly LogEntry[]
  /**
   * A commit index that was current at some moment after the call. `done` is called once, with
   * NO_LEADER if no quorum confirmed one in time.
   */
  readIndex(timeoutMs: number, done: (outcome: number | DbError) => void): void
  /** Entries up to `upTo` are needed no more by this node or any other. */
  compact(upTo: number): void
  /**
   * Hands leadership to `target`, or to the most advanced other voter, if there is one that may
   * lead.
   */
  transferLeadership(mayLead?: (raftId: number) => boolean, target?: number): void
  /**
   * Changes the members, as the leader; one change at a time. `done` is called once: with the
   * membership when the change is in force here, with NOT_LEADER, MEMBERS_BUSY or MEMBERS_REFUSED
   * if nothing was begun, or with an error of unknown fate.
   */
  changeMembers(
    change: MembersChange,
    timeoutMs: number,
    done: (outcome: Membership | DbError) => void,
  ): void
  /** What a copy of the data as of `index` stands for; undefined if compacted or not committed. */
  point(index: number): SnapshotPoint | undefined
  /**
   * Begins the log after `point`, of which a copy of the data is durably at hand. `done` is called
   * once that is on disk; `isTaken` is false if the log has these entries anyway: nothing was done.
   */
  install(point: SnapshotPoint, done: (isTaken: boolean) => void): void
  stop(done: () => void): void
}
