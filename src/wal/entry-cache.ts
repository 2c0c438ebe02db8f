/** The newest entries in memory: all that are not yet written, and as many older ones as fit. */
import { assert, must } from '../base/assert.ts'
import { entrySizeBytes } from '../raft/entries.ts'
import type { Entry } from '../raft/types.ts'

const HEAD_SLACK_MIN = 1024

/** A window over the end of the log, from `firstIndex` to before `endIndex`. */
export class EntryCache {
  readonly #capacityBytes: number
  #entries: (Entry | undefined)[] = []
  /** Places before this one are empty; the array is cut only now and then. */
  #head = 0
  #firstIndex: number
  #sizeBytes = 0

  /** An empty window at the end of a log whose last entry is `lastIndex`. */
  constructor(lastIndex: number, capacityBytes: number) {
    this.#firstIndex = lastIndex + 1
    this.#capacityBytes = capacityBytes
  }

  get firstIndex(): number {
    return this.#firstIndex
  }

  get endIndex(): number {
    return this.#firstIndex + this.#entries.length - this.#head
  }

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  push(entry: Entry): void {
    assert(entry.index === this.endIndex, `entry ${entry.index} cached after ${this.endIndex - 1}`)
    this.#entries.push(entry)
    this.#sizeBytes += entrySizeBytes(entry)
  }

  /** Drops the entries from `index` on; the window may become empty and then begins at `index`. */
  truncate(index: number): void {
    while (this.#entries.length > this.#head && this.endIndex > index) {
      this.#sizeBytes -= entrySizeBytes(must(this.#entries.pop()))
    }
    if (index < this.#firstIndex) this.#firstIndex = index
  }

  /** Drops everything; the window begins at `index`. */
  clear(index: number): void {
    this.#entries = []
    this.#head = 0
    this.#sizeBytes = 0
    this.#firstIndex = index
  }

  /** Drops the entries up to `index`, whatever their size. */
  compact(index: number): void {
    while (this.#firstIndex <= index && this.#head < this.#entries.length) this.#dropFirst()
    if (this.#firstIndex <= index) this.clear(index + 1)
    this.#cut()
  }

  /** Drops the oldest entries until the rest fits, but none after `writtenIndex`. */
  evict(writtenIndex: number): void {
    while (this.#sizeBytes > this.#capacityBytes && this.#firstIndex <= writtenIndex) {
      this.#dropFirst()
    }
    this.#cut()
  }

  /** The entry at `index`, which must be in the window. */
  get(index: number): Entry {
    return must(this.#entries[this.#head + index - this.#firstIndex], `cached entry ${index}`)
  }

  #dropFirst(): void {
    this.#sizeBytes -= entrySizeBytes(must(this.#entries[this.#head]))
    // Let go at once: entries may be large.
    this.#entries[this.#head] = undefined
    this.#head++
    this.#firstIndex++
  }

  /** Cuts off the dropped entries once they are half of the array: constant cost per entry. */
  #cut(): void {
    if (this.#head < HEAD_SLACK_MIN && this.#head < this.#entries.length) return
    if (this.#head * 2 < this.#entries.length) return
    this.#entries = this.#entries.slice(this.#head)
    this.#head = 0
  }
}
