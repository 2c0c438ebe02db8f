/**
 * A row that is too long for one statement: its long values are put together in variables, slice by
 * slice, so that no server need take longer statements than those of clients. A value that is too
 * long for a server at all is told apart from a statement that is garbled.
 */
import { DbError } from '../../base/errors.ts'
import type { SqlValue } from '../../base/sql.ts'
import { literal, quoteText } from './render.ts'
import { withoutBreaks } from './schema-text.ts'

/** What may have a long value. */
export interface LongColumn {
  readonly name: string
  /** Undefined for bytes. */
  readonly charset: string | undefined
}

/** A row, with its values as literals, too. */
export interface LongRow {
  readonly table: string
  /** `INSERT INTO ... VALUES `. */
  readonly insert: string
  readonly columns: readonly LongColumn[]
  readonly values: readonly SqlValue[]
  readonly literals: readonly string[]
}

/** A value that some servers can't hold. */
interface LongValue {
  readonly table: string
  readonly column: string
  /** At most so many. */
  readonly sizeBytes: number
}

/** Characters of a row's literals: at three bytes each, every server takes them. */
const ROW_LENGTH_MAX = 4 * 1024 * 1024
/** Shorter literals of a long row stay in its INSERT, of which there are at most a thousand. */
const INLINE_LENGTH_MAX = 1024
const SLICE_LENGTH = 1024 * 1024
const SLICE_BYTES = SLICE_LENGTH / 2
const CHECK = 'SET @lockstep_whole = '
const CHECKED = /^SET @lockstep_whole = .* \/\* (\{.*\}) \*\/$/
const MORE_THAN_ONE_ROW = 1242
const MEBIBYTE = 1024 * 1024

/** Whether it is to be written by {@link longRowStatements}. */
export function isLongRow(literals: readonly string[]): boolean {
  return literals.reduce((sum, { length }) => sum + length, 0) > ROW_LENGTH_MAX
}

/** Statements, each without a line break, that insert the row. */
export function* longRowStatements(row: LongRow): Generator<string> {
  const { table, insert, columns, values, literals } = row
  const variables: string[] = []
  const inserted: string[] = []
  for (const [at, text] of literals.entries()) {
    const column = columns[at]
    const value = values[at]
    const isSliced = typeof value === 'string' || value instanceof Uint8Array
    if (text.length <= INLINE_LENGTH_MAX || column === undefined || !isSliced) {
      inserted.push(text)
      continue
    }
    const variable = `@lockstep_${variables.length + 1}`
    variables.push(variable)
    inserted.push(variable)
    const slices = typeof value === 'string' ? textSlices(value, column) : byteSlices(value)
    yield* assemble(variable, slices)
    yield check(variable, value, table, column)
  }
  yield `${insert}(${inserted.join(',')})`
  if (variables.length > 0) yield `SET ${variables.map(each => `${each} = NULL`).join(', ')}`
}

/** Why the server has not taken a statement of a long row, if its limit is why. */
export function whyTooLong(
  statement: string,
  { number }: { readonly number: number },
  limitBytes: number,
): DbError | undefined {
  if (number !== MORE_THAN_ONE_ROW) return undefined
  const found = CHECKED.exec(statement)?.[1]
  if (found === undefined) return undefined
  // We wrote it: the sums of the file are looked at before its statements are run.
  const { table, column, sizeBytes } = JSON.parse(found) as LongValue
  if (sizeBytes <= limitBytes) return undefined
  return packetTooSmall(`a value of ${sizeBytes} bytes in ${table}.${column}`, sizeBytes)
}

/** The error of a server whose limit is too low for something of this size. */
export function packetTooSmall(what: string, sizeBytes: number): DbError {
  const neededBytes = Math.ceil((sizeBytes + 1) / MEBIBYTE) * MEBIBYTE
  const message =
    `the MySQL server of this node does not take ${what}; ` +
    `SET GLOBAL max_allowed_packet = ${neededBytes} or more, there and in its configuration: ` +
    'the node goes on by itself then'
  return new DbError('SERVER_UNFIT', message, { details: { neededBytes } })
}

function* assemble(variable: string, slices: Iterable<string>): Generator<string> {
  let before = ''
  for (const slice of slices) {
    yield `SET ${variable} = ${before === '' ? slice : `CONCAT(${before}, ${slice})`}`
    before = variable
  }
}

/**
 * Fails unless all of the value is in the variable: where CONCAT() gives more than the server's
 * limit, it gives NULL, which a column may take.
 */
function check(
  variable: string,
  value: string | Uint8Array,
  table: string,
  { name, charset }: LongColumn,
): string {
  const length = typeof value === 'string' ? charactersOf(value) : value.length
  const long: LongValue = { table, column: name, sizeBytes: sizeOf(value, charset) }
  // Names may hold what ends a comment.
  const told = JSON.stringify(long).replaceAll(/['/*]/g, sign => {
    return `\\u00${sign.charCodeAt(0).toString(16)}`
  })
  const failing = '(SELECT 1 UNION SELECT 2)'
  return `${CHECK}(SELECT IF(CHAR_LENGTH(${variable}) <=> ${length}, 1, ${failing})) /* ${told} */`
}

/** Each as its column has it: in UTF-8 it may be longer than the server takes. */
function* textSlices(text: string, { charset = 'utf8mb4' }: LongColumn): Generator<string> {
  for (let from = 0; from < text.length;) {
    let end = from + SLICE_LENGTH
    if (isHighSurrogate(text, end - 1)) end += 1
    yield `CONVERT(${withoutBreaks(quoteText(text.slice(from, end)))} USING ${charset})`
    from = end
  }
}

function* byteSlices(bytes: Uint8Array): Generator<string> {
  for (let from = 0; from < bytes.length; from += SLICE_BYTES) {
    yield literal(bytes.subarray(from, from + SLICE_BYTES))
  }
}

/** What a value takes on the server, or a little more. */
function sizeOf(value: string | Uint8Array, charset: string | undefined): number {
  if (typeof value !== 'string') return value.length
  if (charset === 'utf32') return 4 * charactersOf(value)
  // Other sets have no more bytes for a character than UTF-8 has.
  return charset === 'utf16' || charset === 'ucs2' || charset === 'utf16le'
    ? 2 * value.length
    : Buffer.byteLength(value)
}

/** As the server counts them. */
function charactersOf(text: string): number {
  let count = text.length
  for (let at = 0; at < text.length; at += 1) if (isHighSurrogate(text, at)) count -= 1
  return count
}

function isHighSurrogate(text: string, at: number): boolean {
  const code = text.charCodeAt(at)
  return code >= 0xd800 && code <= 0xdbff
}
