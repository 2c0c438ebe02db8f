/** The tables of the SQL databases, and the questions of the check, for all of them alike. */
import { LOADED_B, LOADED_ROWS, ROW_TEXT } from './operations.ts'
import type { Totals } from './system.ts'

const ROWS_PER_STATEMENT = 1000

/** Statements that make the tables and load the one that is read and updated. */
export function schema(idType: string, textType: string): string[] {
  const columns = `(id ${idType} PRIMARY KEY, a ${textType} NOT NULL, b BIGINT NOT NULL)`
  const statements = [`CREATE TABLE t ${columns}`, `CREATE TABLE r ${columns}`]
  for (let first = 1; first <= LOADED_ROWS; first += ROWS_PER_STATEMENT) {
    const rows = Array.from(
      { length: ROWS_PER_STATEMENT },
      (_, at) => `(${first + at}, '${ROW_TEXT}', ${LOADED_B})`,
    )
    statements.push(`INSERT INTO r (id, a, b) VALUES ${rows.join()}`)
  }
  return statements
}

/** Rows of numbers. */
export type Query = (sql: string) => Promise<readonly (readonly number[])[]>

export async function idsBy(query: Query, from: number, to: number): Promise<number[]> {
  const sql = `SELECT id FROM t WHERE id >= ${from} AND id < ${to} ORDER BY id`
  return (await query(sql)).map(([id = 0]) => id)
}

export async function totalsBy(query: Query, hasLoaded = true): Promise<Totals> {
  const [row] = await query('SELECT COUNT(*), COALESCE(SUM(id), 0) FROM t')
  const [loaded] = hasLoaded ? await query('SELECT SUM(b) FROM r') : []
  return { rows: row?.[0] ?? 0, idSum: row?.[1] ?? 0, loadedSum: loaded?.[0] ?? 0 }
}
