import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WritePlace } from '../../src/platform/write-place.ts'

const FAST_MS = 0.1
const SLOW_MS = 2
const STALL_MS = 300

/** Writes that each take so long when they are done in place: how many were. */
function write(place: WritePlace, count: number, durationMs: number): number {
  let here = 0
  for (let each = 0; each < count; each += 1) {
    if (!place.isHere(1000)) continue
    here += 1
    place.took(durationMs)
  }
  return here
}

test('on a fast disk all writes are done in place, but for large ones', () => {
  const place = new WritePlace()
  assert.equal(write(place, 10_000, FAST_MS), 10_000)
  assert.equal(place.isHere(1_000_000), false)
})

test('slow writes change nothing as long as a third is fast', () => {
  const place = new WritePlace()
  for (let each = 0; each < 1000; each += 1) {
    assert.equal(write(place, 2, SLOW_MS), 2)
    assert.equal(write(place, 1, FAST_MS), 1)
  }
})

test('a slow disk is tried ever more rarely', () => {
  const place = new WritePlace()
  assert.equal(write(place, 16, SLOW_MS), 16)
  // After 64, 256 and 1024 writes by threads, one each.
  assert.equal(write(place, 64 + 1 + 256 + 1 + 1024 + 1, SLOW_MS), 3)
  assert.equal(write(place, 40_000, SLOW_MS), 3)
})

test('a disk that stalls holds the process up once, and is trusted again if it was fast for long', () => {
  const place = new WritePlace()
  assert.equal(write(place, 1, STALL_MS), 1)
  assert.equal(write(place, 64, STALL_MS), 0)
  assert.equal(write(place, 1, STALL_MS), 1)
  assert.equal(write(place, 256, STALL_MS), 0)
  assert.equal(write(place, 10_000, FAST_MS), 10_000)
  assert.equal(write(place, 1, STALL_MS), 1)
  assert.equal(write(place, 65, FAST_MS), 1)
})
