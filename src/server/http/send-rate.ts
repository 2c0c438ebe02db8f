/** How fast snapshots leave a node, so that its other traffic has room. */
import { setTimeout as pause } from 'node:timers/promises'

/** Shares out what all snapshots of this node together may send in a second. */
export class SendRate {
  readonly #bytesPerSecond: number
  /** When what was let through so far has had its time. */
  #spentMs = 0

  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Resolves when so many bytes more may go. */
  async take(sizeBytes: number): Promise<void> {
    const nowMs = performance.now()
    this.#spentMs = Math.max(nowMs, this.#spentMs) + (sizeBytes * 1000) / this.#bytesPerSecond
    const waitMs = this.#spentMs - nowMs
    // Timers are coarse: short waits are left to add up.
    if (waitMs > 10) await pause(waitMs)
  }
}
