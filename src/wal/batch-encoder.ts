/**
 * Turns operations into the bytes of one batch. Small parts are gathered in a buffer that is used
 * again and again; large data goes to the disk from where it is.
 */
import { assert } from '../base/assert.ts'
import type { Checksum } from '../base/crc32.ts'
import type { Entry } from '../raft/types.ts'
import type { EntryLocator } from './entry-locator.ts'
import type { Operation } from './operation.ts'
import {
  ENTRY_HEAD_SIZE_BYTES,
  HARD_STATE_SIZE_BYTES,
  NUMBER_SIZE_BYTES,
  baseSizeBytes,
  writeHardState,
  writeBase,
  writeNumber,
} from './payload.ts'
import {
  RECORD_HEAD_SIZE_BYTES,
  RECORD_TYPES,
  type SegmentKey,
  checksumSeed,
  encodeRecordHead,
  recordSizeBytes,
} from './record.ts'

/** Data from this size on is not copied. */
const COPY_SIZE_BYTES_MAX = 4096
const ARENA_SIZE_BYTES_MIN = 64 * 1024
/** A larger buffer is used for one batch only. */
const ARENA_SIZE_BYTES_MAX = 4 * 1024 * 1024

/** Where a batch goes. */
export interface BatchPlace {
  readonly segment: SegmentKey
  readonly offset: number
  readonly previousChecksum: number
  readonly flushedOffset: number
  readonly batch: number
}

/** The bytes of a batch, valid until the next one is encoded. */
export interface EncodedBatch {
  readonly chunks: readonly Uint8Array[]
  readonly sizeBytes: number
  readonly lastChecksum: number
}

/** How many records operations make, and what these take on disk. */
export interface BatchSize {
  readonly recordCount: number
  readonly sizeBytes: number
  /** The part that goes through the buffer. */
  readonly copiedBytes: number
}

/** What `operations` will take. */
export function measureBatch(operations: readonly Operation[]): BatchSize {
  let recordCount = 0
  let sizeBytes = 0
  let uncopiedBytes = 0
  const add = (payloadSizeBytes: number): void => {
    recordCount++
    sizeBytes += recordSizeBytes(payloadSizeBytes)
  }
  for (const operation of operations) {
    if (operation.reset !== undefined) add(baseSizeBytes(operation.reset))
    if (operation.truncateFrom !== undefined) add(NUMBER_SIZE_BYTES)
    for (const { data } of operation.entries) {
      add(ENTRY_HEAD_SIZE_BYTES + data.length)
      if (data.length > COPY_SIZE_BYTES_MAX) uncopiedBytes += data.length
    }
    if (operation.base !== undefined) add(baseSizeBytes(operation.base))
    if (operation.hardState !== undefined) add(HARD_STATE_SIZE_BYTES)
  }
  return { recordCount, sizeBytes, copiedBytes: sizeBytes - uncopiedBytes }
}

/** Encodes one batch after another. */
export class BatchEncoder {
  readonly #checksum: Checksum
  readonly #locator: EntryLocator
  #arena = new Uint8Array(ARENA_SIZE_BYTES_MIN)
  #view = new DataView(this.#arena.buffer)
  /** Where the next byte goes in the arena, and from where on it isn't in a chunk yet. */
  #position = 0
  #chunkStart = 0
  #chunks: Uint8Array[] = []
  #place: BatchPlace | undefined
  /** Where the next record goes in the segment. */
  #offset = 0
  #previousChecksum = 0
  #recordsLeft = 0

  /** The places of entries are noted in `locator`. */
  constructor(checksum: Checksum, locator: EntryLocator) {
    this.#checksum = checksum
    this.#locator = locator
  }

  encode(operations: readonly Operation[], size: BatchSize, place: BatchPlace): EncodedBatch {
    this.#begin(size, place)
    for (const operation of operations) this.#putOperation(operation)
    this.#endChunk()
    assert(this.#recordsLeft === 0, `${this.#recordsLeft} records were counted and not written`)
    const sizeBytes = this.#offset - place.offset
    assert(
      sizeBytes === size.sizeBytes,
      `a batch of ${sizeBytes} bytes, measured ${size.sizeBytes}`,
    )
    return { chunks: this.#chunks, sizeBytes, lastChecksum: this.#previousChecksum }
  }

  #begin(size: BatchSize, place: BatchPlace): void {
    const isLarge = this.#arena.length > ARENA_SIZE_BYTES_MAX
    if (this.#arena.length < size.copiedBytes || isLarge) {
      const sizeBytes = Math.max(ARENA_SIZE_BYTES_MIN, 2 ** Math.ceil(Math.log2(size.copiedBytes)))
      this.#arena = new Uint8Array(sizeBytes)
      this.#view = new DataView(this.#arena.buffer)
    }
    this.#position = 0
    this.#chunkStart = 0
    this.#chunks = []
    this.#place = place
    this.#offset = place.offset
    this.#previousChecksum = place.previousChecksum
    this.#recordsLeft = size.recordCount
  }

  #putOperation(operation: Operation): void {
    const { reset, truncateFrom, entries, base, hardState } = operation
    if (reset !== undefined) {
      this.#locator.clear()
      const payload = this.#putHead(RECORD_TYPES.reset, baseSizeBytes(reset))
      writeBase(this.#view, payload, reset)
      this.#endRecord(payload, baseSizeBytes(reset))
    }
    if (truncateFrom !== undefined) {
      this.#locator.truncate(truncateFrom)
      const payload = this.#putHead(RECORD_TYPES.truncate, NUMBER_SIZE_BYTES)
      writeNumber(this.#view, payload, truncateFrom)
      this.#endRecord(payload, NUMBER_SIZE_BYTES)
    }
    for (const entry of entries) this.#putEntry(entry)
    if (base !== undefined) {
      this.#locator.compact(base.index)
      const payload = this.#putHead(RECORD_TYPES.base, baseSizeBytes(base))
      writeBase(this.#view, payload, base)
      this.#endRecord(payload, baseSizeBytes(base))
    }
    if (hardState !== undefined) {
      const payload = this.#putHead(RECORD_TYPES.hardState, HARD_STATE_SIZE_BYTES)
      writeHardState(this.#view, payload, hardState)
      this.#endRecord(payload, HARD_STATE_SIZE_BYTES)
    }
  }

  #putEntry(entry: Entry): void {
    const { data } = entry
    const place = this.#currentPlace()
    this.#locator.append(entry.index, place.segment, this.#offset, data.length)
    const type = entry.type === 'config' ? RECORD_TYPES.configEntry : RECORD_TYPES.normalEntry
    const sizeBytes = ENTRY_HEAD_SIZE_BYTES + data.length
    const payload = this.#putHead(type, sizeBytes)
    writeNumber(this.#view, payload, entry.term)
    writeNumber(this.#view, payload + NUMBER_SIZE_BYTES, entry.index)
    if (data.length > COPY_SIZE_BYTES_MAX) {
      this.#endRecordWith(payload, data)
    } else {
      this.#arena.set(data, payload + ENTRY_HEAD_SIZE_BYTES)
      this.#endRecord(payload, sizeBytes)
    }
  }

  #currentPlace(): BatchPlace {
    assert(this.#place !== undefined, 'a record outside of a batch')
    return this.#place
  }

  /** Writes a record's head and returns where its payload goes in the arena. */
  #putHead(type: number, payloadSizeBytes: number): number {
    const { flushedOffset, batch } = this.#currentPlace()
    this.#recordsLeft--
    encodeRecordHead(this.#view, this.#position, {
      payloadSizeBytes,
      previousChecksum: this.#previousChecksum,
      flushedOffset,
      batch,
      type,
      isLastOfBatch: this.#recordsLeft === 0,
    })
    return this.#position + RECORD_HEAD_SIZE_BYTES
  }

  /** Ends a record that is in the arena as a whole. */
  #endRecord(payload: number, payloadSizeBytes: number): void {
    const start = this.#position
    const seed = checksumSeed(this.#currentPlace().segment.seed, this.#offset)
    this.#setChecksum(
      start,
      this.#checksum(this.#arena, start + 4, payload + payloadSizeBytes, seed),
    )
    this.#pad(payload + payloadSizeBytes, start + recordSizeBytes(payloadSizeBytes))
    this.#offset += recordSizeBytes(payloadSizeBytes)
  }

  /** Ends a record whose data goes out from where it is. */
  #endRecordWith(payload: number, data: Uint8Array): void {
    const start = this.#position
    const headEnd = payload + ENTRY_HEAD_SIZE_BYTES
    const seed = checksumSeed(this.#currentPlace().segment.seed, this.#offset)
    const headChecksum = this.#checksum(this.#arena, start + 4, headEnd, seed)
    this.#setChecksum(start, this.#checksum(data, 0, data.length, headChecksum))
    this.#position = headEnd
    this.#endChunk()
    this.#chunks.push(data)
    const payloadSizeBytes = ENTRY_HEAD_SIZE_BYTES + data.length
    const sizeBytes = recordSizeBytes(payloadSizeBytes)
    this.#pad(headEnd, headEnd + sizeBytes - RECORD_HEAD_SIZE_BYTES - payloadSizeBytes)
    this.#offset += sizeBytes
  }

  #setChecksum(start: number, checksum: number): void {
    this.#view.setUint32(start, checksum, true)
    this.#previousChecksum = checksum
  }

  /** The arena holds bytes of earlier batches, so padding has to be written. */
  #pad(start: number, end: number): void {
    this.#arena.fill(0, start, end)
    this.#position = end
  }

  #endChunk(): void {
    if (this.#position > this.#chunkStart) {
      this.#chunks.push(this.#arena.subarray(this.#chunkStart, this.#position))
    }
    this.#chunkStart = this.#position
  }
}
