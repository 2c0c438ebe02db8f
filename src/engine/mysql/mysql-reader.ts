/**
 * Reads of one database in one transaction that sees all of it as of one moment, with the index
 * that it is of. It can't write, and is in the way of no writer.
 */
import { DbError } from '../../base/errors.ts'
import type { StatementResult } from '../../base/sql.ts'
import type { DigestOutcome, DigestRequest, ReadOutcome, ReadRequest } from '../engine.ts'
import { toRequestError, withDetails } from '../request-errors.ts'
import { ADOPTING_NOTE } from './adoption.ts'
import type { Answer, Connection } from './connection.ts'
import { classifyServerError, type ServerError } from './mysql-errors.ts'
import { ownDatabase } from './node-tables.ts'
import { parseText } from './parsed-text.ts'
import { SYSTEM_DATABASES } from './refusals.ts'
import { quoteName, quoteText, render } from './render.ts'
import { atStatement, refuse } from './request-steps.ts'
import { digestTables } from './table-digest.ts'

const UNKNOWN_DATABASE = 1049
/** A table was changed after the transaction began: it is to begin anew. */
const TABLE_CHANGED = 1412
const TRIES_MAX = 5
/** How long the server's list of databases is believed. */
const LIST_MS_MAX = 5000

/** What goes before the statements of a client. */
const PREAMBLE_COUNT = 3

export class MysqlReader {
  readonly #prefix: string
  readonly #nowMs: () => number
  #foreign: ReadonlySet<string> = new Set()
  #listedMs = -Infinity

  /** `nowMs`: a clock that never goes back. */
  constructor(prefix: string, nowMs: () => number) {
    this.#prefix = prefix
    this.#nowMs = nowMs
  }

  /** Runs all statements of a request in one read transaction. */
  async query(connection: Connection, request: ReadRequest): Promise<ReadOutcome> {
    await this.#lookAround(connection)
    let rendered: Rendered
    try {
      rendered = this.#render(request)
    } catch (error) {
      if (!(error instanceof DbError)) throw error
      return { type: 'failed', error: toRequestError(error) }
    }
    for (let tries = 1; ; tries++) {
      const outcome = await this.#try(connection, request, rendered)
      if (outcome !== 'again') return outcome
      if (tries < TRIES_MAX) continue
      const message = 'the tables were changed again and again while they were read'
      return { type: 'failed', error: { code: 'OVERLOADED', message } }
    }
  }

  /** Digests a table or a database in one read transaction. */
  async digest(connection: Connection, request: DigestRequest): Promise<DigestOutcome> {
    const { database, table } = request
    const { answers, error } = await connection.run(this.#preamble(database).join(';'))
    if (error !== undefined) {
      await connection.expect('ROLLBACK')
      return failed(this.#toError(error, database, 0))
    }
    const began = readPreamble(answers, database)
    if (began instanceof DbError) return failed(toRequestError(began))
    try {
      const server = `${this.#prefix}${database}`
      const digest = await digestTables(sql => connection.rows(sql), server, table)
      await connection.expect('COMMIT')
      return { type: 'ok', appliedIndex: began, ...digest }
    } catch (thrown) {
      if (!(thrown instanceof DbError)) throw thrown
      await connection.expect('ROLLBACK')
      return failed(toRequestError(thrown))
    }
  }

  /** Names of the databases as of now, sorted; none before the writer has made its tables. */
  async databases(connection: Connection): Promise<readonly string[]> {
    const { answers, error } = await connection.run(
      `SELECT name FROM ${this.#own('db')} ORDER BY name`,
    )
    if (error !== undefined) return []
    return (answers[0]?.rows ?? []).map(([name]) => String(name))
  }

  async #try(
    connection: Connection,
    { database, maxRows, maxBytes }: ReadRequest,
    { sql, texts }: Rendered,
  ): Promise<ReadOutcome | 'again'> {
    const limits = { maxRows: maxRows + 1, maxBytes: maxBytes + 1000, endsIfCut: true }
    const packet = [...this.#preamble(database), ...sql, 'COMMIT'].join(';')
    const { answers, error } = await connection.run(packet, limits)
    if (answers.some(({ isCut }) => isCut)) return failed(tooLarge(maxRows, maxBytes))
    if (error !== undefined) {
      await connection.expect('ROLLBACK')
      // Nothing is missing that is being replaced.
      const began = answers.length < 2 ? 0 : readPreamble(answers, database)
      if (began instanceof DbError) return failed(toRequestError(began))
      if (error.number === TABLE_CHANGED) return 'again'
      return failed(this.#toError(error, database, texts[answers.length - PREAMBLE_COUNT] ?? 0))
    }
    const appliedIndex = readPreamble(answers, database)
    if (appliedIndex instanceof DbError) return failed(toRequestError(appliedIndex))
    const results = answers.slice(PREAMBLE_COUNT, -1).map(toResult)
    return { type: 'ok', appliedIndex, results }
  }

  /** Begins to read, with the index; a database that isn't there fails here. */
  #preamble(database: string): readonly string[] {
    const isThere = `SELECT count(*) FROM ${this.#own('db')} WHERE name = ${quoteText(database)}`
    const isMoving = `SELECT count(*) FROM ${this.#own('note')} WHERE name = '${ADOPTING_NOTE}'`
    return [
      'START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY',
      `SELECT applied, (${isThere}), (${isMoving}) FROM ${this.#own('state')}`,
      `USE ${quoteName(`${this.#prefix}${database}`)}`,
    ]
  }

  #own(table: string): string {
    return `${quoteName(ownDatabase(this.#prefix))}.${table}`
  }

  #render({ database, statements }: ReadRequest): Rendered {
    const sql: string[] = []
    const texts: number[] = []
    for (const [text, statement] of statements.entries()) {
      try {
        const parsed = parseText(statement.sql)
        if (parsed.length > 1 && Object.keys(statement.params).length > 0) {
          throw new DbError('INVALID_REQUEST', 'parameters go with a single statement')
        }
        for (const each of parsed) {
          if (each.kind !== 'read') {
            const message = 'a query only reads; send what writes to execute'
            throw new DbError('INVALID_REQUEST', message)
          }
          refuse(each, name => SYSTEM_DATABASES.has(name) || this.#foreign.has(name))
          if (each.locksRows) {
            const message = 'a read locks nothing; leave out FOR UPDATE and LOCK IN SHARE MODE'
            throw new DbError('UNSUPPORTED', message)
          }
          sql.push(render(each, statement.params, database))
          texts.push(text)
        }
      } catch (error) {
        throw atStatement(error, text)
      }
    }
    return { sql, texts }
  }

  #toError(error: ServerError, database: string, statement: number): Failed['error'] {
    if (error.number === UNKNOWN_DATABASE) {
      if (error.message.includes(`'${ownDatabase(this.#prefix)}'`)) return toRequestError(notOpen())
      return toRequestError(unknownDatabase(database))
    }
    const server = `${this.#prefix}${database}`
    return withDetails(classifyServerError(error, server).error, { statement })
  }

  async #lookAround(connection: Connection): Promise<void> {
    const nowMs = this.#nowMs()
    if (nowMs - this.#listedMs < LIST_MS_MAX) return
    this.#listedMs = nowMs
    const rows = await connection.rows('SHOW DATABASES')
    this.#foreign = new Set(rows.map(([name]) => String(name).toLowerCase()))
  }
}

interface Rendered {
  readonly sql: readonly string[]
  /** Which text each statement stands in. */
  readonly texts: readonly number[]
}

type Failed = ReadOutcome & { readonly type: 'failed' }

/** The index, or why there is nothing to be read. */
function readPreamble(answers: readonly Answer[], database: string): number | DbError {
  const [applied, count, moving] = answers[1]?.rows[0] ?? []
  if (applied === undefined || moving !== 0n) return notOpen()
  return count === 1n ? Number(applied) : unknownDatabase(database)
}

function toResult({ columns, rows }: Answer): StatementResult {
  return { rowsAffected: 0, columns: columns ?? [], rows }
}

function failed(error: Failed['error']): Failed {
  return { type: 'failed', error }
}

function notOpen(): DbError {
  return new DbError('NOT_READY', 'the databases of this node are not open yet')
}

function unknownDatabase(database: string): DbError {
  return new DbError('UNKNOWN_DATABASE', `there is no database ${database}; create it first`)
}

function tooLarge(limitRows: number, limitBytes: number): Failed['error'] {
  const message = `the result has more than ${limitRows} rows or ${limitBytes} bytes; ask for less`
  return { code: 'TOO_LARGE', message, details: { limitRows, limitBytes } }
}
