/** Results as JSON text. Built by hand: rows are the bulk of all answers. */
import { must } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import type { SqlValue, StatementResult } from '../../base/sql.ts'
import { uniqueNames } from '../../protocol/column-names.ts'
import type { RowFormat } from '../../protocol/parse-request.ts'
import { encodeValue } from '../../protocol/values.ts'

/** The results of a request as a JSON array, one per item of the request. */
export function encodeResults(
  results: readonly StatementResult[],
  statementCounts: readonly number[] | undefined,
  format: RowFormat,
): string {
  const merged = statementCounts === undefined ? results : mergeResults(results, statementCounts)
  return `[${merged.map(result => encodeResult(result, format)).join()}]`
}

/**
 * The error as the client understands it: `details.statement` is the number of an item of its
 * request, not of a statement that a Command took.
 */
export function toItemError(
  error: DbError,
  statementCounts: readonly number[] | undefined,
): DbError {
  const statement = error.details['statement']
  if (statementCounts === undefined || typeof statement !== 'number') return error
  let end = 0
  const item = statementCounts.findIndex(count => {
    end += count
    return statement < end
  })
  return new DbError(error.code, error.message, {
    cause: error,
    details: { ...error.details, statement: item },
  })
}

/** Adds up the results of the statements that one Command took. */
function mergeResults(
  results: readonly StatementResult[],
  statementCounts: readonly number[],
): StatementResult[] {
  let next = 0
  return statementCounts.map(count => {
    const parts = results.slice(next, next + count)
    next += count
    const first = must(parts[0], 'result of a statement')
    const lastInsertId = parts.findLast(part => part.lastInsertId !== undefined)?.lastInsertId
    return {
      rowsAffected: parts.reduce((sum, part) => sum + part.rowsAffected, 0),
      ...(lastInsertId === undefined ? {} : { lastInsertId }),
      ...(first.columns === undefined ? {} : { columns: first.columns }),
      ...(first.rows === undefined ? {} : { rows: parts.flatMap(part => part.rows ?? []) }),
    }
  })
}

function encodeResult(result: StatementResult, format: RowFormat): string {
  const { rowsAffected, lastInsertId, columns, rows } = result
  let text = `{"rowsAffected":${rowsAffected}`
  if (lastInsertId !== undefined) text += `,"lastInsertId":${encodeValue(lastInsertId)}`
  if (columns !== undefined) {
    text += `,"columns":${JSON.stringify(columns)},"rows":`
    text += format === 'arrays' ? encodeArrays(rows ?? []) : encodeObjects(columns, rows ?? [])
  }
  return `${text}}`
}

function encodeArrays(rows: readonly (readonly SqlValue[])[]): string {
  return `[${rows.map(row => `[${row.map(encodeValue).join()}]`).join()}]`
}

function encodeObjects(columns: readonly string[], rows: readonly (readonly SqlValue[])[]): string {
  const keys = uniqueNames(columns).map(name => `${JSON.stringify(name)}:`)
  const encodeRow = (row: readonly SqlValue[]): string =>
    row.map((value, at) => keys[at] + encodeValue(value)).join()
  return `[${rows.map(row => `{${encodeRow(row)}}`).join()}]`
}
