/** SQL values and parameters as bytes: one tag byte, then the value. */
import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import { isInt64 } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { SqlParams, SqlValue } from '../base/sql.ts'

const NULL = 0
const INTEGER = 1
const REAL = 2
const TEXT = 3
const BLOB = 4

const POSITIONAL = 0
const NAMED = 1

/**
 * A value: u8 tag; INTEGER as zigzag64, REAL as f64, TEXT as utf8, BLOB as bytes. Throws
 * INVALID_REQUEST for what isn't a SQL value, so that nothing is ever stored as a silent NULL.
 */
export function encodeValue(writer: ByteWriter, value: SqlValue): void {
  switch (typeof value) {
    case 'string':
      writer.u8(TEXT)
      return writer.utf8(value)
    case 'bigint':
      if (!isInt64(value)) throw invalid(`the integer ${value} does not fit 64 bits`)
      writer.u8(INTEGER)
      return writer.zigzag64(value)
    case 'number':
      // SQLite would store NaN as NULL.
      if (Number.isNaN(value)) throw invalid('NaN is not a SQL value')
      writer.u8(REAL)
      return writer.f64(value)
    default:
      if (value === null) return writer.u8(NULL)
      if (!(value instanceof Uint8Array)) throw invalid(`a ${typeof value} is not a SQL value`)
      writer.u8(BLOB)
      return writer.bytes(value)
  }
}

/** Reads what {@link encodeValue} wrote. A BLOB is a view into the reader's bytes. */
export function decodeValue(reader: ByteReader): SqlValue {
  const tag = reader.u8()
  switch (tag) {
    case NULL:
      return null
    case INTEGER:
      return reader.zigzag64()
    case REAL:
      return reader.f64()
    case TEXT:
      return reader.utf8()
    case BLOB:
      return reader.bytes()
    default:
      throw new DbError('CORRUPT', `${tag} is no tag of a SQL value`)
  }
}

/**
 * Parameters: u8 kind (by position or by name), varint count, then values or (utf8 name, value).
 */
export function encodeParams(writer: ByteWriter, params: SqlParams): void {
  if (isPositional(params)) {
    writer.u8(POSITIONAL)
    writer.varint(params.length)
    for (const value of params) encodeValue(writer, value)
    return
  }
  const named = Object.entries(params)
  writer.u8(NAMED)
  writer.varint(named.length)
  for (const [name, value] of named) {
    writer.utf8(name)
    encodeValue(writer, value)
  }
}

/** Reads what {@link encodeParams} wrote. */
export function decodeParams(reader: ByteReader): SqlParams {
  const kind = reader.u8()
  const count = reader.varint()
  if (kind === POSITIONAL) {
    const values: SqlValue[] = []
    for (let i = 0; i < count; i++) values.push(decodeValue(reader))
    return values
  }
  if (kind !== NAMED) throw new DbError('CORRUPT', `${kind} is no kind of parameters`)
  // Without a prototype a parameter may have any name, even __proto__.
  const named = Object.create(null) as Record<string, SqlValue>
  for (let i = 0; i < count; i++) {
    const name = reader.utf8()
    named[name] = decodeValue(reader)
  }
  return named
}

/** Whether the parameters are given by position. */
export function isPositional(params: SqlParams): params is readonly SqlValue[] {
  return Array.isArray(params)
}

function invalid(message: string): DbError {
  return new DbError('INVALID_REQUEST', message)
}
