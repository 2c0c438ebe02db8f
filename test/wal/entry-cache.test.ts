import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SimRandom } from '../../sim/sim-random.ts'
import { entriesSizeBytes } from '../../src/raft/entries.ts'
import type { Entry } from '../../src/raft/types.ts'
import { EntryCache } from '../../src/wal/entry-cache.ts'

function entryOf(index: number, sizeBytes: number): Entry {
  return { term: 1, index, type: 'normal', data: new Uint8Array(sizeBytes) }
}

test('the cache is a window of the log, and its size is that of its entries', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = new SimRandom(seed, 'cache')
    const cache = new EntryCache(0, 500)
    let window: Entry[] = []
    for (let step = 0; step < 3000; step++) {
      const roll = random.below(100)
      if (roll < 80) {
        const entry = entryOf(cache.endIndex, random.below(100))
        cache.push(entry)
        window.push(entry)
      } else if (roll < 85) {
        const from = random.between(Math.max(1, cache.firstIndex - 5), cache.endIndex)
        cache.truncate(from)
        window = window.filter(entry => entry.index < from)
      } else if (roll < 97) {
        const written = random.between(cache.firstIndex - 1, cache.endIndex - 1)
        cache.evict(written)
        while (entriesSizeBytes(window) > 500 && (window[0]?.index ?? Infinity) <= written) {
          window.shift()
        }
      } else {
        const upTo = random.between(cache.firstIndex - 1, cache.endIndex + 3)
        cache.compact(upTo)
        window = window.filter(entry => entry.index > upTo)
      }
      assert.equal(cache.sizeBytes, entriesSizeBytes(window))
      assert.equal(cache.endIndex - cache.firstIndex, window.length)
      for (const entry of window) assert.equal(cache.get(entry.index), entry)
      assert.equal(window[0]?.index ?? cache.firstIndex, cache.firstIndex)
    }
  }
})

test('what is not written stays, however large it is', () => {
  const cache = new EntryCache(0, 100)
  for (let index = 1; index <= 10; index++) cache.push(entryOf(index, 1000))

  cache.evict(4)

  assert.equal(cache.firstIndex, 5)
  assert.throws(() => cache.get(4), /cached entry 4/)
})

test('a truncation before the window leaves an empty one that begins there', () => {
  const cache = new EntryCache(9, 100)
  cache.push(entryOf(10, 5))

  cache.truncate(7)

  assert.equal(cache.firstIndex, 7)
  cache.push(entryOf(7, 5))
  assert.equal(cache.get(7).index, 7)
  assert.throws(() => cache.push(entryOf(9, 5)), /entry 9 cached after 7/)
})
