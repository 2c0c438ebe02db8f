/**
 * Remembers which run of each peer was let in. A copied data directory has the same incarnation as
 * its original, so two processes on copies can't be told apart by their disks. But every run of a
 * process has its own boot id, and counts in its directory how often it was started. So a second
 * run is refused while the first is there; a copy from before a start that was seen is refused for
 * its count; and of two that never met, the one that was followed by the other is out.
 */
import { DbError } from '../base/errors.ts'
import type { PeerMember } from '../base/ports.ts'

/** Runs remembered per peer. A copy that shows up again is among the latest. */
const REMEMBERED_MAX = 16

/** One run of a process. */
export interface Boot {
  /** Random name of the run. */
  readonly bootId: string
  /** How often the data directory was started before, and with this run. */
  readonly starts: number
}

export class BootRegister {
  /** Runs per raft id, the present one last. */
  readonly #boots = new Map<number, Boot[]>()

  /**
   * Throws FORBIDDEN if another run of this peer was let in since this one, or with a later state
   * of its directory; NOT_READY, which may pass, while the present run is connected.
   */
  check(peer: PeerMember, boot: Boot, isHere: boolean): void {
    const boots = this.#boots.get(peer.raftId) ?? []
    const present = boots.at(-1)
    if (present === undefined || present.bootId === boot.bootId) return
    if (boots.some(({ bootId }) => bootId === boot.bootId)) throw copies(peer)
    if (boot.starts <= present.starts) {
      throw new DbError(
        'FORBIDDEN',
        `node ${peer.nodeId} came with an older copy of its data directory, in which votes and ` +
          'entries that it confirmed are missing; start it with the directory that it ran with ' +
          `last, or remove it ("lockstep remove ${peer.nodeId}") and join under a new id`,
      )
    }
    if (!isHere) return
    throw new DbError(
      'NOT_READY',
      `another process runs as node ${peer.nodeId} and is connected; if it has ended this passes ` +
        'in a few seconds, else stop one of them: an id belongs to one data directory',
    )
  }

  /** Notes that this run is the present one. */
  admit(peer: PeerMember, boot: Boot): void {
    const boots = this.#boots.get(peer.raftId) ?? []
    if (boots.at(-1)?.bootId === boot.bootId) return
    this.#boots.set(peer.raftId, [...boots, boot].slice(-REMEMBERED_MAX))
  }
}

function copies(peer: PeerMember): DbError {
  return new DbError(
    'FORBIDDEN',
    `two processes run as node ${peer.nodeId} on copies of one data directory; ` +
      'stop both, keep the original and delete the copy',
  )
}
