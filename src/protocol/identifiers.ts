/** Names of tables and columns in SQL text: always quoted, so that a name is never read as SQL. */
import { DbError } from '../base/errors.ts'
import type { Dialect } from './dialect.ts'

const NAME_LENGTH_MAX = 128

/**
 * `name` in double quotes, or in backticks for MySQL. Throws INVALID_REQUEST for what can't be a
 * name.
 */
export function quoteName(name: unknown, path: string, dialect: Dialect = 'sqlite'): string {
  if (typeof name !== 'string' || name === '' || name.length > NAME_LENGTH_MAX) {
    const problem = `must be a name of 1 to ${NAME_LENGTH_MAX} characters`
    throw new DbError('INVALID_REQUEST', `${path}: ${problem}`)
  }
  // SQL text ends at a NUL in the engine, and half a surrogate pair has no bytes.
  if (name.includes('\0') || !name.isWellFormed()) {
    throw new DbError('INVALID_REQUEST', `${path}: the name holds a character that names can not`)
  }
  if (dialect === 'mysql') return `\`${name.replaceAll('`', '``')}\``
  return `"${name.replaceAll('"', '""')}"`
}

/**
 * A column with its table: `"t"."c"`. Alone, a quoted word that is no column could be taken for
 * a string (an old habit of SQLite), and a condition on it would be true or false for every row.
 */
export function quoteColumn(
  table: string,
  column: unknown,
  path: string,
  dialect: Dialect = 'sqlite',
): string {
  return `${quoteName(table, 'table', dialect)}.${quoteName(column, path, dialect)}`
}
