/**
 * SQL values in JSON, both ways and without loss. A JSON number without fraction is an INTEGER,
 * one with a fraction a REAL; what JSON can't say is tagged: `{"$integer": "9223372036854775807"}`,
 * `{"$real": 1}`, `{"$blob": "base64"}`. The text of answers is made in base/result-json.ts.
 */
import { fromBase64, toBase64 } from '../base/base64.ts'
import { DbError } from '../base/errors.ts'
import type { SqlParams, SqlValue } from '../base/sql.ts'

/** A tagged value as it stands in JSON. */
type TaggedValue =
  | { readonly $integer: string }
  | { readonly $real: number | 'Infinity' | '-Infinity' }
  | { readonly $blob: string }

/** A SQL value as it stands in JSON. `true` and `false` are taken as 1 and 0, never given. */
export type JsonValue = null | boolean | number | string | TaggedValue

const INTEGER_MIN = -(2n ** 63n)
const INTEGER_MAX = 2n ** 63n - 1n
const DIGITS_MAX = 40
const SAFE_MIN = BigInt(Number.MIN_SAFE_INTEGER)
const SAFE_MAX = BigInt(Number.MAX_SAFE_INTEGER)
const PARAMETER_NAME = /^[\p{L}\p{N}_]+$/u

/** The SQL value that `json` stands for. Throws INVALID_REQUEST; `path` says where it stands. */
export function decodeValue(json: unknown, path: string): SqlValue {
  if (typeof json === 'string') return decodeText(json, path)
  if (typeof json === 'number') return decodeNumber(json, path)
  if (json === null) return null
  if (typeof json === 'boolean') return json ? 1n : 0n
  if (typeof json === 'object' && !Array.isArray(json)) return decodeTagged(json, path)
  throw invalid(path, Array.isArray(json) ? 'an array is not a SQL value' : 'a value is missing')
}

function decodeText(json: string, path: string): string {
  if (json.isWellFormed()) return json
  throw invalid(path, 'the text holds half of a surrogate pair, which UTF-8 can not store')
}

function decodeNumber(json: number, path: string): SqlValue {
  if (!Number.isInteger(json)) return json
  if (Number.isSafeInteger(json)) return BigInt(json)
  throw invalid(path, `${json} is not exact; write {"$integer": "..."} or {"$real": ${json}}`)
}

function decodeTagged(json: object, path: string): SqlValue {
  const entries = Object.entries(json)
  const [tag, value] = entries[0] ?? []
  if (entries.length === 1 && tag === '$integer') return decodeIntegerTag(value, path)
  if (entries.length === 1 && tag === '$real') return decodeRealTag(value, path)
  if (entries.length === 1 && tag === '$blob') return decodeBlobTag(value, path)
  throw invalid(path, 'an object must be {"$integer": "1"}, {"$real": 1} or {"$blob": "base64"}')
}

function decodeIntegerTag(tagged: unknown, path: string): bigint {
  const value = isTagged(tagged, '$integer') ? tagged.$integer : tagged
  if (typeof value === 'string' && /^-?\d+$/.test(value)) {
    // BigInt takes long for a text of millions of digits; 64 bits have 19.
    const integer = value.length <= DIGITS_MAX ? BigInt(value) : undefined
    if (integer !== undefined && integer >= INTEGER_MIN && integer <= INTEGER_MAX) return integer
    throw invalid(path, `${value.slice(0, 40)} does not fit into 64 bits; {"$real": …} is a REAL`)
  }
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value)
  throw invalid(path, '$integer takes a whole number as text, such as {"$integer": "12"}')
}

function decodeRealTag(tagged: unknown, path: string): number {
  const value = untagged(tagged)
  if (value === 'Infinity' || value === '-Infinity') return Number(value)
  if (typeof value === 'number' && Number.isFinite(value)) return value
  throw invalid(path, '$real takes a number, "Infinity" or "-Infinity"')
}

/** A delicate number inside of a tag was tagged once more by json.ts, as what it looks like. */
function untagged(tagged: unknown): unknown {
  if (isTagged(tagged, '$real')) return tagged.$real
  if (!isTagged(tagged, '$integer')) return tagged
  const digits = tagged.$integer
  return typeof digits === 'string' && /^-?\d+$/.test(digits) ? Number(digits) : undefined
}

function decodeBlobTag(value: unknown, path: string): Uint8Array {
  const bytes = typeof value === 'string' ? fromBase64(value) : undefined
  if (bytes === undefined) throw invalid(path, '$blob takes padded base64 text')
  return bytes
}

/** True if `json` is an object with the one key of a tagged value. */
export function isTaggedValue(json: unknown): boolean {
  return isTagged(json, '$integer') || isTagged(json, '$real') || isTagged(json, '$blob')
}

function isTagged<Tag extends string>(
  json: unknown,
  tag: Tag,
): json is { readonly [key in Tag]: unknown } {
  return typeof json === 'object' && json !== null && Object.keys(json).length === 1 && tag in json
}

/** Parameters by position (array) or by name (object). Throws INVALID_REQUEST. */
export function decodeParams(json: unknown, path: string): SqlParams {
  if (json === undefined) return []
  if (Array.isArray(json)) return json.map((value, at) => decodeValue(value, `${path}[${at}]`))
  if (typeof json !== 'object' || json === null) {
    throw invalid(path, 'must be an array, or an object of names and values')
  }
  return Object.fromEntries(
    Object.entries(json).map(([name, value]) => {
      if (PARAMETER_NAME.test(name)) return [name, decodeValue(value, `${path}.${name}`)]
      throw invalid(path, `"${name}" is not a parameter's name; write it without :, @ or $`)
    }),
  )
}

/** What a client takes: also bigint and bytes, which JSON itself doesn't know. */
export type InputValue = SqlValue | boolean | TaggedValue

/**
 * The JSON for a value given by a program. A number without fraction is an INTEGER. Throws
 * INVALID_REQUEST for what SQL doesn't know, such as undefined or a Date.
 */
export function toJsonValue(value: InputValue, path: string): JsonValue {
  if (typeof value === 'bigint') {
    return value >= SAFE_MIN && value <= SAFE_MAX ? Number(value) : { $integer: String(value) }
  }
  if (value instanceof Uint8Array) return { $blob: toBase64(value) }
  if (typeof value === 'string' || typeof value === 'boolean' || value === null) return value
  if (typeof value !== 'number') {
    if (isTaggedValue(value)) return value
    const shown = Object.prototype.toString.call(value).slice(8, -1)
    throw invalid(path, `${shown} is no SQL value; give a number, bigint, text, bytes or null`)
  }
  if (Number.isNaN(value)) return null
  if (Number.isFinite(value)) return Number.isInteger(value) ? wholeNumber(value) : value
  return { $real: value > 0 ? 'Infinity' : '-Infinity' }
}

function wholeNumber(value: number): JsonValue {
  // Beyond 2^53 a double is not exact any more: it is a real that happens to have no fraction.
  return Number.isSafeInteger(value) ? value : { $real: value }
}

/** What a client gives: an INTEGER as a number where that is exact, else as a bigint. */
export type OutputValue = null | number | bigint | string | Uint8Array

/** The program's value for the JSON of an answer. */
export function fromJsonValue(json: JsonValue): OutputValue {
  if (typeof json === 'boolean') return json ? 1 : 0
  if (json === null || typeof json !== 'object') return json
  const value = decodeTagged(json, 'answer')
  return typeof value === 'bigint' && value >= SAFE_MIN && value <= SAFE_MAX ? Number(value) : value
}

function invalid(path: string, problem: string): DbError {
  return new DbError('INVALID_REQUEST', `${path}: ${problem}`)
}
