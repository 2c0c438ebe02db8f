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
import { SEED_BYTES } from '../entry.ts'
import { CatalogueReader, databaseFileName } from './catalogue.ts'
import type { FileSystem } from './file-system.ts'
import { nodeFileSystem } from './file-system.ts'
import { currentGeneration } from './generation.ts'
import { ReadConnection } from './read-connection.ts'
import { classifyFailure, isSqliteError, withDetails } from './sql-errors.ts'
import { digestDatabase } from './table-digest.ts'

export interface SqliteReaderOptions {
  /** The engine's directory, the same as the writer's. */
  readonly directory: string
  readonly fileSystem?: FileSystem
  /** What 'now' is to a query; the machine's clock if not given. */
  readonly nowMs?: () => number
  /** 16 bytes for the chance of a query; the machine's if not given. */
  readonly seed?: () => Uint8Array
}

interface Opened {
  readonly directory: string
  readonly catalogue: CatalogueReader
}

export class SqliteReader {
  readonly #options: SqliteReaderOptions
  readonly #connections = new Map<string, { madeBy: number; connection: ReadConnection }>()
  #opened: Opened | undefined

  constructor(options: SqliteReaderOptions) {
    this.#options = options
  }

  /** Runs all statements of a request in one read transaction. */
  handle(request: ReadRequest): ReadOutcome {
    let connection: ReadConnection | undefined
    let ordinal = 0
    try {
      connection = this.#connect(request.database)
      const reading = connection
      return reading.inTransaction(appliedIndex => {
        const { nowMs = Date.now, seed = randomSeed } = this.#options
        reading.begin(nowMs(), seed)
        const results: StatementResult[] = []
        for (const statement of request.statements) {
          results.push(...reading.query(statement, ordinal, request))
          ordinal++
        }
        return { type: 'ok', appliedIndex, results }
      })
    } catch (thrown) {
      const error = readError(thrown, connection?.refusal)
      return { type: 'failed', error: withDetails(error, { statement: ordinal }) }
    }
  }

  /** Digests a table or a database in one read transaction. */
  digest(request: DigestRequest): DigestOutcome {
    try {
      const connection = this.#connect(request.database)
      return connection.inTransaction(appliedIndex => ({
        type: 'ok',
        appliedIndex,
        ...digestDatabase(connection.database, request.table),
      }))
    } catch (thrown) {
      return { type: 'failed', error: readError(thrown, undefined) }
    }
  }

  /** Names of the databases as of now, sorted; none before the writer has opened its files. */
  databases(): readonly string[] {
    const opened = this.#open()
    return opened === undefined ? [] : [...opened.catalogue.databases().keys()].toSorted()
  }

  close(): void {
    for (const { connection } of this.#connections.values()) connection.close()
    this.#connections.clear()
    this.#opened?.catalogue.close()
    this.#opened = undefined
  }

  #connect(database: string): ReadConnection {
    const opened = this.#open()
    if (opened === undefined) {
      throw new DbError('NOT_READY', 'the databases of this node are not open yet')
    }
    const madeBy = opened.catalogue.databases().get(database)
    const kept = this.#connections.get(database)
    if (kept !== undefined) {
      if (kept.madeBy === madeBy) return kept.connection
      // It was dropped, and perhaps made again in another file.
      kept.connection.close()
      this.#connections.delete(database)
    }
    if (madeBy === undefined) {
      throw new DbError('UNKNOWN_DATABASE', `there is no database ${database}; create it first`)
    }
    const connection = new ReadConnection(join(opened.directory, databaseFileName(madeBy)))
    this.#connections.set(database, { madeBy, connection })
    return connection
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
  if (!isSqliteError(thrown) && !(thrown instanceof DbError)) throw thrown
  return classifyFailure(thrown, refusal).error
}

function randomSeed(): Uint8Array {
  return randomBytes(SEED_BYTES)
}
