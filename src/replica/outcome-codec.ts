/**
 * What became of a write, as bytes, for the way from the leader to the node that forwarded it.
 *
 *   outcome => kind u8 (0 ok, 1 failed)
 *   ok      => index varint, repeat u8 (result-codec.ts), count varint, result*
 *   result  => flags u8 (1: lastInsertId, 2: columns), rowsAffected varint,
 *              [lastInsertId zigzag64], [columns: count varint, text*; rows: count varint, value*]
 *   failed  => code text, message text, details as JSON text
 */
import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError, ERRORS } from '../base/errors.ts'
import type { ErrorCode } from '../base/errors.ts'
import type { SqlValue, StatementResult } from '../base/sql.ts'
import { decodeRepeat, encodeRepeat } from '../engine/result-codec.ts'
import { decodeValue, encodeValue } from '../engine/value-codec.ts'
import type { WriteOutcome } from './types.ts'

const OK = 0
const FAILED = 1
const FLAG_LAST_INSERT_ID = 1
const FLAG_COLUMNS = 2

export function encodeOutcome(writer: ByteWriter, outcome: WriteOutcome): void {
  if (outcome.type === 'failed') {
    writer.u8(FAILED)
    writer.utf8(outcome.error.code)
    writer.utf8(outcome.error.message)
    writer.utf8(JSON.stringify(outcome.error.details))
    return
  }
  writer.u8(OK)
  writer.varint(outcome.index)
  encodeRepeat(writer, outcome)
  writer.varint(outcome.results.length)
  for (const result of outcome.results) encodeResult(writer, result)
}

export function decodeOutcome(reader: ByteReader): WriteOutcome {
  if (reader.u8() === FAILED) {
    const code = reader.utf8()
    const message = reader.utf8()
    const details = JSON.parse(reader.utf8()) as Record<string, unknown>
    // A newer leader may know codes that this node doesn't; the careful reading is INTERNAL.
    const known: ErrorCode = Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'INTERNAL'
    return { type: 'failed', error: new DbError(known, message, { details }) }
  }
  const index = reader.varint()
  const repeat = decodeRepeat(reader)
  const count = reader.varint()
  const results: StatementResult[] = []
  for (let at = 0; at < count; at += 1) results.push(decodeResult(reader))
  return { type: 'ok', index, results, ...repeat }
}

function encodeResult(writer: ByteWriter, result: StatementResult): void {
  const { lastInsertId, columns, rows = [] } = result
  writer.u8(
    (lastInsertId === undefined ? 0 : FLAG_LAST_INSERT_ID) |
      (columns === undefined ? 0 : FLAG_COLUMNS),
  )
  writer.varint(result.rowsAffected)
  if (lastInsertId !== undefined) writer.zigzag64(lastInsertId)
  if (columns === undefined) return
  writer.varint(columns.length)
  for (const column of columns) writer.utf8(column)
  writer.varint(rows.length)
  for (const row of rows) for (const value of row) encodeValue(writer, value)
}

function decodeResult(reader: ByteReader): StatementResult {
  const flags = reader.u8()
  const rowsAffected = reader.varint()
  const lastInsertId = (flags & FLAG_LAST_INSERT_ID) === 0 ? undefined : reader.zigzag64()
  const base = { rowsAffected, ...(lastInsertId !== undefined && { lastInsertId }) }
  if ((flags & FLAG_COLUMNS) === 0) return base
  const columns: string[] = []
  for (let left = reader.varint(); left > 0; left -= 1) columns.push(reader.utf8())
  const rows: SqlValue[][] = []
  for (let left = reader.varint(); left > 0; left -= 1) {
    const row: SqlValue[] = []
    for (let at = 0; at < columns.length; at += 1) row.push(decodeValue(reader))
    rows.push(row)
  }
  return { ...base, columns, rows }
}
