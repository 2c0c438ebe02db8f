/**
 * Stored log of a node in the raft-only simulation: what the core sees, what the disk has kept, and
 * between them the writes that a power cut may lose. The whole simulation uses the real write-ahead
 * log instead; this one is fast.
 */
import { limitSize } from '../src/raft/entries.ts'
import type { Storage, StorageGap } from '../src/raft/storage.ts'
import {
  type ConfState,
  EMPTY_HARD_STATE,
  type Entry,
  type HardState,
  NO_ID,
  type Snapshot,
} from '../src/raft/types.ts'
import { assert } from '../src/base/assert.ts'
import type { SimRandom } from './sim-random.ts'

/** One write, flushed as a whole. */
export interface StorageBatch {
  readonly hardState?: HardState
  readonly entries: readonly Entry[]
  readonly snapshot?: Snapshot
}

/** A log that begins somewhere, with a snapshot at or after its beginning. */
class StoredLog implements Storage {
  hardState: HardState = EMPTY_HARD_STATE
  takeSnapshot: () => Snapshot | 'unavailable' = () => 'unavailable'
  #snapshot: Snapshot
  /** Index and term of the entry before the first one. */
  #offset: number
  #offsetTerm: number
  #entries: Entry[] = []

  constructor(base: Snapshot) {
    const { index, term } = base.metadata
    this.#snapshot = base
    this.#offset = index
    this.#offsetTerm = term
    if (index > 0) this.hardState = { term, vote: NO_ID, commit: index }
  }

  initialState(): { readonly hardState: HardState; readonly confState: ConfState } {
    // What was dropped was committed, even if the record that says so was not flushed any more.
    const { index } = this.#snapshot.metadata
    const commit = Math.max(this.hardState.commit, this.#offset, index)
    return {
      hardState: { ...this.hardState, commit },
      confState: this.#snapshot.metadata.confState,
    }
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
    const page = this.#entries.slice(low - this.#offset - 1, high - this.#offset - 1)
    return limitSize(page, maxSizeBytes)
  }

  /** Made when somebody needs it: an older one might not even know its receiver as a member. */
  snapshot(): Snapshot | 'unavailable' {
    return this.takeSnapshot()
  }

  /** The newest snapshot; at index 0 for a node that was born knowing nothing. */
  get base(): Snapshot {
    return this.#snapshot
  }

  write(batch: StorageBatch): void {
    const { snapshot, entries, hardState } = batch
    if (snapshot !== undefined) this.#install(snapshot)
    const first = entries.find(entry => entry.index > this.#offset)
    if (first !== undefined) {
      const kept = first.index - this.#offset - 1
      assert(kept <= this.#entries.length, `a gap in the stored log before ${first.index}`)
      this.#entries.length = kept
      for (const entry of entries) if (entry.index >= first.index) this.#entries.push(entry)
    }
    if (hardState !== undefined) this.hardState = hardState
  }

  compact(snapshot: Snapshot, dropTo: number): void {
    const term = this.term(dropTo)
    assert(typeof term === 'number', `compaction to ${dropTo}, where the log is ${term}`)
    this.#snapshot = snapshot
    this.#entries.splice(0, dropTo - this.#offset)
    this.#offset = dropTo
    this.#offsetTerm = term
  }

  copy(): StoredLog {
    const copy = new StoredLog(this.#snapshot)
    copy.hardState = this.hardState
    copy.#offset = this.#offset
    copy.#offsetTerm = this.#offsetTerm
    copy.#entries = [...this.#entries]
    return copy
  }

  #install(snapshot: Snapshot): void {
    const { index, term } = snapshot.metadata
    if (index <= this.#snapshot.metadata.index) return
    this.#snapshot = snapshot
    this.#offset = index
    this.#offsetTerm = term
    this.#entries = []
  }
}

export class SimRaftStorage {
  readonly #random: SimRandom
  readonly #durable: StoredLog
  #visible: StoredLog
  #pending: StorageBatch[] = []

  constructor(random: SimRandom, base: Snapshot) {
    this.#random = random
    this.#durable = new StoredLog(base)
    this.#visible = this.#durable.copy()
  }

  /** What the core reads in this life. */
  get visible(): Storage {
    return this.#visible
  }

  /** The snapshot from which this life begins. */
  get base(): Snapshot {
    return this.#visible.base
  }

  /** Who makes a snapshot of the state machine when the core asks for one, in this life. */
  set takeSnapshot(takeSnapshot: () => Snapshot | 'unavailable') {
    this.#visible.takeSnapshot = takeSnapshot
  }

  /** Visible to the core at once, on disk only after `flush`. */
  write(batch: StorageBatch): void {
    this.#pending.push(batch)
    this.#visible.write(batch)
  }

  /** The oldest `count` writes are on disk now. */
  flush(count: number): void {
    for (const batch of this.#pending.splice(0, count)) this.#durable.write(batch)
  }

  /** Keeps a snapshot of an applied (so flushed) index, and drops the log up to `dropTo`. */
  compact(snapshot: Snapshot, dropTo: number): void {
    const first = this.#visible.firstIndex()
    if (snapshot.metadata.index <= this.#visible.base.metadata.index || dropTo < first - 1) return
    this.#visible.compact(snapshot, dropTo)
    this.#durable.compact(snapshot, dropTo)
  }

  /**
   * Power is lost: some of the writes under way survive, in order, and of the first that doesn't a
   * part may, entries before the hard state that was written behind them.
   */
  crash(): void {
    const kept = this.#random.below(this.#pending.length + 1)
    const torn = this.#pending[kept]
    this.flush(kept)
    if (torn !== undefined && torn.snapshot === undefined && this.#random.chance(0.5)) {
      const count = this.#random.below(torn.entries.length + 1)
      this.#durable.write({ entries: torn.entries.slice(0, count) })
    }
    this.#pending = []
    this.#visible = this.#durable.copy()
  }

  /** The term that would be read at `index` after losing power now. */
  durableTerm(index: number): number | 'covered' | undefined {
    const term = this.#durable.term(index)
    if (term === 'compacted') return 'covered'
    return term === 'unavailable' ? undefined : term
  }
}
