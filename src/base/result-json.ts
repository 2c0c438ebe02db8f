/**
 * Results of statements as the JSON text of an answer. Built by hand: rows are the bulk of all
 * answers.
 */
import { toBase64 } from './base64.ts'
import { uniqueNames } from './column-names.ts'
import type { SqlValue, StatementResult } from './sql.ts'

/** Each row as an array of its values, or as an object of its columns. */
export type RowFormat = 'arrays' | 'objects'

/** A JSON array with an object for each result. */
export function resultsJson(results: readonly StatementResult[], format: RowFormat): string {
  let text = '['
  for (const result of results) {
    if (text.length > 1) text += ','
    text += resultJson(result, format)
  }
  return `${text}]`
}

function resultJson(result: StatementResult, format: RowFormat): string {
  const { rowsAffected, lastInsertId, columns, rows = [] } = result
  let text = `{"rowsAffected":${rowsAffected}`
  if (lastInsertId !== undefined) text += `,"lastInsertId":${valueJson(lastInsertId)}`
  if (columns !== undefined) {
    text += `,"columns":${JSON.stringify(columns)},"rows":`
    text += format === 'arrays' ? arraysJson(rows) : objectsJson(columns, rows)
  }
  return `${text}}`
}

type Rows = readonly (readonly SqlValue[])[]

// Texts are added to, not joined from arrays: of a thousand rows that would make thousands.

function arraysJson(rows: Rows): string {
  let text = '['
  for (const row of rows) {
    text += text.length > 1 ? ',[' : '['
    for (let at = 0; at < row.length; at++) {
      if (at > 0) text += ','
      text += valueJson(row[at] ?? null)
    }
    text += ']'
  }
  return `${text}]`
}

function objectsJson(columns: readonly string[], rows: Rows): string {
  const keys = uniqueNames(columns).map(name => `${JSON.stringify(name)}:`)
  let text = '['
  for (const row of rows) {
    text += text.length > 1 ? ',{' : '{'
    for (let at = 0; at < row.length; at++) {
      if (at > 0) text += ','
      text += keys[at] + valueJson(row[at] ?? null)
    }
    text += '}'
  }
  return `${text}]`
}

/** A SQL value as JSON text. A REAL keeps its point (`1.0`), so that typed readers see it. */
export function valueJson(value: SqlValue): string {
  if (typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'bigint') return integerJson(value)
  if (typeof value === 'number') return realJson(value)
  if (value === null) return 'null'
  return `{"$blob":"${toBase64(value)}"}`
}

function integerJson(value: bigint): string {
  // What is not exact as a number does not become a safe one.
  const number = Number(value)
  return Number.isSafeInteger(number) ? String(number) : `{"$integer":"${value}"}`
}

function realJson(value: number): string {
  if (!Number.isFinite(value)) return `{"$real":"${value}"}`
  if (Object.is(value, -0)) return '-0.0'
  const text = String(value)
  return /[.e]/.test(text) ? text : `${text}.0`
}
