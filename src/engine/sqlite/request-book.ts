/**
 * The book of request ids of one file: what took effect there, and what was answered. It is written
 * in the transaction of the effects, so that one is never there without the other.
 *
 * The newest ids are in the *open row*, which stands beside the file's applied index: its page is
 * written with every entry anyway, and a page of our own would cost a small entry more than all the
 * rest. When it is full it becomes a row of the book's table. Which ids are in which row is kept in
 * memory, and read from the rows when it is first needed.
 */
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite'
import { must } from '../../base/assert.ts'
import { ByteWriter } from '../../base/bytes.ts'
import type { RequestId } from '../engine.ts'
import type { RequestLimits } from '../limits.ts'
import { EXPIRED, type Floors, FRESH, RememberedIds } from '../remembered-ids.ts'
import type { Found, RecordsBuilder } from '../request-records.ts'
import { findFate, readRecords } from '../request-records.ts'

/**
 * The table of a book. `entry` and `last`: the first and the last of the log in this row. `ids`:
 * request-records.ts.
 */
export const BOOK_TABLE =
  'CREATE TABLE lockstep_request (entry INTEGER PRIMARY KEY, last INTEGER NOT NULL, ' +
  'ids BLOB NOT NULL) STRICT'

/**
 * Columns of the table that holds the file's applied index. `request_floor`: sessions born up to
 * there may have been forgotten. `request_key_floor`: keys born before it may have been.
 * `request_row` and `request_ids`: the open row.
 */
export const BOOK_COLUMNS =
  'request_floor INTEGER NOT NULL, request_key_floor INTEGER NOT NULL, ' +
  'request_row INTEGER NOT NULL, request_ids BLOB NOT NULL'
/** Their names in a SELECT, and with their values in an UPDATE. */
export const BOOK_NAMES = 'request_floor, request_key_floor, request_row, request_ids'
export const BOOK_CHANGES =
  'request_floor = ?, request_key_floor = ?, request_row = ?, request_ids = ?'
/** Their values in a book that is empty and begins after entry `begin`. */
export function emptyBook(begin: number): string {
  // A floor of -1 is below every session, one of 0 below every key.
  return `${begin - 1}, ${begin}, 0, x''`
}

/** What the columns hold. */
export interface BookState {
  readonly floors: Floors
  readonly row: number
  readonly ids: Uint8Array
}

/** Reads the columns {@link BOOK_NAMES}. */
export function readBookState([sessions, keys, row, ids]: readonly unknown[]): BookState {
  const floors = { sessions: Number(sessions), keys: Number(keys) }
  return { floors, row: Number(row), ids: ids as Uint8Array }
}

/** A row is written anew when so many of its ids are forgotten: all but one of four. */
const REWRITTEN_SHARE = 4
/** Shorter rows are left until all of their ids are forgotten. */
const REWRITTEN_FROM = 16

const FRESH_FOUND: Found = { type: 'fresh' }
const EXPIRED_FOUND: Found = { type: 'expired' }

interface Statements {
  readonly read: StatementSync
  readonly add: StatementSync
  readonly rewrite: StatementSync
  readonly remove: StatementSync
}

export class RequestBook {
  readonly #database: DatabaseSync
  readonly #limits: RequestLimits
  /** Undefined until it is needed: most files that are opened are asked for no id. */
  #remembered: RememberedIds | undefined
  #statements: Statements | undefined
  #floors: Floors
  /** The first entry in the open row, 0 if it is empty. */
  #openRow: number
  readonly #openIds = new ByteWriter(256)

  constructor(database: DatabaseSync, limits: RequestLimits, state: BookState) {
    this.#database = database
    this.#limits = limits
    this.#floors = state.floors
    this.#openRow = state.row
    this.#openIds.raw(state.ids)
  }

  /** Values for {@link BOOK_NAMES}, after something was added. */
  get columns(): readonly SQLInputValue[] {
    const { sessions, keys } = this.#floors
    return [BigInt(sessions), BigInt(keys), BigInt(this.#openRow), this.#openIds.view()]
  }

  /** How much memory it takes, in units of about 100 bytes. */
  get weightInMemory(): number {
    return this.#remembered?.weight ?? 0
  }

  /** Lets go of the memory; it is read again when it is needed. */
  forgetMemory(): void {
    this.#remembered = undefined
  }

  find(id: RequestId): Found {
    const row = this.#ids().locate(id)
    if (row === FRESH) return FRESH_FOUND
    if (row === EXPIRED) return EXPIRED_FOUND
    return must(findFate(this.#readRow(row), id), `an id in the row of entry ${row}`)
  }

  /**
   * Adds the ids of entry `entry`, in its transaction; {@link columns} must be written next. Only a
   * failing disk may undo that.
   */
  add(entry: number, records: RecordsBuilder): void {
    const ids = this.#ids()
    if (this.#openRow === 0) this.#openRow = entry
    this.#openIds.raw(records.bytes())
    ids.add(this.#openRow, records.ids)
    ids.trim(entry)
    this.#floors = ids.floors
    for (const row of ids.takeThinned()) this.#thin(ids, row)
    if (this.#openIds.length > this.#limits.openRowBytesMax) this.#closeRow(ids, entry)
  }

  /** The open row becomes one of the table; entry `last` is the last in it. */
  #closeRow(ids: RememberedIds, last: number): void {
    const row = this.#openRow
    const records = this.#openIds.finish()
    this.#openRow = 0
    this.#openIds.reset()
    this.#prepared().add.run(BigInt(row), BigInt(last), records)
    ids.close(row, last)
    this.#thin(ids, row)
  }

  /** Writes a row anew, or removes it, if most of it is forgotten. */
  #thin(ids: RememberedIds, row: number): void {
    if (row === this.#openRow) return
    const { live, total } = ids.countOf(row)
    if (live === 0) this.#prepared().remove.run(BigInt(row))
    else if (total < REWRITTEN_FROM || live * REWRITTEN_SHARE > total) return
    else this.#prepared().rewrite.run(this.#liveRecords(ids, row), BigInt(row))
    ids.noteRewritten(row)
  }

  #liveRecords(ids: RememberedIds, row: number): Uint8Array {
    const records = this.#readRow(row)
    const keys = new Set<string>()
    const live: Uint8Array[] = []
    // From the newest on: a key that was forgotten and came again stands there twice.
    for (const { id, start, end } of readRecords(records).toReversed()) {
      if (!ids.isFrom(id, row) || (id.type === 'key' && keys.has(id.key))) continue
      if (id.type === 'key') keys.add(id.key)
      live.push(records.subarray(start, end))
    }
    return Buffer.concat(live.toReversed())
  }

  #readRow(row: number): Uint8Array {
    if (row === this.#openRow) return this.#openIds.view()
    const found = this.#prepared().read.get(BigInt(row)) as unknown as readonly [Uint8Array]
    return must(found, `the row of entry ${row}`)[0]
  }

  #ids(): RememberedIds {
    this.#remembered ??= this.#load()
    return this.#remembered
  }

  #load(): RememberedIds {
    const ids = new RememberedIds(this.#limits, this.#floors)
    const sql = 'SELECT entry, last, ids FROM main.lockstep_request ORDER BY 1'
    const rows = this.#database.prepare(sql)
    try {
      for (const row of rows.iterate()) {
        const [entry, last, records] = row as unknown as readonly [bigint, bigint, Uint8Array]
        ids.add(Number(entry), idsOf(records))
        ids.close(Number(entry), Number(last))
      }
    } finally {
      rows.close()
    }
    if (this.#openRow !== 0) ids.add(this.#openRow, idsOf(this.#openIds.view()))
    // What was forgotten may still be in rows that are kept for others.
    ids.trimAsBefore()
    ids.takeThinned()
    return ids
  }

  #prepared(): Statements {
    const database = this.#database
    this.#statements ??= {
      read: database.prepare('SELECT ids FROM main.lockstep_request WHERE entry = ?'),
      add: database.prepare('INSERT INTO main.lockstep_request VALUES (?, ?, ?)'),
      rewrite: database.prepare('UPDATE main.lockstep_request SET ids = ? WHERE entry = ?'),
      remove: database.prepare('DELETE FROM main.lockstep_request WHERE entry = ?'),
    }
    return this.#statements
  }
}

function idsOf(records: Uint8Array): RequestId[] {
  return readRecords(records).map(({ id }) => id)
}
