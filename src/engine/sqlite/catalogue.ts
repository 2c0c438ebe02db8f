/**
 * Which databases there are, and how far all of them surely survive a power cut: one small SQLite
 * file of its own, `system.sqlite`. A database's row comes after its file and goes before it.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { join } from 'node:path'
import { assert } from '../../base/assert.ts'
import { expectVersion } from '../format-version.ts'
import {
  checkpoint,
  databaseImage,
  openForReading,
  openForWriting,
  orClosed,
} from './connection.ts'
import type { RequestLimits } from '../limits.ts'
import { REQUEST_LIMITS } from '../limits.ts'
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
import { refuseName } from '../names.ts'
import { Verdicts, VERDICTS_SCHEMA } from './verdicts.ts'

/** File name of the catalogue. */
export const SYSTEM_FILE = 'system.sqlite'
const FORMAT = 3
/** Changes after which the catalogue is flushed, whatever else happens. */
const UNFLUSHED_CHANGES_MAX = 1000

/**
 * `lockstep_database`: name of a database and the entry that made it, which names its file.
 * `lockstep_dropped`: name of a database that was dropped, and the entry that last did it.
 * `lockstep_state`, one row: `applied`, the last entry that changed the catalogue; `floor`, the
 * last that survives a power cut in every file; `now_ms`, the newest moment when that was noted;
 * `dropped_floor`, the last drop that was forgotten; the other columns: request-book.ts.
 */
const SCHEMA = `
  CREATE TABLE lockstep_database (
    name TEXT PRIMARY KEY, made_by INTEGER NOT NULL UNIQUE
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE lockstep_dropped (
    name TEXT PRIMARY KEY, dropped_by INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE lockstep_state (
    id INTEGER PRIMARY KEY CHECK (id = 1), applied INTEGER NOT NULL, floor INTEGER NOT NULL,
    now_ms INTEGER NOT NULL, format INTEGER NOT NULL,
    dropped_floor INTEGER NOT NULL, ${BOOK_COLUMNS}
  ) STRICT;
  ${BOOK_TABLE};
  INSERT INTO lockstep_state VALUES (1, 0, 0, 0, ${FORMAT}, 0, ${emptyBook(0)})`

/** Bytes of the catalogue of a node that has no database yet. */
export function newCatalogueImage(): Uint8Array {
  return databaseImage(`${SCHEMA}; ${VERDICTS_SCHEMA}`)
}

/** Bytes of the catalogue of a node that begins with these databases, as of entry `index`. */
export function restoredCatalogue(
  databases: ReadonlyMap<string, number>,
  index: number,
  nowMs: number,
): Uint8Array {
  const rows = [...databases].map(([name, madeBy]) => {
    const refusal = refuseName(name)
    if (refusal !== undefined) throw refusal
    return `INSERT INTO lockstep_database VALUES ('${name}', ${madeBy})`
  })
  // Nobody knows here what was cancelled, made or dropped before.
  const state =
    `UPDATE lockstep_state SET applied = ${index}, floor = ${index}, now_ms = ${nowMs}, ` +
    `dropped_floor = ${index}, request_floor = ${index - 1}, request_key_floor = ${index}`
  return databaseImage([SCHEMA, VERDICTS_SCHEMA, ...rows, state].join('; '))
}

/** Writes into a copy of a catalogue that every file came with the entries up to `index`. */
export function setFloor(path: string, index: number, nowMs: number): void {
  const database = openForWriting(path)
  try {
    const statement = database.prepare(
      'UPDATE lockstep_state SET floor = ?, now_ms = max(now_ms, ?) ' +
        'WHERE id = 1 AND applied <= ? AND floor <= ?',
    )
    const numbers = [index, nowMs, index, index].map(BigInt)
    const { changes } = statement.run(...numbers)
    statement.close()
    assert(Number(changes) === 1, `the catalogue can't be one of entry ${index}`)
    new Verdicts(database).copied(index)
  } finally {
    // Whoever closes it last moves the WAL into the file.
    database.close()
  }
}

/** Name of the file of the database that the entry at `index` made. */
export function databaseFileName(index: number): string {
  return `db-${index}.sqlite`
}

/** The writer's view: all of it is in memory, every change goes to the file at once. */
export class Catalogue {
  readonly #database: DatabaseSync
  readonly #databases = new Map<string, number>()
  /** Names of dropped databases and the last drop of each, the longest ago first. */
  readonly #dropped = new Map<string, number>()
  readonly #droppedNamesMax: number
  #droppedFloor: number
  /** Ids of requests that made or dropped databases, and of all that were cancelled. */
  readonly requests: RequestBook
  readonly verdicts: Verdicts
  #applied: number
  #floor: number
  #nowMs: number
  #unflushedChanges = 0
  readonly #add: StatementSync
  readonly #remove: StatementSync
  readonly #setDropped: StatementSync
  readonly #forgetDropped: StatementSync
  readonly #setApplied: StatementSync
  readonly #setFloor: StatementSync
  readonly #setBook: StatementSync

  constructor(directory: string, limits: RequestLimits = REQUEST_LIMITS) {
    const database = openForWriting(join(directory, SYSTEM_FILE))
    this.#database = database
    const row = orClosed(database, () => readState(database))
    this.#applied = Number(row[0])
    this.#floor = Number(row[1])
    this.#nowMs = Number(row[2])
    this.#droppedFloor = Number(row[3])
    this.requests = new RequestBook(database, limits, readBookState(row.slice(4)))
    this.#droppedNamesMax = limits.droppedNamesMax
    for (const [name, droppedBy] of readDropped(database)) this.#dropped.set(name, droppedBy)
    for (const [name, madeBy] of readDatabases(database)) this.#databases.set(name, madeBy)
    this.verdicts = orClosed(database, () => new Verdicts(database))
    this.#add = database.prepare('INSERT INTO lockstep_database VALUES (?, ?)')
    this.#remove = database.prepare('DELETE FROM lockstep_database WHERE name = ?')
    this.#setDropped = database.prepare('INSERT OR REPLACE INTO lockstep_dropped VALUES (?, ?)')
    this.#forgetDropped = database.prepare('DELETE FROM lockstep_dropped WHERE name = ?')
    this.#setApplied = database.prepare(
      'UPDATE lockstep_state SET applied = ? WHERE id = 1 AND applied = ? AND applied < ?',
    )
    this.#setBook = database.prepare(
      `UPDATE lockstep_state SET dropped_floor = ?, ${BOOK_CHANGES} WHERE id = 1`,
    )
    this.#setFloor = database.prepare(
      'UPDATE lockstep_state SET floor = ?, now_ms = ? WHERE id = 1 AND floor = ?',
    )
  }

  /** Last entry that changed the catalogue. */
  get applied(): number {
    return this.#applied
  }

  /** Entries up to here survive a power cut in every file. */
  get floor(): number {
    return this.#floor
  }

  get nowMs(): number {
    return this.#nowMs
  }

  /** How many databases there are. */
  get size(): number {
    return this.#databases.size
  }

  /** Index of the entry that made a database, undefined if there is none of this name. */
  madeBy(name: string): number | undefined {
    return this.#databases.get(name)
  }

  /** All databases as (name, index of the entry that made it). */
  entries(): Iterable<readonly [string, number]> {
    return this.#databases
  }

  /**
   * The entry that last dropped a database of this name, or a later one: sessions and keys born
   * before it may have written to that database. 0 if there was none.
   */
  droppedAt(name: string): number {
    return this.#dropped.get(name) ?? this.#droppedFloor
  }

  /** Adds a database whose file is there completely, as entry `index`. */
  add(name: string, index: number, records?: RecordsBuilder): void {
    this.#change(index, records, () => expectOne(this.#add.run(name, BigInt(index))))
    this.#databases.set(name, index)
  }

  /** Takes a database away as entry `index`. Its file must stay until this is flushed. */
  remove(name: string, index: number, records?: RecordsBuilder): void {
    this.#change(index, records, () => {
      expectOne(this.#remove.run(name))
      this.#noteDropped(name, index)
    })
    this.#databases.delete(name)
  }

  /** Adds ids of requests that are cancelled by entry `index`. */
  cancel(index: number, records: RecordsBuilder): void {
    this.#change(index, records, () => {})
  }

  /** Writes down that entries up to `index` survive; false if that itself doesn't survive yet. */
  raiseFloor(index: number, nowMs: number): boolean {
    assert(index >= this.#floor, `the floor was to go from ${this.#floor} back to ${index}`)
    if (index > this.#floor) {
      const { changes } = this.#setFloor.run(BigInt(index), BigInt(nowMs), BigInt(this.#floor))
      assert(Number(changes) === 1, `the floor isn't at ${this.#floor} in the file`)
      this.#floor = index
      this.#nowMs = nowMs
    }
    return this.flush()
  }

  /** True if everything in the catalogue survives a power cut now. */
  flush(): boolean {
    this.#unflushedChanges = 0
    return checkpoint(this.#database, 'PASSIVE').isComplete
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close()
  }

  #change(index: number, records: RecordsBuilder | undefined, change: () => void): void {
    this.#database.exec('BEGIN IMMEDIATE')
    const moved = this.#setApplied.run(BigInt(index), BigInt(this.#applied), BigInt(index))
    assert(
      Number(moved.changes) === 1,
      `the catalogue was to go from entry ${this.#applied} to ${index}, but it is elsewhere`,
    )
    change()
    if (records !== undefined) this.requests.add(index, records)
    this.#setBook.run(BigInt(this.#droppedFloor), ...this.requests.columns)
    this.#database.exec('COMMIT')
    this.#applied = index
    this.#unflushedChanges++
    // Its WAL is in nobody's count, and would grow while there is nothing else to flush.
    if (this.#unflushedChanges >= UNFLUSHED_CHANGES_MAX) this.flush()
  }

  #noteDropped(name: string, index: number): void {
    this.#setDropped.run(name, BigInt(index))
    this.#dropped.delete(name)
    this.#dropped.set(name, index)
    for (const [oldest, droppedBy] of this.#dropped) {
      if (this.#dropped.size <= this.#droppedNamesMax) break
      this.#forgetDropped.run(oldest)
      this.#dropped.delete(oldest)
      this.#droppedFloor = droppedBy
    }
  }
}

function expectOne({ changes }: { readonly changes: number | bigint }): void {
  assert(Number(changes) === 1, `${changes} databases were changed`)
}

function readState(database: DatabaseSync): readonly unknown[] {
  const format = database.prepare('SELECT format FROM lockstep_state')
  const [found] = format.get() as unknown as readonly bigint[]
  format.close()
  expectVersion('the catalogue of the databases', Number(found), FORMAT)
  const state = database.prepare(
    `SELECT applied, floor, now_ms, dropped_floor, ${BOOK_NAMES} FROM lockstep_state`,
  )
  try {
    return state.get() as unknown as readonly unknown[]
  } finally {
    state.close()
  }
}

/** A reader's view: looks again only when the writer has changed something. */
export class CatalogueReader {
  readonly #database: DatabaseSync
  readonly #version: StatementSync
  #seen = -1n
  #databases = new Map<string, number>()

  constructor(directory: string) {
    this.#database = openForReading(join(directory, SYSTEM_FILE))
    this.#version = this.#database.prepare('PRAGMA data_version')
  }

  /** All databases as (name, index of the entry that made it), as of now. */
  databases(): ReadonlyMap<string, number> {
    const row = this.#version.get() as unknown as readonly bigint[]
    const version = row[0] ?? 0n
    if (version !== this.#seen) {
      this.#databases = new Map(readDatabases(this.#database))
      this.#seen = version
    }
    return this.#databases
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close()
  }
}

function readDatabases(database: DatabaseSync): readonly (readonly [string, number])[] {
  return readNames(database, 'SELECT name, made_by FROM lockstep_database ORDER BY name')
}

function readDropped(database: DatabaseSync): readonly (readonly [string, number])[] {
  return readNames(database, 'SELECT name, dropped_by FROM lockstep_dropped ORDER BY dropped_by')
}

function readNames(database: DatabaseSync, sql: string): readonly (readonly [string, number])[] {
  const statement = database.prepare(sql)
  try {
    const rows = statement.all() as unknown as readonly (readonly [string, bigint])[]
    return rows.map(([name, index]) => [name, Number(index)])
  } finally {
    statement.close()
  }
}
