/**
 * Bounds what answers that clients do not read may take of this node's memory, over all
 * connections. One client is held up by its own connection, which is not read on; many of them
 * together could still take more than there is. Beyond the limit those are cut that take nothing.
 */
import type { Socket } from 'node:net'

/** A connection, and what waits in it. */
export interface Holder {
  readonly socket: Socket
  /** Bytes of answers that the system has not taken. */
  readonly heldBytes: number
}

export interface UnreadParts {
  readonly limitBytes: number
  readonly holders: () => Iterable<Holder>
  /** A connection is cut that held so much. */
  readonly onCut: (holder: Holder, heldBytes: number) => void
}

/** What may be answered between two looks, of the limit; the rest may stay after a look. */
const UNSEEN_PART = 1 / 4

interface Found {
  readonly holder: Holder
  readonly heldBytes: number
  /** It has taken nothing since the last look. */
  readonly isStill: boolean
}

export class UnreadAnswers {
  readonly #parts: UnreadParts
  #answeredBytes = 0
  /** What each had taken at the last look. */
  #takenBytes = new WeakMap<Socket, number>()

  constructor(parts: UnreadParts) {
    this.#parts = parts
  }

  /** So much was answered. It costs a look at all connections once in a while, and nothing else. */
  answered(sizeBytes: number): void {
    this.#answeredBytes += sizeBytes
    if (this.#answeredBytes <= this.#parts.limitBytes * UNSEEN_PART) return
    this.#answeredBytes = 0
    this.#look()
  }

  #look(): void {
    const { limitBytes, holders, onCut } = this.#parts
    const keptBytesMax = limitBytes * (1 - UNSEEN_PART)
    // One that was cut is among them until its end is told.
    const open = [...holders()].filter(({ socket }) => !socket.destroyed)
    const found = open.map(holder => this.#lookAt(holder))
    let totalBytes = found.reduce((sum, { heldBytes }) => sum + heldBytes, 0)
    if (totalBytes <= keptBytesMax) return
    // One who takes something, however slowly, goes after those who take nothing.
    const order = (a: Found, b: Found): number =>
      Number(b.isStill) - Number(a.isStill) || b.heldBytes - a.heldBytes
    for (const { holder, heldBytes } of found.toSorted(order)) {
      if (totalBytes <= keptBytesMax) return
      totalBytes -= heldBytes
      onCut(holder, heldBytes)
      holder.socket.destroy()
    }
  }

  #lookAt(holder: Holder): Found {
    const { socket, heldBytes } = holder
    const takenBytes = socket.bytesWritten - socket.writableLength
    const isStill = this.#takenBytes.get(socket) === takenBytes
    this.#takenBytes.set(socket, takenBytes)
    return { holder, heldBytes, isStill }
  }
}
