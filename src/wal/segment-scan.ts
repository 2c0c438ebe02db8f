/** Walks through the records of a segment, and looks behind its end for what should not be there. */
import type { Checksum } from '../base/crc32.ts'
import {
  RECORD_ALIGNMENT_BYTES,
  RECORD_HEAD_SIZE_BYTES,
  type RecordHead,
  type SegmentWindow,
  decodeRecordHead,
  endOffset,
} from './record.ts'

/** A whole batch: its records, in a window that holds them. */
export interface ScannedBatch {
  readonly window: SegmentWindow
  readonly records: readonly RecordHead[]
}

/** Where a scan ended. */
export interface Scan {
  /** After the last whole batch. */
  readonly endOffset: number
  /** Where there is no record that continues the chain: at or after `endOffset`. */
  readonly stopOffset: number
  readonly lastChecksum: number
  readonly lastBatch: number
}

/** Gives every whole batch from `start` on to `onBatch`, until the chain breaks or ends. */
export function scanBatches(
  window: SegmentWindow,
  start: number,
  previousBatch: number,
  checksum: Checksum,
  onBatch: (batch: ScannedBatch) => void,
): Scan {
  let scan: Scan = {
    endOffset: start,
    stopOffset: start,
    lastChecksum: window.key.seed,
    lastBatch: previousBatch,
  }
  let records: RecordHead[] = []
  let expectedChecksum = window.key.seed
  let offset = start
  for (;;) {
    const head = decodeRecordHead(window, offset, checksum)
    const isNext =
      head !== undefined &&
      head.previousChecksum === expectedChecksum &&
      head.batch === scan.lastBatch + 1
    if (!isNext) return { ...scan, stopOffset: offset }
    records.push(head)
    expectedChecksum = head.checksum
    offset = endOffset(head)
    if (!head.isLastOfBatch) continue
    onBatch({ window, records })
    records = []
    scan = {
      endOffset: offset,
      stopOffset: offset,
      lastChecksum: head.checksum,
      lastBatch: head.batch,
    }
  }
}

/**
 * The offset of a valid record after `offset` that was written when the bytes at `offset` had been
 * flushed already; undefined if there is none. It is the witness that something is missing there.
 *
 * Every aligned place is tried: what is damaged may be the very field that says where the next record
 * begins. Zeros, the usual content, are passed over quickly.
 */
export function findFlushedRecord(
  window: SegmentWindow,
  offset: number,
  checksum: Checksum,
): number | undefined {
  const { bytes, view } = window
  const last = bytes.length - RECORD_HEAD_SIZE_BYTES
  for (let place = offset; place <= last; place += RECORD_ALIGNMENT_BYTES) {
    // Cheap tests first: a witness names a flushed offset between the two places.
    const flushedOffset = view.getUint32(place + 12, true)
    if (flushedOffset <= offset || flushedOffset > place) continue
    const head = decodeRecordHead(window, place, checksum)
    if (head !== undefined) return place
  }
  return undefined
}
