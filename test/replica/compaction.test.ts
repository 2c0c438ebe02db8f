/** How far a log may be forgotten. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compactionTarget } from '../../src/replica/compaction.ts'

const MAX = 1000

test('a small log keeps what a member lacks, and what the engine does not hold', () => {
  const status = { firstIndex: 1, lastIndex: 100, sizeBytes: MAX }
  const held = { durableIndex: 80, floor: 30 }
  assert.deepEqual(compactionTarget(status, held, MAX), { upTo: 30, isHeldByEngine: false })
  assert.equal(compactionTarget(status, { durableIndex: 20, floor: 30 }, MAX).upTo, 20)
})

test('a large log waits for nobody else, and half of it stays', () => {
  const status = { firstIndex: 101, lastIndex: 300, sizeBytes: MAX + 1 }
  const held = { durableIndex: 290, floor: 0 }
  assert.deepEqual(compactionTarget(status, held, MAX), { upTo: 200, isHeldByEngine: false })
  // Who is not that far behind is spared all the same.
  assert.equal(compactionTarget(status, { durableIndex: 290, floor: 250 }, MAX).upTo, 250)
})

test('never is forgotten what the engine could lose; it is asked to make that durable', () => {
  const status = { firstIndex: 101, lastIndex: 300, sizeBytes: MAX + 1 }
  const target = compactionTarget(status, { durableIndex: 120, floor: 300 }, MAX)
  assert.deepEqual(target, { upTo: 120, isHeldByEngine: true })
})
