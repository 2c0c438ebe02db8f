import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SimRandom } from '../../sim/sim-random.ts'
import { must } from '../../src/base/assert.ts'
import { crc32 } from '../../src/base/crc32.ts'
import type { Entry } from '../../src/raft/types.ts'
import { BatchEncoder, type EncodedBatch, measureBatch } from '../../src/wal/batch-encoder.ts'
import { EntryLocator } from '../../src/wal/entry-locator.ts'
import type { Operation } from '../../src/wal/operation.ts'
import { RECORD_TYPES, type SegmentKey, createWindow } from '../../src/wal/record.ts'
import { type ScannedBatch, scanBatches } from '../../src/wal/segment-scan.ts'
import { createEntry, stored, voters } from './model.ts'

const KEY: SegmentKey = { sequence: 1, seed: 77 }

function operationOf(parts: Partial<Operation>): Operation {
  return { entries: [], mustSync: true, validIndex: 0, done: () => undefined, ...parts }
}

/** Encodes batches one after another, as a file from offset 0 on. */
function encodeFile(batches: readonly (readonly Operation[])[]): {
  readonly file: Uint8Array
  readonly encoded: readonly EncodedBatch[]
  readonly locator: EntryLocator
} {
  const locator = new EntryLocator()
  const encoder = new BatchEncoder(crc32, locator)
  const encoded: EncodedBatch[] = []
  const file: number[] = []
  let previousChecksum = KEY.seed
  for (const [position, operations] of batches.entries()) {
    const place = { segment: KEY, offset: file.length, previousChecksum, flushedOffset: 0 }
    const size = measureBatch(operations)
    const batch = encoder.encode(operations, size, { ...place, batch: position + 1 })
    assert.equal(batch.sizeBytes, size.sizeBytes)
    for (const byte of Buffer.concat(batch.chunks)) file.push(byte)
    previousChecksum = batch.lastChecksum
    encoded.push(batch)
  }
  return { file: Uint8Array.from(file), encoded, locator }
}

function scan(file: Uint8Array): readonly ScannedBatch[] {
  const found: ScannedBatch[] = []
  const result = scanBatches(createWindow(KEY, file, 0), 0, 0, crc32, batch => found.push(batch))
  assert.equal(result.endOffset, file.length)
  return found
}

test('what was encoded is found again, record by record, in whole batches', () => {
  const random = new SimRandom(1, 'encoder')
  const entries = Array.from({ length: 40 }, (_, position) => createEntry(2, 5 + position, random))
  const base = { index: 4, term: 1, ...stored(voters(1, 2)) }
  const { file } = encodeFile([
    [operationOf({ reset: base })],
    [
      operationOf({ entries: entries.slice(0, 30) }),
      operationOf({ hardState: { term: 2, vote: 1, commit: 9 } }),
    ],
    [operationOf({ truncateFrom: 35, entries: entries.slice(30), base: { ...base, index: 10 } })],
  ])

  const types = scan(file).map(batch => batch.records.map(record => record.type))

  const { reset, hardState, truncate, base: baseType, configEntry, normalEntry } = RECORD_TYPES
  const typesOf = (some: readonly Entry[]): readonly number[] =>
    some.map(entry => (entry.type === 'config' ? configEntry : normalEntry))
  assert.deepEqual(types, [
    [reset],
    [...typesOf(entries.slice(0, 30)), hardState],
    [truncate, ...typesOf(entries.slice(30)), baseType],
  ])
})

test('only the last record of a batch ends it, and batches are numbered', () => {
  const random = new SimRandom(2, 'encoder')
  const { file } = encodeFile([
    [operationOf({ entries: [createEntry(1, 1, random), createEntry(1, 2, random)] })],
    [operationOf({ entries: [createEntry(1, 3, random)] })],
  ])

  const marks = scan(file).map(batch => batch.records.map(r => [r.batch, r.isLastOfBatch]))

  assert.deepEqual(marks, [
    [
      [1, false],
      [1, true],
    ],
    [[2, true]],
  ])
})

test('large data goes out from where it is, small data is gathered into one piece', () => {
  const large: Entry = { term: 1, index: 3, type: 'normal', data: new Uint8Array(5001).fill(3) }
  const small = [1, 2].map((index): Entry => ({
    term: 1,
    index,
    type: 'normal',
    data: new Uint8Array(100).fill(index),
  }))
  const after: Entry = { term: 1, index: 4, type: 'normal', data: new Uint8Array(7).fill(4) }

  const { encoded, file } = encodeFile([[operationOf({ entries: [...small, large, after] })]])

  const { chunks } = must(encoded[0])
  assert.equal(chunks.length, 3)
  assert.equal(chunks[1], large.data)
  assert.equal(scan(file)[0]?.records.length, 4)
})

test('padding is zeros, whatever the buffer held before', () => {
  const filled: Entry = { term: 1, index: 1, type: 'normal', data: new Uint8Array(4000).fill(255) }
  const odd: Entry = { term: 1, index: 2, type: 'normal', data: Uint8Array.of(1) }

  const { file } = encodeFile([
    [operationOf({ entries: [filled] })],
    [operationOf({ entries: [odd] })],
  ])

  assert.deepEqual(file.slice(-8), Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0))
})

test('a batch larger than the buffer, and small ones after it, are encoded whole', () => {
  const random = new SimRandom(3, 'encoder')
  const many = Array.from({ length: 3000 }, (_, position) => {
    return { ...createEntry(1, position + 1, random), data: random.bytes(30) }
  })
  const { file, locator } = encodeFile([
    [operationOf({ entries: many })],
    [operationOf({ entries: [createEntry(1, 3001, random)] })],
  ])

  assert.deepEqual(
    scan(file).map(batch => batch.records.length),
    [3000, 1],
  )
  const batch = must(scan(file)[0])
  assert.equal(locator.place(1500).offset, batch.records[1499]?.offset)
})
