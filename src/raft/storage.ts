/**
 * The stored log as the core reads it. The core never writes: what is to be stored leaves it in a
 * Ready, and whoever drives it stores that and makes it visible here.
 */
import type { ConfState, Entry, HardState, Snapshot } from './types.ts'

/**
 * Why stored entries can't be read: `compacted`, they lie before the first index; `unavailable`,
 * they lie after the last one.
 */
export type StorageGap = 'compacted' | 'unavailable'

/**
 * A synchronous view of what is stored: a snapshot (perhaps only its metadata) and the entries
 * after it. Entries handed out may be shared and must never be changed by either side.
 */
export interface Storage {
  /** What was stored when the node started. Called once. */
  initialState(): { readonly hardState: HardState; readonly confState: ConfState }
  /** Index of the first entry that can still be read; last index + 1 if there is none. */
  firstIndex(): number
  /** Index of the last entry, or of the snapshot if there is none after it. */
  lastIndex(): number
  /** Term of the entry at `index`, which may also be firstIndex - 1. */
  term(index: number): number | StorageGap
  /**
   * Entries from `low` to before `high`, as many as fit into `maxSizeBytes`, but at least one.
   * Sizes are as `entrySizeBytes` counts them.
   */
  entries(low: number, high: number, maxSizeBytes: number): readonly Entry[] | StorageGap
  /** The newest snapshot, or `unavailable` while one is being made. */
  snapshot(): Snapshot | 'unavailable'
}
