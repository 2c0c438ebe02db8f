/**
 * What is to be known of the tables of a dump before their rows go to a cluster: what the server
 * computes by itself, and values that one server has and no node would take, or take for others.
 */
import { DbError } from '../base/errors.ts'
import type { RowRules } from './dump-rows.ts'
import { nameAt, unquote } from './dump-text.ts'

/** A table as far as its rows must fit. */
export interface DumpTable {
  readonly name: string
  readonly columns: readonly string[]
  /** The column whose ids the server makes. */
  readonly counter: string | undefined
  /** Columns that the server computes. */
  readonly generated: readonly string[]
  /** Columns of dates, with or without a time. */
  readonly dates: readonly string[]
  /** Columns that mean another moment in another time zone. */
  readonly moments: readonly string[]
}

/** Parts of a definition that are no columns. */
const NO_COLUMN =
  /^(?:(?:primary|unique|fulltext|spatial|foreign|key|index|constraint|check)\b|period\s+for\b)/i
const COUNTER = /\bauto_increment\b/i
const GENERATED = /\bgenerated\s+always\s+as\b/i
const TYPE = /^(?:`(?:[^`]|``)+`|\S+)\s+(\w+)/
const DATES = new Set(['date', 'datetime', 'timestamp'])
/** A month or a day that is 0: no node takes such a date. */
const NO_DATE = /^'(?:\d{4}-00-\d\d|\d{4}-\d\d-00)/
const DEFAULT = /\bdefault\s+('\d{4}-\d\d-\d\d)/i

/**
 * Reads the definitions of columns and keys. Throws INVALID_REQUEST for a default that no node
 * would take.
 */
export function readTable(name: string, parts: readonly string[]): DumpTable {
  const columns = parts.filter(part => part.startsWith('`') || !NO_COLUMN.test(part))
  const namesOf = (those: readonly string[]): string[] => those.map(part => nameAt(part, 0).name)
  const typeOf = (part: string): string => TYPE.exec(part)?.[1]?.toLowerCase() ?? ''
  const dates = columns.filter(part => DATES.has(typeOf(part)))
  for (const part of dates) {
    if (NO_DATE.test(DEFAULT.exec(part)?.[1] ?? '')) throw zeroDefault(name, nameAt(part, 0).name)
  }
  return {
    name,
    columns: namesOf(columns),
    counter: namesOf(columns.filter(part => COUNTER.test(part)))[0],
    generated: namesOf(columns.filter(part => GENERATED.test(part))),
    dates: namesOf(dates),
    moments: namesOf(dates.filter(part => typeOf(part) === 'timestamp')),
  }
}

/**
 * How rows of a table go, of which these columns are given. `isUtc`: the dump says that its moments
 * are in UTC.
 */
export function rulesOf(
  table: DumpTable,
  given: readonly string[] | undefined,
  isUtc: boolean,
): RowRules {
  const { name, counter } = table
  const columns = given ?? table.columns
  const placesOf = (those: readonly string[]): number[] =>
    those.map(column => columns.indexOf(column)).filter(at => at >= 0)
  const dates = placesOf(table.dates)
  const moments = isUtc ? [] : placesOf(table.moments)
  const [id] = counter === undefined ? [] : placesOf([counter])
  const check = (values: readonly string[]): void => {
    if (id !== undefined && isZero(values[id] ?? '')) throw zeroId(name, columns[id] ?? '')
    for (const at of dates) {
      const value = values[at] ?? ''
      if (NO_DATE.test(value)) throw zeroDate(name, columns[at] ?? '', value, values[0] ?? '')
    }
    for (const at of moments) {
      if (values[at]?.startsWith("'") === true) throw anyZone(name, columns[at] ?? '')
    }
  }
  return { generated: new Set(placesOf(table.generated)), check }
}

/** An id of 0 asks the server for a new one, whatever the dump was made with. */
function zeroId(table: string, column: string): DbError {
  const problem = `table ${table} has a row whose ${column} is 0`
  const advice = 'a column of AUTO_INCREMENT makes a new id of it; give the row another id'
  return invalid(`${problem}: ${advice}`)
}

function zeroDate(table: string, column: string, value: string, first: string): DbError {
  const row = `table ${table} has a row (${first.slice(0, 60)}, ...) whose ${column} is ${value}`
  return invalid(
    `${row}, which is no date to a node; on the old server make it NULL or a date, and dump again`,
  )
}

function zeroDefault(table: string, column: string): DbError {
  return invalid(
    `column ${column} of table ${table} has a default that is no date to a node; on the old ` +
      'server ALTER it to have no default, NULL or a date, and dump again',
  )
}

function anyZone(table: string, column: string): DbError {
  return invalid(
    `${column} of table ${table} is a TIMESTAMP, and the dump does not say in which time zone it ` +
      'is; make it without --skip-tz-utc and --compact, so that it is in UTC and says so',
  )
}

function isZero(value: string): boolean {
  return /^-?0+$/.test(value.startsWith("'") ? unquote(value) : value)
}

function invalid(message: string): DbError {
  return new DbError('INVALID_REQUEST', message)
}
