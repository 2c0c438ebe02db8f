/** Outcomes of statements compared and put into words, the same for every engine. */
import type { SqlValue } from '../base/sql.ts'
import type { RequestError } from './engine.ts'
import type { StatementOutcome } from './entry.ts'

/** About how much memory a value takes. */
export function sizeOf(value: SqlValue): number {
  if (typeof value === 'string') return value.length + 16
  if (value instanceof Uint8Array) return value.length + 32
  return 16
}

/** An outcome in words, for the report of a divergence. */
export function describeOutcome(outcome: StatementOutcome | undefined): string {
  if (outcome === undefined) return 'no statement'
  const { rowsAffected, lastInsertId, rowsDigest } = outcome
  const id = lastInsertId === undefined ? '' : `, last insert id ${lastInsertId}`
  const rows = rowsDigest === undefined ? '' : `, rows ${rowsDigest.high}:${rowsDigest.low}`
  return `${rowsAffected} rows affected${id}${rows}`
}

/** Whether two statements gave the same. */
export function isSameOutcome(a: StatementOutcome, b: StatementOutcome): boolean {
  return (
    a.rowsAffected === b.rowsAffected &&
    a.lastInsertId === b.lastInsertId &&
    a.rowsDigest?.low === b.rowsDigest?.low &&
    a.rowsDigest?.high === b.rowsDigest?.high
  )
}

/** An error in words, for the report of a divergence. */
export function describeError(error: RequestError): string {
  return `${error.code}: ${error.message}`
}
