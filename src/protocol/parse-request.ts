/**
 * From the JSON of a request to what a node is to do: statements with bound values, and how they
 * map back to the results of the answer. Throws INVALID_REQUEST naming the field at fault.
 */
import { DbError } from '../base/errors.ts'
import type { RowFormat } from '../base/result-json.ts'
import type { Statement } from '../base/sql.ts'
import type { z } from 'zod'
import { compileCommand, type Compiled } from './command-sql.ts'
import {
  executeBatchSchema,
  executeOptionsSchema,
  executeStatementSchema,
  queryBatchSchema,
  queryStatementSchema,
  readOptionsSchema,
  statementSchema,
} from './http-api.ts'
import type { Dialect } from './dialect.ts'
import { parseShape } from './parse-shape.ts'
import type { RequestId } from './request-id.ts'
import { decodeToken, type ReadToken } from './token.ts'
import { decodeParams } from './values.ts'

/** What is to be written. It has the shape of the engine's request. */
export type WriteOperation =
  | {
      readonly type: 'statements'
      readonly database: string
      readonly statements: readonly Statement[]
      readonly id?: RequestId
    }
  | { readonly type: 'create-database'; readonly database: string; readonly id?: RequestId }
  | { readonly type: 'drop-database'; readonly database: string; readonly id?: RequestId }
  /** Asks what became of a write, and sees to it that it stays so. */
  | { readonly type: 'cancel'; readonly database: string; readonly id: RequestId }

/** A checked `POST /execute`. */
export interface ExecuteRequest {
  readonly operation: WriteOperation
  /**
   * How many SQL statements stand for each item of the request, in order, where some item took
   * more than one; undefined if each took one. Their results are added up in the answer. A text of
   * several statements counts as one: each of them has a result of its own.
   */
  readonly statementCounts: readonly number[] | undefined
  /** True if all of it was select Commands: it can run as a linearizable read. */
  readonly isRead: boolean
  readonly timeoutMs: number | undefined
  readonly rows: RowFormat
}

/** A checked `POST /query`. */
export interface QueryRequest {
  readonly database: string
  readonly statements: readonly Statement[]
  readonly consistency: 'linearizable' | 'session' | 'local'
  readonly token: ReadToken | undefined
  readonly maxLagMs: number | undefined
  readonly timeoutMs: number | undefined
  readonly rows: RowFormat
}

/** Reads the body of `POST /execute`: a Command, a SQL statement, or an array of them. */
export function parseExecute(json: unknown, dialect: Dialect = 'sqlite'): ExecuteRequest {
  if (Array.isArray(json)) return parseExecute({ statements: json }, dialect)
  const body = requireObject(json, 'the body')
  if ('action' in body) {
    const { timeoutMs, rows, ...command } = body
    const options = parseShape(executeOptionsSchema, withoutUndefined({ timeoutMs, rows }), '')
    return executeRequest([compileCommand(command, '', dialect)], options)
  }
  if ('statements' in body) {
    const { statements, database, ...options } = parseShape(executeBatchSchema, body, '')
    return executeRequest(compileItems(statements, database, dialect), options)
  }
  const { sql, params, database, ...options } = parseShape(executeStatementSchema, body, '')
  const statement = { sql: checkSql(sql, 'sql'), params: decodeParams(params, 'params') }
  return {
    operation: { type: 'statements', database, statements: [statement] },
    statementCounts: undefined,
    isRead: false,
    timeoutMs: options.timeoutMs,
    rows: options.rows,
  }
}

function executeRequest(
  items: readonly Compiled[],
  options: { readonly timeoutMs?: number | undefined; readonly rows: RowFormat },
): ExecuteRequest {
  const [first] = items
  const { timeoutMs, rows } = options
  if (items.length === 1 && first !== undefined && first.type !== 'statements') {
    return { operation: first, statementCounts: undefined, isRead: false, timeoutMs, rows }
  }
  const merged = mergeItems(items)
  const isRead = merged.parts.every(part => part.isRead === true)
  const { statementCounts, database, statements } = merged
  const operation: WriteOperation = { type: 'statements', database, statements }
  return { operation, statementCounts, isRead, timeoutMs, rows }
}

/** Reads the body of `POST /query`: a select Command, a SQL statement, or an array of them. */
export function parseQuery(json: unknown, dialect: Dialect = 'sqlite'): QueryRequest {
  if (Array.isArray(json)) return parseQuery({ statements: json }, dialect)
  const body = requireObject(json, 'the body')
  if ('action' in body) {
    const { consistency, atLeast, maxLagMs, timeoutMs, rows, ...command } = body
    const given = withoutUndefined({ consistency, atLeast, maxLagMs, timeoutMs, rows })
    return queryRequest(
      [compileCommand(command, '', dialect)],
      parseShape(readOptionsSchema, given, ''),
    )
  }
  if ('statements' in body) {
    const { statements, database, ...options } = parseShape(queryBatchSchema, body, '')
    return queryRequest(compileItems(statements, database, dialect), options)
  }
  const { sql, params, database, ...options } = parseShape(queryStatementSchema, body, '')
  const statement = { sql: checkSql(sql, 'sql'), params: decodeParams(params, 'params') }
  return { database, statements: [statement], ...readOptions(options) }
}

function queryRequest(
  items: readonly Compiled[],
  options: z.output<typeof readOptionsSchema>,
): QueryRequest {
  const writing = items.findIndex(item => item.type !== 'statements' || item.isRead === false)
  if (writing >= 0) {
    const place = items.length === 1 ? 'action' : `statements[${writing}].action`
    throw invalid(place, 'only select reads; send what writes to POST /execute')
  }
  const { database, statements } = mergeItems(items)
  return { database, statements, ...readOptions(options) }
}

type ReadOptionsPart = Omit<QueryRequest, 'database' | 'statements'>

/** Fields that contradict each other are refused: a forgotten word must not weaken a read. */
export function readOptions(options: {
  readonly consistency: 'linearizable' | 'session' | 'local'
  readonly atLeast?: string | undefined
  readonly maxLagMs?: number | undefined
  readonly timeoutMs?: number | undefined
  readonly rows?: RowFormat
}): ReadOptionsPart {
  const { consistency, atLeast, maxLagMs, timeoutMs, rows } = options
  if (consistency === 'session' && atLeast === undefined) {
    throw invalid('atLeast', 'consistency session needs the token of an earlier answer')
  }
  if (consistency !== 'session' && atLeast !== undefined) {
    throw invalid('atLeast', 'goes with consistency session only')
  }
  if (consistency !== 'local' && maxLagMs !== undefined) {
    throw invalid('maxLagMs', 'goes with consistency local only')
  }
  const token = atLeast === undefined ? undefined : decodeToken(atLeast)
  return { consistency, token, maxLagMs, timeoutMs, rows: rows ?? 'arrays' }
}

function compileItems(
  items: readonly unknown[],
  database: string | undefined,
  dialect: Dialect,
): Compiled[] {
  return items.map((item, at) => compileItem(item, database, `statements[${at}]`, dialect))
}

function compileItem(
  item: unknown,
  database: string | undefined,
  path: string,
  dialect: Dialect,
): Compiled {
  if (typeof item === 'string') return compileItem({ sql: item }, database, path, dialect)
  const json = requireObject(item, path)
  if ('action' in json) {
    // A Command inside a batch may leave its database to the batch.
    const own = 'database' in json || database === undefined ? json : { ...json, database }
    return compileCommand(own, path, dialect)
  }
  const statement = parseShape(statementSchema, json, path)
  const name = statement.database ?? database
  if (name === undefined) throw invalid(`${path}.database`, 'name the database here or beside')
  const sql = checkSql(statement.sql, `${path}.sql`)
  const params = decodeParams(statement.params, `${path}.params`)
  return { type: 'statements', database: name, statements: [{ sql, params }], isRead: undefined }
}

interface Merged {
  readonly database: string
  readonly statements: readonly Statement[]
  readonly statementCounts: readonly number[] | undefined
  readonly parts: readonly (Compiled & { type: 'statements' })[]
}

function mergeItems(items: readonly Compiled[]): Merged {
  const parts = items.map((item, at) => {
    if (item.type === 'statements') return item
    throw invalid(`statements[${at}]`, 'create_db and drop_db must be sent alone')
  })
  const database = parts[0]?.database ?? ''
  const other = parts.findIndex(part => part.database !== database)
  if (other >= 0) {
    const names = `"${database}" and "${parts[other]?.database}"`
    throw invalid(`statements[${other}]`, `one request speaks to one database, not ${names}`)
  }
  const counts = parts.map(part => part.statements.length)
  const statementCounts = counts.every(count => count === 1) ? undefined : counts
  if (statementCounts !== undefined) refuseScripts(parts)
  const statements = parts.flatMap(part => part.statements)
  return { database, statements, statementCounts, parts }
}

/**
 * A text of several statements gives several results. Beside a Command that takes several too,
 * nobody could tell whose they are.
 */
function refuseScripts(parts: Merged['parts']): void {
  const script = parts.findIndex(
    part => part.isRead === undefined && /;\s*\S/.test(part.statements[0]?.sql ?? ''),
  )
  if (script < 0) return
  const problem = 'beside an insert of many rows, send one statement in a text'
  throw invalid(`statements[${script}]`, problem)
}

function checkSql(sql: string, path: string): string {
  // The engine would stop reading at a NUL and run half of the text.
  if (sql.includes('\0')) throw invalid(path, 'the text holds the character NUL')
  if (!sql.isWellFormed()) throw invalid(path, 'the text holds half of a surrogate pair')
  return sql
}

function requireObject(json: unknown, path: string): Readonly<Record<string, unknown>> {
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) {
    return json as Readonly<Record<string, unknown>>
  }
  throw invalid(path, 'must be an object: {sql, params}, a Command with an action, or an array')
}

function withoutUndefined(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
}

function invalid(path: string, problem: string): DbError {
  return new DbError('INVALID_REQUEST', `${path}: ${problem}`)
}
