/** SQL's comparisons in a few lines of JavaScript, to hold against the engine. */
import { must, unreachable } from '../../src/base/assert.ts'
import type { SqlValue } from '../../src/base/sql.ts'
import type { Condition } from '../../src/protocol/conditions.ts'

/** True, false, or null for SQL's "unknown". */
export type Truth = boolean | null

/** What `condition` says about a row of a table whose columns have no type. */
export function matches(condition: Condition, row: ReadonlyMap<string, SqlValue>): Truth {
  if ('and' in condition) return all(condition.and.map(part => matches(part, row)))
  if ('or' in condition) return not(all(condition.or.map(part => not(matches(part, row)))))
  if ('not' in condition) return not(matches(condition.not, row))
  const left = row.get(condition.column) ?? null
  return left === null ? compareNull(condition) : compareOne(left, condition)
}

function compareNull({ operator, ...rest }: Condition & { readonly operator: string }): Truth {
  if (operator === 'is_null') return true
  if (operator === 'is_not_null') return false
  // Nothing is in an empty list, not even the unknown.
  const isEmpty = 'value' in rest && Array.isArray(rest.value) && rest.value.length === 0
  if (isEmpty && operator === 'in') return false
  return isEmpty && operator === 'not_in' ? true : null
}

function compareOne(left: Exclude<SqlValue, null>, condition: Condition): Truth {
  if (!('operator' in condition)) return null
  const { operator } = condition
  const right = 'value' in condition ? (condition.value as SqlValue) : null
  const list = Array.isArray(right) ? (right as SqlValue[]) : []
  switch (operator) {
    case '=':
      return order(left, right) === 0
    case '!=':
      return order(left, right) !== 0
    case '<':
      return order(left, right) < 0
    case '<=':
      return order(left, right) <= 0
    case '>':
      return order(left, right) > 0
    case '>=':
      return order(left, right) >= 0
    case 'like':
      return isLike(left, String(right))
    case 'not_like':
      return !isLike(left, String(right))
    case 'in':
      return list.some(value => order(left, value) === 0)
    case 'not_in':
      return list.every(value => order(left, value) !== 0)
    case 'between':
      return isBetween(left, list)
    case 'not_between':
      return !isBetween(left, list)
    case 'is_null':
      return false
    case 'is_not_null':
      return true
    default:
      return unreachable(operator)
  }
}

function all(parts: readonly Truth[]): Truth {
  if (parts.includes(false)) return false
  return parts.includes(null) ? null : true
}

function not(truth: Truth): Truth {
  return truth === null ? null : !truth
}

function isBetween(left: SqlValue, [low, high]: readonly SqlValue[]): boolean {
  return order(left, low ?? null) >= 0 && order(left, high ?? null) <= 0
}

/** Numbers before text before blobs; text and blobs byte by byte. */
function order(a: SqlValue, b: SqlValue): number {
  const rank = (value: SqlValue): number => {
    if (typeof value === 'string') return 2
    return typeof value === 'object' ? 3 : 1
  }
  if (rank(a) !== rank(b)) return rank(a) - rank(b)
  if (typeof a === 'string' || typeof b === 'string') {
    return Buffer.compare(Buffer.from(String(a)), Buffer.from(String(b)))
  }
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b)
  // JavaScript compares a bigint with a number exactly, as SQLite does.
  return Number(must(a) > must(b)) - Number(must(a) < must(b))
}

/** ASCII letters are equal in either case; `_` is one character, `%` any number of them. */
function isLike(left: SqlValue, pattern: string): boolean {
  // A number is compared by its text; the patterns of the test are short and hold no digits.
  let text = left instanceof Uint8Array ? Buffer.from(left).toString() : String(left)
  if (typeof left === 'number') text = Number.isInteger(left) ? `${left}.0` : text.slice(0, 4)
  // SQLite matches up to the first NUL.
  const end = text.indexOf('\0')
  if (end !== -1) text = text.slice(0, end)
  const lower = (part: string): string => part.replaceAll(/[A-Z]/g, letter => letter.toLowerCase())
  const source = Array.from(lower(pattern), character => {
    if (character === '%') return '.*'
    return character === '_' ? '.' : character.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
  }).join('')
  return new RegExp(`^${source}$`, 'su').test(lower(text))
}
