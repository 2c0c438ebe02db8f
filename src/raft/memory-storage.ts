/** Storage in memory, for tests and the simulator: the same reads as on disk, and the writes. */
import { assert } from '../base/assert.ts'
import { limitSize } from './entries.ts'
import type { Storage, StorageGap } from './storage.ts'
import {
  type ConfState,
  EMPTY_BYTES,
  EMPTY_CONF_STATE,
  EMPTY_HARD_STATE,
  type Entry,
  type HardState,
  type Snapshot,
} from './types.ts'

/** A log in memory that begins after its snapshot. */
export class MemoryStorage implements Storage {
  #hardState: HardState = EMPTY_HARD_STATE
  #snapshot: Snapshot = {
    metadata: { index: 0, term: 0, confState: EMPTY_CONF_STATE },
    data: EMPTY_BYTES,
  }
  /** Index and term of the entry before the first one. */
  #offset = 0
  #offsetTerm = 0
  #entries: Entry[] = []

  initialState(): { readonly hardState: HardState; readonly confState: ConfState } {
    return { hardState: this.#hardState, confState: this.#snapshot.metadata.confState }
  }

  firstIndex(): number {
    return this.#offset + 1
  }

  lastIndex(): number {
    return this.#offset + this.#entries.length
  }

  term(index: number): number | StorageGap {
    if (index < this.#offset) return 'compacted'
    if (index === this.#offset) return this.#offsetTerm
    return this.#entries[index - this.#offset - 1]?.term ?? 'unavailable'
  }

  entries(low: number, high: number, maxSizeBytes: number): readonly Entry[] | StorageGap {
    if (low <= this.#offset) return 'compacted'
    assert(high <= this.lastIndex() + 1, `entries to ${high}, but the last is ${this.lastIndex()}`)
    if (this.#entries.length === 0) return 'unavailable'
    return limitSize(
      this.#entries.slice(low - this.#offset - 1, high - this.#offset - 1),
      maxSizeBytes,
    )
  }

  snapshot(): Snapshot {
    return this.#snapshot
  }

  setHardState(hardState: HardState): void {
    this.#hardState = hardState
  }

  /** Installs a snapshot in place of everything. Refused if there is a newer one. */
  applySnapshot(snapshot: Snapshot): 'done' | 'out-of-date' {
    const { index, term } = snapshot.metadata
    if (this.#snapshot.metadata.index >= index) return 'out-of-date'
    this.#snapshot = snapshot
    this.#offset = index
    this.#offsetTerm = term
    this.#entries = []
    return 'done'
  }

  /** Makes a snapshot at an applied index, which compaction may then go up to. */
  createSnapshot(
    index: number,
    confState: ConfState | undefined,
    data: Uint8Array,
  ): Snapshot | 'out-of-date' {
    if (index <= this.#snapshot.metadata.index) return 'out-of-date'
    const term = this.term(index)
    assert(typeof term === 'number', `snapshot at ${index}, where the log is ${term}`)
    const metadata = {
      index,
      term,
      confState: confState ?? this.#snapshot.metadata.confState,
    }
    this.#snapshot = { metadata, data }
    return this.#snapshot
  }

  /** Drops entries up to and including `index`. */
  compact(index: number): 'done' | 'compacted' {
    if (index <= this.#offset) return 'compacted'
    const term = this.term(index)
    assert(typeof term === 'number', `can't compact up to ${index}, beyond ${this.lastIndex()}`)
    this.#entries = this.#entries.slice(index - this.#offset)
    this.#offset = index
    this.#offsetTerm = term
    return 'done'
  }

  /** Stores entries at their indexes, in place of whatever was there and after. */
  append(entries: readonly Entry[]): void {
    const fresh = entries.filter(entry => entry.index > this.#offset)
    const first = fresh[0]
    if (first === undefined) return
    assert(
      first.index <= this.lastIndex() + 1,
      `entry ${first.index} would leave a gap after ${this.lastIndex()}`,
    )
    this.#entries.length = first.index - this.#offset - 1
    for (const entry of fresh) this.#entries.push(entry)
  }
}
