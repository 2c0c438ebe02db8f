/** What waits to be written. Operations of one batch reach the disk together or not at all. */
import type { Entry, HardState } from '../raft/types.ts'
import type { LogBase } from './payload.ts'

/** One call of `append`, `compact` or `flush`; its parts are written in the order of the fields. */
export interface Operation {
  /** Installs a snapshot: all entries before are void. */
  readonly reset?: LogBase
  /** Entries from this index on are replaced. Only together with `entries`. */
  readonly truncateFrom?: number
  readonly entries: readonly Entry[]
  readonly base?: LogBase
  readonly hardState?: HardState
  /** Whether `done` has to wait for a flush. */
  readonly mustSync: boolean
  /**
   * Last index of the log with this operation, lowered when a later one replaces entries of it:
   * what may be called written and flushed once this operation is.
   */
  validIndex: number
  readonly done: () => void
}
