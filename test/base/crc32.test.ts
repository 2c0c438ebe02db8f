import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32 as zlibCrc32 } from 'node:zlib'
import fc from 'fast-check'
import { crc32 } from '../../src/base/crc32.ts'

test('the checksum of the usual test text is the published one', () => {
  const bytes = new TextEncoder().encode('123456789')

  assert.equal(crc32(bytes, 0, bytes.length, 0), 0xcbf43926)
})

test('any part of any bytes has the checksum that zlib computes, from any seed', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.nat(300),
      fc.nat(300),
      fc.integer({ min: 0, max: 0xffff_ffff }),
      (bytes, first, second, seed) => {
        const start = Math.min(first, second, bytes.length)
        const end = Math.min(Math.max(first, second), bytes.length)

        assert.equal(crc32(bytes, start, end, seed), zlibCrc32(bytes.subarray(start, end), seed))
      },
    ),
  )
})

test('a checksum continued over a second part is that of both parts together', () => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, position) => (position * 31) & 255)

  const first = crc32(bytes, 0, 333, 0)

  assert.equal(crc32(bytes, 333, 1000, first), crc32(bytes, 0, 1000, 0))
})
