/**
 * Patience: how long a transaction that has the writer keeps it while others wait. One that gives
 * way is repeated later, and where others change meanwhile what it has read, or take the ids that
 * it was given, every repeat is a conflict: a client that needs longer for its answers than the
 * limits allow would never get to its commit. So each conflict doubles the limits, up to a bound,
 * and a number of transactions that went well halves them again.
 */
const FACTOR_MAX = 16
/** One conflict in so many transactions is what finding the limit again costs. */
const COMMITS_TO_HALVE = 16

export class Patience {
  #factor = 1
  #commits = 0

  /** A limit as it is now. */
  of(limitMs: number): number {
    return limitMs * this.#factor
  }

  /** A transaction met a conflict. */
  conflicted(): void {
    this.#commits = 0
    this.#factor = Math.min(this.#factor * 2, FACTOR_MAX)
  }

  /** One was committed. */
  committed(): void {
    if (this.#factor === 1) return
    this.#commits += 1
    if (this.#commits < COMMITS_TO_HALVE) return
    this.#commits = 0
    this.#factor /= 2
  }
}
