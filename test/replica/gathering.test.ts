import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Gathering } from '../../src/replica/gathering.ts'
import { ManualClock } from './doubles.ts'

class Bench {
  readonly clock = new ManualClock()
  waitsOver = 0
  readonly gathering = new Gathering(this.clock, () => (this.waitsOver += 1))

  /** A batch of `count` requests is answered after `tookMs`. */
  answer(count: number, tookMs: number): void {
    const startedMs = this.clock.nowMs
    this.clock.pass(tookMs)
    this.gathering.committed(count)
    this.gathering.answered(startedMs)
  }

  arrive(count: number): void {
    for (let left = count; left > 0; left -= 1) this.gathering.arrived()
  }

  /** Whether the next batch, of requests that are there, had to wait; nobody else comes. */
  waitsInVain(): boolean {
    this.answer(8, 2)
    const isHeld = this.gathering.holds(1)
    this.clock.pass(5)
    assert.equal(this.gathering.holds(1), false)
    this.gathering.began()
    return isHeld
  }
}

test('from its commit to its answers, and until as many have come, the batch before is waited for', () => {
  const { gathering, clock } = new Bench()
  assert.equal(gathering.holds(1), false)
  gathering.began()
  clock.pass(3)

  gathering.committed(3)
  assert.equal(gathering.holds(2), true)
  clock.pass(10_000)
  assert.equal(gathering.holds(2), true)

  gathering.answered(clock.nowMs - 3)
  for (const waiting of [3, 4]) {
    gathering.arrived()
    assert.equal(gathering.holds(waiting), true)
  }
  gathering.arrived()
  assert.equal(gathering.holds(5), false)
})

test('the wait takes as long as the batch took, and never more than four milliseconds', () => {
  for (const [tookMs, waitMs] of [
    [1, 1],
    [3, 3],
    [500, 4],
  ] as const) {
    const bench = new Bench()
    bench.answer(2, tookMs)
    assert.equal(bench.gathering.holds(1), true)
    bench.clock.pass(waitMs - 0.1)
    assert.equal(bench.gathering.holds(1), true)
    assert.equal(bench.waitsOver, 0)
    bench.clock.pass(0.2)
    assert.equal(bench.gathering.holds(1), false)
    assert.equal(bench.waitsOver, 1, 'whoever waits is told once')
  }
})

test('where 64 wait already, nobody else is waited for', () => {
  const bench = new Bench()
  bench.answer(100, 6)
  assert.equal(bench.gathering.holds(63), true)
  assert.equal(bench.gathering.holds(64), false)
})

test('a second wait in vain is not repeated for 1, 2, 4, … 64 batches', () => {
  const bench = new Bench()
  const waited: number[] = []
  for (let batch = 0; batch < 300; batch += 1) if (bench.waitsInVain()) waited.push(batch)
  assert.deepEqual(waited, [0, 1, 3, 6, 11, 20, 37, 70, 135, 200, 265])
})

test('one wait that was worth it takes all the caution back', () => {
  const bench = new Bench()
  for (let batch = 0; batch < 265; batch += 1) bench.waitsInVain()
  bench.answer(8, 2)
  // Three quarters of them are enough: somebody always ends.
  bench.arrive(6)
  assert.equal(bench.gathering.holds(6), true)
  bench.clock.pass(5)
  bench.gathering.began()

  const waited: number[] = []
  for (let batch = 0; batch < 10; batch += 1) if (bench.waitsInVain()) waited.push(batch)
  assert.deepEqual(waited, [0, 1, 3, 6])
})

test('a batch that began without a wait, since nobody was there, is no wait in vain', () => {
  const bench = new Bench()
  for (const _ of [1, 2]) {
    bench.answer(1, 2)
    bench.clock.pass(1000)
    bench.arrive(1)
    bench.gathering.began()
  }
  bench.answer(4, 2)
  assert.equal(bench.gathering.holds(1), true)
})

test('a batch that follows a commit at once, since many were there, is no wait in vain', () => {
  const bench = new Bench()
  bench.answer(64, 2)
  bench.arrive(64)
  bench.gathering.began()
  bench.clock.pass(10)
  for (const _ of [1, 2]) {
    bench.gathering.committed(64)
    assert.equal(bench.gathering.holds(64), false)
    bench.gathering.began()
    bench.gathering.answered(bench.clock.nowMs - 2)
    bench.clock.pass(10)
  }
  bench.answer(4, 2)
  assert.equal(bench.gathering.holds(1), true)
})

test('after a stop nobody is waited for, and nobody is told', () => {
  const bench = new Bench()
  bench.answer(2, 6)
  assert.equal(bench.gathering.holds(1), true)
  bench.gathering.stop()
  assert.equal(bench.gathering.holds(1), false)
  bench.clock.pass(10)
  assert.equal(bench.waitsOver, 0)
})
