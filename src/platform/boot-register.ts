/**
 * Remembers which run of each peer was let in. A copied data directory has the same incarnation as
 * its original, so two processes on copies can't be told apart by their disks. But every run of a
 * process has its own boot id, and a run that was followed by another never comes back, unless both
 * are alive: then the one that came first is refused from there on, with a sentence.
 */
import { DbError } from '../base/errors.ts'
import type { PeerMember } from './roster.ts'

/** Runs remembered per peer. A copy that shows up again is among the latest. */
const REMEMBERED_MAX = 16

export class BootRegister {
  /** Boot ids per raft id, the present run last. */
  readonly #boots = new Map<number, string[]>()

  /** Throws FORBIDDEN if another run of this peer was let in since this one. */
  check(peer: PeerMember, bootId: string): void {
    const boots = this.#boots.get(peer.raftId) ?? []
    if (!boots.includes(bootId) || boots.at(-1) === bootId) return
    throw new DbError(
      'FORBIDDEN',
      `two processes run as node ${peer.nodeId} on copies of one data directory; ` +
        'stop both, keep the original and delete the copy',
    )
  }

  /** Notes that this run is the present one. */
  admit(peer: PeerMember, bootId: string): void {
    const boots = this.#boots.get(peer.raftId) ?? []
    if (boots.at(-1) === bootId) return
    this.#boots.set(peer.raftId, [...boots, bootId].slice(-REMEMBERED_MAX))
  }
}
