import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SimRandom } from '../../sim/sim-random.ts'
import { TermRuns } from '../../src/wal/term-runs.ts'

test('terms are those of a plain list, whatever is appended, truncated and compacted', () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = new SimRandom(seed, 'terms')
    const runs = new TermRuns(10, 3)
    let terms = new Map([[10, 3]])
    let base = 10
    for (let step = 0; step < 200; step++) {
      const last = Math.max(...terms.keys())
      const roll = random.below(10)
      if (roll < 7) {
        const term = (terms.get(last) ?? 0) + (random.chance(0.2) ? random.between(1, 3) : 0)
        runs.append(last + 1, term)
        terms.set(last + 1, term)
      } else if (roll < 9 && last > base) {
        const from = random.between(base + 1, last)
        runs.truncate(from)
        terms = new Map([...terms].filter(([index]) => index < from))
      } else {
        base = random.between(base, last)
        runs.compact(base)
        terms = new Map([...terms].filter(([index]) => index >= base))
      }
      const end = Math.max(...terms.keys())
      assert.equal(runs.lastIndex, end)
      assert.equal(runs.baseIndex, base)
      for (let index = base - 2; index <= end + 2; index++) {
        assert.equal(runs.termAt(index), terms.get(index), `seed ${seed}, entry ${index}`)
      }
    }
  }
})

test('a gap, a term that falls, and a change of the base are bugs', () => {
  const runs = new TermRuns(10, 3)
  runs.append(11, 5)

  assert.throws(() => runs.append(13, 5), /AssertionError|entry 13 after 11/)
  assert.throws(() => runs.append(12, 4), /entry 12 of term 4 after term 5/)
  assert.throws(() => runs.truncate(10), /truncation from 10, base 10/)
  assert.throws(() => runs.compact(12), /base 12 out of 10 to 11/)
})
