/**
 * The end of the log that is not known to be on disk: entries and perhaps a snapshot, some of them
 * on their way there. They stay here, and are read from here, until the disk has surely got them.
 */
import { assert } from '../base/assert.ts'
import type { Entry, RaftLogger, Snapshot } from './types.ts'

/** The part of the log that storage may not have yet. */
export class UnstableLog {
  readonly #logger: RaftLogger | undefined
  #snapshot: Snapshot | undefined
  #isSnapshotInProgress = false
  /** The entry at position i has index #offset + i. */
  #entries: Entry[] = []
  /**
   * May be below storage's last index: then the next write cuts off what is stored from here on.
   */
  #offset: number
  /** Entries before this index are being written. Invariant: #offset <= #offsetInProgress. */
  #offsetInProgress: number

  constructor(offset: number, logger: RaftLogger | undefined) {
    this.#offset = offset
    this.#offsetInProgress = offset
    this.#logger = logger
  }

  /** Index of the first entry that is, or would be, here. */
  get offset(): number {
    return this.#offset
  }

  get offsetInProgress(): number {
    return this.#offsetInProgress
  }

  get entryCount(): number {
    return this.#entries.length
  }

  /** The snapshot that waits to be installed or is being installed. */
  get snapshot(): Snapshot | undefined {
    return this.#snapshot
  }

  /** First index of the whole log, if a snapshot here decides it. */
  firstIndex(): number | undefined {
    return this.#snapshot === undefined ? undefined : this.#snapshot.metadata.index + 1
  }

  /** Last index of the whole log, if it is here. */
  lastIndex(): number | undefined {
    if (this.#entries.length > 0) return this.#offset + this.#entries.length - 1
    return this.#snapshot?.metadata.index
  }

  /** The term at an index, if it is here. */
  term(index: number): number | undefined {
    if (index < this.#offset) {
      const metadata = this.#snapshot?.metadata
      return metadata?.index === index ? metadata.term : undefined
    }
    return this.#entries[index - this.#offset]?.term
  }

  /** Entries that nobody has begun to write. */
  nextEntries(): readonly Entry[] {
    return this.#entries.slice(this.#offsetInProgress - this.#offset)
  }

  hasNextEntries(): boolean {
    return this.#offset + this.#entries.length > this.#offsetInProgress
  }

  /** The snapshot, if nobody has begun to install it. */
  nextSnapshot(): Snapshot | undefined {
    return this.#isSnapshotInProgress ? undefined : this.#snapshot
  }

  /** Everything here is being written from now on. */
  acceptInProgress(): void {
    this.#offsetInProgress = Math.max(this.#offsetInProgress, this.#offset + this.#entries.length)
    if (this.#snapshot !== undefined) this.#isSnapshotInProgress = true
  }

  /**
   * Entries up to this one are on disk and can't be overwritten by a write still under way. The
   * term tells whether what was written is what is here: the entry may have been replaced since.
   */
  stableTo(index: number, term: number): void {
    const here = this.term(index)
    if (here === undefined) {
      this.#logger?.debug(`entry ${index} is stored, but no longer unstable; ignored`)
      return
    }
    if (index < this.#offset) {
      this.#logger?.info(`stored index ${index} is the snapshot's, not an entry's; ignored`)
      return
    }
    if (here !== term) {
      this.#logger?.info(
        `stored entry ${index} of term ${term} was replaced by term ${here}; ignored`,
      )
      return
    }
    this.#entries = this.#entries.slice(index + 1 - this.#offset)
    this.#offset = index + 1
    this.#offsetInProgress = Math.max(this.#offsetInProgress, this.#offset)
  }

  /** The snapshot at this index is installed. */
  stableSnapshotTo(index: number): void {
    if (this.#snapshot?.metadata.index !== index) return
    this.#snapshot = undefined
    this.#isSnapshotInProgress = false
  }

  /** The whole log is replaced by a snapshot. */
  restore(snapshot: Snapshot): void {
    this.#offset = snapshot.metadata.index + 1
    this.#offsetInProgress = this.#offset
    this.#entries = []
    this.#snapshot = snapshot
    this.#isSnapshotInProgress = false
  }

  /** Puts entries at their indexes and drops whatever followed. */
  truncateAndAppend(entries: readonly Entry[]): void {
    const from = entries[0]?.index
    assert(from !== undefined, 'nothing to append')
    const end = this.#offset + this.#entries.length
    assert(from <= end, `entry ${from} would leave a gap after ${end - 1}`)
    if (from <= this.#offset) {
      if (from < end) this.#logger?.info(`the unstable entries are replaced from index ${from}`)
      this.#entries = []
      this.#offset = from
      this.#offsetInProgress = from
    } else if (from < end) {
      this.#logger?.info(`the unstable entries are cut before index ${from}`)
      this.#entries = this.#entries.slice(0, from - this.#offset)
      this.#offsetInProgress = Math.min(this.#offsetInProgress, from)
    }
    for (const entry of entries) this.#entries.push(entry)
  }

  /** Entries from `low` to before `high`, all of which must be here. */
  slice(low: number, high: number): readonly Entry[] {
    const end = this.#offset + this.#entries.length
    assert(
      this.#offset <= low && low <= high && high <= end,
      `entries [${low}, ${high}) are not within the unstable [${this.#offset}, ${end})`,
    )
    return this.#entries.slice(low - this.#offset, high - this.#offset)
  }
}
