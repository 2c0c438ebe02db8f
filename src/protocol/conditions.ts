/**
 * Conditions of a Command: data, never SQL text. `{column, operator, value}` compares, and
 * `{and: [...]}`, `{or: [...]}`, `{not: ...}` combine. Columns are quoted, values are bound.
 */
import { DbError } from '../base/errors.ts'
import type { SqlValue } from '../base/sql.ts'
import type { Dialect } from './dialect.ts'
import { quoteColumn } from './identifiers.ts'
import { decodeValue, type InputValue } from './values.ts'

/** What a condition can compare with, and the SQL for it. */
const COMPARISONS = {
  '=': '=',
  '!=': '<>',
  '<': '<',
  '<=': '<=',
  '>': '>',
  '>=': '>=',
  like: 'LIKE',
  not_like: 'NOT LIKE',
} as const

type Comparison = keyof typeof COMPARISONS

/** All operators of a condition. */
export const OPERATORS = [
  ...(Object.keys(COMPARISONS) as Comparison[]),
  'in',
  'not_in',
  'between',
  'not_between',
  'is_null',
  'is_not_null',
] as const

/** A condition as a client writes it. */
export type Condition =
  | {
      readonly column: string
      readonly operator: Comparison
      readonly value: InputValue
    }
  | {
      readonly column: string
      readonly operator: 'in' | 'not_in'
      readonly value: readonly InputValue[]
    }
  | {
      readonly column: string
      readonly operator: 'between' | 'not_between'
      readonly value: readonly [low: InputValue, high: InputValue]
    }
  | { readonly column: string; readonly operator: 'is_null' | 'is_not_null' }
  | { readonly and: readonly Condition[] }
  | { readonly or: readonly Condition[] }
  | { readonly not: Condition }

/** Conditions within conditions; the engine's own limit on expressions is far above it. */
const DEPTH_MAX = 50

/** SQL text and the values for its question marks. */
export interface SqlPart {
  readonly sql: string
  readonly values: readonly SqlValue[]
}

/** Compiles a condition on the columns of `table`. Throws INVALID_REQUEST naming the `path`. */
export function compileCondition(
  json: unknown,
  table: string,
  path: string,
  dialect: Dialect = 'sqlite',
  depth = 0,
): SqlPart {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw invalid(path, 'must be an object: {column, operator, value}, {and}, {or} or {not}')
  }
  if (depth >= DEPTH_MAX) throw invalid(path, `is nested deeper than ${DEPTH_MAX} conditions`)
  if ('and' in json) return compileList(json, 'and', table, path, dialect, depth)
  if ('or' in json) return compileList(json, 'or', table, path, dialect, depth)
  if ('not' in json) {
    refuseOthers(json, ['not'], path)
    const inner = compileCondition(json.not, table, `${path}.not`, dialect, depth + 1)
    return { sql: `(NOT ${inner.sql})`, values: inner.values }
  }
  return compileComparison(json, table, path, dialect)
}

function compileList(
  json: object,
  word: 'and' | 'or',
  table: string,
  path: string,
  dialect: Dialect,
  depth: number,
): SqlPart {
  refuseOthers(json, [word], path)
  const list: unknown = (json as Readonly<Record<string, unknown>>)[word]
  if (!Array.isArray(list)) throw invalid(`${path}.${word}`, 'must be an array of conditions')
  if (list.length > LIST_MAX) throw invalid(`${path}.${word}`, `has more than ${LIST_MAX} parts`)
  // As in logic: "all of nothing" is true, "one of nothing" is false.
  if (list.length === 0) return { sql: word === 'and' ? '1' : '0', values: [] }
  const parts = list.map((part, at) =>
    compileCondition(part, table, `${path}.${word}[${at}]`, dialect, depth + 1),
  )
  const joined = parts.map(part => part.sql).join(word === 'and' ? ' AND ' : ' OR ')
  return { sql: `(${joined})`, values: parts.flatMap(part => part.values) }
}

/** A chain of ANDs is nested in the engine's tree, which is limited to a depth of 1,000. */
const LIST_MAX = 500

function compileComparison(json: object, table: string, path: string, dialect: Dialect): SqlPart {
  refuseOthers(json, ['column', 'operator', 'value'], path)
  const { column, operator, value } = json as Readonly<Record<string, unknown>>
  const name = quoteColumn(table, column, `${path}.column`, dialect)
  if (operator === 'is_null' || operator === 'is_not_null') {
    if (value !== undefined) throw invalid(`${path}.value`, `${operator} takes no value`)
    return { sql: `(${name} IS ${operator === 'is_null' ? '' : 'NOT '}NULL)`, values: [] }
  }
  if (operator === 'in' || operator === 'not_in') {
    const values = decodeList(value, `${path}.value`)
    // As in logic, nothing is one of nothing; MySQL knows no empty list.
    if (values.length === 0 && dialect === 'mysql') {
      return { sql: operator === 'in' ? '0' : '1', values: [] }
    }
    const marks = values.map(() => '?').join(', ')
    return { sql: `(${name} ${operator === 'in' ? 'IN' : 'NOT IN'} (${marks}))`, values }
  }
  if (operator === 'between' || operator === 'not_between') {
    const values = decodeList(value, `${path}.value`)
    if (values.length !== 2) throw invalid(`${path}.value`, `${operator} takes [lowest, highest]`)
    return { sql: `(${name} ${operator === 'between' ? '' : 'NOT '}BETWEEN ? AND ?)`, values }
  }
  if (typeof operator !== 'string' || !Object.hasOwn(COMPARISONS, operator)) {
    throw invalid(`${path}.operator`, `must be one of ${OPERATORS.join(', ')}`)
  }
  const compared = decodeValue(value, `${path}.value`)
  refuseNull(compared, `${path}.value`)
  const sql = `(${name} ${COMPARISONS[operator as Comparison]} ?)`
  return { sql, values: [compared] }
}

function decodeList(json: unknown, path: string): SqlValue[] {
  if (!Array.isArray(json)) throw invalid(path, 'must be an array of values')
  return json.map((value, at) => {
    const decoded = decodeValue(value, `${path}[${at}]`)
    refuseNull(decoded, `${path}[${at}]`)
    return decoded
  })
}

/** A comparison with NULL is never true in SQL: whoever writes one means something else. */
function refuseNull(value: SqlValue, path: string): void {
  if (value === null) throw invalid(path, 'nothing compares with null; use is_null or is_not_null')
}

/** Refuses fields that are not in `known`, naming them. */
function refuseOthers(json: object, known: readonly string[], path: string): void {
  const other = Object.keys(json).find(key => !known.includes(key))
  if (other === undefined) return
  throw invalid(path, `unknown field "${other}"; known here: ${known.join(', ')}`)
}

function invalid(path: string, problem: string): DbError {
  return new DbError('INVALID_REQUEST', `${path}: ${problem}`)
}
