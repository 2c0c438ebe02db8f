/** Reads entries back from disk, many with one read, and proves each before it is handed out. */
import type { Checksum } from '../base/crc32.ts'
import type { Disk } from '../base/ports.ts'
import { entrySizeBytes } from '../raft/entries.ts'
import type { Entry } from '../raft/types.ts'
import { damaged } from './damage.ts'
import type { EntryLocator, EntryPlace } from './entry-locator.ts'
import { ENTRY_HEAD_SIZE_BYTES, NUMBER_SIZE_BYTES, readNumber } from './payload.ts'
import {
  RECORD_TYPES,
  type SegmentWindow,
  createWindow,
  decodeRecordHead,
  payloadOffset,
  recordSizeBytes,
} from './record.ts'
import { segmentName } from './segment-name.ts'

/** One read from disk is not much larger than this, unless a single entry is. */
const READ_SIZE_BYTES_MAX = 1 << 20

/** Reads by index what a locator knows the place of. */
export class SegmentReader {
  readonly #disk: Disk
  readonly #directory: string
  readonly #locator: EntryLocator
  readonly #checksum: Checksum

  constructor(disk: Disk, directory: string, locator: EntryLocator, checksum: Checksum) {
    this.#disk = disk
    this.#directory = directory
    this.#locator = locator
    this.#checksum = checksum
  }

  /**
   * Entries from `low` to before `high`, as many as fit into `maxSizeBytes`, at least one. Throws
   * CORRUPT if one isn't what was written.
   */
  read(low: number, high: number, maxSizeBytes: number): Entry[] {
    const entries: Entry[] = []
    let sizeBytes = 0
    for (let index = low; index < high;) {
      const limitBytes = Math.min(READ_SIZE_BYTES_MAX, maxSizeBytes - sizeBytes)
      const end = this.#endOfRead(index, high, limitBytes)
      for (const entry of this.#readRun(index, end)) {
        sizeBytes += entrySizeBytes(entry)
        if (entries.length > 0 && sizeBytes > maxSizeBytes) return entries
        entries.push(entry)
      }
      index = end
    }
    return entries
  }

  /** Up to where entries from `index` on lie in one segment, within about `limitBytes`. */
  #endOfRead(index: number, high: number, limitBytes: number): number {
    const first = this.#locator.place(index)
    let end = Math.min(high, index + first.count)
    // The records between two entries (hard states) are few, so offsets are a good measure.
    let low = index + 1
    while (low < end) {
      const middle = (low + end) >>> 1
      const place = this.#locator.place(middle)
      if (endOf(place) - first.offset <= limitBytes) low = middle + 1
      else end = middle
    }
    return end
  }

  #readRun(index: number, end: number): Entry[] {
    const first = this.#locator.place(index)
    const last = this.#locator.place(end - 1)
    const path = `${this.#directory}/${segmentName(first.segment.sequence)}`
    const bytes = this.#disk.read(path, first.offset, endOf(last) - first.offset)
    const window = createWindow(first.segment, bytes, first.offset)
    const entries: Entry[] = []
    for (let next = index; next < end; next++) {
      const place = this.#locator.place(next)
      const entry = this.#decode(window, place, next)
      if (entry === undefined) throw damaged(path, place.offset, `entry ${next} is not readable`)
      entries.push(entry)
    }
    return entries
  }

  #decode(window: SegmentWindow, place: EntryPlace, index: number): Entry | undefined {
    const head = decodeRecordHead(window, place.offset, this.#checksum)
    if (head?.payloadSizeBytes !== ENTRY_HEAD_SIZE_BYTES + place.dataSizeBytes) return undefined
    const position = payloadOffset(head) - window.start
    if (readNumber(window.view, position + NUMBER_SIZE_BYTES) !== index) return undefined
    const start = position + ENTRY_HEAD_SIZE_BYTES
    return {
      term: readNumber(window.view, position),
      index,
      type: head.type === RECORD_TYPES.configEntry ? 'config' : 'normal',
      data: window.bytes.subarray(start, start + place.dataSizeBytes),
    }
  }
}

function endOf(place: EntryPlace): number {
  return place.offset + recordSizeBytes(ENTRY_HEAD_SIZE_BYTES + place.dataSizeBytes)
}
