/** Results as JSON text, one for each item of a request, whatever it took to carry that out. */
import { must } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import { resultsJson, type RowFormat } from '../../base/result-json.ts'
import type { StatementResult } from '../../base/sql.ts'

/** The results of a request as a JSON array, one per item of the request. */
export function encodeResults(
  results: readonly StatementResult[],
  statementCounts: readonly number[] | undefined,
  format: RowFormat,
): string {
  const merged = statementCounts === undefined ? results : mergeResults(results, statementCounts)
  return resultsJson(merged, format)
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
