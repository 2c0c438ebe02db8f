/** The SQL of an insert Command: one row or many, as arrays or objects. */
import { DbError } from '../base/errors.ts'
import type { SqlValue, Statement } from '../base/sql.ts'
import { type Dialect, insertVerb } from './dialect.ts'
import { quoteColumn, quoteName } from './identifiers.ts'
import { decodeValue, isTaggedValue } from './values.ts'

/** An insert Command whose shape was checked. */
export interface CheckedInsert {
  readonly table: string
  readonly columns?: readonly string[] | undefined
  readonly values?: unknown
  readonly on_conflict?: 'ignore' | 'replace' | undefined
  readonly returning?: readonly string[] | undefined
}

/**
 * Rows per statement: enough that the cost of a statement is shared, few enough that its text
 * stays short and is found prepared the next time. Measured best between 10 and 50 rows.
 */
const ROWS_MAX = 50
const VALUES_MAX = 256

interface Row {
  /** Undefined: every column of the table, in its order. */
  readonly columns: readonly string[] | undefined
  readonly values: readonly SqlValue[]
}

/** Compiles an insert. Throws INVALID_REQUEST naming the row at fault under `path`. */
export function compileInsert(
  command: CheckedInsert,
  path: string,
  dialect: Dialect = 'sqlite',
): Statement[] {
  const prefix = path === '' ? '' : `${path}.`
  const rows = readRows(command, `${prefix}values`)
  const table = quoteName(command.table, `${prefix}table`, dialect)
  const head = `${insertVerb(command.on_conflict, dialect)} INTO ${table}`
  const tail = returning(command, `${prefix}returning`, dialect)
  const statements: Statement[] = []
  for (let start = 0; start < rows.length;) {
    const end = endOfRun(rows, start)
    statements.push(insertRun({ head, tail, dialect }, rows.slice(start, end), `${prefix}columns`))
    start = end
  }
  return statements
}

/** Where the rows that can share one statement with the row at `start` end. */
function endOfRun(rows: readonly Row[], start: number): number {
  const first = rows[start]
  const width = first?.values.length ?? 0
  const limit = width === 0 ? 1 : Math.min(ROWS_MAX, Math.max(1, Math.floor(VALUES_MAX / width)))
  let end = start + 1
  while (end < rows.length && end - start < limit && hasSameColumns(rows[end], first)) end += 1
  return end
}

function hasSameColumns(a: Row | undefined, b: Row | undefined): boolean {
  if (a === undefined || b === undefined) return false
  if (a.columns === b.columns) return a.values.length === b.values.length
  if (a.columns?.length !== b.columns?.length) return false
  return a.columns?.every((name, at) => name === b.columns?.[at]) ?? false
}

interface Frame {
  readonly head: string
  readonly tail: string
  readonly dialect: Dialect
}

function insertRun({ head, tail, dialect }: Frame, rows: readonly Row[], path: string): Statement {
  const { columns, values } = rows[0] ?? { columns: undefined, values: [] }
  if (values.length === 0) {
    const nothing = dialect === 'mysql' ? '() VALUES ()' : 'DEFAULT VALUES'
    return { sql: `${head} ${nothing}${tail}`, params: [] }
  }
  const names = columns?.map((name, at) => quoteName(name, `${path}[${at}]`, dialect)).join(', ')
  const list = names === undefined ? '' : ` (${names})`
  const marks = `(${values.map(() => '?').join(', ')})`
  const sql = `${head}${list} VALUES ${rows.map(() => marks).join(', ')}${tail}`
  return { sql, params: rows.flatMap(row => row.values) }
}

function returning(command: CheckedInsert, path: string, dialect: Dialect): string {
  if (command.returning === undefined) return ''
  const parts = command.returning.map((column, at) => {
    const name = quoteColumn(command.table, column, `${path}[${at}]`, dialect)
    return `${name} AS ${quoteName(column, `${path}[${at}]`, dialect)}`
  })
  return ` RETURNING ${parts.join(', ')}`
}

function readRows(command: CheckedInsert, path: string): Row[] {
  const { values, columns } = command
  if (isRow(values)) return [readRow(values, columns, path)]
  if (!Array.isArray(values)) throw invalid(path, 'must be a row or an array of rows')
  if (values.length === 0) throw invalid(path, 'must hold at least one row')
  const isMany = values.some(value => Array.isArray(value) || isRow(value))
  if (!isMany) return [readRow(values, columns, path)]
  const rows = values.map((row: unknown, at) => readRow(row, columns, `${path}[${at}]`))
  const isArrays = Array.isArray(values[0])
  const width = rows[0]?.values.length
  for (const [at, row] of rows.entries()) {
    if (Array.isArray(values[at]) !== isArrays) {
      throw invalid(`${path}[${at}]`, 'all rows must be arrays, or all objects')
    }
    if (isArrays && row.values.length !== width) {
      throw invalid(`${path}[${at}]`, `has ${row.values.length} values where others have ${width}`)
    }
  }
  return rows
}

/** An object of columns, or an array inside the array of rows. A tagged value is neither. */
function isRow(json: unknown): boolean {
  return typeof json === 'object' && json !== null && !Array.isArray(json) && !isTaggedValue(json)
}

function readRow(json: unknown, columns: readonly string[] | undefined, path: string): Row {
  if (Array.isArray(json)) {
    if (columns !== undefined && json.length !== columns.length) {
      throw invalid(path, `has ${json.length} values for ${columns.length} columns`)
    }
    if (json.length === 0) throw invalid(path, 'must hold at least one value')
    return { columns, values: json.map((value, at) => decodeValue(value, `${path}[${at}]`)) }
  }
  if (typeof json !== 'object' || json === null || !isRow(json)) {
    throw invalid(path, 'must be a row: an array of values or an object of columns')
  }
  if (columns !== undefined) throw invalid(path, 'columns goes with rows that are arrays')
  const entries = Object.entries(json)
  return {
    columns: entries.map(([name]) => name),
    values: entries.map(([name, value]) => decodeValue(value, `${path}.${name}`)),
  }
}

function invalid(path: string, problem: string): DbError {
  return new DbError('INVALID_REQUEST', `${path}: ${problem}`)
}
