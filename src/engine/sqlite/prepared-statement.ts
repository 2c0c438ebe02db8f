/** A prepared statement with what is known of it. */
import type { StatementSync } from 'node:sqlite'
import type { Scan } from './scan.ts'

/** What a statement does to the database. */
export type StatementKind = 'read' | 'write' | 'schema'

export interface PreparedStatement {
  readonly statement: StatementSync
  readonly sql: string
  readonly scan: Scan
  readonly kind: StatementKind
  /** It inserts rows, updates rows, does any of it or deletes, by itself and not by triggers. */
  readonly inserts: boolean
  readonly updates: boolean
  readonly modifies: boolean
  readonly readsConnectionState: boolean
  /** Tables and views that it, its triggers or its cascades insert into or update. */
  readonly tables: ReadonlySet<string>
  /** What it inserts into by itself. */
  readonly insertsInto: string | undefined
  /** A trigger or a view has a part in it. */
  readonly isIndirect: boolean
  /** EXPLAIN: its rows tell of this node's plan and are compared with nobody's. */
  readonly isExplain: boolean
  /** Names of the columns it returns; none if it returns no rows. */
  readonly columns: readonly string[]
  /** Where the next statement of the text begins, undefined after the last. */
  readonly next: number | undefined
  /** See plain-statements.ts; undefined until it is asked for. */
  isPlain: boolean | undefined
}
