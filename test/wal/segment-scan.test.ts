import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32 } from '../../src/base/crc32.ts'
import {
  RECORD_HEAD_SIZE_BYTES,
  RECORD_TYPES,
  type SegmentKey,
  checksumSeed,
  createWindow,
  encodeRecordHead,
} from '../../src/wal/record.ts'
import { type Scan, findFlushedRecord, scanBatches } from '../../src/wal/segment-scan.ts'

const KEY: SegmentKey = { sequence: 1, seed: 99 }
/** Of one record here: a head and 8 bytes of payload. */
const SIZE = RECORD_HEAD_SIZE_BYTES + 8

interface Sketch {
  readonly batch: number
  readonly isLast?: boolean
  readonly flushedOffset?: number
  /** Instead of the checksum of the record before. */
  readonly previous?: number
}

/** A file of records one after another. */
function fileOf(sketches: readonly Sketch[], freeBytes = 128): Uint8Array {
  const bytes = new Uint8Array(sketches.length * SIZE + freeBytes)
  const view = new DataView(bytes.buffer)
  let previousChecksum = KEY.seed
  for (const [
    position,
    { batch, isLast = true, flushedOffset = 0, previous },
  ] of sketches.entries()) {
    const offset = position * SIZE
    encodeRecordHead(view, offset, {
      payloadSizeBytes: 8,
      previousChecksum: previous ?? previousChecksum,
      flushedOffset,
      batch,
      type: RECORD_TYPES.truncate,
      isLastOfBatch: isLast,
    })
    bytes.fill(position + 1, offset + RECORD_HEAD_SIZE_BYTES, offset + SIZE)
    const seed = checksumSeed(KEY.seed, offset)
    previousChecksum = crc32(bytes, offset + 4, offset + SIZE, seed)
    view.setUint32(offset, previousChecksum, true)
  }
  return bytes
}

function scan(bytes: Uint8Array): Scan & { readonly sizes: readonly number[] } {
  const sizes: number[] = []
  const result = scanBatches(createWindow(KEY, bytes, 0), 0, 0, crc32, batch => {
    sizes.push(batch.records.length)
  })
  return { ...result, sizes }
}

test('batches are found up to the zeros after them', () => {
  const { sizes, endOffset, stopOffset, lastBatch } = scan(
    fileOf([{ batch: 1 }, { batch: 2, isLast: false }, { batch: 2 }, { batch: 3 }]),
  )

  assert.deepEqual(sizes, [1, 2, 1])
  assert.deepEqual([endOffset, stopOffset, lastBatch], [4 * SIZE, 4 * SIZE, 3])
})

test('a batch without its last record is not found, and the end lies before it', () => {
  const { sizes, endOffset, stopOffset } = scan(
    fileOf([{ batch: 1 }, { batch: 2, isLast: false }, { batch: 2, isLast: false }]),
  )

  assert.deepEqual(sizes, [1])
  assert.deepEqual([endOffset, stopOffset], [SIZE, 3 * SIZE])
})

test('a valid record that does not continue the one before it ends the log', () => {
  const stranger = scan(fileOf([{ batch: 1 }, { batch: 2, previous: 12345 }]))
  assert.deepEqual([stranger.sizes, stranger.endOffset], [[1], SIZE])

  const skipped = scan(fileOf([{ batch: 1 }, { batch: 3 }]))
  assert.deepEqual([skipped.sizes, skipped.endOffset], [[1], SIZE])

  const repeated = scan(fileOf([{ batch: 1 }, { batch: 1 }]))
  assert.deepEqual([repeated.sizes, repeated.endOffset], [[1], SIZE])
})

test('a record that was written after a flush of the place is its witness', () => {
  const bytes = fileOf([
    { batch: 1 },
    { batch: 2 },
    { batch: 3, flushedOffset: 2 * SIZE },
    { batch: 4, flushedOffset: 2 * SIZE },
  ])
  bytes[SIZE + 4] = 200

  const window = createWindow(KEY, bytes, 0)

  assert.equal(scan(bytes).endOffset, SIZE)
  assert.equal(findFlushedRecord(window, scan(bytes), crc32), 2 * SIZE)
})

test('records that were written before the place was flushed are no witnesses', () => {
  const bytes = fileOf([
    { batch: 1 },
    { batch: 2, flushedOffset: SIZE },
    { batch: 3, flushedOffset: SIZE },
  ])
  bytes[SIZE + 4] = 200

  assert.equal(findFlushedRecord(createWindow(KEY, bytes, 0), scan(bytes), crc32), undefined)
})

test('a witness is found behind zeros, and where lengths lead nowhere', () => {
  const bytes = fileOf([
    { batch: 1 },
    { batch: 2, flushedOffset: SIZE },
    { batch: 3, flushedOffset: 2 * SIZE },
  ])
  bytes.fill(0, SIZE, 2 * SIZE)

  assert.equal(findFlushedRecord(createWindow(KEY, bytes, 0), scan(bytes), crc32), 2 * SIZE)
})

test('a claim about bytes after itself is no witness', () => {
  const bytes = fileOf([{ batch: 1 }, { batch: 2, flushedOffset: 9 * SIZE }])
  const scan = { endOffset: 0, lastBatch: 0 }

  assert.equal(findFlushedRecord(createWindow(KEY, bytes, 0), scan, crc32), undefined)
})

test('data full of what looks like heads does not make the search slow', () => {
  const bytes = new Uint8Array(4 << 20)
  const view = new DataView(bytes.buffer)
  // Each place claims to be a record that reaches to the end of the file.
  for (let place = 0; place + 24 <= bytes.length; place += 24) {
    view.setUint32(place + 4, bytes.length - place - RECORD_HEAD_SIZE_BYTES, true)
    view.setUint32(place + 12, 8, true)
    view.setUint32(place + 16, 1_000_000, true)
    view.setUint16(place + 22, 1, true)
  }
  let checkedBytes = 0

  const found = findFlushedRecord(
    createWindow(KEY, bytes, 0),
    { endOffset: 0, lastBatch: 7 },
    (some, start, end, seed) => {
      checkedBytes += end - start
      return crc32(some, start, Math.min(end, start + 8), seed)
    },
  )

  assert.equal(found, undefined)
  assert.equal(checkedBytes, 0)
})
