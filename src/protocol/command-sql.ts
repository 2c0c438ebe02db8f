/** What a Command means in SQL: names quoted, values bound; a column's default is a literal. */
import { unreachable } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { SqlValue, Statement } from '../base/sql.ts'
import { isAction, commandSchemas, type CheckedCommand } from './commands.ts'
import { compileCondition, type SqlPart } from './conditions.ts'
import { columnType, type Dialect, textLiteral } from './dialect.ts'
import { quoteColumn, quoteName } from './identifiers.ts'
import { parseShape } from './parse-shape.ts'
import { decodeValue } from './values.ts'
import { compileInsert } from './insert-sql.ts'

/** A Command or a statement, ready to run. A Command may take several SQL statements. */
export type Compiled =
  | {
      readonly type: 'statements'
      readonly database: string
      readonly statements: readonly Statement[]
      /** A select: may run as a read. Undefined for SQL, where only the engine knows. */
      readonly isRead: boolean | undefined
    }
  | { readonly type: 'create-database'; readonly database: string }
  | { readonly type: 'drop-database'; readonly database: string }

/** Compiles a Command. Throws INVALID_REQUEST naming the field at fault under `path`. */
export function compileCommand(json: object, path: string, dialect: Dialect = 'sqlite'): Compiled {
  const action: unknown = 'action' in json ? json.action : undefined
  if (!isAction(action)) {
    const known = Object.keys(commandSchemas).join(', ')
    throw new DbError('INVALID_REQUEST', `${join(path, 'action')}: must be one of ${known}`)
  }
  const checked: CheckedCommand = parseShape(commandSchemas[action], json, path)
  // The checked copy of an object lacks a column that is called `__proto__`.
  const command = checked.action === 'update' ? { ...checked, set: setOf(json) } : checked
  const { database } = command
  if (command.action === 'create_db') return { type: 'create-database', database }
  if (command.action === 'drop_db') return { type: 'drop-database', database }
  const statements = compileStatements(command, path, dialect)
  return { type: 'statements', database, statements, isRead: command.action === 'select' }
}

/** What was found to be an object of columns. */
function setOf(json: object): CommandOf<'update'>['set'] {
  return (json as CommandOf<'update'>).set
}

type TableCommand = Exclude<CheckedCommand, { action: 'create_db' | 'drop_db' }>

function compileStatements(
  command: TableCommand,
  path: string,
  dialect: Dialect,
): readonly Statement[] {
  switch (command.action) {
    case 'create_table':
      return [{ sql: createTable(command, path, dialect), params: [] }]
    case 'drop_table': {
      const guard = command.if_exists === true ? 'IF EXISTS ' : ''
      const sql = `DROP TABLE ${guard}${quoteName(command.table, join(path, 'table'), dialect)}`
      return [{ sql, params: [] }]
    }
    case 'insert':
      return compileInsert(command, path, dialect)
    case 'update':
      return [statement(update(command, path, dialect))]
    case 'delete':
      return [statement(remove(command, path, dialect))]
    case 'select':
      return [statement(select(command, path, dialect))]
    default:
      return unreachable(command)
  }
}

function statement(part: SqlPart): Statement {
  return { sql: part.sql, params: part.values }
}

type CommandOf<Action> = Extract<CheckedCommand, { action: Action }>

function createTable(command: CommandOf<'create_table'>, path: string, dialect: Dialect): string {
  const keys = command.columns.filter(column => column.primary_key === true)
  if (keys.length > 1 || (keys.length === 1 && command.primary_key !== undefined)) {
    const problem = 'only one column can be the whole key; for several use the field primary_key'
    throw new DbError('INVALID_REQUEST', `${join(path, 'columns')}: ${problem}`)
  }
  const parts = command.columns.map((column, at) => {
    const where = join(path, `columns[${at}]`)
    const isKey = column.primary_key === true
    const isInKey = isKey || column.unique === true || isNamed(command.primary_key, column.name)
    const type = columnType(column.type, isInKey, dialect, `${where}.type`)
    let sql = `${quoteName(column.name, `${where}.name`, dialect)} ${type}`
    if (column.not_null === true && dialect === 'mysql') sql += ' NOT NULL'
    // SQLite numbers the rows of such a column by itself.
    const isNumbered = isKey && dialect === 'mysql' && column.type.toUpperCase() === 'INTEGER'
    if (isNumbered) sql += ' AUTO_INCREMENT'
    if (isKey) sql += ' PRIMARY KEY'
    if (column.not_null === true && dialect === 'sqlite') sql += ' NOT NULL'
    if (column.unique === true) sql += ' UNIQUE'
    if (column.default !== undefined) {
      const place = `${where}.default`
      const value = literal(decodeValue(column.default, place), place, dialect)
      sql += ` DEFAULT ${dialect === 'mysql' ? `(${value})` : value}`
    }
    return sql
  })
  if (command.primary_key !== undefined) {
    parts.push(`PRIMARY KEY (${nameList(command.primary_key, join(path, 'primary_key'), dialect)})`)
  }
  const guard = command.if_not_exists === true ? 'IF NOT EXISTS ' : ''
  const name = quoteName(command.table, join(path, 'table'), dialect)
  // MySQL's tables are strict, all of them.
  const kind = command.strict === true && dialect === 'sqlite' ? ' STRICT' : ''
  return `CREATE TABLE ${guard}${name} (${parts.join(', ')})${kind}`
}

/** A value as SQL text: the engine binds no parameter inside a definition. */
function literal(value: SqlValue, path: string, dialect: Dialect): string {
  if (value === null) return 'NULL'
  if (typeof value === 'string') {
    if (!value.includes('\0')) return textLiteral(value, dialect)
    throw new DbError('INVALID_REQUEST', `${path}: a default can not hold the character NUL`)
  }
  // In parentheses, because a sign makes an expression of a number.
  if (typeof value === 'bigint') return value < 0n ? `(${value})` : String(value)
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) return value > 0 ? '(9e999)' : '(-9e999)'
    if (Object.is(value, -0)) return '(-0.0)'
    return Number.isInteger(value) ? `(${value.toExponential()})` : `(${value})`
  }
  return `x'${Array.from(value, byte => byte.toString(16).padStart(2, '0')).join('')}'`
}

function update(command: CommandOf<'update'>, path: string, dialect: Dialect): SqlPart {
  const entries = Object.entries(command.set)
  if (entries.length === 0) {
    throw new DbError('INVALID_REQUEST', `${join(path, 'set')}: must name at least one column`)
  }
  const assignments = entries.map(([name]) => {
    return `${quoteName(name, join(path, `set.${name}`), dialect)} = ?`
  })
  const values = entries.map(([name, json]) => decodeValue(json, join(path, `set.${name}`)))
  const condition = whereClause(command, path, dialect)
  const table = quoteName(command.table, join(path, 'table'), dialect)
  const sql = `UPDATE ${table} SET ${assignments.join(', ')}${condition.sql}`
  return { sql: sql + returning(command, path, dialect), values: [...values, ...condition.values] }
}

function remove(command: CommandOf<'delete'>, path: string, dialect: Dialect): SqlPart {
  const condition = whereClause(command, path, dialect)
  const table = quoteName(command.table, join(path, 'table'), dialect)
  const sql = `DELETE FROM ${table}${condition.sql}`
  return { sql: sql + returning(command, path, dialect), values: condition.values }
}

function select(command: CommandOf<'select'>, path: string, dialect: Dialect): SqlPart {
  const { table, columns, order_by: order, limit, offset } = command
  const condition = whereClause(command, path, dialect)
  const list =
    columns === undefined ? '*' : selected(table, columns, join(path, 'columns'), dialect)
  let sql = `SELECT ${list} FROM ${quoteName(table, join(path, 'table'), dialect)}${condition.sql}`
  if (order !== undefined) {
    const parts = order.map(({ column, direction }, at) => {
      const name = quoteColumn(table, column, join(path, `order_by[${at}].column`), dialect)
      return direction === 'desc' ? `${name} DESC` : name
    })
    sql += ` ORDER BY ${parts.join(', ')}`
  }
  if (limit === undefined && offset === undefined) return { sql, values: condition.values }
  // SQL knows no OFFSET without LIMIT; -1 is none, and to MySQL the largest number is.
  const none = dialect === 'mysql' ? 2n ** 63n - 1n : -1n
  const bounds = [limit === undefined ? none : BigInt(limit), BigInt(offset ?? 0)]
  return { sql: `${sql} LIMIT ? OFFSET ?`, values: [...condition.values, ...bounds] }
}

function whereClause(
  command: { readonly table: string; readonly where?: unknown },
  path: string,
  dialect: Dialect,
): SqlPart {
  if (command.where === undefined) return { sql: '', values: [] }
  const condition = compileCondition(command.where, command.table, join(path, 'where'), dialect)
  return { sql: ` WHERE ${condition.sql}`, values: condition.values }
}

function selected(
  table: string,
  columns: readonly string[],
  path: string,
  dialect: Dialect,
): string {
  return columns
    .map((column, at) => {
      const name = quoteColumn(table, column, `${path}[${at}]`, dialect)
      return `${name} AS ${quoteName(column, path, dialect)}`
    })
    .join(', ')
}

function returning(
  command: { readonly table: string; readonly returning?: readonly string[] | undefined },
  path: string,
  dialect: Dialect,
): string {
  if (command.returning === undefined) return ''
  const place = join(path, 'returning')
  return ` RETURNING ${selected(command.table, command.returning, place, dialect)}`
}

function nameList(names: readonly string[], path: string, dialect: Dialect): string {
  return names.map((name, at) => quoteName(name, `${path}[${at}]`, dialect)).join(', ')
}

function isNamed(names: readonly string[] | undefined, name: string): boolean {
  return names?.includes(name) ?? false
}

function join(path: string, field: string): string {
  return path === '' ? field : `${path}.${field}`
}
