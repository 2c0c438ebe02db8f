/**
 * The members as a leader or a candidate sees them: progress of each, and the votes of a campaign.
 */
import { Inflights } from './inflights.ts'
import { EMPTY_MEMBERSHIP, type Membership } from './membership.ts'
import type { Members, NewcomerOptions } from './membership-change.ts'
import { Progress } from './progress.ts'
import { type VoteResult, committedIndex, voteResult } from './quorum.ts'
import type { RaftId } from './types.ts'

/** The count of a campaign. */
export interface Tally {
  readonly grantedCount: number
  readonly rejectedCount: number
  readonly result: VoteResult
}

/** Holds the membership in force, everybody's progress, and the votes received. */
export class Tracker implements Members {
  readonly #maxInflightMessages: number
  readonly #maxInflightBytes: number
  #membership: Membership = EMPTY_MEMBERSHIP
  /** Ascending by id, so that messages to all always leave in the same order. */
  #progress: ReadonlyMap<RaftId, Progress> = new Map()
  readonly #votes = new Map<RaftId, boolean>()

  constructor(maxInflightMessages: number, maxInflightBytes: number) {
    this.#maxInflightMessages = maxInflightMessages
    this.#maxInflightBytes = maxInflightBytes
  }

  get membership(): Membership {
    return this.#membership
  }

  get progress(): ReadonlyMap<RaftId, Progress> {
    return this.#progress
  }

  /** Puts other members in force. */
  use(members: Members): void {
    this.#membership = members.membership
    this.#progress = members.progress
  }

  /** What a new member's progress starts with. */
  newcomerOptions(lastIndex: number): NewcomerOptions {
    return {
      lastIndex,
      maxInflightMessages: this.#maxInflightMessages,
      maxInflightBytes: this.#maxInflightBytes,
    }
  }

  /** Forgets what was known of everybody's log: a new term begins with nothing but guesses. */
  resetProgress(self: RaftId, lastIndex: number): void {
    const fresh = new Map<RaftId, Progress>()
    for (const [id, old] of this.#progress) {
      fresh.set(
        id,
        new Progress({
          match: id === self ? lastIndex : 0,
          next: lastIndex + 1,
          isLearner: old.isLearner,
          isRecentlyActive: false,
          inflights: new Inflights(this.#maxInflightMessages, this.#maxInflightBytes),
        }),
      )
    }
    this.#progress = fresh
  }

  /** The highest index that the voters' acknowledgements commit. */
  committedIndex(): number {
    return committedIndex(this.#membership, id => this.#progress.get(id)?.match)
  }

  /** Whether a quorum was heard of since activity was last cleared. */
  isQuorumActive(): boolean {
    const active = new Map<RaftId, boolean>()
    for (const [id, progress] of this.#progress) active.set(id, progress.isRecentlyActive)
    return voteResult(this.#membership, active) === 'won'
  }

  resetVotes(): void {
    this.#votes.clear()
  }

  /** Notes a vote. A second answer of the same node doesn't change the first. */
  recordVote(id: RaftId, isGranted: boolean): void {
    if (!this.#votes.has(id)) this.#votes.set(id, isGranted)
  }

  tally(): Tally {
    let grantedCount = 0
    let rejectedCount = 0
    for (const [id, progress] of this.#progress) {
      const vote = progress.isLearner ? undefined : this.#votes.get(id)
      if (vote === true) grantedCount++
      if (vote === false) rejectedCount++
    }
    return { grantedCount, rejectedCount, result: voteResult(this.#membership, this.#votes) }
  }
}
