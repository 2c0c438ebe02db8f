/**
 * The book of request ids of this node: what took effect, and what was answered. It is written in
 * the transaction of the effects. The newest ids are in the row of the node's state, which every
 * entry writes anyway; when they are a kilobyte they become a row of the table `request`. Which id
 * is in which row is in memory; what was answered is read from the server when it is asked for.
 *
 * There is one book for all databases, since one transaction goes over all of them: what a dropped
 * database knew stays known.
 */
import { assert, must } from '../../base/assert.ts'
import { ByteWriter } from '../../base/bytes.ts'
import type { RequestId } from '../engine.ts'
import { REQUEST_LIMITS, type RequestLimits } from '../limits.ts'
import { EXPIRED, type Floors, FRESH, RememberedIds } from '../remembered-ids.ts'
import type { RequestBook } from '../request-ids.ts'
import { findFate, type Found, readRecords, type RecordsBuilder } from '../request-records.ts'
import type { Connection } from './connection.ts'
import { literal } from './render.ts'

/** What the row of the node's state holds of the book. */
export interface BookState {
  readonly floors: Floors
  /** The first entry in the newest records, 0 if there are none. */
  readonly row: number
  readonly ids: Uint8Array
}

const FRESH_FOUND: Found = { type: 'fresh' }
const EXPIRED_FOUND: Found = { type: 'expired' }

export class MysqlRequestBook implements RequestBook {
  readonly #connection: Connection
  readonly #table: string
  readonly #limits: RequestLimits
  readonly #remembered: RememberedIds
  #openRow: number
  readonly #openIds = new ByteWriter(1024)
  /** Rows that were read for what is being asked. */
  #fetched = new Map<number, Uint8Array>()

  private constructor(
    connection: Connection,
    table: string,
    limits: RequestLimits,
    { floors, row, ids }: BookState,
  ) {
    this.#connection = connection
    this.#table = table
    this.#limits = limits
    this.#remembered = new RememberedIds(limits, floors)
    this.#openRow = row
    this.#openIds.raw(ids)
  }

  /** Reads the book. `table`: name of its table, quoted. */
  static async load(
    connection: Connection,
    table: string,
    state: BookState,
    limits = REQUEST_LIMITS,
  ): Promise<MysqlRequestBook> {
    const book = new MysqlRequestBook(connection, table, limits, state)
    const remembered = book.#remembered
    const rows = await connection.rows(`SELECT entry, last, ids FROM ${table} ORDER BY entry`)
    for (const [entry, last, ids] of rows) {
      remembered.add(Number(entry), idsOf(ids as Uint8Array))
      remembered.close(Number(entry), Number(last))
    }
    if (state.row !== 0) remembered.add(state.row, idsOf(state.ids))
    // What was forgotten may still be in rows that are kept for others.
    remembered.trimAsBefore()
    remembered.takeThinned()
    return book
  }

  /** Reads what was answered to those of these ids that are known. `find` knows it then. */
  async fetch(ids: readonly RequestId[]): Promise<void> {
    const rows = new Set<number>()
    for (const id of ids) {
      const row = this.#remembered.locate(id)
      if (row !== FRESH && row !== EXPIRED && row !== this.#openRow) rows.add(row)
    }
    this.#fetched = new Map()
    if (rows.size === 0) return
    const list = [...rows].join(', ')
    const found = await this.#connection.rows(
      `SELECT entry, ids FROM ${this.#table} WHERE entry IN (${list})`,
    )
    for (const [entry, records] of found) this.#fetched.set(Number(entry), records as Uint8Array)
  }

  /** What is known of an id; if it is an old one, `fetch` was asked for it before. */
  find(id: RequestId): Found {
    const row = this.#remembered.locate(id)
    if (row === FRESH) return FRESH_FOUND
    if (row === EXPIRED) return EXPIRED_FOUND
    const records = row === this.#openRow ? this.#openIds.view() : this.#fetched.get(row)
    assert(records !== undefined, `the ids in the row of entry ${row} were not read`)
    return must(findFate(records, id), `an id in the row of entry ${row}`)
  }

  /** Adds the ids of an entry; gives the statements that must be in its transaction. */
  add(entry: number, records: RecordsBuilder): readonly string[] {
    const statements: string[] = []
    const remembered = this.#remembered
    if (this.#openRow === 0) this.#openRow = entry
    this.#openIds.raw(records.bytes())
    remembered.add(this.#openRow, records.ids)
    remembered.trim(entry)
    for (const row of remembered.takeThinned()) {
      // Rows that are forgotten in part stay: to write them anew they would have to be read.
      if (row === this.#openRow || remembered.countOf(row).live > 0) continue
      statements.push(`DELETE FROM ${this.#table} WHERE entry = ${row}`)
      remembered.noteRewritten(row)
    }
    if (this.#openIds.length <= this.#limits.openRowBytesMax) return statements
    const values = `${this.#openRow}, ${entry}, ${literal(this.#openIds.finish())}`
    statements.push(`INSERT INTO ${this.#table} (entry, last, ids) VALUES (${values})`)
    remembered.close(this.#openRow, entry)
    this.#openRow = 0
    this.#openIds.reset()
    return statements
  }

  /** What the row of the node's state must hold after {@link add}. */
  get state(): BookState {
    return { floors: this.#remembered.floors, row: this.#openRow, ids: this.#openIds.view() }
  }
}

function idsOf(records: Uint8Array): RequestId[] {
  return readRecords(records).map(({ id }) => id)
}
