/**
 * The log as the algorithm sees it: what is stored and what is not yet, as one, with the commit
 * index and how far entries were handed out and applied.
 */
import { assert } from '../base/assert.ts'
import { entriesSizeBytes, limitSize } from './entries.ts'
import type { Storage, StorageGap } from './storage.ts'
import type { Entry, RaftLogger, Snapshot } from './types.ts'
import { UnstableLog } from './unstable-log.ts'

/** Where a log ends, or any other position of it, together with the term there. */
export interface Position {
  readonly index: number
  readonly term: number
}

/** The whole log. Invariant: applied <= applying <= committed <= lastIndex(). */
export class RaftLog {
  readonly #storage: Storage
  readonly #logger: RaftLogger | undefined
  readonly #maxApplyingBytes: number
  readonly unstable: UnstableLog
  #committed: number
  #applying: number
  #applied: number
  /** Size of entries handed out to be applied and not reported back. */
  #applyingBytes = 0
  #isApplyingPaused = false

  constructor(storage: Storage, maxApplyingBytes: number, logger: RaftLogger | undefined) {
    this.#storage = storage
    this.#logger = logger
    this.#maxApplyingBytes = maxApplyingBytes
    this.unstable = new UnstableLog(storage.lastIndex() + 1, logger)
    // Whatever was compacted away was committed and applied.
    this.#committed = storage.firstIndex() - 1
    this.#applying = this.#committed
    this.#applied = this.#committed
  }

  /** The highest index known to be on a quorum's disks. */
  get committed(): number {
    return this.#committed
  }

  /** The highest index handed out to be applied. */
  get applying(): number {
    return this.#applying
  }

  /** The highest index reported as applied. */
  get applied(): number {
    return this.#applied
  }

  firstIndex(): number {
    return this.unstable.firstIndex() ?? this.#storage.firstIndex()
  }

  lastIndex(): number {
    return this.unstable.lastIndex() ?? this.#storage.lastIndex()
  }

  /** The last entry's index and term. */
  lastPosition(): Position {
    const index = this.lastIndex()
    const term = this.term(index)
    assert(typeof term === 'number', `the term of the last entry ${index} is ${term}`)
    return { index, term }
  }

  /** The term at an index from firstIndex - 1 on. */
  term(index: number): number | StorageGap {
    const unstable = this.unstable.term(index)
    if (unstable !== undefined) return unstable
    // The entry before the first one is gone, but its term is still needed to match against.
    if (index + 1 < this.firstIndex()) return 'compacted'
    if (index > this.lastIndex()) return 'unavailable'
    return this.#storage.term(index)
  }

  /** The term at an index, or 0 (which no entry has) if it isn't known. */
  termOrZero(index: number): number {
    const term = this.term(index)
    return typeof term === 'number' ? term : 0
  }

  /** Whether the log has this very entry. An entry that is gone can't be told, so: no. */
  matches(position: Position): boolean {
    return this.term(position.index) === position.term
  }

  /**
   * Thesis 3.6.1: "If the logs have last entries with different terms, then the log with the later
   * term is more up-to-date. If the logs end with the same term, then whichever log is longer is
   * more up-to-date." True if the other log is at least as up-to-date as this one.
   */
  isUpToDate(other: Position): boolean {
    const own = this.lastPosition()
    return other.term > own.term || (other.term === own.term && other.index >= own.index)
  }

  /**
   * Appends a leader's entries if the log has the entry before them, and commits as far as these
   * entries are known to agree. Returns the index of the last of them, or undefined if it hasn't.
   */
  maybeAppend(
    previous: Position,
    entries: readonly Entry[],
    leaderCommit: number,
  ): number | undefined {
    if (!this.matches(previous)) return undefined
    const lastNewIndex = previous.index + entries.length
    const position = this.#conflictPosition(entries)
    const first = entries[position]
    if (first !== undefined) {
      assert(
        first.index > this.#committed,
        `entry ${first.index} of term ${first.term} contradicts the committed ${this.#committed}`,
      )
      this.append(entries.slice(position))
    }
    // Entries after the last new one may still be a deposed leader's: they are not committed by
    // this.
    this.commitTo(Math.min(leaderCommit, lastNewIndex))
    return lastNewIndex
  }

  /** Puts entries at their indexes and drops whatever followed. Returns the new last index. */
  append(entries: readonly Entry[]): number {
    const first = entries[0]
    if (first !== undefined) {
      assert(
        first.index > this.#committed,
        `entry ${first.index} would replace a committed one (commit index ${this.#committed})`,
      )
      this.unstable.truncateAndAppend(entries)
    }
    return this.lastIndex()
  }

  /**
   * The last index up to `index` whose term is at most `term`, and its term: a guess where this log
   * ends agreeing with another of which only one entry is known. Terms never go down within a log,
   * so everything after it surely differs. Where a term isn't known, the guess ends with term 0.
   */
  findConflictByTerm(index: number, term: number): Position {
    for (let guess = index; guess > 0; guess--) {
      const own = this.term(guess)
      if (typeof own !== 'number') return { index: guess, term: 0 }
      if (own <= term) return { index: guess, term: own }
    }
    return { index: 0, term: 0 }
  }

  /** Moves the commit index forward, never back. */
  commitTo(index: number): void {
    if (index <= this.#committed) return
    const lastIndex = this.lastIndex()
    assert(
      index <= lastIndex,
      `commit index ${index} is beyond the last entry ${lastIndex}; was the log damaged or lost?`,
    )
    this.#committed = index
  }

  /** Commits up to an entry if it is new and of this term. */
  maybeCommit(position: Position): boolean {
    if (position.index <= this.#committed || position.term === 0) return false
    if (this.termOrZero(position.index) !== position.term) return false
    this.commitTo(position.index)
    return true
  }

  /** Takes over the stored commit index at start. */
  loadCommit(index: number): void {
    const lastIndex = this.lastIndex()
    assert(
      this.#committed <= index && index <= lastIndex,
      `the stored commit index ${index} is not within [${this.#committed}, ${lastIndex}]`,
    )
    this.#committed = index
  }

  /** Entries up to `index` are applied; `sizeBytes` of what was handed out came back with it. */
  appliedTo(index: number, sizeBytes: number): void {
    assert(
      this.#applied <= index && index <= this.#committed,
      `applied index ${index} is not within [${this.#applied}, ${this.#committed}]`,
    )
    this.#applied = index
    this.#applying = Math.max(this.#applying, index)
    this.#applyingBytes = Math.max(0, this.#applyingBytes - sizeBytes)
    this.#isApplyingPaused = this.#applyingBytes >= this.#maxApplyingBytes
  }

  /** Entries up to `index` were handed out to be applied. */
  acceptApplying(index: number, sizeBytes: number, allowUnstable: boolean): void {
    assert(
      index <= this.#committed,
      `entry ${index} handed out beyond the commit index ${this.#committed}`,
    )
    this.#applying = index
    this.#applyingBytes += sizeBytes
    // Less than everything was handed out only because the next entry would have been too much.
    this.#isApplyingPaused =
      this.#applyingBytes >= this.#maxApplyingBytes || index < this.#maxAppliable(allowUnstable)
  }

  /** Committed entries that may be handed out. With `allowUnstable` also those not yet stored. */
  nextCommittedEntries(allowUnstable: boolean): readonly Entry[] {
    if (!this.hasNextCommittedEntries(allowUnstable)) return []
    const budget = this.#maxApplyingBytes - this.#applyingBytes
    assert(
      budget > 0,
      `no room to apply: ${this.#applyingBytes} of ${this.#maxApplyingBytes} bytes`,
    )
    const entries = this.slice(this.#applying + 1, this.#maxAppliable(allowUnstable) + 1, budget)
    assert(entries !== 'compacted', `entries after ${this.#applying} were compacted unapplied`)
    return entries
  }

  hasNextCommittedEntries(allowUnstable: boolean): boolean {
    // A snapshot comes first: what to apply after it depends on its being installed.
    if (this.#isApplyingPaused || this.unstable.snapshot !== undefined) return false
    return this.#applying < this.#maxAppliable(allowUnstable)
  }

  /** Whether some committed and not yet applied entry satisfies `test`. Reads page by page. */
  someUnapplied(test: (entry: Entry) => boolean): boolean {
    const high = this.#committed + 1
    for (let low = this.#applied + 1; low < high;) {
      const page = this.slice(low, high, this.#maxApplyingBytes)
      assert(page !== 'compacted' && page.length > 0, `unapplied entry ${low} can't be read`)
      if (page.some(test)) return true
      low += page.length
    }
    return false
  }

  /** The newest snapshot there is. */
  snapshot(): Snapshot | 'unavailable' {
    return this.unstable.snapshot ?? this.#storage.snapshot()
  }

  /** Replaces the log by a snapshot. */
  restore(snapshot: Snapshot): void {
    const { index, term } = snapshot.metadata
    this.#logger?.info(
      `the log up to ${this.lastIndex()} (committed ${this.#committed}) ` +
        `is replaced by the snapshot at ${index} of term ${term}`,
    )
    this.#committed = index
    this.unstable.restore(snapshot)
  }

  /** Entries from `low` to the end, as many as fit. */
  entriesFrom(low: number, maxSizeBytes: number): readonly Entry[] | 'compacted' {
    return low > this.lastIndex() ? [] : this.slice(low, this.lastIndex() + 1, maxSizeBytes)
  }

  /** Entries from `low` to before `high`, as many as fit, but at least one. */
  slice(low: number, high: number, maxSizeBytes: number): readonly Entry[] | 'compacted' {
    const firstIndex = this.firstIndex()
    const lastIndex = this.lastIndex()
    assert(low <= high, `no slice from ${low} to ${high}`)
    if (low < firstIndex) return 'compacted'
    assert(high <= lastIndex + 1, `[${low}, ${high}) is not within [${firstIndex}, ${lastIndex}]`)
    if (low === high) return []

    const { offset } = this.unstable
    if (low >= offset) return limitSize(this.unstable.slice(low, high), maxSizeBytes)
    const cut = Math.min(high, offset)
    const stored = this.#storage.entries(low, cut, maxSizeBytes)
    if (stored === 'compacted') return stored
    assert(stored !== 'unavailable', `stored entries [${low}, ${cut}) are unavailable`)
    if (high <= offset || stored.length < cut - low) return stored

    const restBytes = maxSizeBytes - entriesSizeBytes(stored)
    if (restBytes <= 0) return stored
    const rest = limitSize(this.unstable.slice(offset, high), restBytes)
    // At least one is always returned, but here it is not the first and must fit like any other.
    if (rest.length === 1 && entriesSizeBytes(rest) > restBytes) return stored
    return [...stored, ...rest]
  }

  /** The position of the first entry that isn't in the log; the length if all are. */
  #conflictPosition(entries: readonly Entry[]): number {
    for (const [position, entry] of entries.entries()) {
      if (this.matches(entry)) continue
      if (entry.index <= this.lastIndex()) {
        const own = this.termOrZero(entry.index)
        this.#logger?.info(
          `entry ${entry.index} of term ${own} conflicts with one of ${entry.term}`,
        )
      }
      return position
    }
    return entries.length
  }

  #maxAppliable(allowUnstable: boolean): number {
    return allowUnstable ? this.#committed : Math.min(this.#committed, this.unstable.offset - 1)
  }
}
