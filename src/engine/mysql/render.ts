/**
 * A statement as the text that the server gets: values in place of parameters, expressions in place
 * of what would differ between nodes. Statements go many at a time in one packet, which only texts
 * can.
 */
import { DbError } from '../../base/errors.ts'
import type { SqlParams, SqlValue } from '../../base/sql.ts'
import { PARAMETERS_MAX } from '../limits.ts'
import { isPositional } from '../value-codec.ts'
import type { ParsedStatement } from './statement-parser.ts'

/**
 * Throws INVALID_REQUEST or TOO_LARGE. `database`: its name, for DATABASE(); `uuid`: an expression
 * for each UUID() in the text; `lastId`: what stands for LAST_INSERT_ID(), if something else does.
 */
export function render(
  statement: ParsedStatement,
  params: SqlParams,
  database: string,
  uuid: () => string = () => 'UUID()',
  lastId?: string,
): string {
  checkParams(statement, params)
  let text = ''
  let position = 0
  for (const piece of statement.pieces) {
    if (typeof piece === 'string') text += piece
    else if (piece.type === 'uuid') text += uuid()
    else if (piece.type === 'last-id') text += lastId ?? piece.text
    else if (piece.type === 'database') text += quoteText(database)
    else if (piece.name !== undefined) text += literal(named(params, piece.name))
    else {
      text += literal(isPositional(params) ? (params[position] ?? null) : null)
      position++
    }
  }
  return text
}

/** A value as a literal of its own type: a REAL is a DOUBLE and no DECIMAL. */
export function literal(value: SqlValue): string {
  switch (typeof value) {
    case 'string':
      return quoteText(value)
    case 'bigint':
      // A blank before the sign, because two of them begin a comment.
      return value < 0n ? ` ${value}` : String(value)
    case 'number':
      if (!Number.isFinite(value)) throw invalid('this database has no infinite numbers')
      return value < 0 ? ` ${value.toExponential()}` : value.toExponential()
    default:
      return value === null ? 'NULL' : `x'${Buffer.from(value).toString('hex')}'`
  }
}

/** A text in quotes. */
export function quoteText(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "''").replaceAll('\0', '\\0')}'`
}

/** A name in backticks. */
export function quoteName(name: string): string {
  return `\`${name.replaceAll('`', '``')}\``
}

function named(params: SqlParams, name: string): SqlValue {
  return (params as Readonly<Record<string, SqlValue>>)[name] ?? null
}

function checkParams({ positionalCount, names }: ParsedStatement, params: SqlParams): void {
  if (names.length > 0) return checkNamed(positionalCount, names, params)
  if (!isPositional(params)) {
    if (positionalCount === 0 && Object.keys(params).length === 0) return
    throw invalid(`the statement's parameters are given by position, ? by ?, as a list`)
  }
  if (positionalCount > PARAMETERS_MAX) {
    throw new DbError('TOO_LARGE', `a statement has at most ${PARAMETERS_MAX} parameters`, {
      details: { limit: PARAMETERS_MAX },
    })
  }
  if (params.length === positionalCount) return
  throw invalid(
    `the statement has ${positionalCount} parameters, but ${params.length} values are given`,
  )
}

function checkNamed(positionalCount: number, names: readonly string[], params: SqlParams): void {
  if (positionalCount > 0) {
    throw invalid('a statement has parameters by position or by name, not both')
  }
  if (isPositional(params)) {
    throw invalid(`the statement's parameters have names: ${names.join(', ')}`)
  }
  for (const name of names) {
    if (!Object.hasOwn(params, name)) throw invalid(`no value is given for the parameter ${name}`)
  }
  for (const name of Object.keys(params)) {
    if (!names.includes(name)) throw invalid(`the statement has no parameter named ${name}`)
  }
}

function invalid(message: string): DbError {
  return new DbError('INVALID_REQUEST', message)
}
