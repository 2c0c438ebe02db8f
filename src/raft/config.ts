/**
 * What a node's core is made with. Times are ticks; only whoever drives the core knows their
 * length.
 */
import { assert } from '../base/assert.ts'
import type { Storage } from './storage.ts'
import type { RaftId, RaftLogger } from './types.ts'

/** Options of one node. None has a default here; `NO_LIMIT` means what it says. */
export interface RaftConfig {
  /** This node; from 1. */
  readonly id: RaftId
  /**
   * Without a word from a leader for this long plus a random part of the same size, a follower
   * campaigns. Ten times `heartbeatTicks` is usual.
   */
  readonly electionTicks: number
  /** How often a leader says that it is there. */
  readonly heartbeatTicks: number
  /** What was stored before, and what has been stored since. */
  readonly storage: Storage
  /** The last entry that the state machine has; entries up to it are not handed out again. */
  readonly appliedIndex: number
  /** Entries in one append message; 0 means one entry per message. */
  readonly maxSizePerMessageBytes: number
  /** Append messages under way to one follower. */
  readonly maxInflightMessages: number
  /** Bytes under way to one follower; at least `maxSizePerMessageBytes`. */
  readonly maxInflightBytes: number
  /** Proposals are dropped while this much is appended and not committed. */
  readonly maxUncommittedBytes: number
  /** Committed entries handed out and not yet reported as applied. */
  readonly maxCommittedSizePerReadyBytes: number
  /** Ask around before raising the term (thesis 9.6), so that a returning node disturbs nobody. */
  readonly preVote: boolean
  /** A leader that hears no quorum steps down; a follower that hears its leader grants no vote. */
  readonly checkQuorum: boolean
  /**
   * Whoever asks for a vote or refuses one tells how far its log is committed. A group can be stuck
   * without: who was removed may have the longest log and refuse its vote, while the others don't
   * know yet that they need it no more. Turn it on; etcd-io/raft does not have it.
   */
  readonly shareCommit: boolean
  /**
   * How reads are confirmed: by a round of heartbeats, or by the clock. 'lease' needs checkQuorum.
   */
  readonly readOnly: 'quorum' | 'lease'
  /** Storage work leaves as messages and comes back as responses, instead of `advance`. */
  readonly asyncStorageWrites: boolean
  /** A leader that is no longer a voter becomes a follower. Turn it on. */
  readonly stepDownOnRemoval: boolean
  /** A follower drops proposals instead of passing them to the leader. */
  readonly disableProposalForwarding: boolean
  /** Membership changes aren't checked when proposed; somebody above must do it. */
  readonly disableConfChangeValidation: boolean
  /** Chance: a whole number from 0 to before `bound`. */
  readonly randomTicks: (bound: number) => number
  /** For people; nothing depends on it. */
  readonly logger?: RaftLogger
}

/** Throws if options contradict each other. */
export function checkConfig(config: RaftConfig): void {
  const { id, electionTicks, heartbeatTicks } = config
  assert(Number.isSafeInteger(id) && id > 0, `a node's id must be a number from 1, not ${id}`)
  assert(heartbeatTicks > 0, `heartbeatTicks must be above 0, not ${heartbeatTicks}`)
  assert(
    electionTicks > heartbeatTicks,
    `electionTicks (${electionTicks}) must be above heartbeatTicks (${heartbeatTicks})`,
  )
  assert(config.maxInflightMessages > 0, 'maxInflightMessages must be above 0')
  assert(
    config.maxInflightBytes >= config.maxSizePerMessageBytes,
    'maxInflightBytes must be at least maxSizePerMessageBytes',
  )
  assert(config.maxCommittedSizePerReadyBytes > 0, 'maxCommittedSizePerReadyBytes must be above 0')
  assert(config.maxUncommittedBytes > 0, 'maxUncommittedBytes must be above 0')
  assert(
    config.readOnly !== 'lease' || config.checkQuorum,
    "readOnly: 'lease' needs checkQuorum, or a deposed leader would go on serving reads",
  )
}
