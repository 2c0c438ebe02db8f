/** Notes of a node on its server: texts by name, one row each. */
import type { Connection } from './connection.ts'
import { ownDatabase } from './node-tables.ts'
import { quoteName, quoteText } from './render.ts'

/** The text of a note, undefined if there is none. */
export async function readNote(
  server: Pick<Connection, 'rows'>,
  prefix: string,
  name: string,
): Promise<string | undefined> {
  const rows = await server.rows(
    `SELECT value FROM ${noteTable(prefix)} WHERE name = ${quoteText(name)}`,
  )
  return rows[0] && String(rows[0][0])
}

/** The statement that writes a note, in place of one of its name. */
export function replaceNoteSql(prefix: string, name: string, value: string): string {
  return `REPLACE INTO ${noteTable(prefix)} VALUES (${quoteText(name)}, ${quoteText(value)})`
}

export function deleteNoteSql(prefix: string, name: string): string {
  return `DELETE FROM ${noteTable(prefix)} WHERE name = ${quoteText(name)}`
}

/** The table, as its name goes into statements. */
export function noteTable(prefix: string): string {
  return `${quoteName(ownDatabase(prefix))}.note`
}
