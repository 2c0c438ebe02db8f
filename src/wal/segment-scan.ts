/**
 * Walks through the records of a segment, and looks behind its end for what should not be there.
 */
import type { Checksum } from '../base/crc32.ts'
import {
  RECORD_ALIGNMENT_BYTES,
  RECORD_HEAD_SIZE_BYTES,
  type RecordHead,
  type SegmentWindow,
  batchAt,
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
 * The offset of a valid record after the end of `scan` that was written when bytes there had been
 * flushed already; undefined if there is none. It is the witness that something is missing.
 *
 * Every aligned place is tried: what is damaged may be the very field that says where the next
 * record begins. Zeros, the usual content, are passed over quickly.
 */
export function findFlushedRecord(
  window: SegmentWindow,
  scan: Pick<Scan, 'endOffset' | 'lastBatch'>,
  checksum: Checksum,
): number | undefined {
  const { bytes, view } = window
  const last = bytes.length - RECORD_HEAD_SIZE_BYTES
  for (let place = scan.endOffset; place <= last; place += RECORD_ALIGNMENT_BYTES) {
    // Cheap tests first, or data that looks like heads could make this take hours: a witness names
    // a flushed offset between the two places, and a batch that may be there.
    const flushedOffset = view.getUint32(place + 12, true)
    if (flushedOffset <= scan.endOffset || flushedOffset > place) continue
    const batchCount = batchAt(window, place) - scan.lastBatch
    const batchCountMax = 1 + (place - scan.endOffset) / RECORD_HEAD_SIZE_BYTES
    if (batchCount < 1 || batchCount > batchCountMax) continue
    if (decodeRecordHead(window, place, checksum) !== undefined) return place
  }
  return undefined
}
