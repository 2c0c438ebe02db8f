/**
 * A digest over rows that doesn't depend on their order: equal on two replicas if their tables hold
 * the same values under the same rowids. Lockstep's own tables don't count.
 */
import type { DatabaseSync } from 'node:sqlite'
import { must } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import type { SqlValue } from '../../base/sql.ts'
import { formatDigest, RowHash } from '../hash.ts'
import { isReservedName } from './scan.ts'

/** What is read of a table before whoever reads it may pause. */
const STEP_BYTES = 256 * 1024
/** A generated column that isn't stored, in `pragma_table_xinfo`. */
const COMPUTED = 2n
/** What a row takes beside its values. */
const ROW_BYTES = 8

export interface RowsAndDigest {
  readonly rows: number
  /** Sixteen hexadecimal digits. */
  readonly digest: string
}

/** Digests one table, or the whole database with its schema. Throws `DbError` UNKNOWN_TABLE. */
export function digestDatabase(database: DatabaseSync, table: string | undefined): RowsAndDigest {
  const sum = new RowSum()
  const tables = listTables(database)
  if (table === undefined) {
    addSchema(database, sum)
    for (const each of tables) addWhole(database, each, sum)
    return { rows: sum.rows, digest: sum.digest() }
  }
  const lower = table.toLowerCase()
  const found = tables.find(({ name }) => name.toLowerCase() === lower)
  if (found === undefined) throw new DbError('UNKNOWN_TABLE', `there is no table ${table}`)
  addWhole(database, found, sum)
  return { rows: sum.rows, digest: sum.digest() }
}

/**
 * Adds all tables and the schema of a database to `sum`, in steps: yields after every few hundred
 * kilobytes how many bytes of values it has read. The tables in which FTS5 and R*Tree keep their
 * indexes count, too: they are made of the same steps on every node.
 */
export function* addDatabase(database: DatabaseSync, sum: RowSum): Generator<number, void> {
  addSchema(database, sum)
  for (const table of listTables(database)) yield* addTable(database, table, sum)
}

function addWhole(database: DatabaseSync, table: Table, sum: RowSum): void {
  const steps = addTable(database, table, sum)
  while (steps.next().done !== true);
}

interface Table {
  readonly name: string
  readonly hasRowid: boolean
}

/** Tables that hold rows of their own; a virtual table's are in its shadow tables. */
function listTables(database: DatabaseSync): readonly Table[] {
  const rows = all(
    database,
    "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' ORDER BY name",
  )
  const tables: Table[] = []
  for (const [name, type, wr] of rows) {
    const isTable = type === 'table' || type === 'shadow'
    const isSchema = name === 'sqlite_schema'
    if (!isTable || isSchema || isReservedName(String(name))) continue
    tables.push({ name: String(name), hasRowid: wr === 0n })
  }
  return tables
}

/** What tables, indexes, views and triggers there are, and the numbers a client may set. */
function addSchema(database: DatabaseSync, sum: RowSum): void {
  for (const row of all(database, 'SELECT type, name, tbl_name, sql FROM sqlite_schema')) {
    if (!isReservedName(String(row[2]))) sum.add('sqlite_schema', row)
  }
  for (const pragma of ['user_version', 'application_id']) {
    for (const row of all(database, `PRAGMA ${pragma}`)) sum.add(pragma, row)
  }
  // The schema's rows are no rows of the client's.
  sum.rows = 0
}

function* addTable(database: DatabaseSync, table: Table, sum: RowSum): Generator<number, void> {
  const sql = `SELECT name, hidden FROM pragma_table_xinfo(${quoteText(table.name)})`
  const columns = all(database, sql)
  const taken = new Set(columns.map(([name]) => String(name).toLowerCase()))
  const rowid = ['rowid', '_rowid_', 'oid'].find(alias => !taken.has(alias))
  // What is computed when it is read is in no row, and may fail for some.
  const stored = columns.filter(([, hidden]) => hidden !== COMPUTED)
  const shown = stored.map(([name]) => quoteName(String(name)))
  if (table.hasRowid && rowid !== undefined) shown.unshift(rowid)
  const statement = database.prepare(`SELECT ${shown.join(', ')} FROM ${source(database, table)}`)
  let sizeBytes = 0
  try {
    for (const row of statement.iterate()) {
      const values = row as unknown as readonly SqlValue[]
      sum.add(table.name, values)
      sizeBytes += sizeOfRow(values)
      if (sizeBytes < STEP_BYTES) continue
      yield sizeBytes
      sizeBytes = 0
    }
  } finally {
    statement.close()
  }
  yield sizeBytes
}

/** A table for a SELECT that may not read an index in its stead: that has pages of its own. */
function source(database: DatabaseSync, { name, hasRowid }: Table): string {
  const from = `main.${quoteName(name)}`
  if (hasRowid) return `${from} NOT INDEXED`
  const sql = `SELECT name FROM pragma_index_list(${quoteText(name)}) WHERE origin = 'pk'`
  const [primary] = must(all(database, sql)[0], `the primary key of ${name}`)
  return `${from} INDEXED BY ${quoteName(String(primary))}`
}

/** About what a row takes in its file. */
function sizeOfRow(row: readonly SqlValue[]): number {
  let sizeBytes = ROW_BYTES
  for (const value of row) {
    sizeBytes += typeof value === 'string' || value instanceof Uint8Array ? value.length : 4
  }
  return sizeBytes
}

/** Adds up the hashes of rows in two lanes, so that their order doesn't matter. */
export class RowSum {
  rows = 0
  #low = 0
  #high = 0
  readonly #hash = new RowHash()

  add(table: string, row: readonly SqlValue[]): void {
    this.#hash.reset()
    this.#hash.text(table)
    this.#hash.row(row)
    const { low, high } = this.#hash.digest()
    this.#low = (this.#low + low) >>> 0
    this.#high = (this.#high + high) >>> 0
    this.rows++
  }

  digest(): string {
    return formatDigest({ low: this.#low, high: this.#high })
  }
}

function all(database: DatabaseSync, sql: string): readonly (readonly SqlValue[])[] {
  const statement = database.prepare(sql)
  try {
    return statement.all() as unknown as readonly (readonly SqlValue[])[]
  } finally {
    statement.close()
  }
}

function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}
