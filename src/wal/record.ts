/**
 * Records, the units of a segment: a head of 24 bytes, a payload, and zeros up to a multiple of 8.
 * Every record proves by itself where it stands and what it follows, so that bytes of another
 * place, another life or another log can never pass for it. DESIGN.md explains each field.
 */
import type { Checksum } from '../base/crc32.ts'

/*
 * | offset | size | meaning                                                                    |
 * | 0      | 4    | CRC-32 of bytes 4 to the end of the payload, begun with seed XOR offset     |
 * | 4      | 4    | size of the payload in bytes                                               |
 * | 8      | 4    | checksum of the record before; in the first record the segment's seed      |
 * | 12     | 4    | everything in this segment before this offset was flushed earlier          |
 * | 16     | 6    | number of the batch, from 1, one more for every batch of the log           |
 * | 22     | 1    | type                                                                       |
 * | 23     | 1    | 1 in the last record of a batch, else 0                                    |
 * All numbers are little-endian and unsigned.
 */

/** Size of a record's head. */
export const RECORD_HEAD_SIZE_BYTES = 24

/** Every record begins at a multiple of this. */
export const RECORD_ALIGNMENT_BYTES = 8

/** Type of a record, as stored. */
export const RECORD_TYPES = {
  normalEntry: 1,
  configEntry: 2,
  hardState: 3,
  /** Entries from an index on are replaced by what follows. */
  truncate: 4,
  /** The log begins after this index now; what is before may be gone. */
  base: 5,
  /** All entries are void; the log goes on after an installed snapshot. */
  reset: 6,
} as const

/** Largest type that this version knows. */
const TYPE_MAX = 6

/** The place of a segment in the chain, as far as its records need it. */
export interface SegmentKey {
  readonly sequence: number
  /** Last checksum of the segment before. */
  readonly seed: number
}

/** The head of a record, decoded. */
export interface RecordHead {
  readonly offset: number
  readonly checksum: number
  readonly payloadSizeBytes: number
  readonly previousChecksum: number
  readonly flushedOffset: number
  readonly batch: number
  readonly type: number
  readonly isLastOfBatch: boolean
}

/** What a record takes in the file. */
export function recordSizeBytes(payloadSizeBytes: number): number {
  const sizeBytes = RECORD_HEAD_SIZE_BYTES + payloadSizeBytes
  return sizeBytes + ((RECORD_ALIGNMENT_BYTES - (sizeBytes % RECORD_ALIGNMENT_BYTES)) % 8)
}

/** Where the payload of a record begins. */
export function payloadOffset(head: RecordHead): number {
  return head.offset + RECORD_HEAD_SIZE_BYTES
}

/** Where the record after this one begins. */
export function endOffset(head: RecordHead): number {
  return head.offset + recordSizeBytes(head.payloadSizeBytes)
}

/** With what the checksum of a record at `offset` begins. */
export function checksumSeed(segmentSeed: number, offset: number): number {
  return (segmentSeed ^ offset) >>> 0
}

/**
 * Writes the head of a record at `position` of `view`, all but its checksum, which covers bytes
 * that may not be there yet.
 */
export function encodeRecordHead(
  view: DataView,
  position: number,
  head: Omit<RecordHead, 'offset' | 'checksum'>,
): void {
  view.setUint32(position + 4, head.payloadSizeBytes, true)
  view.setUint32(position + 8, head.previousChecksum, true)
  view.setUint32(position + 12, head.flushedOffset, true)
  view.setUint32(position + 16, head.batch >>> 0, true)
  view.setUint16(position + 20, Math.floor(head.batch / 0x1_0000_0000), true)
  view.setUint8(position + 22, head.type)
  view.setUint8(position + 23, head.isLastOfBatch ? 1 : 0)
}

/** A part of a segment in memory: `bytes[0]` is the byte of the file at `start`. */
export interface SegmentWindow {
  readonly key: SegmentKey
  readonly bytes: Uint8Array
  readonly view: DataView
  readonly start: number
}

/** Looks at `bytes`, which begin at `start` of the segment. */
export function createWindow(key: SegmentKey, bytes: Uint8Array, start: number): SegmentWindow {
  return { key, bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length), start }
}

/**
 * The record at `offset` of the segment, or undefined if there is no whole and undamaged record.
 * Whether it follows the one before is for the caller to check.
 */
export function decodeRecordHead(
  window: SegmentWindow,
  offset: number,
  checksum: Checksum,
): RecordHead | undefined {
  const { bytes, view, key } = window
  const position = offset - window.start
  if (position + RECORD_HEAD_SIZE_BYTES > bytes.length) return undefined
  const type = view.getUint8(position + 22)
  const flags = view.getUint8(position + 23)
  if (type === 0 || type > TYPE_MAX || flags > 1) return undefined
  const payloadSizeBytes = view.getUint32(position + 4, true)
  const end = position + RECORD_HEAD_SIZE_BYTES + payloadSizeBytes
  if (end > bytes.length) return undefined
  const stored = view.getUint32(position, true)
  if (checksum(bytes, position + 4, end, checksumSeed(key.seed, offset)) !== stored) {
    return undefined
  }
  return {
    offset,
    checksum: stored,
    payloadSizeBytes,
    previousChecksum: view.getUint32(position + 8, true),
    flushedOffset: view.getUint32(position + 12, true),
    batch: batchAt(window, offset),
    type,
    isLastOfBatch: flags === 1,
  }
}

/** The number of the batch, if there is a record at `offset`. */
export function batchAt(window: SegmentWindow, offset: number): number {
  const position = offset - window.start
  const high = window.view.getUint16(position + 20, true)
  return window.view.getUint32(position + 16, true) + high * 0x1_0000_0000
}
