/**
 * The last rowid, 2^63 - 1. Once a table holds it, SQLite chooses the next rowid by its own dice,
 * which no node can repeat: so no table may ever hold it.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'

/** 2^63 - 1. */
export const LAST_ROWID = 2n ** 63n - 1n
const ALIASES = ['rowid', '_rowid_', 'oid']

/** Looks for the last rowid in the tables that were written to. */
export class LastRowid {
  readonly #database: DatabaseSync
  /** How to look into each table; undefined for a view or a table without rowids. */
  readonly #statements = new Map<string, StatementSync | undefined>()

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** The first of the tables that holds it. */
  find(tables: Iterable<string>): string | undefined {
    for (const table of tables) {
      if (!this.#statements.has(table)) this.#statements.set(table, this.#prepare(table))
      if (this.#statements.get(table)?.get() !== undefined) return table
    }
    return undefined
  }

  /** To be called when what tables there are has changed. */
  clear(): void {
    for (const statement of this.#statements.values()) statement?.close()
    this.#statements.clear()
  }

  #prepare(table: string): StatementSync | undefined {
    const quoted = `"${table.replaceAll('"', '""')}"`
    const columns = this.#database.prepare(`PRAGMA main.table_info(${quoted})`)
    const rows = columns.all() as unknown as readonly (readonly [bigint, string])[]
    columns.close()
    const taken = new Set(rows.map(([, name]) => name.toLowerCase()))
    const rowid = ALIASES.find(alias => !taken.has(alias))
    if (rowid === undefined) return undefined
    try {
      return this.#database.prepare(`SELECT 1 FROM main.${quoted} WHERE ${rowid} = ${LAST_ROWID}`)
    } catch {
      // A view, or a table WITHOUT ROWID.
      return undefined
    }
  }
}
