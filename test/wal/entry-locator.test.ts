import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SimRandom } from '../../sim/sim-random.ts'
import { EntryLocator } from '../../src/wal/entry-locator.ts'
import type { SegmentKey } from '../../src/wal/record.ts'

interface Place {
  readonly segment: SegmentKey
  readonly offset: number
  readonly dataSizeBytes: number
}

test('places are those of a plain list, whatever is appended, truncated and compacted', () => {
  for (let seed = 1; seed <= 30; seed++) {
    const random = new SimRandom(seed, 'places')
    const locator = new EntryLocator()
    let places = new Map<number, Place>()
    let segment: SegmentKey = { sequence: 1, seed: 0 }
    let next = 1
    let base = 0
    for (let step = 0; step < 300; step++) {
      const roll = random.below(20)
      if (roll < 15) {
        if (random.chance(0.05)) segment = { sequence: segment.sequence + 1, seed: random.next() }
        const place = { segment, offset: random.below(2 ** 32), dataSizeBytes: random.below(5000) }
        locator.append(next, segment, place.offset, place.dataSizeBytes)
        places.set(next++, place)
      } else if (roll < 18) {
        next = random.between(base + 1, next)
        locator.truncate(next)
        places = new Map([...places].filter(([index]) => index < next))
      } else {
        base = random.between(base, next - 1)
        locator.compact(base)
        places = new Map([...places].filter(([index]) => index > base))
      }
      for (const [index, place] of places) {
        const { count, ...found } = locator.place(index)
        assert.deepEqual(found, place, `seed ${seed}, entry ${index}`)
        const after = places.get(index + count - 1)
        assert.equal(after?.segment, place.segment, 'a run that leaves its segment')
      }
      const first = places.get(base + 1)
      if (first !== undefined) assert.equal(locator.oldestSegment, first.segment.sequence)
    }
  }
})

test('an entry without a place, and a gap between places, are bugs', () => {
  const locator = new EntryLocator()
  const segment = { sequence: 1, seed: 0 }
  locator.append(5, segment, 512, 10)

  assert.throws(() => locator.append(7, segment, 600, 10), /place of 7 after 6/)
  assert.throws(() => locator.place(4), /place of entry 4/)
  assert.throws(() => locator.place(6), /place of entry 6/)
  locator.clear()
  assert.equal(locator.firstIndex, undefined)
  assert.equal(locator.oldestSegment, undefined)
})
