/** The window of messages under way: its two limits and what an acknowledgement frees. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Inflights } from '../../src/raft/inflights.ts'
import { NO_LIMIT } from '../../src/raft/types.ts'

test('a window is full when it holds as many messages as it may', () => {
  const window = new Inflights(3, NO_LIMIT)

  window.add(1, 100)
  window.add(2, 100)
  assert.equal(window.isFull, false)
  window.add(3, 100)

  assert.equal(window.isFull, true)
  assert.equal(window.count, 3)
  assert.throws(() => window.add(4, 100), /full window/)
})

test('a window is full when its bytes reach the limit, which one message may pass', () => {
  const window = new Inflights(10, 100)

  window.add(1, 99)
  assert.equal(window.isFull, false)
  window.add(2, 500)

  assert.equal(window.isFull, true)
  assert.equal(window.count, 2)
})

test('an acknowledgement frees every message up to its index, with its bytes', () => {
  const window = new Inflights(10, 100)
  for (const index of [2, 5, 9]) window.add(index, 40)
  assert.equal(window.isFull, true)

  window.freeUpTo(1)
  assert.equal(window.count, 3)
  window.freeUpTo(5)
  assert.equal(window.count, 1)
  assert.equal(window.isFull, false)
  // Freed bytes are really free: two more fit, a leak would make the first one the last.
  window.add(10, 40)
  assert.equal(window.isFull, false)
  window.add(11, 40)
  assert.equal(window.isFull, true)

  window.freeUpTo(100)
  assert.equal(window.count, 0)
})

test('a window stays exact over thousands of messages', () => {
  const window = new Inflights(8, 64)
  for (let index = 1; index <= 5000; index++) {
    window.add(index, 10)
    if (index % 3 === 0) window.freeUpTo(index - 1)
    assert.equal(window.count, index % 3 === 0 ? 1 : (index % 3) + (index > 2 ? 1 : 0))
  }
  window.freeUpTo(5000)
  for (let index = 0; index < 6; index++) window.add(6000 + index, 10)
  assert.equal(window.isFull, false)
  window.add(6006, 10)
  assert.equal(window.isFull, true)
})

test('a cleared window is as good as new', () => {
  const window = new Inflights(2, 10)
  window.add(7, 10)
  window.clear()

  assert.equal(window.count, 0)
  assert.equal(window.isFull, false)
  window.add(3, 10)
  assert.equal(window.isFull, true)
})

test('indexes must come in order', () => {
  const window = new Inflights(5, NO_LIMIT)
  window.add(7, 1)
  assert.throws(() => window.add(6, 1), /index 6 after 7/)
})
