/**
 * Requests that can't share a transaction with others: a table rebuild, which SQLite wants done
 * with foreign keys off, a setting that only changes outside of a transaction.
 */
import type { WriteRequest } from '../engine.ts'
import { nextToken, skipToStatement } from './tokens.ts'

const VALUES = ['OFF', 'ON', '0', '1', 'FALSE', 'TRUE', 'NO', 'YES']
const OFF_VALUES = ['OFF', '0', 'FALSE', 'NO']

/** Whether a request must be alone in its entry. */
export function isSolo(request: WriteRequest): boolean {
  if (request.type === 'statements') return isRebuild(request)
  return request.type !== 'cancel'
}

/** Whether a request begins with PRAGMA foreign_keys=OFF. */
export function isRebuild(request: WriteRequest): boolean {
  if (request.type !== 'statements') return false
  const sql = request.statements[0]?.sql ?? ''
  const pragma = foreignKeysPragma(sql, skipToStatement(sql, 0))
  return pragma !== undefined && OFF_VALUES.includes(pragma.value)
}

/** If a PRAGMA that sets foreign_keys begins at `offset`: where the statement after it begins. */
export function isForeignKeysPragma(sql: string, offset: number): number | undefined {
  return foreignKeysPragma(sql, skipToStatement(sql, offset))?.next
}

/** Reads `PRAGMA [main.]foreign_keys = value` or `(value)`, alone up to its semicolon. */
function foreignKeysPragma(
  sql: string,
  offset: number,
): { readonly value: string; readonly next: number } | undefined {
  // Nearly no text begins so, and none other is taken apart.
  if ((sql.charCodeAt(offset) | 32) !== 112) return undefined
  const words: string[] = []
  let end = offset
  for (let token = nextToken(sql, offset); token !== undefined; token = nextToken(sql, end)) {
    const word = sql.slice(token.start, token.end).toUpperCase()
    if (word === ';') break
    end = token.end
    words.push(word)
    if (words.length > 7) return undefined
  }
  const text = words.join(' ').replace(/^PRAGMA MAIN \. /, 'PRAGMA ')
  const value = /^PRAGMA FOREIGN_KEYS (?:= (\w+)|\( (\w+) \))$/.exec(text)
  const set = value?.[1] ?? value?.[2]
  if (set === undefined || !VALUES.includes(set)) return undefined
  return { value: set, next: skipToStatement(sql, end) }
}
