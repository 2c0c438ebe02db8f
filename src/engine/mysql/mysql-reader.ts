/**
 * Reads of one database in one transaction that sees all of it as of one moment, with the index
 * that it is of. It can't write, and is in the way of no writer.
 */
import { must } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import type { StatementResult } from '../../base/sql.ts'
import type { DigestOutcome, DigestRequest, ReadOutcome, ReadRequest } from '../engine.ts'
import { toRequestError, withDetails } from '../request-errors.ts'
import { ADOPTING_NOTE } from './adoption.ts'
import type { Answer, Connection } from './connection.ts'
import { classifyServerError, type ServerError } from './mysql-errors.ts'
import { ownDatabase } from './node-tables.ts'
import { parseText } from './parsed-text.ts'
import { GaveWay } from './read-pool.ts'
import { SYSTEM_DATABASES } from './refusals.ts'
import { quoteName, quoteText, render } from './render.ts'
import { atStatement, refuse } from './request-steps.ts'
import { asAllTell } from './shown.ts'
import type { ParsedStatement } from './statement-parser.ts'
import type { TableChanges, TableWatch } from './table-changes.ts'
import { type Ask, digestTables } from './table-digest.ts'

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
  readonly #changes: TableChanges
  #foreign: ReadonlySet<string> = new Set()
  #listedMs = -Infinity

  /** `nowMs`: a clock that never goes back. */
  constructor(prefix: string, changes: TableChanges, nowMs: () => number) {
    this.#prefix = prefix
    this.#changes = changes
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
    const { sql } = rendered
    return this.#steadily({ connection, database: request.database, sql }, watch =>
      this.#try(connection, request, rendered, watch),
    )
  }

  /** Digests a table or a database in one read transaction. */
  digest(connection: Connection, request: DigestRequest): Promise<DigestOutcome> {
    const { database, table } = request
    const sql = table === undefined ? undefined : [quoteName(table)]
    return this.#steadily({ connection, database, sql }, watch =>
      this.#tryDigest(connection, request, watch),
    )
  }

  /**
   * Reads until no schema change came to what was read. Rejects with {@link GaveWay} if one waited
   * for it.
   */
  async #steadily<Outcome>(
    { connection, database, sql }: Reading,
    read: (watch: TableWatch) => Promise<Outcome | 'again'>,
  ): Promise<Outcome | Failed> {
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      let gaveWay = false
      const watch = this.#changes.watch({
        id: connection.id,
        giveWay: (server, whom) => {
          if (server !== `${this.#prefix}${database}`) return
          const isNamed = sql === undefined || sql.some(each => watch.isNamed(server, each))
          gaveWay ||= isNamed || whom === 'everybody'
          if (gaveWay) connection.close()
        },
      })
      try {
        const outcome = await read(watch)
        if (outcome !== 'again') return outcome
      } catch (thrown) {
        throw gaveWay ? new GaveWay() : thrown
      } finally {
        watch.end()
      }
    }
    const message = 'the tables were changed again and again while they were read'
    return failed({ code: 'OVERLOADED', message })
  }

  async #tryDigest(
    connection: Connection,
    { database, table }: DigestRequest,
    watch: TableWatch,
  ): Promise<DigestOutcome | 'again'> {
    const { answers, error } = await connection.run(this.#preamble(database).join(';'))
    if (error !== undefined) {
      await connection.expect('ROLLBACK')
      return failed(this.#toError(error, database, 0))
    }
    const began = readPreamble(answers, database)
    if (began instanceof DbError) return failed(toRequestError(began))
    let isOfChanged = false
    const ask: Ask = async sql => {
      try {
        return await connection.rows(sql)
      } finally {
        isOfChanged ||= watch.changedIn(sql) !== undefined
      }
    }
    try {
      const server = `${this.#prefix}${database}`
      const digest = await digestTables(ask, server, table)
      await connection.expect('COMMIT')
      if (isOfChanged) return 'again'
      return { type: 'ok', appliedIndex: began, ...digest }
    } catch (thrown) {
      if (!(thrown instanceof DbError)) throw thrown
      await connection.expect('ROLLBACK')
      return isOfChanged ? 'again' : failed(toRequestError(thrown))
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
    { sql, texts, parsed }: Rendered,
    watch: TableWatch,
  ): Promise<ReadOutcome | 'again'> {
    const limits = { maxRows: maxRows + 1, maxBytes: maxBytes + 1000, endsIfCut: true }
    const packet = [...this.#preamble(database), ...sql, 'COMMIT'].join(';')
    const { answers, error } = await connection.run(packet, limits)
    if (answers.some(({ isCut }) => isCut)) return failed(tooLarge(maxRows, maxBytes))
    const isOfChanged = sql.some(each => watch.isNamed(`${this.#prefix}${database}`, each))
    if (error !== undefined) {
      await connection.expect('ROLLBACK')
      // Nothing is missing that is being replaced.
      const began = answers.length < 2 ? 0 : readPreamble(answers, database)
      if (began instanceof DbError) return failed(toRequestError(began))
      if (isOfChanged || error.number === TABLE_CHANGED) return 'again'
      return failed(this.#toError(error, database, texts[answers.length - PREAMBLE_COUNT] ?? 0))
    }
    const appliedIndex = readPreamble(answers, database)
    if (appliedIndex instanceof DbError) return failed(toRequestError(appliedIndex))
    // It may have read the rows of before by the definition of after.
    if (isOfChanged) return 'again'
    const server = `${this.#prefix}${database}`
    const results = parsed.map((statement, at): StatementResult => {
      const answer = must(answers[PREAMBLE_COUNT + at], 'an answer to each statement')
      const { columns = [], rows } = asAllTell(statement, answer, database, server)
      return { rowsAffected: 0, columns, rows }
    })
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
    const all: ParsedStatement[] = []
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
          all.push(each)
        }
      } catch (error) {
        throw atStatement(error, text)
      }
    }
    return { sql, texts, parsed: all }
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

interface Reading {
  readonly connection: Connection
  readonly database: string
  /** What names the tables; undefined for all of the database. */
  readonly sql: readonly string[] | undefined
}

interface Rendered {
  readonly sql: readonly string[]
  /** Which text each statement stands in. */
  readonly texts: readonly number[]
  readonly parsed: readonly ParsedStatement[]
}

type Failed = ReadOutcome & { readonly type: 'failed' }

/** The index, or why there is nothing to be read. */
function readPreamble(answers: readonly Answer[], database: string): number | DbError {
  const [applied, count, moving] = answers[1]?.rows[0] ?? []
  if (applied === undefined || moving !== 0n) return notOpen()
  return count === 1n ? Number(applied) : unknownDatabase(database)
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
