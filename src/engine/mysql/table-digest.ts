/**
 * Digests of tables, made by the server: equal on two nodes if their tables hold the same rows,
 * whatever order they stand in. Only the digests come over the connection.
 */
import { DbError } from '../../base/errors.ts'
import { formatDigest, RowHash } from '../hash.ts'
import type { Connection } from './connection.ts'
import { quoteName, quoteText } from './render.ts'

export interface RowsAndDigest {
  readonly rows: number
  /** Sixteen hexadecimal digits. */
  readonly digest: string
}

/**
 * Digests one table, or all of a database, as the open transaction sees it. `server`: name of the
 * database there. Rejects with UNKNOWN_TABLE.
 */
export async function digestTables(
  connection: Connection,
  server: string,
  table: string | undefined,
): Promise<RowsAndDigest> {
  const tables = await connection.rows(
    'SELECT table_name FROM information_schema.tables WHERE table_schema = ' +
      `${quoteText(server)} AND table_type <> 'VIEW' ORDER BY table_name`,
  )
  const names = tables.map(([name]) => String(name))
  if (table !== undefined) {
    if (!names.includes(table)) throw new DbError('UNKNOWN_TABLE', `there is no table ${table}`)
    return digestTable(connection, server, table)
  }
  const hash = new RowHash()
  hash.reset()
  let rows = 0
  for (const name of names) {
    const one = await digestTable(connection, server, name)
    rows += one.rows
    hash.row([name, one.digest])
  }
  return { rows, digest: formatDigest(hash.digest()) }
}

async function digestTable(
  connection: Connection,
  server: string,
  table: string,
): Promise<RowsAndDigest> {
  const columns = await connection.rows(
    'SELECT column_name FROM information_schema.columns WHERE table_schema = ' +
      `${quoteText(server)} AND table_name = ${quoteText(table)} ` +
      // What is computed when it is read is in no row.
      "AND extra NOT LIKE '%VIRTUAL GENERATED%' ORDER BY ordinal_position",
  )
  // QUOTE tells NULL from a text, and where a value ends.
  const values = columns.map(([name]) => `QUOTE(CAST(${quoteName(String(name))} AS BINARY))`)
  const half = (start: number): string =>
    `COALESCE(SUM(CAST(CONV(SUBSTR(h, ${start}, 8), 16, 10) AS UNSIGNED)), 0) % 4294967296`
  const [[rows, low, high] = []] = await connection.rows(
    `SELECT COUNT(*), ${half(1)}, ${half(9)} FROM (SELECT MD5(CONCAT_WS(',', ` +
      `${values.join(', ')})) AS h FROM ${quoteName(server)}.${quoteName(table)}) AS hashes`,
  )
  return {
    rows: Number(rows),
    digest: formatDigest({ low: Number(low), high: Number(high) }),
  }
}
