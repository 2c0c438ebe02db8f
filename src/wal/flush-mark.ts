/**
 * The mark of a segment: how far the file was known to be flushed when the log had nothing else to
 * do. Records tell the same of what is before them; the mark tells it of the newest ones, from a
 * sector far away from theirs, so that no single damage takes a flushed batch and every sign of it.
 */
import type { Checksum } from '../base/crc32.ts'
import { type SegmentKey, checksumSeed } from './record.ts'

/*
 * In the sector between the head of the segment and the first record, written over and over:
 * | offset | size | meaning                                                       |
 * | 0      | 4    | CRC-32 of bytes 4 to 8, begun with seed XOR offset in the file |
 * | 4      | 4    | everything in the file before this offset was flushed         |
 * It is not flushed by itself. A torn or lost mark says nothing, and nothing is lost with it.
 */

/** What is set apart for the mark. */
export const MARK_AREA_SIZE_BYTES = 512

const MARK_SIZE_BYTES = 8

/** The mark as bytes, for the place `markOffset` of the segment. */
export function encodeMark(
  key: SegmentKey,
  markOffset: number,
  flushedOffset: number,
  checksum: Checksum,
): Uint8Array {
  const bytes = new Uint8Array(MARK_SIZE_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint32(4, flushedOffset, true)
  view.setUint32(0, checksum(bytes, 4, MARK_SIZE_BYTES, checksumSeed(key.seed, markOffset)), true)
  return bytes
}

/** The flushed offset that the mark in `bytes`, the whole segment, tells; 0 if it tells nothing. */
export function decodeMark(
  key: SegmentKey,
  bytes: Uint8Array,
  markOffset: number,
  checksum: Checksum,
): number {
  const end = markOffset + MARK_SIZE_BYTES
  if (end > bytes.length) return 0
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const expected = checksum(bytes, markOffset + 4, end, checksumSeed(key.seed, markOffset))
  return view.getUint32(markOffset, true) === expected ? view.getUint32(markOffset + 4, true) : 0
}
