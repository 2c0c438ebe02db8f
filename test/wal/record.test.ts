import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { crc32 } from '../../src/base/crc32.ts'
import {
  RECORD_ALIGNMENT_BYTES,
  RECORD_HEAD_SIZE_BYTES,
  RECORD_TYPES,
  type RecordHead,
  type SegmentKey,
  checksumSeed,
  createWindow,
  decodeRecordHead,
  encodeRecordHead,
  endOffset,
  recordSizeBytes,
} from '../../src/wal/record.ts'

const KEY: SegmentKey = { sequence: 3, seed: 0x1234_5678 }

type Head = Omit<RecordHead, 'offset' | 'checksum' | 'payloadSizeBytes'>

const HEAD: Head = {
  previousChecksum: 0xdead_beef,
  flushedOffset: 512,
  batch: 2 ** 40 + 5,
  type: RECORD_TYPES.normalEntry,
  isLastOfBatch: true,
}

/** A file with one record at `offset`, which is a multiple of 8. */
function fileWith(offset: number, payload: Uint8Array, head: Head = HEAD): Uint8Array {
  const bytes = new Uint8Array(offset + recordSizeBytes(payload.length) + 64)
  const view = new DataView(bytes.buffer)
  encodeRecordHead(view, offset, { ...head, payloadSizeBytes: payload.length })
  bytes.set(payload, offset + RECORD_HEAD_SIZE_BYTES)
  const end = offset + RECORD_HEAD_SIZE_BYTES + payload.length
  view.setUint32(offset, crc32(bytes, offset + 4, end, checksumSeed(KEY.seed, offset)), true)
  return bytes
}

test('a record is read as it was written', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 100 }),
      fc.nat(100),
      fc.record({
        previousChecksum: fc.integer({ min: 0, max: 0xffff_ffff }),
        flushedOffset: fc.integer({ min: 0, max: 0xffff_ffff }),
        batch: fc.integer({ min: 1, max: 2 ** 48 - 1 }),
        type: fc.constantFrom(...Object.values(RECORD_TYPES)),
        isLastOfBatch: fc.boolean(),
      }),
      (payload, place, head) => {
        const offset = place * RECORD_ALIGNMENT_BYTES
        const bytes = fileWith(offset, payload, head)

        const decoded = decodeRecordHead(createWindow(KEY, bytes, 0), offset, crc32)

        assert(decoded !== undefined)
        const { checksum, ...rest } = decoded
        assert.deepEqual(rest, { ...head, offset, payloadSizeBytes: payload.length })
        assert.equal(checksum, new DataView(bytes.buffer).getUint32(offset, true))
        assert.equal(endOffset(decoded) % RECORD_ALIGNMENT_BYTES, 0)
      },
    ),
  )
})

test('a record with any bit turned is not a record', () => {
  const bytes = fileWith(64, Uint8Array.of(1, 2, 3, 4, 5))
  const size = RECORD_HEAD_SIZE_BYTES + 5
  for (let bit = 0; bit < size * 8; bit++) {
    const damaged = bytes.slice()
    damaged[64 + (bit >> 3)] = (damaged[64 + (bit >> 3)] ?? 0) ^ (1 << (bit & 7))

    assert.equal(decodeRecordHead(createWindow(KEY, damaged, 0), 64, crc32), undefined, `${bit}`)
  }
})

test('a record is not valid at another place of the file, nor in another segment', () => {
  const bytes = fileWith(64, Uint8Array.of(1, 2, 3))
  const moved = new Uint8Array(bytes.length + 8)
  moved.set(bytes, 8)

  assert.equal(decodeRecordHead(createWindow(KEY, moved, 0), 72, crc32), undefined)
  const other = { ...KEY, seed: KEY.seed + 1 }
  assert.equal(decodeRecordHead(createWindow(other, bytes, 0), 64, crc32), undefined)
  assert(decodeRecordHead(createWindow(KEY, bytes, 0), 64, crc32) !== undefined)
})

test('a record is read from a part of the file by its place in the whole', () => {
  const bytes = fileWith(64, Uint8Array.of(1, 2, 3))

  const window = createWindow(KEY, bytes.subarray(48), 48)

  assert.equal(decodeRecordHead(window, 64, crc32)?.payloadSizeBytes, 3)
})

test('a record that ends beyond the file, and zeros, are no records', () => {
  const bytes = fileWith(0, new Uint8Array(40).fill(9))

  const cut = createWindow(KEY, bytes.subarray(0, RECORD_HEAD_SIZE_BYTES + 39), 0)
  assert.equal(decodeRecordHead(cut, 0, crc32), undefined)
  const short = createWindow(KEY, bytes.subarray(0, RECORD_HEAD_SIZE_BYTES - 1), 0)
  assert.equal(decodeRecordHead(short, 0, crc32), undefined)
  const zeros = createWindow({ sequence: 1, seed: 0 }, new Uint8Array(512), 0)
  assert.equal(decodeRecordHead(zeros, 0, crc32), undefined)
})
