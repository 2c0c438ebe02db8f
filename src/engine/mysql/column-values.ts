/**
 * A value as the server sends it, as SQL's value for everybody: whole numbers, REAL, TEXT or BLOB.
 * What none of them holds exactly (DECIMAL, dates, numbers over 63 bits) is TEXT.
 */
import type { SqlValue } from '../../base/sql.ts'

/** What is known of a column. */
export interface ColumnType {
  /** Number of its type in the protocol. */
  readonly columnType?: number
  /** Number of its character set; 63 is none: bytes. */
  readonly characterSet?: number
}

const FLOAT = 4
const DOUBLE = 5
const BIT = 16
const GEOMETRY = 255
/** TINY, SHORT, LONG, LONGLONG, INT24, YEAR. */
const WHOLE = new Set([1, 2, 3, 8, 9, 13])
/** TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, VARCHAR, VAR_STRING, STRING. */
const STRINGS = new Set([249, 250, 251, 252, 15, 253, 254])
const BINARY = 63
const INTEGER_MAX = 2n ** 63n - 1n

/** `value`: its text, or its bytes, as the protocol carries them. */
export function toSqlValue(value: Buffer | null, column: ColumnType | undefined): SqlValue {
  if (value === null) return null
  const type = column?.columnType ?? 0
  if (WHOLE.has(type)) {
    const text = value.toString('latin1')
    const whole = BigInt(text)
    return whole > INTEGER_MAX ? text : whole
  }
  if (type === DOUBLE || type === FLOAT) return Number(value.toString('latin1'))
  if (type === BIT) return toBits(value)
  const isBytes = type === GEOMETRY || (STRINGS.has(type) && column?.characterSet === BINARY)
  // The packet's memory belongs to the driver.
  return isBytes ? new Uint8Array(value) : value.toString('utf8')
}

function toBits(value: Buffer): SqlValue {
  const bits = BigInt(`0x${value.toString('hex') || '0'}`)
  return bits > INTEGER_MAX ? String(bits) : bits
}
