/**
 * Which statements are *plain*: those that change rows, return none, are undone whole by SQLite
 * itself when they fail, ask for nothing that the connection carries on, and tell by their change
 * count alone whether they inserted a row. They need no savepoint around them and no mark before
 * them, each of which would cost as much as an insert.
 */
import type { DatabaseSync } from 'node:sqlite'
import { asksForState, scanStatement } from './scan.ts'
import type { PreparedStatement } from './prepared-statement.ts'

/** What may be in the way of every plain statement. */
const OBSTACLES =
  'SELECT sql FROM main.sqlite_schema ' +
  "WHERE sql LIKE '%fail%' OR sql LIKE 'CREATE VIRTUAL TABLE%'"
const VIRTUAL = /^CREATE VIRTUAL TABLE/i
const ROWIDS = "SELECT type, wr FROM pragma_table_list(?) WHERE schema = 'main'"

/** Judges the statements of one connection. */
export class PlainStatements {
  readonly #database: DatabaseSync
  /** Undefined until somebody needs to know. */
  #mayBePlain: boolean | undefined

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  has(prepared: PreparedStatement): boolean {
    const { kind, modifies, columns, isIndirect, inserts, updates } = prepared
    if (kind !== 'write' || !modifies || columns.length > 0 || isIndirect) return false
    if (prepared.readsConnectionState || asksForState(prepared.sql)) return false
    if (prepared.scan.saysFail) return false
    this.#mayBePlain ??= !this.#hasObstacles()
    if (!this.#mayBePlain) return false
    // An upsert counts rows that it updated; a table WITHOUT ROWID has no rowid to tell.
    return !inserts || (!updates && this.#hasRowids(prepared.insertsInto ?? ''))
  }

  /** To be called when what tables there are has changed. */
  clear(): void {
    this.#mayBePlain = undefined
  }

  /**
   * A constraint or a trigger that says FAIL keeps rows of a statement that fails. Virtual tables
   * hold back what is written to them, some of it until a savepoint.
   */
  #hasObstacles(): boolean {
    const texts = this.#database.prepare(OBSTACLES)
    const rows = texts.all() as unknown as readonly (readonly [string])[]
    texts.close()
    return rows.some(([sql]) => VIRTUAL.test(sql) || scanStatement(sql).saysFail)
  }

  #hasRowids(table: string): boolean {
    const statement = this.#database.prepare(ROWIDS)
    const row = statement.get(table) as unknown as readonly [string, bigint] | undefined
    statement.close()
    return row !== undefined && row[0] === 'table' && row[1] === 0n
  }
}
