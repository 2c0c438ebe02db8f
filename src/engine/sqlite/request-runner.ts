/**
 * Runs the statements of one request under one savepoint: all of them take effect, or none. The
 * leader runs a request to learn its outcomes, a follower to compare them; both do it here.
 */
import type { SQLInputValue } from 'node:sqlite'
import { DbError } from '../../base/errors.ts'
import type { SqlParams, SqlValue, Statement, StatementResult } from '../../base/sql.ts'
import type { StatementOutcome } from '../entry.ts'
import type { DatabaseFile } from './database-file.ts'
import { NO_ROWID } from './database-file.ts'
import { RowHash } from '../hash.ts'
import { LAST_ROWID } from './last-rowid.ts'
import { STATEMENTS_MAX, WRITE_ROWS_BYTES_MAX, WRITE_ROWS_MAX } from '../limits.ts'
import { sizeOf } from '../outcomes.ts'
import { withDetails } from '../request-errors.ts'
import { bindParams } from './params.ts'
import { asksForState } from './scan.ts'
import { isForeignKeysPragma } from './solo.ts'
import type { PreparedStatement } from './prepared-statement.ts'
import type { SqlFailure } from './sql-errors.ts'
import { classifyFailure } from './sql-errors.ts'

/** What became of a request. */
export type RunOutcome =
  | {
      readonly type: 'ok'
      readonly isReadOnly: boolean
      /** Tables and views that were inserted into or updated. */
      readonly tables: ReadonlySet<string>
      readonly results: readonly StatementResult[]
      readonly outcomes: readonly StatementOutcome[]
      /** For each outcome, which of the request's texts it came from. */
      readonly texts: readonly number[]
    }
  /** Undone. `isTransactionLost`: and with it everything else in the file's transaction. */
  | {
      readonly type: 'failed'
      readonly failure: SqlFailure
      readonly sql: string
      readonly isTransactionLost: boolean
    }

export interface RunOptions {
  /** Number of the request among those of its entry. */
  readonly position: number
  /** Number of the request in its batch; 0 on a follower. */
  readonly ordinal: number
  /** Whether rows are wanted; if not, only their digest is made. */
  readonly keepsRows: boolean
  /** The request rebuilds a table: foreign keys are off and checked at its end. */
  readonly isRebuild: boolean
  /** Whether a row with the last rowid makes the request fail. */
  readonly refusesLastRowid: boolean
  /** Whether a statement that writes makes the request fail; if not given, it doesn't. */
  readonly onlyReads?: boolean
  /** Whether a plain statement runs without a savepoint; if not given, it doesn't. */
  readonly runsPlain?: boolean
}

/** Positions from here on belong to requests that only read, so that they never share chance. */
const READ_ONLY_POSITIONS = 0x8000_0000

const NO_PARAMS: SqlParams = []
const FOREIGN_KEYS_SHOWN = 20

/** Lets a test make this replica compute something else than the others. */
export type AlterSql = (sql: string) => string

export class RequestRunner {
  readonly #alterSql: AlterSql | undefined
  readonly #hash = new RowHash()
  /** Of the request that runs. */
  #file!: DatabaseFile
  #options!: RunOptions
  #position = 0
  #isReadOnly = true
  #tables = new Set<string>()
  #carriesState = false
  /** Whether `last_insert_rowid()` is what the request began with. */
  #isStateFresh = true
  #lastRowid = 0n
  #sql = ''
  #returnedRows = 0
  #returnedBytes = 0
  #results: StatementResult[] = []
  #outcomes: StatementOutcome[] = []
  #texts: number[] = []
  /** The text that runs. */
  #text = 0

  constructor(alterSql?: AlterSql) {
    this.#alterSql = alterSql
  }

  /** Runs a request in the open transaction of `file`, whose entry `determinism` has begun. */
  run(file: DatabaseFile, statements: readonly Statement[], options: RunOptions): RunOutcome {
    this.#reset(file, options)
    const [only] = statements
    if (options.runsPlain === true && statements.length === 1 && only !== undefined) {
      const plain = file.statements.plain(this.#altered(only.sql))
      if (plain !== undefined) return this.#runPlain(plain, only.params)
    }
    file.savepoint()
    try {
      this.#prepareState(statements)
      for (const [text, statement] of statements.entries()) {
        this.#text = text
        this.#runText(statement)
      }
      if (options.isRebuild && options.keepsRows) this.#checkForeignKeys()
      if (options.refusesLastRowid) this.#checkLastRowid()
    } catch (thrown) {
      return this.#undo(thrown)
    }
    file.releaseSavepoint()
    return {
      type: 'ok',
      isReadOnly: this.#isReadOnly,
      tables: this.#tables,
      results: this.#results,
      outcomes: this.#outcomes,
      texts: this.#texts,
    }
  }

  /** A request of one plain statement: it takes effect as a whole or not at all by itself. */
  #runPlain(prepared: PreparedStatement, params: SqlParams): RunOutcome {
    const file = this.#file
    const { keepsRows, position } = this.#options
    this.#sql = prepared.sql
    file.authorizer.beginRun()
    try {
      const values = bindParams(prepared.scan, params)
      file.determinism.beginStatement(position, 0)
      const { changes, lastInsertRowid } = prepared.statement.run(...values)
      const rowsAffected = Number(changes)
      const rowid = BigInt(lastInsertRowid)
      const hasInserted = prepared.inserts && rowsAffected > 0
      // The mark is no rowid here either, so that both ways to run a statement tell the same.
      const lastInsertId = hasInserted && rowid !== NO_ROWID ? rowid : undefined
      if (keepsRows && lastInsertId === LAST_ROWID)
        return this.#undoPlain(lastRowidTaken('the table'), true)
      const result = lastInsertId === undefined ? { rowsAffected } : { rowsAffected, lastInsertId }
      return {
        type: 'ok',
        isReadOnly: false,
        tables: prepared.tables,
        results: keepsRows ? [result] : NO_RESULTS,
        outcomes: [{ rowsAffected, lastInsertId, rowsDigest: undefined }],
        texts: FIRST_TEXT,
      }
    } catch (thrown) {
      return this.#undoPlain(thrown, !file.database.isTransaction)
    } finally {
      file.authorizer.endRun()
    }
  }

  /** SQLite has undone it; or it can't be undone alone, and the caller undoes everything. */
  #undoPlain(thrown: unknown, isTransactionLost: boolean): RunOutcome {
    const failure = classifyFailure(thrown, this.#file.authorizer.refusal)
    const error = withDetails(failure.error, { statement: 0 })
    return { type: 'failed', failure: { ...failure, error }, sql: this.#sql, isTransactionLost }
  }

  #reset(file: DatabaseFile, options: RunOptions): void {
    this.#file = file
    this.#options = options
    this.#isReadOnly = true
    this.#tables = NO_TABLES
    this.#sql = ''
    this.#returnedRows = 0
    this.#returnedBytes = 0
    this.#results = []
    this.#outcomes = []
    this.#texts = []
    this.#text = 0
  }

  #undo(thrown: unknown): RunOutcome {
    const file = this.#file
    const failure = classifyFailure(thrown, file.authorizer.refusal)
    const isTransactionLost = !file.database.isTransaction
    if (!isTransactionLost) file.rollbackToSavepoint()
    const error = withDetails(failure.error, { statement: this.#text })
    return { type: 'failed', failure: { ...failure, error }, sql: this.#sql, isTransactionLost }
  }

  /**
   * A connection carries its last rowid and change count from statement to statement, and a
   * rollback doesn't bring them back. They begin the same in every request; where no statement asks
   * for them, a mark tells better whether a row was inserted.
   */
  #prepareState(statements: readonly Statement[]): void {
    const { position, ordinal } = this.#options
    this.#position = this.#onlyReads(statements) ? READ_ONLY_POSITIONS + ordinal : position
    this.#carriesState = statements.some(statement => asksForState(statement.sql))
    this.#resetState()
    if (this.#carriesState) this.#file.resetChanges()
  }

  #resetState(): void {
    this.#lastRowid = this.#carriesState ? 0n : NO_ROWID
    this.#file.resetLastRowid(this.#lastRowid)
    this.#isStateFresh = true
  }

  /** Whether all statements only read. Reads need nothing of one another, so they can be asked. */
  #onlyReads(statements: readonly Statement[]): boolean {
    if (this.#options.isRebuild) return false
    const cache = this.#file.statements
    try {
      for (const statement of statements) {
        const sql = this.#altered(statement.sql)
        let prepared = cache.first(sql)
        while (prepared.kind === 'read' && prepared.next !== undefined) {
          const following = cache.following(sql, prepared.next)
          following.statement.close()
          prepared = following
        }
        if (prepared.kind !== 'read') return false
      }
      return true
    } catch {
      // It will fail again where it runs, and there it is known which statement it was.
      return false
    }
  }

  #altered(sql: string): string {
    return this.#alterSql === undefined ? sql : this.#alterSql(sql)
  }

  #runText(statement: Statement): void {
    const sql = this.#altered(statement.sql)
    this.#sql = sql
    const first = this.#skipForeignKeysPragma(sql, 0)
    if (first === undefined) return
    const cache = this.#file.statements
    let prepared = first === 0 ? cache.first(sql) : cache.following(sql, first)
    if (first === 0 && prepared.next === undefined) {
      return this.#runStatement(prepared, bindParams(prepared.scan, statement.params))
    }
    this.#refuseParams(statement)
    for (let isKept = first === 0; ; isKept = false) {
      try {
        this.#runStatement(prepared, bindParams(prepared.scan, NO_PARAMS))
      } finally {
        if (!isKept) prepared.statement.close()
      }
      const next =
        prepared.next === undefined ? undefined : this.#skipForeignKeysPragma(sql, prepared.next)
      if (next === undefined) return
      prepared = cache.following(sql, next)
    }
  }

  /** In a rebuild, foreign keys are off already: passes over the pragma that says so. */
  #skipForeignKeysPragma(sql: string, offset: number): number | undefined {
    if (!this.#options.isRebuild) return offset
    let at = offset
    for (;;) {
      const after = isForeignKeysPragma(sql, at)
      if (after === undefined) return at
      this.#record({ rowsAffected: 0 }, NO_OUTCOME)
      if (after >= sql.length) return undefined
      at = after
    }
  }

  #refuseParams(statement: Statement): void {
    if (Object.keys(statement.params).length === 0) return
    throw new DbError(
      'INVALID_REQUEST',
      'parameters go with a single statement; send a script without them, or in pieces',
    )
  }

  #runStatement(prepared: PreparedStatement, values: readonly SQLInputValue[]): void {
    const file = this.#file
    const { kind, inserts } = prepared
    if (this.#outcomes.length >= STATEMENTS_MAX) {
      throw new DbError('TOO_LARGE', `a request has at most ${STATEMENTS_MAX} statements`)
    }
    if (kind !== 'read' && this.#options.onlyReads === true) {
      throw new DbError('INVALID_REQUEST', 'a query only reads; send what writes to execute')
    }
    if (kind !== 'read') this.#noteWrite(prepared.tables)
    const needsFresh = inserts || prepared.readsConnectionState
    if (needsFresh && !this.#isStateFresh && !this.#carriesState) this.#resetState()
    file.determinism.beginStatement(this.#position, this.#outcomes.length)

    file.authorizer.beginRun()
    try {
      if (prepared.columns.length > 0) this.#runForRows(prepared, values)
      else this.#runForEffect(prepared, values)
    } finally {
      file.authorizer.endRun()
    }
    if (kind === 'schema') file.noteSchemaChange()
  }

  #runForEffect(prepared: PreparedStatement, values: readonly SQLInputValue[]): void {
    const { changes, lastInsertRowid } = prepared.statement.run(...values)
    // Statements that change no rows leave the count of the one before.
    const rowsAffected = prepared.modifies ? Number(changes) : 0
    const lastInsertId = this.#insertedRowid(prepared, BigInt(lastInsertRowid), rowsAffected)
    const outcome = { rowsAffected, lastInsertId, rowsDigest: undefined }
    this.#record(
      lastInsertId === undefined ? { rowsAffected } : { rowsAffected, lastInsertId },
      outcome,
    )
  }

  #runForRows(prepared: PreparedStatement, values: readonly SQLInputValue[]): void {
    const { keepsRows } = this.#options
    const rows: (readonly SqlValue[])[] = []
    const hash = this.#hash
    hash.reset()
    for (const returned of prepared.statement.iterate(...values)) {
      const row = returned as unknown as readonly SqlValue[]
      hash.row(row)
      if (!keepsRows) continue
      this.#countRow(row)
      rows.push(row)
    }
    const state = prepared.modifies ? this.#file.connectionState() : undefined
    const rowsAffected = state === undefined ? 0 : Number(state.changes)
    const lastInsertId =
      state === undefined ? undefined : this.#insertedRowid(prepared, state.lastRowid, rowsAffected)
    const rowsDigest = prepared.isExplain ? undefined : hash.digest()
    const result = { rowsAffected, columns: prepared.columns, rows }
    this.#record(lastInsertId === undefined ? result : { ...result, lastInsertId }, {
      rowsAffected,
      lastInsertId,
      rowsDigest,
    })
  }

  #insertedRowid(
    prepared: PreparedStatement,
    lastRowid: bigint,
    rowsAffected: number,
  ): bigint | undefined {
    const hasMoved = lastRowid !== this.#lastRowid
    if (hasMoved) {
      this.#lastRowid = lastRowid
      this.#isStateFresh = false
    }
    if (!prepared.inserts || rowsAffected === 0) return undefined
    if (lastRowid === LAST_ROWID && this.#options.keepsRows) throw lastRowidTaken('the table')
    // With the state carried on, a rowid that stayed may be the same one in another table.
    const isRepeated = this.#carriesState && lastRowid !== 0n && !prepared.updates
    return hasMoved || isRepeated ? lastRowid : undefined
  }

  #record(result: StatementResult, outcome: StatementOutcome): void {
    if (this.#options.keepsRows) this.#results.push(result)
    this.#outcomes.push(outcome)
    this.#texts.push(this.#text)
  }

  #countRow(row: readonly SqlValue[]): void {
    this.#returnedRows++
    for (const value of row) this.#returnedBytes += sizeOf(value)
    if (this.#returnedRows <= WRITE_ROWS_MAX && this.#returnedBytes <= WRITE_ROWS_BYTES_MAX) return
    throw new DbError(
      'TOO_LARGE',
      `a write returns at most ${WRITE_ROWS_MAX} rows and ${WRITE_ROWS_BYTES_MAX} bytes; ` +
        'query instead',
      { details: { limitRows: WRITE_ROWS_MAX, limitBytes: WRITE_ROWS_BYTES_MAX } },
    )
  }

  #noteWrite(tables: ReadonlySet<string>): void {
    this.#isReadOnly = false
    if (tables.size === 0) return
    if (this.#tables === NO_TABLES) this.#tables = new Set(tables)
    else for (const table of tables) this.#tables.add(table)
  }

  #checkLastRowid(): void {
    const table = this.#file.lastRowid.find(this.#tables)
    if (table === undefined) return
    throw lastRowidTaken(table)
  }

  #checkForeignKeys(): void {
    const tables = this.#file.brokenForeignKeys(FOREIGN_KEYS_SHOWN)
    if (tables.length === 0) return
    const names = [...new Set(tables)].join(', ')
    throw new DbError(
      'SQL_CONSTRAINT',
      `the rebuild would leave rows without the rows they refer to, in ${names}`,
    )
  }
}

const NO_TABLES = new Set<string>()
const NO_RESULTS: readonly StatementResult[] = []
const FIRST_TEXT: readonly number[] = [0]
const NO_OUTCOME: StatementOutcome = {
  rowsAffected: 0,
  lastInsertId: undefined,
  rowsDigest: undefined,
}

function lastRowidTaken(table: string): DbError {
  return new DbError(
    'UNSUPPORTED',
    `a row of ${table} took the last rowid, ${LAST_ROWID}; the next row's would be chosen by ` +
      'chance, and not the same on every node',
  )
}
