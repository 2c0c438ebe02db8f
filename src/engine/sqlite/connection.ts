/** How connections to our files are opened: the same limits, types and rules for all of them. */
import type { StatementSync } from 'node:sqlite'
import { DatabaseSync } from 'node:sqlite'
import { PARAMETERS_MAX, SQL_LENGTH_MAX, VALUE_BYTES_MAX } from '../limits.ts'

declare module 'node:sqlite' {
  interface StatementSync {
    /** Frees the statement; the package of types doesn't know of it yet. */
    close(): void
  }
}

/** What a fresh file's header says, so that it is in WAL mode from the first moment. */
const HEADER_WRITE_VERSION = 18
const HEADER_READ_VERSION = 19
const WAL_VERSION = 2

/** A WAL is its header and frames, each a page of 4096 bytes with a header of its own. */
const WAL_HEADER_BYTES = 32
const WAL_FRAME_BYTES = 4096 + 24

/** How long a connection waits for what it can't share: the recovery after a writer's death. */
const WAIT_MS = 5000

/** Pages that a writer's connection may keep in memory; negative numbers are in KiB. */
const LARGE_CACHE = -64 * 1024
const SMALL_CACHE = -1024

/** Lets a writer's connection keep many pages in memory or few; what is too much is let go. */
export function setCache(database: DatabaseSync, isLarge: boolean): void {
  database.exec(`PRAGMA cache_size = ${isLarge ? LARGE_CACHE : SMALL_CACHE}`)
}

/** The writer's connection. Nothing but a checkpoint's COMMIT is flushed: the log is our memory. */
export function openForWriting(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { ...OPTIONS, timeout: WAIT_MS })
  return orClosed(database, () => {
    database.exec(
      'PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0;' +
        `PRAGMA recursive_triggers = OFF; PRAGMA cache_size = ${LARGE_CACHE}`,
    )
    return database
  })
}

/** A reader's connection. It can't write, whatever SQL is given to it. */
export function openForReading(path: string): DatabaseSync {
  return new DatabaseSync(path, { ...OPTIONS, readOnly: true, timeout: WAIT_MS })
}

/** What `prepare` gives. If it throws, the connection is closed: nobody else would do it. */
export function orClosed<T>(database: DatabaseSync, prepare: () => T): T {
  try {
    return prepare()
  } catch (error) {
    database.close()
    throw error
  }
}

/** Whether a file that begins like this is one of SQLite's. */
export function isDatabaseHead(head: Uint8Array): boolean {
  return new TextDecoder('latin1').decode(head) === DATABASE_HEAD
}

/** What every database file begins with. */
const DATABASE_HEAD = 'SQLite format 3\0'
/** Its length. */
export const DATABASE_HEAD_BYTES = DATABASE_HEAD.length

/** Pages that a WAL of this size may hold, for a file that isn't open. */
export function walPagesOfSize(sizeBytes: number): WalPages {
  const pages = Math.ceil(Math.max(0, sizeBytes - WAL_HEADER_BYTES) / WAL_FRAME_BYTES)
  return { inLog: pages, waiting: pages }
}

/** The bytes of a database file in WAL mode that holds what `sql` makes. */
export function databaseImage(sql: string): Uint8Array {
  const database = new DatabaseSync(':memory:')
  try {
    database.exec(sql)
    const image = database.serialize()
    image[HEADER_WRITE_VERSION] = WAL_VERSION
    image[HEADER_READ_VERSION] = WAL_VERSION
    return image
  } finally {
    database.close()
  }
}

/** Pages in a WAL, and those of them that are not yet in the database file. */
export interface WalPages {
  readonly inLog: number
  readonly waiting: number
}

/** How long a TRUNCATE checkpoint waits for readers. */
const TRUNCATE_WAIT_MS = 250

/**
 * Moves what it can of the WAL into the database file. PASSIVE waits for nobody; TRUNCATE waits a
 * moment for readers, so that the WAL begins anew.
 */
export function checkpoint(database: DatabaseSync, mode: 'PASSIVE' | 'TRUNCATE'): Checkpoint {
  if (mode === 'TRUNCATE') database.exec(`PRAGMA busy_timeout = ${TRUNCATE_WAIT_MS}`)
  const statement = database.prepare(`PRAGMA wal_checkpoint(${mode})`)
  try {
    return readCheckpoint(statement)
  } finally {
    statement.close()
    if (mode === 'TRUNCATE') database.exec(`PRAGMA busy_timeout = ${WAIT_MS}`)
  }
}

/** Prepares the question how much waits in the WAL, to be asked with {@link readCheckpoint}. */
export function prepareWalPages(database: DatabaseSync): StatementSync {
  return database.prepare('PRAGMA wal_checkpoint(NOOP)')
}

/** Runs a prepared checkpoint. */
export function readCheckpoint(statement: StatementSync): Checkpoint {
  const row = statement.get() as unknown as readonly bigint[]
  // Without a WAL, SQLite says -1.
  const inLog = Math.max(0, Number(row[1]))
  const done = Math.max(0, Number(row[2]))
  // A TRUNCATE that was busy has still moved what it could, and says how much that was.
  const isKnown = row[0] === 0n || inLog > 0
  return { isComplete: isKnown && inLog === done, inLog, waiting: inLog - done }
}

export interface Checkpoint extends WalPages {
  /** All of the WAL is in the database file now, and that is flushed. */
  readonly isComplete: boolean
}

const OPTIONS = {
  readBigInts: true,
  returnArrays: true,
  enableForeignKeyConstraints: true,
  enableDoubleQuotedStringLiterals: false,
  allowExtension: false,
  // By its bare name, :a and @a in one statement would be an error.
  allowBareNamedParameters: false,
  defensive: true,
  limits: {
    length: VALUE_BYTES_MAX,
    sqlLength: SQL_LENGTH_MAX * 4,
    variableNumber: PARAMETERS_MAX,
    attach: 0,
  },
} as const
