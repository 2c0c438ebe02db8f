/**
 * One database: its file, the writer's connection to it, and how far it has applied the log. The
 * applied index is in the file, in the same transaction as what was applied.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { assert } from '../../base/assert.ts'
import { expectVersion } from '../format-version.ts'
import { Authorizer } from './authorizer.ts'
import type { WalPages } from './connection.ts'
import {
  checkpoint,
  databaseImage,
  openForWriting,
  orClosed,
  prepareWalPages,
  readCheckpoint,
  setCache,
} from './connection.ts'
import { Determinism } from './determinism.ts'
import { LastRowid } from './last-rowid.ts'
import type { RequestLimits } from '../limits.ts'
import { REQUEST_LIMITS } from '../limits.ts'
import type { BookState } from './request-book.ts'
import {
  BOOK_CHANGES,
  BOOK_COLUMNS,
  BOOK_NAMES,
  BOOK_TABLE,
  emptyBook,
  readBookState,
  RequestBook,
} from './request-book.ts'
import type { RecordsBuilder } from '../request-records.ts'
import { StatementCache } from './statement-cache.ts'

const FORMAT = 3

/**
 * One row. `applied`: index of the last entry in this file. `now_ms`: newest moment of an entry.
 * `schema`: counts the entries that changed tables, for readers. `format`: of this table.
 * The other columns: request-book.ts.
 */
const META = `
  CREATE TABLE lockstep_meta (
    id INTEGER PRIMARY KEY CHECK (id = 1), applied INTEGER NOT NULL, now_ms INTEGER NOT NULL,
    schema INTEGER NOT NULL, format INTEGER NOT NULL, ${BOOK_COLUMNS}
  ) STRICT`

const SET_APPLIED = 'UPDATE main.lockstep_meta SET applied = ?, now_ms = ?, schema = schema + ?'
const IF_APPLIED = 'WHERE id = 1 AND applied = ? AND applied < ?'

/** Where the last rowid goes before a statement, so that it is known whether it inserted a row. */
export const NO_ROWID = -7_046_029_254_386_353_131n

/**
 * Bytes of a new database's file, made by the entry at `index`. `droppedBy`: the entry that last
 * dropped a database of its name; who was born before it may have written to that one.
 */
export function newDatabaseImage(index: number, droppedBy: number): Uint8Array {
  const values = `1, ${index}, 0, 0, ${FORMAT}, ${emptyBook(droppedBy)}`
  return databaseImage(`${META}; ${BOOK_TABLE}; INSERT INTO lockstep_meta VALUES (${values})`)
}

/** What a file's own table says. */
interface FileState {
  readonly applied: number
  readonly nowMs: number
  readonly book: BookState
}

export class DatabaseFile {
  readonly path: string
  /** Index of the entry that made the database. */
  readonly madeBy: number
  readonly database: DatabaseSync
  readonly authorizer = new Authorizer('replicated')
  readonly determinism = new Determinism()
  readonly statements: StatementCache
  readonly lastRowid: LastRowid
  /** Ids of requests whose statements took effect here. */
  readonly requests: RequestBook
  /** Index of the last entry that this file holds. */
  #applied: number
  #nowMs: number
  /** The open transaction changed, or tried to change, what tables there are. */
  #changesSchema = false
  readonly #own: OwnStatements
  #isRoomy = true

  constructor(path: string, madeBy: number, limits: RequestLimits = REQUEST_LIMITS) {
    this.path = path
    this.madeBy = madeBy
    this.database = openForWriting(path)
    const { state, own } = orClosed(this.database, () => ({
      state: readFileState(this.database),
      own: prepareOwn(this.database),
    }))
    this.#applied = state.applied
    this.#nowMs = state.nowMs
    this.#own = own
    this.determinism.install(this.database)
    this.authorizer.install(this.database)
    this.statements = new StatementCache(this.database, this.authorizer)
    this.lastRowid = new LastRowid(this.database)
    this.requests = new RequestBook(this.database, limits, state.book)
  }

  get applied(): number {
    return this.#applied
  }

  get nowMs(): number {
    return this.#nowMs
  }

  begin(): void {
    this.#own.begin.run()
  }

  /** Whether it may keep many pages in memory. */
  setRoomy(isRoomy: boolean): void {
    if (isRoomy === this.#isRoomy) return
    this.#isRoomy = isRoomy
    setCache(this.database, isRoomy)
  }

  /** Sets or clears the enforcement of foreign keys; only outside of a transaction. */
  setForeignKeys(isOn: boolean): void {
    assert(!this.database.isTransaction, 'foreign keys change only outside of a transaction')
    this.database.exec(`PRAGMA foreign_keys = ${isOn ? 'ON' : 'OFF'}`)
  }

  /**
   * Ends the transaction as entry `index`, with the ids of its requests. Only the disk can make it
   * fail.
   */
  commit(index: number, nowMs: number, records?: RecordsBuilder): void {
    const moment = Math.max(nowMs, this.#nowMs)
    if (records !== undefined) this.requests.add(index, records)
    const values = [BigInt(index), BigInt(moment), this.#changesSchema ? 1n : 0n]
    const from = [BigInt(this.#applied), BigInt(index)]
    const { changes } =
      records === undefined
        ? this.#own.setApplied.run(...values, ...from)
        : this.#own.setAppliedAndBook.run(...values, ...this.requests.columns, ...from)
    assert(
      Number(changes) === 1,
      `${this.path} was to go from entry ${this.#applied} to ${index}, but it is elsewhere`,
    )
    this.#own.commit.run()
    this.#applied = index
    this.#nowMs = moment
    this.#changesSchema = false
  }

  /** Undoes the transaction, if there is one. */
  rollback(): void {
    if (this.database.isTransaction) this.#own.rollback.run()
    this.#forgetSchema()
    this.#changesSchema = false
  }

  savepoint(): void {
    this.#own.savepoint.run()
  }

  releaseSavepoint(): void {
    this.#own.release.run()
  }

  rollbackToSavepoint(): void {
    this.#own.rollbackTo.run()
    this.#own.release.run()
    this.#forgetSchema()
  }

  /** Sets a savepoint of a client, `depth` others deep. */
  setSavepoint(depth: number): void {
    this.database.exec(`SAVEPOINT lockstep_client_${depth}`)
  }

  /** Forgets a client's savepoint and those in it; what was done since stays. */
  releaseSavepointAt(depth: number): void {
    this.database.exec(`RELEASE lockstep_client_${depth}`)
  }

  /** Undoes what was done since a client's savepoint was set, and keeps it. */
  rollbackToSavepointAt(depth: number): void {
    this.database.exec(`ROLLBACK TO lockstep_client_${depth}`)
    this.#forgetSchema()
  }

  /** A statement is about to change what tables there are, or has done so. */
  noteSchemaChange(): void {
    this.#changesSchema = true
    this.#forgetSchema()
  }

  /** What was prepared against tables that are no more, or again, tells nothing. */
  #forgetSchema(): void {
    if (!this.#changesSchema) return
    this.statements.clear()
    this.lastRowid.clear()
  }

  /** Sets what `last_insert_rowid()` gives to `id`. */
  resetLastRowid(id: bigint): void {
    this.#own.setLastRowid.run(id)
  }

  /** Sets what `changes()` gives to 0. */
  resetChanges(): void {
    this.#own.changeNothing.run()
  }

  /** Rows changed by the last statement, and the last rowid that was inserted. */
  connectionState(): { readonly changes: bigint; readonly lastRowid: bigint } {
    const row = this.#own.connectionState.get() as unknown as readonly bigint[]
    return { changes: row[0] ?? 0n, lastRowid: row[1] ?? 0n }
  }

  /** Rows that break a foreign key, up to `limit` of them. */
  brokenForeignKeys(limit: number): readonly string[] {
    const statement = this.database.prepare('PRAGMA foreign_key_check')
    const tables: string[] = []
    try {
      for (const row of statement.iterate()) {
        tables.push(String((row as unknown as readonly unknown[])[0]))
        if (tables.length >= limit) break
      }
    } finally {
      statement.close()
    }
    return tables
  }

  /** True if everything committed is in the file itself and flushed. Not inside a transaction. */
  checkpoint(mode: 'PASSIVE' | 'TRUNCATE'): boolean {
    return checkpoint(this.database, mode).isComplete
  }

  /** How much waits in the WAL. */
  walPages(): WalPages {
    return readCheckpoint(this.#own.walPages)
  }

  /** An open transaction is rolled back. */
  close(): void {
    if (this.database.isOpen) this.database.close()
  }
}

/** Reads a file's state on any connection to it. */
function readFileState(database: DatabaseSync): FileState {
  const [format] = readMeta(database, 'format')
  expectVersion('the file of a database', Number(format), FORMAT)
  const [applied, nowMs, ...book] = readMeta(database, `applied, now_ms, ${BOOK_NAMES}`)
  return { applied: Number(applied), nowMs: Number(nowMs), book: readBookState(book) }
}

function readMeta(database: DatabaseSync, columns: string): readonly unknown[] {
  const statement = database.prepare(`SELECT ${columns} FROM lockstep_meta`)
  try {
    const row = statement.get() as unknown as readonly unknown[] | undefined
    assert(row !== undefined, 'a database file has its state')
    return row
  } finally {
    statement.close()
  }
}

interface OwnStatements {
  readonly begin: StatementSync
  readonly commit: StatementSync
  readonly rollback: StatementSync
  readonly savepoint: StatementSync
  readonly release: StatementSync
  readonly rollbackTo: StatementSync
  readonly setApplied: StatementSync
  readonly setAppliedAndBook: StatementSync
  readonly setLastRowid: StatementSync
  readonly changeNothing: StatementSync
  readonly connectionState: StatementSync
  readonly walPages: StatementSync
}

function prepareOwn(database: DatabaseSync): OwnStatements {
  database.exec('CREATE TEMP TABLE lockstep_last (id INTEGER PRIMARY KEY)')
  return {
    begin: database.prepare('BEGIN IMMEDIATE'),
    commit: database.prepare('COMMIT'),
    rollback: database.prepare('ROLLBACK'),
    savepoint: database.prepare('SAVEPOINT lockstep_request'),
    release: database.prepare('RELEASE lockstep_request'),
    rollbackTo: database.prepare('ROLLBACK TO lockstep_request'),
    setApplied: database.prepare(`${SET_APPLIED} ${IF_APPLIED}`),
    setAppliedAndBook: database.prepare(`${SET_APPLIED}, ${BOOK_CHANGES} ${IF_APPLIED}`),
    setLastRowid: database.prepare('INSERT OR REPLACE INTO temp.lockstep_last (id) VALUES (?)'),
    changeNothing: database.prepare('DELETE FROM temp.lockstep_last WHERE 0'),
    connectionState: database.prepare('SELECT changes(), last_insert_rowid()'),
    walPages: prepareWalPages(database),
  }
}
