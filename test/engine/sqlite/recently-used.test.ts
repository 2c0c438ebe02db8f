import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RecentlyUsed } from '../../../src/engine/sqlite/recently-used.ts'

function keys(used: RecentlyUsed<string, number>): readonly string[] {
  return [...used.entries()].map(([key]) => key)
}

test('the longest unused comes first, and a look is no use', () => {
  const used = new RecentlyUsed<string, number>()
  for (const [value, key] of ['a', 'b', 'c'].entries()) used.add(key, value)
  assert.deepEqual(keys(used), ['a', 'b', 'c'])
  assert.equal(used.use('a'), 0)
  assert.equal(used.peek('b'), 1)
  assert.deepEqual(keys(used), ['b', 'c', 'a'])
  assert.equal(used.use('a'), 0)
  assert.equal(used.use('b'), 1)
  assert.deepEqual(keys(used), ['c', 'a', 'b'])
  assert.equal(used.use('x'), undefined)
})

test('what was deleted is not found, the one used last neither', () => {
  const used = new RecentlyUsed<string, number>()
  used.add('a', 1)
  used.delete('a')
  assert.equal(used.use('a'), undefined)
  used.add('a', 2)
  used.add('b', 3)
  used.delete('a')
  assert.equal(used.use('b'), 3)
  assert.equal(used.size, 1)
  used.clear()
  assert.equal(used.use('b'), undefined)
  assert.equal(used.size, 0)
})

test('what is deleted on the way through is passed once, and the others too', () => {
  const used = new RecentlyUsed<string, number>()
  for (const [value, key] of ['a', 'b', 'c', 'd'].entries()) used.add(key, value)
  const seen: string[] = []
  for (const [key] of used.entries()) {
    seen.push(key)
    if (key !== 'c') used.delete(key)
  }
  assert.deepEqual(seen, ['a', 'b', 'c', 'd'])
  assert.deepEqual(keys(used), ['c'])
})
