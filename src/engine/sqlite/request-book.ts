/**
 * The book of request ids of one file: what took effect there, and what was answered. One row for
 * each entry that brought ids, written in the transaction of their effects; which ids are in which
 * row is kept in memory, and read again from the rows when it is first needed.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { must } from '../../base/assert.ts'
import type { RequestId } from '../engine.ts'
import type { RequestLimits } from './limits.ts'
import { EXPIRED, FRESH, RememberedIds } from './remembered-ids.ts'
import type { RecordsBuilder, RequestFate } from './request-records.ts'
import { findFate, readRecords } from './request-records.ts'

/** The table of a book. `entry`: of the log. `ids`: request-records.ts. */
export const BOOK_TABLE =
  'CREATE TABLE lockstep_request (entry INTEGER PRIMARY KEY, ids BLOB NOT NULL) STRICT'

/** A row is written anew when so many of its ids are forgotten: all but one of four. */
const REWRITTEN_SHARE = 4
/** Shorter rows are left until all of their ids are forgotten. */
const REWRITTEN_FROM = 16

/** What a book knows of an id. */
export type Found =
  | RequestFate
  /** Never heard of it, and it would have been. */
  | { readonly type: 'fresh' }
  /** Nobody can tell any more. */
  | { readonly type: 'expired' }

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
  #ids: RememberedIds | undefined
  #statements: Statements | undefined
  #floor: number

  /** `floor` is what the book's {@link floor} was when the file was last written. */
  constructor(database: DatabaseSync, limits: RequestLimits, floor: number) {
    this.#database = database
    this.#limits = limits
    this.#floor = floor
  }

  /** Sessions born up to here may have been forgotten. To be written with each transaction. */
  get floor(): number {
    return this.#floor
  }

  /** How much memory it takes, in units of about 100 bytes. */
  get weightInMemory(): number {
    return this.#ids?.weight ?? 0
  }

  /** Lets go of the memory; it is read again when it is needed. */
  forgetMemory(): void {
    this.#ids = undefined
  }

  find(id: RequestId): Found {
    const entry = this.#remembered().locate(id)
    if (entry === FRESH) return FRESH_FOUND
    if (entry === EXPIRED) return EXPIRED_FOUND
    return must(findFate(this.#readRow(entry), id), `an id in the row of entry ${entry}`)
  }

  /** Adds the ids of entry `entry`, in its transaction. Only a failing disk may undo that. */
  add(entry: number, records: RecordsBuilder): void {
    const ids = this.#remembered()
    const statements = this.#prepared()
    statements.add.run(BigInt(entry), records.bytes())
    ids.add(entry, records.ids)
    ids.trim()
    this.#floor = ids.floor
    for (const [thinned, { live, total }] of ids.takeThinned()) {
      if (live === 0) statements.remove.run(BigInt(thinned))
      else if (total < REWRITTEN_FROM || live * REWRITTEN_SHARE > total) continue
      else statements.rewrite.run(this.#liveRecords(ids, thinned), BigInt(thinned))
      ids.noteRewritten(thinned)
    }
  }

  #liveRecords(ids: RememberedIds, entry: number): Uint8Array {
    const row = this.#readRow(entry)
    const live = readRecords(row).filter(({ id }) => ids.isFrom(id, entry))
    return Buffer.concat(live.map(({ start, end }) => row.subarray(start, end)))
  }

  #readRow(entry: number): Uint8Array {
    const row = this.#prepared().read.get(BigInt(entry)) as unknown as readonly [Uint8Array]
    return must(row, `the row of entry ${entry}`)[0]
  }

  #remembered(): RememberedIds {
    this.#ids ??= this.#load()
    return this.#ids
  }

  #load(): RememberedIds {
    const ids = new RememberedIds(this.#limits, this.#floor)
    const rows = this.#database.prepare('SELECT entry, ids FROM main.lockstep_request ORDER BY 1')
    try {
      for (const row of rows.iterate()) {
        const [entry, records] = row as unknown as readonly [bigint, Uint8Array]
        ids.add(
          Number(entry),
          readRecords(records).map(({ id }) => id),
        )
      }
    } finally {
      rows.close()
    }
    // What was forgotten may still be in rows that are kept for others.
    ids.trim()
    ids.takeThinned()
    return ids
  }

  #prepared(): Statements {
    const database = this.#database
    this.#statements ??= {
      read: database.prepare('SELECT ids FROM main.lockstep_request WHERE entry = ?'),
      add: database.prepare('INSERT INTO main.lockstep_request VALUES (?, ?)'),
      rewrite: database.prepare('UPDATE main.lockstep_request SET ids = ? WHERE entry = ?'),
      remove: database.prepare('DELETE FROM main.lockstep_request WHERE entry = ?'),
    }
    return this.#statements
  }
}
