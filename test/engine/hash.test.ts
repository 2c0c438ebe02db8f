import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { SqlValue } from '../../src/base/sql.ts'
import { formatDigest, RowHash } from '../../src/engine/hash.ts'
import { sqlValue } from './arbitraries.ts'

function digest(...rows: (readonly SqlValue[])[]): string {
  const hash = new RowHash()
  hash.reset()
  for (const row of rows) hash.row(row)
  return formatDigest(hash.digest())
}

test('the digest of known rows never changes, because old entries carry it', () => {
  assert.equal(digest(), '45fd8b6528fd05c7')
  assert.equal(digest([1n, 2.5, 'three', new Uint8Array([4]), null]), '5400a84fc59089a5')
})

test('what differs in value, type, order or row has another digest', () => {
  const variants: (readonly SqlValue[])[][] = [
    [[1n]],
    [[1]],
    [['1']],
    [[new Uint8Array([49])]],
    [[null]],
    [[]],
    [[1n], [2n]],
    [[2n], [1n]],
    [[1n, 2n]],
    [['ab', 'c']],
    [['a', 'bc']],
    [['abc']],
    [[0]],
    [[-0]],
    [[-1, -2]],
    [[1, 2]],
    [[-1, 2]],
    [[new Uint8Array(3)]],
    [[new Uint8Array(4)]],
    [['\0\0\0']],
  ]
  const seen = new Set(variants.map(rows => digest(...rows)))
  assert.equal(seen.size, variants.length)
})

test('one changed bit changes the digest', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), fc.nat(), (bytes, at) => {
      const other = bytes.slice()
      const index = Math.floor(at / 8) % bytes.length
      other[index] = (other[index] ?? 0) ^ (1 << (at % 8))
      assert.notEqual(digest([bytes]), digest([other]))
    }),
  )
})

test("rows that a hundred thousand values make don't meet in one digest", () => {
  const seen = new Set<string>()
  for (let i = 0; i < 50_000; i++) {
    seen.add(digest([BigInt(i)]))
    seen.add(digest([`row ${i}`, i / 7]))
  }
  assert.equal(seen.size, 100_000)
})

test('a digest depends on nothing but the values', () => {
  fc.assert(
    fc.property(fc.array(fc.array(sqlValue, { maxLength: 5 }), { maxLength: 5 }), rows => {
      assert.equal(digest(...rows), digest(...structuredClone(rows)))
    }),
  )
})
