/**
 * ReplicatedLog, the interface: one totally ordered log with one writer per term. Everything that
 * members must agree on goes through it. It is a stream of events in one order and a place to read
 * committed entries from; the reader keeps its own pace.
 *
 * Events are calls, not promises: their order is the order of the calls, so that nothing can
 * happen between a change of role and what follows from it, and a simulated run repeats exactly.
 */
import type { DbError } from '../base/errors.ts'

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
      readonly own: readonly { readonly proposal: ProposalNumber; readonly index: number }[]
    }
  /** The proposal is surely not in the log and never will be. */
  | { readonly type: 'rejected'; readonly proposal: ProposalNumber }

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
  /** Committed entries from `from` on, about `maxBytes` of them, at least one if there is one. */
  read(from: number, maxBytes: number): readonly LogEntry[]
  /**
   * A commit index that was current at some moment after the call. `done` is called once, with
   * NO_LEADER if no quorum confirmed one in time.
   */
  readIndex(timeoutMs: number, done: (outcome: number | DbError) => void): void
  /** Entries up to `upTo` are needed no more by this node or any other. */
  compact(upTo: number): void
  /** Hands leadership to the most advanced other voter that may lead, if there is one. */
  transferLeadership(mayLead?: (raftId: number) => boolean): void
  stop(done: () => void): void
}
