/**
 * Writes batches to the last segment and begins new segments. It does one thing at a time, in the
 * order asked; the files it leaves after each disk operation are ones that recovery understands.
 */
import { assert, must } from '../base/assert.ts'
import type { Checksum } from '../base/crc32.ts'
import type { Disk, DiskCallback, DiskFile } from '../base/ports.ts'
import type { HardState } from '../raft/types.ts'
import { BatchEncoder, type BatchSize, measureBatch } from './batch-encoder.ts'
import { type DiskStep, attempt, runSteps } from './disk-steps.ts'
import type { EntryLocator } from './entry-locator.ts'
import { MARK_AREA_SIZE_BYTES, encodeMark } from './flush-mark.ts'
import type { Operation } from './operation.ts'
import type { SegmentKey } from './record.ts'
import type { RecoveredLog, RecoveredTail } from './recovery.ts'
import { type WalIdentity, encodeSegmentHeader } from './segment-header.ts'
import { UNFINISHED_SUFFIX, segmentName } from './segment-name.ts'
import type { LogBase } from './payload.ts'

/** How a log is written. */
export interface LogWriterSettings {
  readonly disk: Disk
  readonly directory: string
  readonly identity: WalIdentity
  readonly checksum: Checksum
  /** A batch that would make a segment larger than this goes to a new one. */
  readonly segmentSizeBytes: number
  /**
   * How much is filled with zeros ahead of the writing, so that a flush has no new size to store.
   */
  readonly fillSizeBytes: number
  readonly locator: EntryLocator
}

/** What a node would know if the process ended now and everything written so far were flushed. */
interface WrittenState {
  readonly base: LogBase
  readonly hardState: HardState
  readonly lastIndex: number
  readonly lastTerm: number
}

/** The segment that is written to. */
interface CurrentSegment {
  readonly key: SegmentKey
  readonly file: DiskFile
  /** Where the mark is, and where the first record is. */
  readonly markOffset: number
  readonly startOffset: number
  /** Where the next batch goes. */
  offset: number
  /** Everything before it is on disk. At most `offset`. */
  flushedOffset: number
  /** What the mark says. At most `flushedOffset`. */
  markedOffset: number
  /** Up to here the file has bytes, zeros from `offset` on. At least `offset`. */
  filledOffset: number
}

/** The one that writes. Errors are final: after one it must not be used again. */
export class LogWriter {
  readonly #settings: LogWriterSettings
  readonly #encoder: BatchEncoder
  /** Ascending; the last one is written to. */
  #sequences: number[]
  /** Of the segments that are not written to any more. */
  readonly #sizes = new Map<number, number>()
  #current: CurrentSegment | undefined
  #written: WrittenState
  #lastChecksum: number
  #lastBatch: number
  readonly #zeros: Uint8Array

  constructor(settings: LogWriterSettings, written: WrittenState) {
    this.#settings = settings
    this.#written = written
    this.#encoder = new BatchEncoder(settings.checksum, settings.locator)
    this.#sequences = []
    this.#lastChecksum = 0
    this.#lastBatch = 0
    this.#zeros = new Uint8Array(Math.max(4096, Math.min(settings.fillSizeBytes, 1 << 20)))
  }

  /** Whether something was written that no flush has covered. */
  get hasUnflushed(): boolean {
    const segment = must(this.#current)
    return segment.flushedOffset < segment.offset
  }

  /** What all segments take on disk, zeros ahead of the writing included. */
  get sizeBytes(): number {
    const closed = [...this.#sizes.values()].reduce((sum, size) => sum + size, 0)
    return closed + (this.#current?.filledOffset ?? 0)
  }

  /** Whether something was flushed of which neither a later record nor the mark tells. */
  get needsMark(): boolean {
    const segment = must(this.#current)
    return segment.markedOffset < segment.flushedOffset
  }

  /** Makes the directory and the first segment of a log that isn't there yet. */
  create(leftovers: readonly string[], done: DiskCallback): void {
    const { disk, directory } = this.#settings
    const steps: DiskStep[] = [
      next => next(attempt(() => disk.makeDirectory(directory))),
      ...this.#removals(leftovers),
    ]
    // A new directory is found after a power cut only if the one that names it was flushed.
    for (let path = directory; path !== '';) {
      path = parentOf(path)
      const parent = path
      steps.push(next => disk.syncDirectory(parent, next))
    }
    steps.push(next => this.#beginSegment(1, 0, next))
    runSteps(steps, done)
  }

  /**
   * Goes on after `recovered`. What it found may be in the system's memory only, left there by a
   * process that ended before its flush: it is flushed before anybody builds on it. Bytes after the
   * end are cleared first, or they might be taken for records by a later recovery.
   */
  resume(recovered: RecoveredLog, done: DiskCallback): void {
    const { disk, directory } = this.#settings
    const { tail } = recovered
    this.#sequences = [...recovered.sequences]
    for (const sequence of recovered.sequences.slice(0, -1)) {
      this.#sizes.set(sequence, disk.sizeBytes(`${directory}/${segmentName(sequence)}`))
    }
    this.#lastChecksum = tail.lastChecksum
    this.#lastBatch = tail.lastBatch
    const steps: DiskStep[] = [
      next => next(attempt(() => this.#openTail(tail))),
      next => this.#clear(tail.endOffset, tail.dirtyEndOffset, next),
      next => this.#writeAgain(tail, next),
      next => this.#flush(next),
      ...this.#removals(recovered.leftovers),
      next => disk.syncDirectory(directory, next),
    ]
    runSteps(steps, done)
  }

  /** Writes `operations` as one batch, and flushes all that was written so far if `mustSync`. */
  write(operations: readonly Operation[], mustSync: boolean, done: DiskCallback): void {
    const size = measureBatch(operations)
    const steps: DiskStep[] = []
    if (this.#isFullFor(size.sizeBytes)) steps.push(next => this.#rotate(next))
    steps.push(next => this.#writeBatch(operations, size, mustSync, next))
    if (mustSync) steps.push(next => (this.hasUnflushed ? this.#flush(next) : next(undefined)))
    runSteps(steps, done)
  }

  /** Notes in the segment's mark what is flushed by now. Flushes the mark, too, if `mustSync`. */
  mark(mustSync: boolean, done: DiskCallback): void {
    const segment = must(this.#current)
    const { key, file, markOffset, flushedOffset } = segment
    const bytes = encodeMark(key, markOffset, flushedOffset, this.#settings.checksum)
    segment.markedOffset = flushedOffset
    file.write(markOffset, [bytes], error => {
      if (error === undefined && mustSync) this.#flush(done)
      else done(error)
    })
  }

  /** Removes the segments in which no entry lies that is still needed. The base must be flushed. */
  removeUnused(done: DiskCallback): void {
    const { disk, directory, locator } = this.#settings
    const current = must(this.#sequences.at(-1))
    const needed = Math.min(locator.oldestSegment ?? current, current)
    const unused = this.#sequences.filter(sequence => sequence < needed)
    if (unused.length === 0) return done(undefined)
    this.#sequences = this.#sequences.filter(sequence => sequence >= needed)
    for (const sequence of unused) this.#sizes.delete(sequence)
    const paths = unused.map(sequence => `${directory}/${segmentName(sequence)}`)
    runSteps([...this.#removals(paths), next => disk.syncDirectory(directory, next)], done)
  }

  close(): void {
    this.#current?.file.close()
    this.#current = undefined
  }

  /**
   * Writes what may never have been flushed once more, as it was read. If the last process ended
   * because a flush failed, the system may show these bytes from its cache, hold them for clean,
   * and have them nowhere else: then the next flush would succeed and keep nothing.
   */
  #writeAgain(tail: RecoveredTail, done: DiskCallback): void {
    const from = Math.max(tail.startOffset, tail.markedOffset)
    if (from >= tail.endOffset) return done(undefined)
    let bytes: Uint8Array | undefined
    const error = attempt(() => {
      bytes = this.#settings.disk.read(tail.path, from, tail.endOffset - from)
    })
    if (error === undefined) must(this.#current).file.write(from, [must(bytes)], done)
    else done(error)
  }

  #removals(paths: readonly string[]): readonly DiskStep[] {
    const { disk } = this.#settings
    return paths.map(
      (path): DiskStep =>
        next =>
          disk.remove(path, next),
    )
  }

  /** Whether a batch of this size has to begin a new segment. An empty segment takes any batch. */
  #isFullFor(sizeBytes: number): boolean {
    const { offset, startOffset } = must(this.#current)
    const endOffset = offset + sizeBytes
    return sizeBytes > 0 && offset > startOffset && endOffset > this.#settings.segmentSizeBytes
  }

  #openTail(tail: RecoveredTail): void {
    this.#current = {
      key: tail.key,
      file: this.#settings.disk.open(tail.path, { create: false }),
      markOffset: tail.markOffset,
      startOffset: tail.startOffset,
      offset: tail.endOffset,
      flushedOffset: tail.startOffset,
      markedOffset: Math.max(tail.startOffset, tail.markedOffset),
      filledOffset: tail.sizeBytes,
    }
  }

  #clear(start: number, end: number, done: DiskCallback): void {
    if (end <= start) return done(undefined)
    must(this.#current).file.write(start, this.#zeroChunks(end - start), done)
  }

  #flush(done: DiskCallback): void {
    const segment = must(this.#current)
    const { offset } = segment
    segment.file.sync(error => {
      if (error === undefined) segment.flushedOffset = offset
      done(error)
    })
  }

  #writeBatch(
    operations: readonly Operation[],
    size: BatchSize,
    mustSync: boolean,
    done: DiskCallback,
  ): void {
    const segment = must(this.#current)
    // Nothing to write: the disk is asked all the same, so that `done` comes later and in order.
    if (size.recordCount === 0) return segment.file.write(segment.offset, [], done)
    const batch = this.#encoder.encode(operations, size, {
      segment: segment.key,
      offset: segment.offset,
      previousChecksum: this.#lastChecksum,
      flushedOffset: segment.flushedOffset,
      batch: this.#lastBatch + 1,
    })
    const start = segment.offset
    // A durable write says nothing of what was written before it: then only a flush helps.
    const isDurable = mustSync && !this.hasUnflushed
    segment.offset += batch.sizeBytes
    this.#lastChecksum = batch.lastChecksum
    this.#lastBatch++
    this.#noteWritten(operations)
    const chunks = [...batch.chunks, ...this.#fillAfter(segment)]
    if (!isDurable) return segment.file.write(start, chunks, done)
    segment.file.writeDurably(start, chunks, error => {
      if (error === undefined) segment.flushedOffset = segment.offset
      done(error)
    })
  }

  #noteWritten(operations: readonly Operation[]): void {
    let { base, hardState, lastIndex, lastTerm } = this.#written
    for (const operation of operations) {
      if (operation.reset !== undefined) {
        base = operation.reset
        lastIndex = base.index
        lastTerm = base.term
      }
      const last = operation.entries.at(-1)
      if (last !== undefined) {
        lastIndex = last.index
        lastTerm = last.term
      }
      base = operation.base ?? base
      hardState = operation.hardState ?? hardState
    }
    this.#written = { base, hardState, lastIndex, lastTerm }
  }

  /** Zeros to write after the batch when it goes beyond what is filled. */
  #fillAfter(segment: CurrentSegment): readonly Uint8Array[] {
    if (segment.offset <= segment.filledOffset) return []
    const { fillSizeBytes, segmentSizeBytes } = this.#settings
    const limit = Math.max(segment.offset, segmentSizeBytes)
    segment.filledOffset = Math.min(segment.offset + fillSizeBytes, limit)
    return this.#zeroChunks(segment.filledOffset - segment.offset)
  }

  #zeroChunks(sizeBytes: number): readonly Uint8Array[] {
    const chunks: Uint8Array[] = []
    for (let left = sizeBytes; left > 0; left -= this.#zeros.length) {
      chunks.push(left < this.#zeros.length ? this.#zeros.subarray(0, left) : this.#zeros)
    }
    return chunks
  }

  /**
   * Ends the current segment and begins the next one. The old one is flushed first: that a segment
   * has a successor is recovery's proof that all of it was on disk.
   */
  #rotate(done: DiskCallback): void {
    const old = must(this.#current)
    const steps: DiskStep[] = []
    if (this.hasUnflushed) steps.push(next => this.#flush(next))
    steps.push(next => this.#beginSegment(old.key.sequence + 1, old.offset, next))
    runSteps(steps, error => {
      if (error === undefined) old.file.close()
      this.#sizes.set(old.key.sequence, old.filledOffset)
      done(error)
    })
  }

  /** A segment gets its name when its head is on disk, and is used when its name is. */
  #beginSegment(sequence: number, previousEndOffset: number, done: DiskCallback): void {
    const { disk, directory, identity, checksum } = this.#settings
    const { base, hardState, lastIndex, lastTerm } = this.#written
    const bytes = encodeSegmentHeader(
      {
        identity,
        sequence,
        seed: this.#lastChecksum,
        previousEndOffset,
        previousBatch: this.#lastBatch,
        previousIndex: lastIndex,
        previousTerm: lastTerm,
        hardState,
        base,
      },
      checksum,
    )
    const path = `${directory}/${segmentName(sequence)}`
    const unfinishedPath = path + UNFINISHED_SUFFIX
    let file: DiskFile | undefined
    const steps: DiskStep[] = [
      next => next(attempt(() => (file = disk.open(unfinishedPath, { create: true })))),
      next => must(file).write(0, [bytes, new Uint8Array(MARK_AREA_SIZE_BYTES)], next),
      next => must(file).sync(next),
      next => disk.rename(unfinishedPath, path, next),
      next => disk.syncDirectory(directory, next),
    ]
    runSteps(steps, error => {
      if (error !== undefined) return done(error)
      assert(this.#sequences.at(-1) !== sequence, `segment ${sequence} twice`)
      this.#sequences.push(sequence)
      const startOffset = bytes.length + MARK_AREA_SIZE_BYTES
      this.#current = {
        key: { sequence, seed: this.#lastChecksum },
        file: must(file),
        markOffset: bytes.length,
        startOffset,
        offset: startOffset,
        flushedOffset: startOffset,
        markedOffset: startOffset,
        filledOffset: startOffset,
      }
      done(undefined)
    })
  }
}

function parentOf(path: string): string {
  return path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : ''
}
