/** Lets each authenticated request to join through once, and only while it is fresh. */
import { DbError } from '../base/errors.ts'
import type { Clock } from '../base/ports.ts'

/** How far the clocks of two machines may differ, and how long a nonce is remembered. */
const FRESH_MS = 5 * 60_000

export class RequestFilter {
  readonly #clock: Clock
  /** When each nonce may be forgotten, oldest first: a request is too old by then. */
  readonly #seen = new Map<string, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Throws UNAUTHENTICATED if the request is old, from the future, or a copy. */
  check(request: {
    readonly nodeId: string
    readonly sentAtMs: number
    readonly nonce: string
  }): void {
    const { nodeId, sentAtMs, nonce } = request
    const nowMs = this.#clock.wallMs()
    if (Math.abs(nowMs - sentAtMs) > FRESH_MS) {
      throw new DbError(
        'UNAUTHENTICATED',
        `the clocks of node ${nodeId} and the founder differ by ` +
          `${Math.round(Math.abs(nowMs - sentAtMs) / 1000)} s; set them right`,
      )
    }
    for (const [old, untilMs] of this.#seen) {
      if (untilMs >= nowMs) break
      this.#seen.delete(old)
    }
    if (this.#seen.has(nonce)) {
      throw new DbError('UNAUTHENTICATED', `the request to join of node ${nodeId} came twice`)
    }
    // A clock ahead of ours keeps a request fresh for up to twice the time.
    this.#seen.set(nonce, nowMs + 2 * FRESH_MS)
  }
}
