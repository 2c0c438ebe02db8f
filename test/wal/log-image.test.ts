import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32 } from '../../src/base/crc32.ts'
import { BatchEncoder, measureBatch } from '../../src/wal/batch-encoder.ts'
import { EntryLocator } from '../../src/wal/entry-locator.ts'
import { LogImage } from '../../src/wal/log-image.ts'
import type { Operation } from '../../src/wal/operation.ts'
import { createWindow } from '../../src/wal/record.ts'
import type { SegmentHeader } from '../../src/wal/segment-header.ts'
import { scanBatches } from '../../src/wal/segment-scan.ts'
import { FOUNDING, stored, voters } from './model.ts'
import { IDENTITY } from './kit.ts'

const KEY = { sequence: 1, seed: 5 }

/** A log whose base is entry 10 and whose oldest segment begins after entry `previousIndex`. */
function imageAfter(previousIndex: number): LogImage {
  const header: SegmentHeader = {
    identity: IDENTITY,
    ...KEY,
    previousEndOffset: 0,
    previousBatch: 0,
    previousIndex,
    previousTerm: 3,
    hardState: { term: 3, vote: 1, commit: 10 },
    base: { index: 10, term: 3, ...FOUNDING },
  }
  return new LogImage(header)
}

type Parts = Partial<Pick<Operation, 'reset' | 'truncateFrom' | 'base' | 'hardState'>>

interface Sketch extends Parts {
  /** Indexes of new entries, and their term. */
  readonly indexes?: readonly number[]
  readonly term?: number
}

/** Replays batches, each of one operation. */
function replay(image: LogImage, ...sketches: readonly Sketch[]): LogImage {
  const chunks: number[] = []
  let previousChecksum = KEY.seed
  for (const [position, { indexes = [], term = 3, ...parts }] of sketches.entries()) {
    const entries = indexes.map(index => {
      return { term, index, type: 'normal', data: Uint8Array.of(index) } as const
    })
    const operations = [{ ...parts, entries, mustSync: true, validIndex: 0, done: () => undefined }]
    // Each has a locator of its own, because what is encoded here may be impossible.
    const encoder = new BatchEncoder(crc32, new EntryLocator())
    const place = { segment: KEY, offset: chunks.length, previousChecksum, flushedOffset: 0 }
    const size = measureBatch(operations)
    const batch = encoder.encode(operations, size, { ...place, batch: position + 1 })
    for (const chunk of batch.chunks) chunks.push(...chunk)
    previousChecksum = batch.lastChecksum
  }
  const window = createWindow(KEY, Uint8Array.from(chunks), 0)
  const scan = scanBatches(window, 0, 0, crc32, batch => image.applyBatch(batch, '1.seg'))
  assert.equal(scan.endOffset, chunks.length)
  return image
}

test('entries, truncations and hard states give the log that was last', () => {
  const image = replay(
    imageAfter(10),
    { indexes: [11, 12, 13] },
    { truncateFrom: 12, indexes: [12], term: 4, hardState: { term: 4, vote: 0, commit: 11 } },
  )

  assert.equal(image.lastIndex, 12)
  assert.equal(image.lastTerm, 4)
  assert.equal(image.terms.termAt(11), 3)
  assert.deepEqual(image.hardState, { term: 4, vote: 0, commit: 11 })
  assert.equal(image.findFault('1.seg'), undefined)
})

test('a base and an installed snapshot move the beginning of the log', () => {
  const based = replay(
    imageAfter(10),
    { indexes: [11, 12, 13] },
    {
      base: { index: 12, term: 3, ...stored(voters(1, 4)) },
    },
  )
  assert.deepEqual([based.base.index, based.lastIndex], [12, 13])
  assert.deepEqual(based.base.confState, voters(1, 4))

  const reset = replay(
    imageAfter(10),
    { indexes: [11, 12, 13] },
    { reset: { index: 90, term: 8, ...FOUNDING }, indexes: [91], term: 9 },
  )
  assert.deepEqual([reset.base.index, reset.lastIndex, reset.lastTerm], [90, 91, 9])
  assert.equal(reset.locator.firstIndex, 91)
})

test('a log that begins behind its base is whole once the base has moved there', () => {
  const image = imageAfter(20)
  assert.match(image.findFault('4.seg')?.message ?? '', /no file holds the entries 11 to 20/)

  replay(image, { indexes: [21, 22] }, { base: { index: 20, term: 3, ...FOUNDING } })

  assert.equal(image.findFault('4.seg'), undefined)
  assert.equal(image.lastIndex, 22)
})

test('a truncation may reach behind the oldest segment, if the base reaches there too', () => {
  const image = replay(imageAfter(20), { truncateFrom: 15, indexes: [15, 16], term: 4 })
  assert.match(image.findFault('4.seg')?.message ?? '', /no file holds the entries 11 to 14/)

  const { lastIndex } = image
  assert.equal(lastIndex, 16)
  const whole = replay(
    imageAfter(20),
    { truncateFrom: 15, indexes: [15, 16], term: 4 },
    { base: { index: 14, term: 3, ...FOUNDING } },
  )
  assert.equal(whole.findFault('4.seg'), undefined)
  assert.equal(whole.locator.firstIndex, 15)
})

test('a committed entry that is not there is a fault', () => {
  const image = replay(imageAfter(10), {
    indexes: [11],
    hardState: { term: 3, vote: 1, commit: 12 },
  })

  assert.match(
    image.findFault('1.seg')?.message ?? '',
    /entry 12 was committed, and the log ends at 11/,
  )
})

test('records that are whole and can not be true are damage', () => {
  const cases: readonly (readonly [RegExp, readonly Sketch[]])[] = [
    [/entry 13 follows entry 11/, [{ indexes: [11] }, { indexes: [13] }]],
    [/entry 11 follows entry 11/, [{ indexes: [11] }, { indexes: [11] }]],
    [/entry 12 is of term 2, after 3/, [{ indexes: [11] }, { indexes: [12], term: 2 }]],
    [/truncation from 10/, [{ indexes: [11] }, { truncateFrom: 10, indexes: [10] }]],
    [/truncation from 12/, [{ indexes: [11] }, { truncateFrom: 12, indexes: [12] }]],
    [/base 12 of a log/, [{ indexes: [11] }, { base: { index: 12, term: 3, ...FOUNDING } }]],
    [/base 9 of a log/, [{ base: { index: 9, term: 3, ...FOUNDING } }]],
  ]
  for (const [message, sketches] of cases) {
    assert.throws(() => replay(imageAfter(10), ...sketches), { code: 'CORRUPT', message })
  }
})
