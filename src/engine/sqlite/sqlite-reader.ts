/**
 * A reader: answers queries on connections that can't write, and is in nobody's way. It sees what
 * is committed and nothing else, and looks at the catalogue for every query.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { DbError } from '../../base/errors.ts'
import type { StatementResult } from '../../base/sql.ts'
import type {
  DigestOutcome,
  DigestRequest,
  ReadOutcome,
  ReadRequest,
  RequestError,
} from '../engine.ts'
import { SEED_BYTES } from '../limits.ts'
import { withDetails } from '../request-errors.ts'
import { CatalogueReader, databaseFileName } from './catalogue.ts'
import type { FileSystem } from './file-system.ts'
import { nodeFileSystem } from './file-system.ts'
import { currentGeneration } from './generation.ts'
import { ReadConnection } from './read-connection.ts'
import { RecentlyUsed } from './recently-used.ts'
import { classifyFailure, isCantOpen, isSqliteError, localFaultOf } from './sql-errors.ts'
import { digestDatabase } from './table-digest.ts'

/** Connections that a reader keeps: three descriptors each, and up to 2 MB of pages. */
const CONNECTIONS_MAX = 64

export interface SqliteReaderOptions {
  /** The engine's directory, the same as the writer's. */
  readonly directory: string
  readonly fileSystem?: FileSystem
  /** What 'now' is to a query; the machine's clock if not given. */
  readonly nowMs?: () => number
  /** 16 bytes for the chance of a query; the machine's if not given. */
  readonly seed?: () => Uint8Array
  /** Databases that a reader stays connected to, 64 if not given. */
  readonly connectionsMax?: number
}

interface Opened {
  readonly directory: string
  readonly catalogue: CatalogueReader
}

export class SqliteReader {
  readonly #options: SqliteReaderOptions
  /** By the entry that made the database. */
  readonly #connections = new RecentlyUsed<number, ReadConnection>()
  #opened: Opened | undefined
  /** What the catalogue said when it was last seen to change. */
  #databases: ReadonlyMap<string, number> | undefined
  /** What it says, as far as it was looked at since the last batch. */
  #databasesNow: ReadonlyMap<string, number> | undefined
  /** Whose read transactions are open. */
  readonly #reading = new Set<ReadConnection>()

  constructor(options: SqliteReaderOptions) {
    this.#options = options
  }

  /**
   * Runs all statements of a request in one read transaction. Those that come before
   * {@link endBatch} share it: all of them were asked before its state was fixed.
   */
  read(request: ReadRequest): ReadOutcome {
    let connection: ReadConnection | undefined
    let ordinal = 0
    try {
      connection = this.#connect(request.database)
      const appliedIndex = this.#begin(connection)
      const { nowMs = Date.now, seed = randomSeed } = this.#options
      connection.begin(nowMs(), seed)
      const results: StatementResult[] = []
      for (const statement of request.statements) {
        results.push(...connection.query(statement, ordinal, request))
        ordinal++
      }
      return { type: 'ok', appliedIndex, results }
    } catch (thrown) {
      const error = readError(thrown, connection?.refusal)
      // Some errors end the transaction, and after others nobody should build on it.
      this.endBatch()
      return { type: 'failed', error: withDetails(error, { statement: ordinal }) }
    }
  }

  /** Ends what the reads before have begun. Nothing may be waited for without it. */
  endBatch(): void {
    for (const connection of this.#reading) connection.end()
    this.#reading.clear()
    this.#databasesNow = undefined
  }

  /** Runs all statements of a request in one read transaction. */
  handle(request: ReadRequest): ReadOutcome {
    const outcome = this.read(request)
    this.endBatch()
    return outcome
  }

  /** Digests a table or a database in one read transaction. */
  digest(request: DigestRequest): DigestOutcome {
    try {
      const connection = this.#connect(request.database)
      const appliedIndex = this.#begin(connection)
      return { type: 'ok', appliedIndex, ...digestDatabase(connection.database, request.table) }
    } catch (thrown) {
      return { type: 'failed', error: readError(thrown, undefined) }
    } finally {
      this.endBatch()
    }
  }

  /** How many databases it is connected to. */
  get connections(): number {
    return this.#connections.size
  }

  /** Names of the databases as of now, sorted; none before the writer has opened its files. */
  databases(): readonly string[] {
    const opened = this.#open()
    return opened === undefined ? [] : [...opened.catalogue.databases().keys()].toSorted()
  }

  close(): void {
    this.endBatch()
    this.#closeDownTo(0)
    this.#opened?.catalogue.close()
    this.#opened = undefined
  }

  #begin(connection: ReadConnection): number {
    this.#reading.add(connection)
    return connection.open()
  }

  #connect(database: string): ReadConnection {
    const opened = this.#open()
    if (opened === undefined) {
      throw new DbError('NOT_READY', 'the databases of this node are not open yet')
    }
    this.#databasesNow ??= opened.catalogue.databases()
    const databases = this.#databasesNow
    if (databases !== this.#databases) this.#closeDropped(databases)
    const madeBy = databases.get(database)
    if (madeBy === undefined) {
      throw new DbError('UNKNOWN_DATABASE', `there is no database ${database}; create it first`)
    }
    return this.#connections.use(madeBy) ?? this.#connectTo(opened, madeBy)
  }

  #connectTo(opened: Opened, madeBy: number): ReadConnection {
    // No query runs now, so that none is in the way of closing.
    this.#closeDownTo((this.#options.connectionsMax ?? CONNECTIONS_MAX) - 1)
    const path = join(opened.directory, databaseFileName(madeBy))
    let connection: ReadConnection
    try {
      connection = new ReadConnection(path)
    } catch (error) {
      if (!isCantOpen(error) || this.#connections.size === 0) throw error
      // The machine gives fewer descriptors than were reckoned with: with all back, it may do.
      this.#closeDownTo(0)
      connection = new ReadConnection(path)
    }
    this.#connections.add(madeBy, connection)
    return connection
  }

  /** Files of dropped databases take space until nobody has them open. */
  #closeDropped(databases: ReadonlyMap<string, number>): void {
    this.#databases = databases
    const known = new Set(databases.values())
    for (const [madeBy, connection] of this.#connections.entries()) {
      if (known.has(madeBy)) continue
      connection.close()
      this.#connections.delete(madeBy)
    }
  }

  #closeDownTo(count: number): void {
    for (const [madeBy, connection] of this.#connections.entries()) {
      if (this.#connections.size <= Math.max(0, count)) return
      connection.close()
      this.#connections.delete(madeBy)
    }
  }

  #open(): Opened | undefined {
    if (this.#opened !== undefined) return this.#opened
    const { directory, fileSystem = nodeFileSystem } = this.#options
    const generation = currentGeneration(directory, fileSystem)
    if (generation === undefined) return undefined
    this.#opened = { directory: generation, catalogue: new CatalogueReader(generation) }
    return this.#opened
  }
}

function readError(thrown: unknown, refusal: string | undefined): RequestError {
  if (isSqliteError(thrown) || thrown instanceof DbError)
    return classifyFailure(thrown, refusal).error
  const error = localFaultOf(thrown)
  if (error === undefined) throw thrown
  return error
}

function randomSeed(): Uint8Array {
  return randomBytes(SEED_BYTES)
}
