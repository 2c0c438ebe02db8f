/**
 * The SQL that Commands become: SQLite's, or that of MySQL and MariaDB. A column of a Command means
 * the same in both, as far as they let it.
 */
import { DbError } from '../base/errors.ts'

/** Whose SQL it is. */
export type Dialect = 'sqlite' | 'mysql'

/** What a column type of a Command is called in MySQL; others are called the same. */
const MYSQL_TYPES: ReadonlyMap<string, string> = new Map([
  ['INTEGER', 'BIGINT'],
  ['INT', 'BIGINT'],
  ['REAL', 'DOUBLE'],
  ['FLOAT', 'DOUBLE'],
  ['NUMERIC', 'DOUBLE'],
  ['BLOB', 'LONGBLOB'],
  ['TEXT', 'LONGTEXT'],
  ['CHAR', 'CHAR(255)'],
  ['VARCHAR', 'VARCHAR(255)'],
])
/** Texts are compared letter by letter, as SQLite does. */
const EXACT = 'CHARACTER SET utf8mb4 COLLATE utf8mb4_bin'
/** The longest text that MySQL lets a key be of without naming a length. */
const KEY_TEXT = 'VARCHAR(255)'

/** The type of a column. `isKey`: of a primary or unique key. Throws INVALID_REQUEST. */
export function columnType(type: string, isKey: boolean, dialect: Dialect, path: string): string {
  const upper = type.toUpperCase()
  if (dialect === 'sqlite') return upper
  if (upper === 'ANY') {
    throw new DbError('INVALID_REQUEST', `${path}: MySQL has no type for any value; name one`)
  }
  const known = MYSQL_TYPES.get(upper) ?? upper
  const fitting = isKey && upper === 'TEXT' ? KEY_TEXT : known
  return /^(?:LONGTEXT|(?:VAR)?CHAR)/.test(fitting) ? `${fitting} ${EXACT}` : fitting
}

/** The beginning of an insert. */
export function insertVerb(onConflict: 'ignore' | 'replace' | undefined, dialect: Dialect): string {
  if (onConflict === undefined) return 'INSERT'
  if (dialect === 'sqlite') return `INSERT OR ${onConflict.toUpperCase()}`
  return onConflict === 'ignore' ? 'INSERT IGNORE' : 'REPLACE'
}

/** A text as a literal. */
export function textLiteral(text: string, dialect: Dialect): string {
  const escaped = dialect === 'mysql' ? text.replaceAll('\\', '\\\\') : text
  return `'${escaped.replaceAll("'", "''")}'`
}
