import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { crc32 } from '../../src/base/crc32.ts'
import {
  FORMAT_VERSION,
  type SegmentHeader,
  decodeSegmentHeader,
  encodeSegmentHeader,
} from '../../src/wal/segment-header.ts'
import { FOUNDING, stored, voters } from './model.ts'

const HEADER: SegmentHeader = {
  identity: { clusterId: 'c-7f3a', groupId: 1, raftId: 2 },
  sequence: 7,
  seed: 0xfeed_beef,
  previousEndOffset: 16_000_000,
  previousBatch: 2 ** 33,
  previousIndex: 1000,
  previousTerm: 5,
  hardState: { term: 6, vote: 3, commit: 990 },
  base: { index: 900, term: 4, ...FOUNDING },
}

/** The head with another value in some field and a checksum that fits. */
function withField(change: (view: DataView) => void): Uint8Array {
  const bytes = encodeSegmentHeader(HEADER, crc32)
  const view = new DataView(bytes.buffer)
  change(view)
  view.setUint32(16, 0, true)
  view.setUint32(16, crc32(bytes, 0, bytes.length, 0), true)
  return bytes
}

test('the head of a segment is read as it was written', () => {
  const bytes = encodeSegmentHeader(HEADER, crc32)

  const decoded = decodeSegmentHeader(bytes, 'x.seg', crc32)

  assert.deepEqual(decoded, { header: HEADER, sizeBytes: 512 })
})

test('any cluster id and any membership fit into the head', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme', maxLength: 300 }),
      fc.array(fc.maxSafeNat(), { maxLength: 200 }),
      (clusterId, ids) => {
        const base = { index: 9, term: 1, ...stored({ ...voters(...ids), learners: ids }) }
        const header = { ...HEADER, identity: { ...HEADER.identity, clusterId }, base }
        const bytes = encodeSegmentHeader(header, crc32)

        const decoded = decodeSegmentHeader(bytes, 'x.seg', crc32)

        assert.deepEqual(decoded, { header, sizeBytes: bytes.length })
        assert.equal(bytes.length % 512, 0)
      },
    ),
  )
})

test('a head with any byte changed or cut is damaged', () => {
  const bytes = encodeSegmentHeader(HEADER, crc32)
  for (let position = 0; position < bytes.length; position++) {
    const damaged = bytes.slice()
    damaged[position] = (damaged[position] ?? 0) ^ 0x10

    assert.throws(() => decodeSegmentHeader(damaged, 'x.seg', crc32), {
      code: 'CORRUPT',
      message: /x\.seg is damaged at byte 0/,
    })
  }
  for (const sizeBytes of [0, 8, 119, 120, 511]) {
    const cut = bytes.subarray(0, sizeBytes)
    assert.throws(() => decodeSegmentHeader(cut, 'x.seg', crc32), { code: 'CORRUPT' })
  }
})

test('another format is told from damage, and its number is given', () => {
  for (const version of [FORMAT_VERSION - 1, FORMAT_VERSION + 1]) {
    const other = withField(view => view.setUint32(8, version, true))
    assert.throws(() => decodeSegmentHeader(other, 'x.seg', crc32), {
      code: 'WRONG_DATA',
      message: new RegExp(
        `x\\.seg is of log format ${version}, and this program reads 2: ` +
          `start the ${version > 2 ? 'newer' : 'older'} version of the program`,
      ),
      details: { file: 'x.seg', version },
    })
  }
})

test('a newer format with a longer head is told from damage, too', () => {
  const bytes = new Uint8Array(2048)
  bytes.set(encodeSegmentHeader(HEADER, crc32))
  const view = new DataView(bytes.buffer)
  view.setUint32(8, 9, true)
  view.setUint32(12, 2048, true)
  view.setUint32(16, 0, true)
  view.setUint32(16, crc32(bytes, 0, 2048, 0), true)

  assert.throws(() => decodeSegmentHeader(bytes, 'x.seg', crc32), { code: 'WRONG_DATA' })
})

test('a head that is whole and makes no sense is damaged', () => {
  const impossible = [
    withField(view => view.setUint32(8, 0, true)),
    withField(view => view.setUint32(112, 9, true)),
    withField(view => view.setUint32(112, 2 ** 31, true)),
    withField(view => view.setUint32(104, 2 ** 31, true)),
  ]
  for (const bytes of impossible) {
    assert.throws(() => decodeSegmentHeader(bytes, 'x.seg', crc32), {
      code: 'CORRUPT',
      message: /valid checksum and an impossible content/,
    })
  }
})
