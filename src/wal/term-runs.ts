/** The term of every entry, kept as runs: terms change rarely, indexes often. */
import { assert, must } from '../base/assert.ts'

interface TermRun {
  readonly firstIndex: number
  readonly term: number
}

/** Terms from a base (the entry before the first one) to the last index. */
export class TermRuns {
  /** Ascending by index and term; the first one begins at or before the base. */
  #runs: TermRun[]
  #baseIndex: number
  #lastIndex: number

  constructor(baseIndex: number, baseTerm: number) {
    this.#runs = [{ firstIndex: baseIndex, term: baseTerm }]
    this.#baseIndex = baseIndex
    this.#lastIndex = baseIndex
  }

  get baseIndex(): number {
    return this.#baseIndex
  }

  /** Index of the last entry, or of the base if there is none. */
  get lastIndex(): number {
    return this.#lastIndex
  }

  append(index: number, term: number): void {
    assert(index === this.#lastIndex + 1, `entry ${index} after ${this.#lastIndex}`)
    const lastTerm = must(this.#runs.at(-1)).term
    assert(term >= lastTerm, `entry ${index} of term ${term} after term ${lastTerm}`)
    if (term > lastTerm) this.#runs.push({ firstIndex: index, term })
    this.#lastIndex = index
  }

  /** Forgets the entries from `index` on, which must be after the base. */
  truncate(index: number): void {
    assert(index > this.#baseIndex, `truncation from ${index}, base ${this.#baseIndex}`)
    while (must(this.#runs.at(-1)).firstIndex >= index) this.#runs.pop()
    this.#lastIndex = Math.min(this.#lastIndex, index - 1)
  }

  /** Makes `index`, which must be there, the base. */
  compact(index: number): void {
    assert(
      index >= this.#baseIndex && index <= this.#lastIndex,
      `base ${index} out of ${this.#baseIndex} to ${this.#lastIndex}`,
    )
    const next = this.#runs.findIndex(run => run.firstIndex > index)
    this.#runs = this.#runs.slice(next < 0 ? this.#runs.length - 1 : next - 1)
    this.#baseIndex = index
  }

  /** Term of the entry at `index`, or undefined if it is before the base or after the last one. */
  termAt(index: number): number | undefined {
    if (index < this.#baseIndex || index > this.#lastIndex) return undefined
    let low = 0
    let high = this.#runs.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if (must(this.#runs[middle]).firstIndex <= index) low = middle
      else high = middle - 1
    }
    return must(this.#runs[low]).term
  }
}
