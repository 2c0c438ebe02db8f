/**
 * Whether a database of the name that a node needs for its own tables is somebody else's. What a
 * first start left that was broken off is ours: tables as they should be, and nothing in them.
 */
import { DbError } from '../../base/errors.ts'
import type { Connection } from './connection.ts'
import { quoteName, quoteText } from './render.ts'

/** Rejects with WRONG_DATA. `columns`: of our tables, by name. */
export async function refuseForeignTables(
  connection: Connection,
  database: string,
  columns: ReadonlyMap<string, readonly (string | undefined)[]>,
): Promise<void> {
  const rows = await connection.rows(
    'SELECT table_name, column_name FROM information_schema.columns ' +
      `WHERE table_schema = ${quoteText(database)} ORDER BY table_name, ordinal_position`,
  )
  const there = Map.groupBy(rows, ([table]) => String(table))
  for (const [table, list] of there) {
    const names = list.map(([, column]) => String(column)).join()
    if (names !== columns.get(table)?.join()) throw foreign(database, table)
    const name = `${quoteName(database)}.${quoteName(table)}`
    const [first] = await connection.rows(`SELECT 1 FROM ${name} LIMIT 1`)
    if (first !== undefined) throw foreign(database, table)
  }
}

function foreign(database: string, table: string): DbError {
  return new DbError(
    'WRONG_DATA',
    `the server has a database ${database} with a table ${table} that Lockstep did not make; ` +
      'choose another prefix',
  )
}
