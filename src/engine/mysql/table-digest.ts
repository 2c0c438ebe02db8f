/**
 * Digests of tables, made by the server: equal on two nodes if their tables hold the same rows,
 * whatever order they stand in. Only the digests come over the connection.
 */
import { DbError } from '../../base/errors.ts'
import type { SqlValue } from '../../base/sql.ts'
import { formatDigest, RowHash } from '../hash.ts'
import { quoteName, quoteText } from './render.ts'

export interface RowsAndDigest {
  readonly rows: number
  /** Sixteen hexadecimal digits. */
  readonly digest: string
}

/** What must be known of a table to digest its rows. */
export interface TableShape {
  /** Name of the database on the server. */
  readonly server: string
  readonly name: string
  /** An expression for each column that is in the rows: a text that differs if the value does. */
  readonly values: readonly string[]
  /** The columns of the primary key, if rows can be read from any of its values on. */
  readonly key: readonly string[] | undefined
}

/** Asks the server, and gives the rows of the answer. */
export type Ask = (sql: string) => Promise<readonly (readonly SqlValue[])[]>

/** Adds up the hashes of rows, so that their order doesn't matter. */
export class RowSum {
  #rows = 0
  #sum = 0n

  /** `rows`: how many they are. `sum`: of their hashes, a whole number without a sign. */
  add(rows: SqlValue | undefined, sum: SqlValue | undefined): void {
    this.#rows += Number(rows ?? 0)
    this.#sum = BigInt.asUintN(64, this.#sum + BigInt(String(sum ?? 0)))
  }

  get result(): RowsAndDigest {
    return { rows: this.#rows, digest: this.#sum.toString(16).padStart(16, '0') }
  }
}

/** Values of these may be longer than the server lets a text be that it puts together. */
const LONG = /text|blob|json|geometry|point|linestring|polygon/
const SHORT_TEXT = new Set(['char', 'varchar', 'binary', 'varbinary', 'enum', 'set'])
/** A value of these, kept by the server, compares with the column as the primary key is sorted. */
const ORDERED = new RegExp(
  '^(?:(?:tiny|small|medium|big)?int|decimal|(?:var)?char|(?:var)?binary|date|datetime|timestamp|' +
    'time|year|uuid|inet[46])$',
)

/**
 * Digests one table, or all of a database, as the open transaction sees it. `server`: name of the
 * database there. Rejects with UNKNOWN_TABLE.
 */
export async function digestTables(
  ask: Ask,
  server: string,
  table: string | undefined,
): Promise<RowsAndDigest> {
  const shapes = await readShapes(ask, [server])
  if (table !== undefined) {
    const shape = shapes.find(({ name }) => name === table)
    if (shape === undefined) throw new DbError('UNKNOWN_TABLE', `there is no table ${table}`)
    return digestWhole(ask, shape)
  }
  const hash = new RowHash()
  hash.reset()
  let rows = 0
  for (const shape of shapes) {
    const one = await digestWhole(ask, shape)
    rows += one.rows
    hash.row([shape.name, one.digest])
  }
  return { rows, digest: formatDigest(hash.digest()) }
}

async function digestWhole(ask: Ask, shape: TableShape): Promise<RowsAndDigest> {
  const sum = new RowSum()
  const [[rows, hashes] = []] = await ask(sumSql(shape, ''))
  sum.add(rows, hashes)
  return sum.result
}

/** Asks for the number of rows and the sum of their hashes. `which`: what follows the table. */
export function sumSql({ server, name, values }: TableShape, which: string): string {
  const table = `${quoteName(server)}.${quoteName(name)}`
  return (
    'SELECT COUNT(*), COALESCE(SUM(CAST(CONV(SUBSTR(h, 1, 16), 16, 10) AS UNSIGNED)), 0) ' +
    `FROM (SELECT MD5(CONCAT_WS(',', ${values.join(', ')})) AS h FROM ${table} ${which}) AS hashes`
  )
}

/** The shapes of all tables of some databases, by database and name. */
export async function readShapes(
  ask: Ask,
  servers: readonly string[],
): Promise<readonly TableShape[]> {
  if (servers.length === 0) return []
  const names = servers.map(quoteText).join(', ')
  // A view is no table: what it shows is in others.
  const columns = await ask(
    'SELECT c.table_schema, c.table_name, c.column_name, c.data_type ' +
      'FROM information_schema.columns AS c JOIN information_schema.tables AS t ' +
      'ON t.table_schema = c.table_schema AND t.table_name = c.table_name ' +
      `WHERE c.table_schema IN (${names}) AND t.table_schema IN (${names}) ` +
      "AND t.table_type <> 'VIEW' " +
      // What is computed when it is read is in no row.
      "AND c.extra NOT LIKE '%VIRTUAL GENERATED%' ORDER BY c.ordinal_position",
  )
  const parts = await ask(
    'SELECT table_schema, table_name, column_name, sub_part FROM information_schema.statistics ' +
      `WHERE table_schema IN (${names}) AND index_name = 'PRIMARY' ORDER BY seq_in_index`,
  )
  const keys = groupByTable(parts)
  const shapes: TableShape[] = []
  for (const list of groupByTable(columns).values()) {
    const [first] = list
    const [server, name] = [String(first?.[0]), String(first?.[1])]
    const types = new Map(list.map(([, , column, type]) => [String(column), String(type)]))
    const key = keys.get(tableId(server, name)) ?? []
    const isOrdered = key.every(
      ([, , column, part]) => part === null && ORDERED.test(types.get(String(column)) ?? ''),
    )
    shapes.push({
      server,
      name,
      values: [...types].map(([column, type]) => valueOf(quoteName(column), type)),
      key: key.length > 0 && isOrdered ? key.map(row => quoteName(String(row[2]))) : undefined,
    })
  }
  return shapes.toSorted((a, b) => (tableId(a.server, a.name) < tableId(b.server, b.name) ? -1 : 1))
}

/** Tells NULL from any value, and where a value ends. */
function valueOf(column: string, type: string): string {
  if (SHORT_TEXT.has(type)) return `QUOTE(CAST(${column} AS BINARY))`
  if (LONG.test(type)) return `IFNULL(MD5(${column}), '-')`
  // As a text a FLOAT is rounded.
  if (type === 'float') return `IFNULL(CAST(${column} AS DOUBLE), '-')`
  if (type === 'bit') return `IFNULL(${column} + 0, '-')`
  return `IFNULL(CAST(${column} AS BINARY), '-')`
}

function groupByTable(
  rows: readonly (readonly SqlValue[])[],
): ReadonlyMap<string, readonly (readonly SqlValue[])[]> {
  return Map.groupBy(rows, ([server, name]) => tableId(String(server), String(name)))
}

function tableId(server: string, name: string): string {
  return `${server}/${name}`
}
