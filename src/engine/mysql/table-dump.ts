/**
 * The rows of one table as INSERT statements, a chunk at a time, in the order of its primary key. A
 * table is held only while a chunk of it is read, so that a schema change waits for no more than
 * that; each chunk sees whether one came in between.
 */
import { DbError } from '../../base/errors.ts'
import type { SqlValue } from '../../base/sql.ts'
import { isLongRow, longRowStatements } from './long-rows.ts'
import type { ReadView } from './read-view.ts'
import { literal, quoteName, quoteText } from './render.ts'
import { withoutBreaks, withoutCounter } from './schema-text.ts'

/** A table as it was when the view began to see. */
export interface ViewedTable {
  /** Name of its database on the server. */
  readonly server: string
  readonly name: string
  /** As the server shows it. */
  readonly definition: string
}

interface Column {
  readonly name: string
  readonly type: string
  /** Of its texts, undefined if it holds none. */
  readonly charset: string | undefined
}

/** By what rows are found again after the last one that was read. */
interface Key {
  readonly isPrimary: boolean
  readonly columns: readonly { readonly column: Column; readonly at: number }[]
}

/** About as long are the statements, and what is read at once. */
const CHUNK_LENGTH = 256 * 1024
/** Wide rows after narrow ones: what comes beyond it is read again with the next chunk. */
const CHUNK_BYTES_MAX = 4 * 1024 * 1024
const ROWS_FIRST = 100
const ROWS_MAX = 2000
/** Without a key each chunk passes over all rows before it, so that there had better be few. */
const KEYLESS_ROWS_MAX = 20_000

const WHOLE_TYPES = new Set(['tinyint', 'smallint', 'mediumint', 'int', 'bigint', 'year'])
/** What the server compares with a literal just as it sorts it. */
const KEY_TYPES = new Set(
  [...WHOLE_TYPES].concat(
    ['decimal', 'date', 'datetime', 'timestamp', 'time', 'char', 'varchar', 'binary'],
    ['varbinary', 'uuid', 'inet4', 'inet6'],
  ),
)

/**
 * Statements that insert all rows of the table into one of its name. Rejects with SNAPSHOT_FAILED
 * if the table was changed since the view began.
 */
export async function* dumpTable(view: ReadView, table: ViewedTable): AsyncGenerator<string> {
  const columns = await readColumns(view, table)
  const key = await readKey(view, table, columns)
  await checkDefinition(view, table)
  await view.letGo()
  const names = columns.map(quotedName).join(', ')
  const insert = `INSERT INTO ${quoteName(table.name)} (${names}) VALUES `
  const rowsMax = key === undefined ? KEYLESS_ROWS_MAX : ROWS_MAX
  let count = ROWS_FIRST
  let passed = 0
  let last: readonly SqlValue[] | undefined
  for (;;) {
    const sql = selectChunk(table, columns, key, { last, passed, count })
    const bytesMax = count === 1 ? Infinity : CHUNK_BYTES_MAX
    const { rows, isCut } = await view.answer(sql, { maxRows: count, maxBytes: bytesMax })
    await checkDefinition(view, table)
    await view.letGo()
    let length = 0
    for (const line of toStatements(table.name, insert, columns, rows)) {
      length += line.length
      yield line
    }
    if (rows.length < count && !isCut) return
    passed += rows.length
    last = rows.at(-1) ?? last
    const fitting = Math.floor((rows.length * CHUNK_LENGTH) / Math.max(length, 1))
    count = Math.max(1, Math.min(fitting, rowsMax))
  }
}

/** Columns that hold values of their own, in their order. */
async function readColumns(view: ReadView, { server, name }: ViewedTable): Promise<Column[]> {
  // From here on nobody can change the table, until it is let go.
  await view.rows(`SELECT 1 FROM ${quoteName(server)}.${quoteName(name)} LIMIT 0`)
  const rows = await view.rows(
    'SELECT column_name, data_type, character_set_name FROM information_schema.columns ' +
      `WHERE table_schema = ${quoteText(server)} AND table_name = ${quoteText(name)} ` +
      "AND extra NOT LIKE '%VIRTUAL GENERATED%' AND extra NOT LIKE '%STORED GENERATED%' " +
      'ORDER BY ordinal_position',
  )
  return rows.map(([column, type, charset]) => ({
    name: String(column),
    type: String(type).toLowerCase(),
    charset: typeof charset === 'string' ? charset : undefined,
  }))
}

/** The primary key, or another unique one that serves. */
async function readKey(
  view: ReadView,
  { server, name }: ViewedTable,
  columns: readonly Column[],
): Promise<Key | undefined> {
  const rows = await view.rows(
    'SELECT index_name, column_name, sub_part, nullable FROM information_schema.statistics WHERE ' +
      `table_schema = ${quoteText(server)} AND table_name = ${quoteText(name)} ` +
      "AND non_unique = 0 AND index_type = 'BTREE' " +
      "ORDER BY index_name = 'PRIMARY' DESC, index_name, seq_in_index",
  )
  const keys = Map.groupBy(rows, ([index]) => String(index))
  for (const [index, parts] of keys) {
    const found = parts.map(([, column, part, nullable]) => {
      const at = columns.findIndex(each => each.name === column)
      const known = columns[at]
      const isWhole = part === null && nullable !== 'YES'
      return isWhole && known !== undefined && KEY_TYPES.has(known.type)
        ? { column: known, at }
        : undefined
    })
    const usable = found.filter(each => each !== undefined)
    if (usable.length === found.length) return { isPrimary: index === 'PRIMARY', columns: usable }
  }
  return undefined
}

/** The table is held: it is now what it was when the rows were read. */
async function checkDefinition(view: ReadView, table: ViewedTable): Promise<void> {
  const { server, name, definition } = table
  const [row] = await view.rows(`SHOW CREATE TABLE ${quoteName(server)}.${quoteName(name)}`)
  if (withoutCounter(String(row?.[1])) === withoutCounter(definition)) return
  const message = `the table ${name} was changed while all data were read`
  throw new DbError('SNAPSHOT_FAILED', message)
}

interface Chunk {
  /** The last row before it, and how many there are. */
  readonly last: readonly SqlValue[] | undefined
  readonly passed: number
  readonly count: number
}

function selectChunk(
  { server, name }: ViewedTable,
  columns: readonly Column[],
  key: Key | undefined,
  { last, passed, count }: Chunk,
): string {
  const select = `SELECT ${columns.map(toExpression).join(', ')}`
  const from = `FROM ${quoteName(server)}.${quoteName(name)}`
  // All of them in the order in which they are stored, which is the same for all of a view.
  if (key === undefined) return `${select} ${from} USE INDEX () LIMIT ${passed}, ${count}`
  const hint = key.isPrimary ? ' FORCE INDEX (PRIMARY)' : ''
  const after = last === undefined ? '' : ` WHERE ${isAfter(key, last)}`
  const order = key.columns.map(({ column }) => quotedName(column)).join(', ')
  return `${select} ${from}${hint}${after} ORDER BY ${order} LIMIT ${count}`
}

/** The rows behind one, in the order of the key. */
function isAfter({ columns }: Key, row: readonly SqlValue[]): string {
  const alternatives = columns.map(({ column, at }, place) => {
    const same = columns.slice(0, place).map(part => {
      return `${quotedName(part.column)} = ${toLiteral(part.column, row[part.at] ?? null)}`
    })
    return [...same, `${quotedName(column)} > ${toLiteral(column, row[at] ?? null)}`].join(' AND ')
  })
  return alternatives.map(each => `(${each})`).join(' OR ')
}

/** What gives all of a value: a FLOAT shows six digits only, and bits are a number to nobody. */
function toExpression(column: Column): string {
  const name = quotedName(column)
  if (column.type === 'float') return `CAST(${name} AS DOUBLE)`
  return column.type === 'bit' ? `HEX(${name})` : name
}

function* toStatements(
  table: string,
  insert: string,
  columns: readonly Column[],
  rows: readonly (readonly SqlValue[])[],
): Generator<string> {
  let statement = ''
  for (const values of rows) {
    const literals = values.map((value, at) => toLiteral(columns[at], value))
    if (isLongRow(literals)) {
      if (statement !== '') yield statement
      statement = ''
      yield* longRowStatements({ table, insert, columns, values, literals })
      continue
    }
    statement += `${statement === '' ? insert : ','}(${literals.join(',')})`
    if (statement.length < CHUNK_LENGTH) continue
    yield statement
    statement = ''
  }
  if (statement !== '') yield statement
}

/** A value as a literal without a line break, for its column. */
function toLiteral(column: Column | undefined, value: SqlValue): string {
  if (typeof value === 'number' && Object.is(value, -0)) return '-0e0'
  if (typeof value !== 'string') return literal(value)
  const type = column?.type ?? ''
  // What is more than a whole number of ours holds comes as its digits.
  if (type === 'decimal' || WHOLE_TYPES.has(type)) return value
  return type === 'bit' ? `0x${value}` : withoutBreaks(quoteText(value))
}

function quotedName({ name }: Column): string {
  return quoteName(name)
}
