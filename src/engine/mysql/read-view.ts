/**
 * A connection that sees all data of a node as of exactly one entry, for as long as it reads: what
 * is made of all data begins here. It connects while the writer goes on, and begins to see while
 * the writer stands still.
 */
import { must } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import type { Clock } from '../../base/ports.ts'
import type { SqlValue } from '../../base/sql.ts'
import { type Answer, Connection, type RowLimits, type RunOutcome } from './connection.ts'
import { killOnServer } from './kill-on-server.ts'
import { ownDatabase } from './node-tables.ts'
import { quoteName } from './render.ts'
import type { ServerAddress } from './server-address.ts'
import type { TableChanges, TableReader, TableWatch } from './table-changes.ts'

export interface ReadViewOptions {
  readonly address: ServerAddress
  readonly clock: Clock
  /** Of the writer of the same node. */
  readonly changes: TableChanges
}

/** What the node is as of the entry that a view is of. */
export interface ViewedState {
  /** The last entry that moved anything; nothing of a later one is seen. */
  readonly applied: number
  /** Newest moment of the entries. */
  readonly nowMs: number
  /** The databases, sorted by name. */
  readonly databases: readonly ViewedDatabase[]
}

export interface ViewedDatabase {
  readonly name: string
  /** The entry that made it. */
  readonly madeBy: number
  /** Its name on the server. */
  readonly server: string
}

/**
 * Old versions of rows are kept for a view, but not those of tables: what the server answers if the
 * table isn't the one any more that it was.
 */
const CHANGED = new Set([1049, 1051, 1054, 1146, 1347, 1412])
const WHY_CHANGED = 'a schema change came while all data were read'
const SAVEPOINT = 'lockstep_view'

export class ReadView {
  readonly #connection: Connection
  readonly #options: ReadViewOptions
  #watch: TableWatch
  /** What is asked and not answered yet. */
  #reading: string | undefined

  private constructor(connection: Connection, options: ReadViewOptions) {
    this.#connection = connection
    this.#options = options
    this.#watch = options.changes.watch(this.#reader())
  }

  /** Rejects with SERVER_DOWN or SERVER_REFUSED. */
  static async open(options: ReadViewOptions): Promise<ReadView> {
    return new ReadView(await Connection.open(options.address), options)
  }

  /** For what reads tables as they are now, as long as the writer stands still. */
  get connection(): Connection {
    return this.#connection
  }

  /**
   * From here on it sees what is there now, and nothing of what comes later. The writer stands
   * still at entry `index`. Rejects with NOT_READY if the data are not as of there.
   */
  async begin(index: number): Promise<ViewedState> {
    const { prefix } = this.#options.address
    const own = quoteName(ownDatabase(prefix))
    this.#watch.end()
    this.#watch = this.#options.changes.watch(this.#reader())
    await this.#connection.expect('START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY')
    const [state] = await this.rows(`SELECT applied, now_ms FROM ${own}.state`)
    if (state === undefined) {
      throw new DbError('NOT_READY', 'the databases of this node are not open yet')
    }
    const [applied, nowMs] = state.map(Number) as [number, number]
    if (applied > index) {
      const message = `the server holds entry ${applied} already, this node is at ${index}`
      throw new DbError('NOT_READY', message)
    }
    const rows = await this.rows(`SELECT name, made_by FROM ${own}.db ORDER BY name`)
    const databases = rows.map(([name, madeBy]) => ({
      name: String(name),
      madeBy: Number(madeBy),
      server: `${prefix}${String(name)}`,
    }))
    await this.#connection.expect(`SAVEPOINT ${SAVEPOINT}`)
    return { applied, nowMs, databases }
  }

  /**
   * The rows of a SELECT, as of the entry. Rejects with SNAPSHOT_FAILED if a schema change came to
   * the table since.
   */
  async rows(sql: string): Promise<readonly (readonly SqlValue[])[]> {
    return (await this.answer(sql)).rows
  }

  /** As {@link rows}, with no more of them than is allowed, and whether there were more. */
  async answer(sql: string, limits?: RowLimits): Promise<Answer> {
    const { answers, error } = await this.#run(sql, limits)
    if (error === undefined) return must(answers.at(-1), 'the answer to a SELECT')
    const { number, message } = error
    const details = { mysqlCode: number }
    if (!CHANGED.has(number)) {
      throw new DbError('NODE_FAULT', `the MySQL server says: ${message}`, { details })
    }
    throw new DbError('SNAPSHOT_FAILED', `${WHY_CHANGED}: ${message}`, { details })
  }

  async #run(sql: string, limits?: RowLimits): Promise<RunOutcome> {
    this.#reading = sql
    const [settled] = await Promise.allSettled([this.#connection.run(sql, limits)])
    this.#reading = undefined
    const changed = this.#watch.changedIn(sql)
    if (changed !== undefined) {
      throw new DbError('SNAPSHOT_FAILED', `${WHY_CHANGED}, of ${changed}`)
    }
    if (settled.status === 'rejected') throw settled.reason
    return settled.value
  }

  /** What it reads of a table that is changed does not count, so that it need not be read. */
  #reader(): TableReader {
    return {
      id: this.#connection.id,
      giveWay: () => {
        const sql = this.#reading
        if (sql !== undefined && this.#watch.changedIn(sql) !== undefined) this.close()
      },
    }
  }

  /**
   * Lets go of the tables that were read, and goes on seeing what it sees. Before that no schema
   * change can have them, and the writer waits.
   */
  async letGo(): Promise<void> {
    await this.#connection.expect(`ROLLBACK TO SAVEPOINT ${SAVEPOINT}`)
  }

  /** Ends it, whatever it reads. */
  close(): void {
    const { id, isLost } = this.#connection
    this.#connection.close()
    this.#watch.end()
    const { address, clock } = this.#options
    if (this.#reading !== undefined && !isLost) void killOnServer(address, clock, id)
    this.#reading = undefined
  }
}
