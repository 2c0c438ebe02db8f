/**
 * How long things took, as counts in fixed buckets: nothing is allocated when something is
 * measured, and two readings can be subtracted from each other. The buckets grow by about half
 * each, so that a percentile read from them is off by a fifth at most.
 */

const MICROSECONDS_PER_DECADE = [1, 1.5, 2, 3, 5, 7]
const DECADES_FROM_US = 10
const DECADES = 6

/** The upper bounds of the buckets, from 10 µs to 10 s; what took longer is in one more. */
export const BUCKET_BOUNDS_MS: readonly number[] = bounds()

export class Histogram {
  /** How many fell into each bucket, and not into those before it. */
  readonly buckets: Float64Array = new Float64Array(BUCKET_BOUNDS_MS.length + 1)
  #count = 0
  #sumMs = 0

  get count(): number {
    return this.#count
  }

  get sumMs(): number {
    return this.#sumMs
  }

  /** Something took so long; or `times` things did, each. */
  observe(durationMs: number, times = 1): void {
    const at = bucketOf(durationMs)
    this.buckets[at] = (this.buckets[at] ?? 0) + times
    this.#count += times
    this.#sumMs += durationMs * times
  }
}

/** The first bucket whose bound is not below the duration. */
function bucketOf(durationMs: number): number {
  let low = 0
  let high = BUCKET_BOUNDS_MS.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (durationMs <= (BUCKET_BOUNDS_MS[middle] ?? Infinity)) high = middle
    else low = middle + 1
  }
  return low
}

function bounds(): number[] {
  const list: number[] = []
  for (let decade = 0; decade < DECADES; decade += 1) {
    const fromUs = DECADES_FROM_US * 10 ** decade
    for (const step of MICROSECONDS_PER_DECADE) list.push((step * fromUs) / 1000)
  }
  list.push((DECADES_FROM_US * 10 ** DECADES) / 1000)
  return list
}
