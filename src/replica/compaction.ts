/**
 * Which entries of the log may go. None that this engine doesn't hold durably; none that a member
 * lacks either, as long as the log is small: who was away for a while goes on from the log, and
 * needs no snapshot. Nobody is waited for beyond that.
 */
import type { LogStatus } from '../log/log.ts'

/** The entry up to which the log may be forgotten. */
export function compactionTarget(
  status: Pick<LogStatus, 'firstIndex' | 'lastIndex' | 'sizeBytes'>,
  held: {
    /** Entries up to here are durably in this engine's files. */
    readonly durableIndex: number
    /** Entries up to here are in every member's log. */
    readonly floor: number
  },
  maxLogBytes: number,
): number {
  const { firstIndex, lastIndex, sizeBytes } = status
  const { durableIndex, floor } = held
  const spared = Math.min(durableIndex, floor)
  if (sizeBytes <= maxLogBytes) return spared
  // Half of it stays, for those that are only a little behind and for who fetches a snapshot now.
  const half = firstIndex + Math.floor((lastIndex - firstIndex) / 2)
  return Math.max(spared, Math.min(durableIndex, half))
}
