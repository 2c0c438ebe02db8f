/**
 * What a leader knows about one follower, and when it may send to it. A follower is probed (one
 * message per heartbeat) until the leader knows where their logs agree, then fed as fast as the
 * window allows, and left alone while a snapshot is on its way.
 */
import { unreachable } from '../base/assert.ts'
import type { Inflights } from './inflights.ts'
import type { ProgressState, ProgressStatus } from './types.ts'

/** Where a progress starts. */
export interface ProgressStart {
  readonly match: number
  readonly next: number
  readonly isLearner: boolean
  readonly isRecentlyActive: boolean
  readonly inflights: Inflights
}

/** One follower in the leader's eyes. */
export class Progress {
  /** Last index known to agree with the leader's log. Grows only, within a term. */
  match: number
  /**
   * First index to send next. Invariant: match < next; while in 'snapshot', pendingSnapshot + 1.
   */
  next: number
  state: ProgressState = 'probe'
  /** Index of the snapshot on its way, in state 'snapshot'; otherwise 0. */
  pendingSnapshot = 0
  /** Heard of since the last check of the quorum. Always true for the leader itself. */
  isRecentlyActive: boolean
  isLearner: boolean
  /**
   * No append may be sent until the next heartbeat response. Set by a probe, and by whatever fills
   * the window: were all its messages lost, nothing else would ever start the flow again.
   */
  isFlowPaused = false
  readonly inflights: Inflights
  /** The highest commit index sent and not known to be lost. */
  #sentCommit = 0

  constructor(start: ProgressStart) {
    this.match = start.match
    this.next = start.next
    this.isLearner = start.isLearner
    this.isRecentlyActive = start.isRecentlyActive
    this.inflights = start.inflights
  }

  /** A copy whose `isLearner` can be changed without the original's; the window stays shared. */
  clone(): Progress {
    const copy = new Progress(this)
    copy.state = this.state
    copy.pendingSnapshot = this.pendingSnapshot
    copy.isFlowPaused = this.isFlowPaused
    copy.#sentCommit = this.#sentCommit
    return copy
  }

  /** Whether entries are held back for the moment. */
  get isPaused(): boolean {
    switch (this.state) {
      case 'probe':
      case 'replicate':
        return this.isFlowPaused
      case 'snapshot':
        return true
      default:
        return unreachable(this.state)
    }
  }

  /** Starts looking for the last common entry, after the snapshot if one was on its way. */
  becomeProbe(): void {
    const snapshotIndex = this.state === 'snapshot' ? this.pendingSnapshot : 0
    this.#enter('probe')
    this.next = Math.max(this.match, snapshotIndex) + 1
    this.#sentCommit = Math.min(this.#sentCommit, this.next - 1)
  }

  /** Starts sending optimistically, from the first entry not known to be there. */
  becomeReplicate(): void {
    this.#enter('replicate')
    this.next = this.match + 1
  }

  /** Waits for a snapshot to be installed. */
  becomeSnapshot(index: number): void {
    this.#enter('snapshot')
    this.pendingSnapshot = index
    this.next = index + 1
    this.#sentCommit = index
  }

  /** Notes that an append message with so many entries from `next` on was sent. */
  sentEntries(entryCount: number, sizeBytes: number): void {
    if (this.state === 'replicate') {
      if (entryCount > 0) {
        this.next += entryCount
        this.inflights.add(this.next - 1, sizeBytes)
      }
      this.isFlowPaused = this.inflights.isFull
    } else if (entryCount > 0) {
      this.isFlowPaused = true
    }
  }

  /**
   * Whether sending this commit index may move the follower's. A follower can't commit what it
   * doesn't have, so once next - 1 was sent there is nothing more to say.
   */
  canBumpCommit(commit: number): boolean {
    return commit > this.#sentCommit && this.#sentCommit < this.next - 1
  }

  /** Notes that a commit index was sent. A heartbeat may send a lower one than an append before. */
  sentCommit(commit: number): void {
    this.#sentCommit = commit
  }

  /** An acknowledgement up to `index`. False if it says nothing new. */
  maybeUpdate(index: number): boolean {
    if (index <= this.match) return false
    this.match = index
    this.next = Math.max(this.next, index + 1)
    this.isFlowPaused = false
    return true
  }

  /**
   * The follower rejected an append that followed `rejectedIndex`; the logs may agree at
   * `matchHint`. False if the rejection is old: messages may come late, twice and out of order.
   */
  maybeDecrease(rejectedIndex: number, matchHint: number): boolean {
    if (this.state === 'replicate') {
      if (rejectedIndex <= this.match) return false
      this.next = this.match + 1
    } else {
      // A follower that is probed gets one message at a time, so a rejection of any other is old.
      if (this.next - 1 !== rejectedIndex) return false
      this.next = Math.max(Math.min(rejectedIndex, matchHint + 1), this.match + 1)
      this.isFlowPaused = false
    }
    this.#sentCommit = Math.min(this.#sentCommit, this.next - 1)
    return true
  }

  /** A copy of the facts. */
  status(): ProgressStatus {
    return {
      match: this.match,
      next: this.next,
      state: this.state,
      pendingSnapshot: this.pendingSnapshot,
      isRecentlyActive: this.isRecentlyActive,
      isLearner: this.isLearner,
      inflightCount: this.inflights.count,
      isInflightFull: this.inflights.isFull,
      isPaused: this.isPaused,
    }
  }

  #enter(state: ProgressState): void {
    this.isFlowPaused = false
    this.pendingSnapshot = 0
    this.state = state
    this.inflights.clear()
  }
}
