/** A reader's connection to one database: read transactions on it, and what they may cost. */
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite'
import { assert } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import type { SqlValue, Statement, StatementResult } from '../../base/sql.ts'
import { sizeOf } from '../outcomes.ts'
import { Authorizer } from './authorizer.ts'
import { openForReading } from './connection.ts'
import { Determinism } from './determinism.ts'
import { bindParams } from './params.ts'
import type { PreparedStatement } from './prepared-statement.ts'
import { StatementCache } from './statement-cache.ts'

/** Most that the statements of one read may return together. */
export interface ReadLimits {
  readonly maxRows: number
  readonly maxBytes: number
}

export class ReadConnection {
  readonly database: DatabaseSync
  readonly #authorizer = new Authorizer('read-only')
  readonly #determinism = new Determinism()
  readonly #statements: StatementCache
  readonly #begin: StatementSync
  readonly #end: StatementSync
  readonly #state: StatementSync
  /** What the kept statements were prepared against. */
  #schema = -1n
  #applied = 0
  #rows = 0
  #bytes = 0

  constructor(path: string) {
    this.database = openForReading(path)
    try {
      this.#begin = this.database.prepare('BEGIN')
      this.#end = this.database.prepare('ROLLBACK')
      this.#state = this.database.prepare('SELECT applied, schema FROM lockstep_meta')
    } catch (error) {
      this.database.close()
      throw error
    }
    this.#determinism.install(this.database)
    this.#authorizer.install(this.database)
    this.#statements = new StatementCache(this.database, this.#authorizer)
  }

  /** Why the last statement was refused, if it was. */
  get refusal(): string | undefined {
    return this.#authorizer.refusal
  }

  /**
   * Begins a read transaction, unless one is open. Returns the applied index that is seen in it,
   * until {@link end}.
   */
  open(): number {
    if (this.database.isTransaction) return this.#applied
    this.#begin.run()
    const row = this.#state.get() as unknown as readonly bigint[] | undefined
    assert(row !== undefined, 'a database file has its state')
    const [applied = 0n, schema = 0n] = row
    if (schema !== this.#schema) this.#statements.clear()
    this.#schema = schema
    this.#applied = Number(applied)
    return this.#applied
  }

  end(): void {
    if (this.database.isOpen && this.database.isTransaction) this.#end.run()
  }

  /** Sets the moment and chance that the statements see. */
  begin(nowMs: number, seed: () => Uint8Array): void {
    this.#determinism.beginEntry(nowMs, seed)
    this.#rows = 0
    this.#bytes = 0
  }

  /** Runs the statements of one text, number `ordinal` of its request. Throws `DbError`. */
  query(statement: Statement, ordinal: number, limits: ReadLimits): readonly StatementResult[] {
    const { sql, params } = statement
    const first = this.#statements.first(sql)
    if (first.next === undefined)
      return [this.#run(first, bindParams(first.scan, params), ordinal, limits)]
    if (Object.keys(params).length > 0) {
      throw new DbError(
        'INVALID_REQUEST',
        'parameters go with a single statement; send a script without them, or in pieces',
      )
    }
    const results: StatementResult[] = []
    let prepared = first
    for (;;) {
      results.push(this.#run(prepared, bindParams(prepared.scan, params), ordinal, limits))
      if (prepared !== first) prepared.statement.close()
      if (prepared.next === undefined) return results
      prepared = this.#statements.following(sql, prepared.next)
    }
  }

  close(): void {
    if (this.database.isOpen) this.database.close()
  }

  #run(
    prepared: PreparedStatement,
    values: readonly SQLInputValue[],
    ordinal: number,
    limits: ReadLimits,
  ): StatementResult {
    if (prepared.kind !== 'read') {
      throw new DbError('INVALID_REQUEST', 'a query only reads; send what writes to execute')
    }
    this.#determinism.beginStatement(ordinal, 0)
    const rows: (readonly SqlValue[])[] = []
    this.#authorizer.beginRun()
    try {
      for (const returned of prepared.statement.iterate(...values)) {
        const row = returned as unknown as readonly SqlValue[]
        this.#count(row, limits)
        rows.push(row)
      }
    } finally {
      this.#authorizer.endRun()
    }
    if (prepared.columns.length === 0) return { rowsAffected: 0 }
    return { rowsAffected: 0, columns: prepared.columns, rows }
  }

  #count(row: readonly SqlValue[], { maxRows, maxBytes }: ReadLimits): void {
    this.#rows++
    for (const value of row) this.#bytes += sizeOf(value)
    if (this.#rows <= maxRows && this.#bytes <= maxBytes) return
    throw new DbError(
      'TOO_LARGE',
      `the result is over ${maxRows} rows or ${maxBytes} bytes; ask for less, with LIMIT`,
      { details: { limitRows: maxRows, limitBytes: maxBytes } },
    )
  }
}
