/**
 * Which entries of the log may go. None that this engine doesn't hold durably; none that a member
 * lacks either, as long as the log is small: who was away for a while goes on from the log, and
 * needs no snapshot. Nobody is waited for beyond that.
 */
import type { LogStatus } from '../log/log.ts'

export interface CompactionTarget {
  /** The log may be forgotten up to this entry. */
  readonly upTo: number
  /** It is too large, and only this engine holds it: what that has applied is not durable. */
  readonly isHeldByEngine: boolean
}

/** What is to be done about the log now. */
export function compactionTarget(
  status: Pick<LogStatus, 'firstIndex' | 'lastIndex' | 'sizeBytes'>,
  held: {
    /** Entries up to here are durably in this engine's files. */
    readonly durableIndex: number
    /** Entries up to here are in every member's log. */
    readonly floor: number
  },
  maxLogBytes: number,
): CompactionTarget {
  const { firstIndex, lastIndex, sizeBytes } = status
  const { durableIndex, floor } = held
  const spared = Math.min(durableIndex, floor)
  if (sizeBytes <= maxLogBytes) return { upTo: spared, isHeldByEngine: false }
  // Half of it stays, for those that are only a little behind and for who fetches a snapshot now.
  const half = firstIndex + Math.floor((lastIndex - firstIndex) / 2)
  return {
    upTo: Math.max(spared, Math.min(durableIndex, half)),
    isHeldByEngine: durableIndex < half,
  }
}
