import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BUCKET_BOUNDS_MS, Histogram } from '../../src/base/histogram.ts'

/** The bounds between which the only bucket that is not empty lies. */
function place(durationMs: number): [above: number, upTo: number] {
  const histogram = new Histogram()
  histogram.observe(durationMs)
  const at = histogram.buckets.indexOf(1)
  return [BUCKET_BOUNDS_MS[at - 1] ?? -Infinity, BUCKET_BOUNDS_MS[at] ?? Infinity]
}

test('a duration falls into the one bucket whose bounds it lies between', () => {
  for (const boundMs of BUCKET_BOUNDS_MS) {
    for (const durationMs of [boundMs * 0.999, boundMs, boundMs * 1.001]) {
      const [above, upTo] = place(durationMs)
      assert(above < durationMs && durationMs <= upTo, `${durationMs} in ${above} to ${upTo}`)
    }
  }
  assert.deepEqual(place(0), [-Infinity, 0.01])
  assert.deepEqual(place(1e6), [10_000, Infinity])
})

test('each bucket is wider than the one before by about half', () => {
  assert.equal(BUCKET_BOUNDS_MS[0], 0.01)
  assert.equal(BUCKET_BOUNDS_MS.at(-1), 10_000)
  for (const [at, boundMs] of BUCKET_BOUNDS_MS.slice(1).entries()) {
    const growth = boundMs / (BUCKET_BOUNDS_MS[at] ?? 0)
    assert(growth > 1.3 && growth < 1.7, `${boundMs} is ${growth} times the last`)
  }
})

test('what happens to many at once counts for each of them', () => {
  const histogram = new Histogram()
  histogram.observe(2, 3)
  histogram.observe(4)
  assert.equal(histogram.count, 4)
  assert.equal(histogram.sumMs, 10)
  assert.equal(
    histogram.buckets.reduce((sum, count) => sum + count),
    4,
  )
})
