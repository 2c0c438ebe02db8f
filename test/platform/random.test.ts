import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SystemRandom } from '../../src/platform/random.ts'

test('below gives whole numbers under its bound, up to the largest bound', () => {
  const random = new SystemRandom()
  const seen = new Set(Array.from({ length: 300 }, () => random.below(3)))

  assert.deepEqual(seen, new Set([0, 1, 2]))
  assert.equal(random.below(1), 0)
  const large = Array.from({ length: 100 }, () => random.below(2 ** 32))
  assert(large.every(number => Number.isInteger(number) && number >= 0 && number < 2 ** 32))
  assert(large.some(number => number > 2 ** 31))
})

test('bytes are as many as asked for and not the same twice', () => {
  const random = new SystemRandom()

  assert.equal(random.bytes(32).length, 32)
  assert.notDeepEqual(random.bytes(32), random.bytes(32))
})
