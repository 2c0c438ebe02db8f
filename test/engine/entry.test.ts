import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  decodeEntry,
  encodeDigestPoint,
  EntryBuilder,
  isDigestPoint,
} from '../../src/engine/entry.ts'
import { decodeRequest, encodeRequest } from '../../src/engine/request.ts'
import { writeRequest } from './arbitraries.ts'

const plain = { noNullPrototype: true }
const half = fc.integer({ min: 0, max: 2 ** 32 - 1 })
const rowId = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
const outcome = fc.record(
  {
    rowsAffected: fc.maxSafeNat(),
    lastInsertId: fc.option(rowId, { nil: undefined }),
    rowsDigest: fc.option(fc.record({ low: half, high: half }, plain), { nil: undefined }),
  },
  plain,
)
const requests = fc.array(
  fc.record({ request: writeRequest, outcomes: fc.array(outcome, { maxLength: 4 }) }),
  { maxLength: 8 },
)

test('an entry survives its way through bytes, and its builder can be used again', () => {
  const builder = new EntryBuilder()
  fc.assert(
    fc.property(
      fc.maxSafeNat(),
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      requests,
      (nowMs, seed, items) => {
        builder.begin(nowMs, seed)
        for (const item of items) builder.add(encodeRequest(item.request), item.outcomes)
        assert.equal(builder.count, items.length)
        const entry = decodeEntry(builder.finish())

        assert.equal(entry.nowMs, nowMs)
        assert.deepEqual(entry.seed, seed)
        const expected = items.map(({ request, outcomes }) => {
          const bytes = encodeRequest(request)
          return { request: decodeRequest(bytes), bytes, outcomes }
        })
        assert.deepEqual(entry.requests, expected)
      },
    ),
  )
})

test('an entry that was cut, has a tail or is of a newer version is corrupt', () => {
  const builder = new EntryBuilder()
  builder.begin(1, new Uint8Array(16))
  builder.add(encodeRequest({ type: 'drop-database', database: 'd' }), [
    { rowsAffected: 3, lastInsertId: 4n, rowsDigest: { low: 1, high: 2 } },
  ])
  const bytes = builder.finish()

  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decodeEntry(bytes.subarray(0, length)), { code: 'CORRUPT' })
  }
  assert.throws(() => decodeEntry(new Uint8Array([...bytes, 0])), { code: 'CORRUPT' })
  bytes[0] = 9
  assert.throws(() => decodeEntry(bytes), { code: 'WRONG_DATA', message: /newer release/ })
})

test('a digest point is told from all other entries, and is an entry that changes nothing', () => {
  const builder = new EntryBuilder()
  for (const nowMs of [0, 127, 128, 1_763_700_000_000, Number.MAX_SAFE_INTEGER]) {
    const point = encodeDigestPoint(nowMs)
    assert(isDigestPoint(point))
    const { requests: none, ...rest } = decodeEntry(point)
    assert.deepEqual([none, rest], [[], { nowMs, seed: new Uint8Array(16) }])
    for (let length = 0; length < point.length; length++) {
      assert(!isDigestPoint(point.subarray(0, length)))
    }
    assert(!isDigestPoint(new Uint8Array([...point, 0])))
    assert(!isDigestPoint(new Uint8Array([9, ...point.subarray(1)])))

    builder.begin(nowMs, new Uint8Array(16))
    builder.add(encodeRequest({ type: 'drop-database', database: '' }), [])
    assert(!isDigestPoint(builder.finish()))
  }
  assert(!isDigestPoint(new Uint8Array(26).fill(255)))
})
