/** The log as recovery reads it, record by record: what was said last about each index counts. */
import { must } from '../base/assert.ts'
import type { DbError } from '../base/errors.ts'
import type { HardState } from '../raft/types.ts'
import { damaged } from './damage.ts'
import { EntryLocator } from './entry-locator.ts'
import {
  ENTRY_HEAD_SIZE_BYTES,
  HARD_STATE_SIZE_BYTES,
  NUMBER_SIZE_BYTES,
  readHardState,
  readBase,
  readNumber,
  type LogBase,
} from './payload.ts'
import { RECORD_TYPES, type RecordHead, type SegmentWindow, payloadOffset } from './record.ts'
import type { SegmentHeader } from './segment-header.ts'
import type { ScannedBatch } from './segment-scan.ts'
import { TermRuns } from './term-runs.ts'

/** What replaying records gives. */
export class LogImage {
  readonly locator = new EntryLocator()
  #base: LogBase
  #hardState: HardState
  /**
   * Terms of the entries that were found. They begin after the base, or, until a later record moves
   * the base there, where the oldest segment begins.
   */
  #terms: TermRuns

  /** A log as the head of its oldest segment describes it. */
  constructor(header: SegmentHeader) {
    this.#base = header.base
    this.#hardState = header.hardState
    this.#terms = new TermRuns(header.previousIndex, header.previousTerm)
  }

  get base(): LogBase {
    return this.#base
  }

  get hardState(): HardState {
    return this.#hardState
  }

  get terms(): TermRuns {
    return this.#terms
  }

  get lastIndex(): number {
    return this.#terms.lastIndex
  }

  get lastTerm(): number {
    if (this.lastIndex === this.#base.index) return this.#base.term
    return must(this.#terms.termAt(this.lastIndex))
  }

  /** Replays one batch of the segment at `path`. Throws CORRUPT if it can't be true. */
  applyBatch(batch: ScannedBatch, path: string): void {
    for (const head of batch.records) {
      const reason = this.#apply(head, batch.window)
      if (reason !== undefined) throw damaged(path, head.offset, reason)
    }
  }

  /** What is wrong when all segments, from the one at `path` on, were replayed. */
  findFault(path: string): DbError | undefined {
    const { commit } = this.#hardState
    if (this.#terms.baseIndex > this.#base.index) {
      const gap = `${this.#base.index + 1} to ${this.#terms.baseIndex}`
      return damaged(path, 0, `no file holds the entries ${gap}, which should be before it`)
    }
    if (commit > this.lastIndex) {
      return damaged(
        path,
        0,
        `entry ${commit} was committed, and the log ends at ${this.lastIndex}`,
      )
    }
    return undefined
  }

  /** Replays one record; the reason if that is impossible. */
  #apply(head: RecordHead, window: SegmentWindow): string | undefined {
    const position = payloadOffset(head) - window.start
    const sizeBytes = head.payloadSizeBytes
    const { view } = window
    switch (head.type) {
      case RECORD_TYPES.normalEntry:
      case RECORD_TYPES.configEntry: {
        if (sizeBytes < ENTRY_HEAD_SIZE_BYTES) return 'an entry is too short'
        return this.#applyEntry(head, window)
      }
      case RECORD_TYPES.hardState: {
        if (sizeBytes !== HARD_STATE_SIZE_BYTES) return 'a hard state is of a wrong size'
        this.#hardState = readHardState(view, position)
        return undefined
      }
      case RECORD_TYPES.truncate: {
        if (sizeBytes !== NUMBER_SIZE_BYTES) return 'a truncation is of a wrong size'
        return this.#applyTruncation(readNumber(view, position))
      }
      case RECORD_TYPES.base:
      case RECORD_TYPES.reset: {
        const metadata = readBase(view, position, sizeBytes)
        if (metadata === undefined) return 'a base is not readable'
        if (head.type === RECORD_TYPES.base) return this.#applyBase(metadata)
        this.#base = metadata
        this.#terms = new TermRuns(metadata.index, metadata.term)
        this.locator.clear()
        return undefined
      }
      default:
        return `a record is of type ${head.type}, which this version doesn't know`
    }
  }

  #applyEntry(head: RecordHead, window: SegmentWindow): string | undefined {
    const position = payloadOffset(head) - window.start
    const term = readNumber(window.view, position)
    const index = readNumber(window.view, position + NUMBER_SIZE_BYTES)
    if (index !== this.lastIndex + 1) return `entry ${index} follows entry ${this.lastIndex}`
    if (term < this.lastTerm) return `entry ${index} is of term ${term}, after ${this.lastTerm}`
    this.#terms.append(index, term)
    const dataSizeBytes = head.payloadSizeBytes - ENTRY_HEAD_SIZE_BYTES
    this.locator.append(index, window.key, head.offset, dataSizeBytes)
    return undefined
  }

  #applyTruncation(index: number): string | undefined {
    if (index <= this.#base.index || index > this.lastIndex) {
      return `truncation from ${index} of a log from ${this.#base.index + 1} to ${this.lastIndex}`
    }
    if (index > this.#terms.baseIndex) {
      this.#terms.truncate(index)
      this.locator.truncate(index)
      return undefined
    }
    // It reaches back into segments that are gone. Their terms are never asked for: the base must
    // have come to the entry before this one, or this log is refused.
    this.#terms = new TermRuns(index - 1, 0)
    this.locator.clear()
    return undefined
  }

  #applyBase(metadata: LogBase): string | undefined {
    const { index } = metadata
    if (index < this.#base.index || index > this.lastIndex) {
      return `base ${index} of a log from ${this.#base.index} to ${this.lastIndex}`
    }
    this.#base = metadata
    if (index >= this.#terms.baseIndex) {
      this.#terms.compact(index)
      this.locator.compact(index)
    }
    return undefined
  }
}
