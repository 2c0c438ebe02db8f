/**
 * How much of one turn of the event loop the input of clients may take. What a node owes to others
 * (heartbeats, votes, acknowledgements, the next batch) waits for the same loop: without a limit,
 * clients that send faster than they are served would keep it busy for seconds, a leader would lose
 * its followers, and each batch would wait for several such turns.
 */

/** Small against the time of a batch, and large against what it costs to come back. */
const SHARE_MS = 5

export class Turns {
  /** When the input of this turn began; undefined before any came. */
  #startedMs: number | undefined
  #number = 0
  #waiting: (() => void)[] = []

  /** Of this turn: it grows with each in which there is input. */
  get number(): number {
    return this.#number
  }

  /** How long the input of this turn has taken so far. The first who asks begins it. */
  get elapsedMs(): number {
    const nowMs = performance.now()
    if (this.#startedMs !== undefined) return nowMs - this.#startedMs
    this.#startedMs = nowMs
    // Comes once everything that is readable now was looked at, timers and other nodes included.
    setImmediate(() => this.#next())
    return 0
  }

  /** More input must wait for another turn. */
  get isSpent(): boolean {
    return this.elapsedMs > SHARE_MS
  }

  /** Runs in the next turn that has time left for it, after those that have waited longer. */
  later(action: () => void): void {
    this.#waiting.push(action)
  }

  #next(): void {
    this.#startedMs = undefined
    this.#number += 1
    const waiting = this.#waiting
    this.#waiting = []
    for (const [at, action] of waiting.entries()) {
      if (this.isSpent) {
        this.#waiting = [...waiting.slice(at), ...this.#waiting]
        return
      }
      action()
    }
  }
}
