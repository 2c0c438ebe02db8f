/**
 * How often a client sends again what a node had no room for. If all clients did so whenever they
 * like, their second and third attempts would be most of the load, and would keep it too much. So
 * one attempt more goes with every ten requests that succeed; beside these there are a few at
 * first, and one in a second, so that a client learns when there is room again.
 */

const ATTEMPTS_MAX = 10
const PER_SUCCESS = 0.1
const PER_MS = 1 / 1000

export class RetryBudget {
  #attempts = ATTEMPTS_MAX
  #countedMs = -Infinity

  /** A request has succeeded. */
  succeeded(): void {
    this.#attempts = Math.min(ATTEMPTS_MAX, this.#attempts + PER_SUCCESS)
  }

  /** True if one attempt more may be made, which then is used up. */
  take(nowMs: number): boolean {
    const sinceMs = Math.max(0, nowMs - this.#countedMs)
    this.#attempts = Math.min(ATTEMPTS_MAX, this.#attempts + sinceMs * PER_MS)
    this.#countedMs = nowMs
    if (this.#attempts < 1) return false
    this.#attempts -= 1
    return true
  }
}
