/**
 * Which entries of the log may go. None that this engine doesn't hold durably; none that a member
 * lacks either, as long as the log is small: who was away for a while goes on from the log, and
 * needs no snapshot. Who is there and catches up is waited for a little longer, for else it might
 * fetch one snapshot after the other. Nobody is waited for beyond that.
 */
import type { LogStatus, PeerHealth } from '../log/log.ts'

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
    /** The same for members that are there, or in the snapshots that these take. */
    readonly presentFloor: number
  },
  limits: { readonly maxLogBytes: number; readonly logReserveBytes: number },
): CompactionTarget {
  const { firstIndex, lastIndex, sizeBytes } = status
  const { durableIndex, floor, presentFloor } = held
  const { maxLogBytes, logReserveBytes } = limits
  const spared = Math.min(durableIndex, floor)
  if (sizeBytes <= maxLogBytes) return { upTo: spared, isHeldByEngine: false }
  // Half of it stays, for those that are only a little behind.
  const half = firstIndex + Math.floor((lastIndex - firstIndex) / 2)
  const waitsFor = sizeBytes <= maxLogBytes + logReserveBytes ? presentFloor : Infinity
  return {
    upTo: Math.max(spared, Math.min(durableIndex, half, waitsFor)),
    isHeldByEngine: durableIndex < half,
  }
}

/** As leader: entries up to here are in the log or the next snapshot of every member there is. */
export function presentFloor(peers: readonly PeerHealth[]): number {
  const present = peers.filter(({ isConnected }) => isConnected)
  const floors = present.map(({ matchIndex = Infinity, offeredIndex = 0 }) =>
    Math.max(matchIndex, offeredIndex),
  )
  return Math.min(...floors)
}
