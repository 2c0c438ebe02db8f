/**
 * What became of statements, as bytes: results, errors and lists of both. Engine processes answer
 * with it, and a leader answers a follower that forwarded a request.
 */
import { assert } from '../base/assert.ts'
import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError, ERRORS, type ErrorCode } from '../base/errors.ts'
import { resultsJson, type RowFormat } from '../base/result-json.ts'
import type { SqlValue, StatementResult } from '../base/sql.ts'
import type { JsonReadOutcome, ReadOutcome, RequestError, RequestResult } from './engine.ts'
import { decodeValue, encodeValue } from './value-codec.ts'

const HAS_LAST_INSERT_ID = 1
const HAS_COLUMNS = 2
const HAS_ROWS = 4

const OK = 0
const FAILED = 1
const IS_REPEAT = 1
const ROWS_DROPPED = 2

/**
 * Layout: flags u8 · rowsAffected varint · lastInsertId zigzag64 if flag 1 · columns (varint count,
 * utf8 each) if flag 2 · rows if flag 4: varint count, varint width, then the values row by row.
 */
export function encodeStatementResult(writer: ByteWriter, result: StatementResult): void {
  const { rowsAffected, lastInsertId, columns, rows } = result
  const flags =
    (lastInsertId === undefined ? 0 : HAS_LAST_INSERT_ID) |
    (columns === undefined ? 0 : HAS_COLUMNS) |
    (rows === undefined ? 0 : HAS_ROWS)
  writer.u8(flags)
  writer.varint(rowsAffected)
  if (lastInsertId !== undefined) writer.zigzag64(lastInsertId)
  if (columns !== undefined) encodeTexts(writer, columns)
  if (rows === undefined) return
  const width = rows[0]?.length ?? 0
  writer.varint(rows.length)
  writer.varint(width)
  for (const row of rows) {
    assert(row.length === width, `a row of ${row.length} values among rows of ${width}`)
    for (const value of row) encodeValue(writer, value)
  }
}

/** Reads what {@link encodeStatementResult} wrote; BLOBs are views. Throws `DbError` CORRUPT. */
export function decodeStatementResult(reader: ByteReader): StatementResult {
  const flags = reader.u8()
  if (flags > (HAS_LAST_INSERT_ID | HAS_COLUMNS | HAS_ROWS)) {
    throw new DbError('CORRUPT', `${flags} are no flags of a result`)
  }
  const rowsAffected = reader.varint()
  const lastInsertId = (flags & HAS_LAST_INSERT_ID) === 0 ? undefined : reader.zigzag64()
  const columns = (flags & HAS_COLUMNS) === 0 ? undefined : decodeTexts(reader)
  const rows = (flags & HAS_ROWS) === 0 ? undefined : decodeRows(reader)
  // Written out, because most results are of these two, and spreading costs as much as the rest.
  if (flags === 0) return { rowsAffected }
  if (flags === HAS_LAST_INSERT_ID && lastInsertId !== undefined) {
    return { rowsAffected, lastInsertId }
  }
  return {
    rowsAffected,
    ...(lastInsertId !== undefined && { lastInsertId }),
    ...(columns && { columns }),
    ...(rows && { rows }),
  }
}

function decodeRows(reader: ByteReader): SqlValue[][] {
  const count = reader.varint()
  const width = reader.varint()
  const rows: SqlValue[][] = []
  for (let i = 0; i < count; i++) {
    const row: SqlValue[] = []
    for (let k = 0; k < width; k++) row.push(decodeValue(reader))
    rows.push(row)
  }
  return rows
}

/** Layout: varint count, then the results. */
export function encodeStatementResults(
  writer: ByteWriter,
  results: readonly StatementResult[],
): void {
  writer.varint(results.length)
  for (const result of results) encodeStatementResult(writer, result)
}

/** Reads what {@link encodeStatementResults} wrote. */
export function decodeStatementResults(reader: ByteReader): StatementResult[] {
  const results: StatementResult[] = []
  for (let left = reader.varint(); left > 0; left--) results.push(decodeStatementResult(reader))
  return results
}

/** The outcome of a read with its results as JSON, made here and now. */
export function jsonOutcome(outcome: ReadOutcome, rows: RowFormat): JsonReadOutcome {
  if (outcome.type === 'failed') return outcome
  const { appliedIndex, results } = outcome
  return { type: 'ok', appliedIndex, json: Buffer.from(resultsJson(results, rows)) }
}

/** Layout: u8 0, flags u8 and the statements' results, or u8 1 and the error. */
export function encodeRequestResult(writer: ByteWriter, result: RequestResult): void {
  if (result.type === 'ok') {
    writer.u8(OK)
    encodeRepeat(writer, result)
    encodeStatementResults(writer, result.results)
  } else {
    writer.u8(FAILED)
    encodeRequestError(writer, result.error)
  }
}

/** Reads what {@link encodeRequestResult} wrote. */
export function decodeRequestResult(reader: ByteReader): RequestResult {
  const tag = reader.u8()
  if (tag === OK) {
    const repeat = decodeRepeat(reader)
    const results = decodeStatementResults(reader)
    return repeat === FIRST_ANSWER ? { type: 'ok', results } : { type: 'ok', results, ...repeat }
  }
  if (tag === FAILED) return { type: 'failed', error: decodeRequestError(reader) }
  throw new DbError('CORRUPT', `${tag} is no tag of a request's result`)
}

/** Whether an answer is a first one, and whole. */
export interface Repeat {
  readonly isRepeat?: true
  readonly rowsDropped?: true
}

const FIRST_ANSWER: Repeat = {}

/** Layout: u8, 1 for a repeated answer plus 2 for one without its rows. */
export function encodeRepeat(writer: ByteWriter, { isRepeat, rowsDropped }: Repeat): void {
  writer.u8((isRepeat === true ? IS_REPEAT : 0) | (rowsDropped === true ? ROWS_DROPPED : 0))
}

/** Reads what {@link encodeRepeat} wrote. */
export function decodeRepeat(reader: ByteReader): Repeat {
  const flags = reader.u8()
  if (flags === 0) return FIRST_ANSWER
  if (flags > (IS_REPEAT | ROWS_DROPPED)) {
    throw new DbError('CORRUPT', `${flags} are no flags of an answer`)
  }
  return {
    ...((flags & IS_REPEAT) !== 0 && { isRepeat: true as const }),
    ...((flags & ROWS_DROPPED) !== 0 && { rowsDropped: true as const }),
  }
}

/** Layout: code utf8 · message utf8 · details as JSON utf8, empty if there are none. */
export function encodeRequestError(writer: ByteWriter, error: RequestError): void {
  writer.utf8(error.code)
  writer.utf8(error.message)
  writer.utf8(error.details === undefined ? '' : JSON.stringify(error.details, bigintsAsText))
}

/** Reads what {@link encodeRequestError} wrote. */
export function decodeRequestError(reader: ByteReader): RequestError {
  const code = reader.utf8()
  const message = reader.utf8()
  const details = reader.utf8()
  if (!isErrorCode(code)) throw new DbError('CORRUPT', `${code} is no code of an error`)
  if (details === '') return { code, message }
  return { code, message, details: JSON.parse(details) as Readonly<Record<string, unknown>> }
}

/** Layout: varint count, then utf8 each. */
export function encodeTexts(writer: ByteWriter, texts: readonly string[]): void {
  writer.varint(texts.length)
  for (const text of texts) writer.utf8(text)
}

/** Reads what {@link encodeTexts} wrote. */
export function decodeTexts(reader: ByteReader): string[] {
  const texts: string[] = []
  for (let left = reader.varint(); left > 0; left--) texts.push(reader.utf8())
  return texts
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code)
}

/** Details are for programs that read JSON, where a 64-bit number is a text anyway. */
function bigintsAsText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value
}
