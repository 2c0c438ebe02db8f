/**
 * Interleaving: how many interactive transactions may be half done at once. Each of them gives way
 * as soon as a step of it was answered, and is repeated at its next one; so the writer serves
 * others while its client speaks. What that costs is conflicts, where they touch the same rows. As
 * many as go well may be half done: one more with each that is committed, later with each round of
 * them, and half as many after a conflict. With one, a transaction keeps the writer while its
 * client speaks.
 */
import type { OpenTransaction } from './open-transactions.ts'
import { Patience } from './patience.ts'

/** With two it is known soon whether there are conflicts, and then at most one has failed. */
const WIDTH_FIRST = 2
const WIDTH_MAX = 64
/** After a conflict among two, so many are committed one by one before two are tried again. */
const REST_MIN = 32
const REST_MAX = 2048
/** As wide as this, it was not conflicts that were met last. */
const WIDTH_SAFE = 8
/** One that has more steps, or more bytes of statements and answers, is not repeated for others. */
const STEPS_MAX = 16
const TRANSACTION_BYTES_MAX = 16 * 1024
/** Nor is one that took the writer so long when it last ran. */
const COST_MS_MAX = 10

export class Interleaving {
  /** How long one keeps the writer that does not give way at once. */
  readonly patience = new Patience()
  readonly #idleMs: number
  readonly #isOpen: (transaction: OpenTransaction) => boolean
  /** Those that gave way as soon as they were answered, and are to come back soon. */
  readonly #half = new Set<OpenTransaction>()
  #width: number
  /** From here on it is widened more slowly: half of where a conflict was met. */
  #slowFrom = WIDTH_MAX
  #committed = 0
  #rest = 0
  #restNext = REST_MIN

  /** `isCheap`: the engine repeats steps at little cost; else it is off. */
  constructor(parts: {
    readonly isCheap: boolean
    readonly idleMs: number
    readonly isOpen: (transaction: OpenTransaction) => boolean
  }) {
    this.#width = parts.isCheap ? WIDTH_FIRST : 0
    this.#idleMs = parts.idleMs
    this.#isOpen = parts.isOpen
  }

  /** The engine repeats steps at a price: none ever gives way at once. */
  get isOff(): boolean {
    return this.#width === 0
  }

  /** How many may be half done at once; one or less: none gives way at once. */
  get width(): number {
    return this.#width
  }

  /**
   * Those of `ready` that may be half done beside the others: who has begun is so already, and as
   * many may begin as there is room for.
   */
  choose(ready: readonly OpenTransaction[], now: number): readonly OpenTransaction[] {
    this.#prune(now)
    const isCounted = (each: OpenTransaction): boolean => this.#half.has(each)
    const short = ready.filter(isShort)
    const added = short.filter(each => hasBegun(each) && !isCounted(each)).length
    let room = this.#width - this.#half.size - added
    return short.filter(each => {
      if (hasBegun(each) || isCounted(each)) return true
      room -= 1
      return room >= 0
    })
  }

  /** One is going to be half done. False if it may not. */
  enter(transaction: OpenTransaction, now: number): boolean {
    if (this.#width < 2 || this.choose([transaction], now).length === 0) return false
    this.#half.add(transaction)
    return true
  }

  /** One was committed. */
  committed(): void {
    this.patience.committed()
    if (this.#width === 0) return
    if (this.#rest > 0) {
      this.#rest -= 1
      if (this.#rest === 0) this.#width = WIDTH_FIRST
      return
    }
    this.#committed += 1
    if (this.#width >= this.#slowFrom && this.#committed < this.#width) return
    this.#committed = 0
    this.#width = Math.min(this.#width + 1, WIDTH_MAX)
    if (this.#width >= WIDTH_SAFE) this.#restNext = REST_MIN
  }

  /** One met a conflict. */
  conflicted(): void {
    // Those that gave way at once did not do so for want of patience.
    if (this.#width < 2) this.patience.conflicted()
    if (this.#width === 0) return
    this.#committed = 0
    this.#width = Math.floor(this.#width / 2)
    this.#slowFrom = Math.max(this.#width, WIDTH_FIRST)
    if (this.#width > 1) return
    // Also one that gave way because it was idle: then others would fail all the more.
    const wasResting = this.#rest > 0
    this.#width = 1
    this.#rest = this.#restNext
    if (!wasResting) this.#restNext = Math.min(this.#restNext * 2, REST_MAX)
  }

  /** Who is over, or silent for as long as one that idles keeps others waiting, is not counted. */
  #prune(now: number): void {
    for (const transaction of this.#half) {
      const { calls, heardAtMs } = transaction
      const isSilent = calls.length === 0 && now - heardAtMs >= this.#idleMs
      if (isSilent || transaction.isCommitting || !this.#isOpen(transaction)) {
        this.#half.delete(transaction)
      }
    }
  }
}

function hasBegun({ earlier }: OpenTransaction): boolean {
  return earlier.length > 0
}

/** Whether one is to be repeated for others: what its repeats cost grows with their square. */
export function isShort({ earlier, sizeBytes, costMs }: OpenTransaction): boolean {
  return earlier.length < STEPS_MAX && sizeBytes <= TRANSACTION_BYTES_MAX && costMs <= COST_MS_MAX
}
