/** The JSON of requests and the results of answers, as programs see them. */
import { DbError } from '../base/errors.ts'
import { uniqueNames } from '../base/column-names.ts'
import type { Command } from '../protocol/commands.ts'
import type { ResultJson, ResultsResponse } from '../protocol/http-api.ts'
import {
  fromJsonValue,
  toJsonValue,
  type InputValue,
  type JsonValue,
  type OutputValue,
} from '../protocol/values.ts'
import { SqlText } from './sql.ts'

/** Values by position, or by name without `:`, `@` or `$`. */
export type Params = readonly InputValue[] | Readonly<Record<string, InputValue>>

/** A statement of a batch: text without values, text with values, `sql` text, or a Command. */
export type BatchItem =
  | string
  | SqlText
  | Command
  | { readonly sql: string; readonly params?: Params }

/** A row as an object of its columns. */
export type DefaultRow = Readonly<Record<string, OutputValue>>

/** What one statement gave. */
export interface Result<Row = DefaultRow> {
  /** Rows inserted, updated or deleted by the statement itself, without triggers. */
  readonly rowsAffected: number
  /** rowid of the last row that the statement inserted. */
  readonly lastInsertId?: number | bigint
  /** Names of the columns; empty if the statement returns no rows. */
  readonly columns: readonly string[]
  readonly rows: readonly Row[]
}

/** Where and how new an answer is. */
export interface AnswerProof {
  /** Give it to another client or process, and it reads at least this state. */
  readonly token: string
  readonly index: number
  readonly node: string
  readonly durationMs: number
  /** The write had to be sent more than once, and this is the answer to the first time. */
  readonly repeated?: true
  /** Of a repeated answer: its rows were too many to be remembered, and are left out. */
  readonly rowsDropped?: true
}

/** The JSON of one statement. Throws INVALID_REQUEST for what SQL doesn't know. */
export function statementJson(
  statement: string | SqlText,
  params: Params | undefined,
): { sql: string; params?: unknown } {
  if (statement instanceof SqlText) return statementJson(statement.sql, statement.params)
  if (params === undefined) return { sql: statement }
  if (isList(params)) {
    return {
      sql: statement,
      params: params.map((value, at) => toJsonValue(value, `params[${at}]`)),
    }
  }
  const named = Object.entries(params).map(([name, value]): [string, JsonValue] => [
    name,
    toJsonValue(value, `params.${name}`),
  ])
  return { sql: statement, params: Object.fromEntries(named) }
}

function isList(params: Params): params is readonly InputValue[] {
  return Array.isArray(params)
}

/** The JSON of a Command. Throws INVALID_REQUEST for what SQL doesn't know. */
export function commandJson(command: Command): unknown {
  return convert(command, command.action)
}

/** The JSON of an item of a batch. */
export function itemJson(item: BatchItem): unknown {
  if (typeof item === 'string' || item instanceof SqlText) return statementJson(item, undefined)
  return 'action' in item ? commandJson(item) : statementJson(item.sql, item.params)
}

const WRITING_TEXT = /^\s*(?:insert|update|delete|replace)\b/i

/**
 * True if all that a request does, or each of its items, surely writes. What can't be told, such as
 * a text that begins with a comment or with WITH, may be a read that takes long.
 */
export function surelyWrites(json: object): boolean {
  if ('statements' in json) return (json.statements as readonly object[]).every(surelyWrites)
  if ('action' in json) return json.action !== 'select'
  return 'sql' in json && WRITING_TEXT.test(String(json.sql))
}

function convert(value: unknown, path: string): unknown {
  if (Array.isArray(value)) return value.map((item, at) => convert(item, `${path}[${at}]`))
  if (isPlainObject(value)) {
    const entries = Object.entries(value).map(([key, item]) => {
      // JSON would leave it out: a delete whose condition got lost would delete everything.
      if (item !== undefined) return [key, convert(item, `${path}.${key}`)]
      throw new DbError('INVALID_REQUEST', `${path}.${key} is undefined; leave the field out`)
    })
    return Object.fromEntries(entries)
  }
  return toJsonValue(value as InputValue, path)
}

function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** The answer to a read or a write, if it is one. Throws what leaves the fate of a write open. */
export function readResultsResponse(json: unknown): ResultsResponse {
  const answer = json as ResultsResponse
  if (typeof answer.token === 'string' && Array.isArray(answer.results)) return answer
  throw strangeAnswer()
}

/** What was written may be written, so this must not look like a refusal. */
export function strangeAnswer(): DbError {
  return new DbError('CONNECTION_LOST', 'the answer is none of Lockstep; is a proxy between?')
}

/** The results of an answer, rows as objects. */
export function readResults(answer: Pick<ResultsResponse, 'results'>): Result[] {
  return answer.results.map(readResult)
}

function readResult(result: ResultJson): Result {
  const columns = result.columns ?? []
  const names = uniqueNames(columns)
  const rows = (result.rows ?? []) as readonly (readonly JsonValue[])[]
  const lastInsertId =
    result.lastInsertId === undefined
      ? {}
      : { lastInsertId: fromJsonValue(result.lastInsertId) as number | bigint }
  return {
    rowsAffected: result.rowsAffected,
    ...lastInsertId,
    columns: names,
    rows: rows.map(row =>
      Object.fromEntries(row.map((value, at) => [names[at] ?? '', fromJsonValue(value)])),
    ),
  }
}
