import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32 } from '../../src/base/crc32.ts'
import { decodeMark, encodeMark } from '../../src/wal/flush-mark.ts'

const KEY = { sequence: 4, seed: 0xabcd_ef01 }

/** A segment with this mark at 512. */
function segmentWith(mark: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(1024)
  bytes.set(mark, 512)
  return bytes
}

test('a mark is read as it was written', () => {
  for (const flushedOffset of [1, 1024, 16_777_216, 0xffff_fff8]) {
    const bytes = segmentWith(encodeMark(KEY, 512, flushedOffset, crc32))

    assert.equal(decodeMark(KEY, bytes, 512, crc32), flushedOffset)
  }
})

test('a mark with any bit turned, one of another segment, and zeros say nothing', () => {
  const bytes = segmentWith(encodeMark(KEY, 512, 4096, crc32))
  for (let bit = 0; bit < 64; bit++) {
    const damaged = bytes.slice()
    damaged[512 + (bit >> 3)] = (damaged[512 + (bit >> 3)] ?? 0) ^ (1 << (bit & 7))

    assert.equal(decodeMark(KEY, damaged, 512, crc32), 0)
  }
  assert.equal(decodeMark({ ...KEY, seed: 1 }, bytes, 512, crc32), 0)
  assert.equal(decodeMark(KEY, new Uint8Array(1024), 512, crc32), 0)
  assert.equal(decodeMark(KEY, bytes.subarray(0, 515), 512, crc32), 0)
})
