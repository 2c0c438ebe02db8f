/** Latencies in a histogram of fixed memory: buckets of 2 %, so a percentile is right within that. */

const GROWTH = 1.02
const SMALLEST_MS = 0.001
const LOG_GROWTH = Math.log(GROWTH)

export interface Latencies {
  readonly count: number
  add(ms: number): void
  /** 0 if nothing was added. */
  percentile(percent: number): number
}

export function latencies(): Latencies {
  const buckets = new Uint32Array(1200)
  let count = 0
  return {
    get count() {
      return count
    },
    add(ms) {
      const at = Math.floor(Math.log(Math.max(ms, SMALLEST_MS) / SMALLEST_MS) / LOG_GROWTH)
      const bucket = Math.min(at, buckets.length - 1)
      buckets[bucket] = (buckets[bucket] ?? 0) + 1
      count += 1
    },
    percentile(percent) {
      let left = Math.max(1, Math.ceil((count * percent) / 100))
      for (const [at, inBucket] of buckets.entries()) {
        left -= inBucket
        if (left <= 0) return SMALLEST_MS * GROWTH ** (at + 1)
      }
      return 0
    },
  }
}
