/**
 * Those who send writes without waiting for their answers, while more wait than the writer soon
 * takes. They are not read: what they send waits in the system's buffers, and they wait with it,
 * which costs this node nothing, where each refusal would cost about as much as a write. Who has
 * stood here for as long as a write may wait is refused what it has sent meanwhile.
 */
import { DbError } from '../../base/errors.ts'
import type { Turns } from './turns.ts'

/** A connection, or a stream, that may have to wait. */
export interface Comer {
  /** How many writes come soon after it was let in, judged by the last time. */
  readonly expectedCount: number
  /** It is read on. `refusal` is the answer to what it has sent until now. */
  letIn(refusal: DbError | undefined): void
}

export interface CrowdParts {
  readonly turns: Turns
  /** How many more writes would do the writer good; 0 while enough wait. */
  readonly wanted: () => number
  /** Nobody waits for longer than this. */
  readonly maxWaitMs: number
}

/** Small against the time that the waiting writes keep the writer busy for. */
const LOOK_MS = 1

export class Crowd {
  readonly #parts: CrowdParts
  /** Since when each waits, the first at the front. */
  readonly #waiting = new Map<Comer, number>()
  /** Made once: it may be the answer to thousands in a second. */
  readonly #refusal: DbError
  #isLookDue = false

  constructor(parts: CrowdParts) {
    this.#parts = parts
    const { maxWaitMs } = parts
    const message =
      'too many writes wait, and more were sent without waiting; back off and send it again'
    this.#refusal = new DbError('OVERLOADED', message, { details: { maxQueuedMs: maxWaitMs } })
  }

  get count(): number {
    return this.#waiting.size
  }

  /** Whoever sends on without waiting must wait. */
  get isFull(): boolean {
    return this.#parts.wanted() <= 0
  }

  /** It is not read from now on, until it is let in. */
  join(comer: Comer): void {
    if (this.#waiting.has(comer)) return
    this.#waiting.set(comer, performance.now())
    this.#lookSoon()
  }

  /** It has gone, or needs not wait any more. */
  leave(comer: Comer): void {
    this.#waiting.delete(comer)
  }

  #lookSoon(): void {
    if (this.#isLookDue) return
    this.#isLookDue = true
    // Whoever waits here has an open socket, which keeps the process.
    setTimeout(() => this.#look(), LOOK_MS).unref()
  }

  #look(): void {
    this.#isLookDue = false
    const { turns, wanted, maxWaitMs } = this.#parts
    const nowMs = performance.now()
    let expectedCount = 0
    for (const [comer, sinceMs] of this.#waiting) {
      if (turns.isSpent) break
      const room = wanted() - expectedCount
      const isOverdue = nowMs - sinceMs > maxWaitMs
      if (room <= 0 && !isOverdue) break
      this.#waiting.delete(comer)
      if (room > 0) expectedCount += comer.expectedCount
      comer.letIn(room > 0 ? undefined : this.#refusal)
    }
    if (this.#waiting.size > 0) this.#lookSoon()
  }
}
