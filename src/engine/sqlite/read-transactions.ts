/**
 * Read transactions on all files of an engine at once, on connections of their own: opened while
 * the writer goes on, begun while it stands still between two entries, and read afterwards for as
 * long as it takes. Whatever is made of all data as of one entry begins here.
 */
import type { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { must } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import { databaseFileName, SYSTEM_FILE } from './catalogue.ts'
import { openForReading } from './connection.ts'
import type { FileSystem } from './file-system.ts'
import { currentGeneration } from './generation.ts'

export class ReadTransactions {
  readonly #generation: string
  readonly #fileSystem: FileSystem
  /** By name of the file. */
  readonly #open = new Map<string, DatabaseSync>()

  /** Opens all files. Throws NOT_READY before the first writer has made them. */
  constructor(directory: string, fileSystem: FileSystem) {
    const generation = currentGeneration(directory, fileSystem)
    if (generation === undefined) {
      throw new DbError('NOT_READY', 'the databases of this node are not open yet')
    }
    this.#generation = generation
    this.#fileSystem = fileSystem
    try {
      this.#openAll()
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Those that are open, by the name of their file; the catalogue first. */
  get open(): ReadonlyMap<string, DatabaseSync> {
    return this.#open
  }

  /** What the open files take, with their WALs. */
  get sizeBytes(): number {
    let sizeBytes = this.walBytes
    for (const name of this.#open.keys()) {
      sizeBytes += this.#fileSystem.sizeBytes(join(this.#generation, name))
    }
    return sizeBytes
  }

  /** What their WALs take: they can't begin anew while somebody reads here. */
  get walBytes(): number {
    let sizeBytes = 0
    for (const name of this.#open.keys()) {
      sizeBytes += this.#fileSystem.sizeBytes(join(this.#generation, `${name}-wal`))
    }
    return sizeBytes
  }

  /** Begins to read all files as of now; the writer stands still, at entry `index`. */
  begin(index: number): void {
    beginReading(must(this.#open.get(SYSTEM_FILE)))
    // Databases may have been made or dropped since the files were opened.
    this.#openAll()
    for (const [name, database] of this.#open) {
      if (name !== SYSTEM_FILE) beginReading(database)
      const { applied } = readState(database, name)
      if (applied <= index) continue
      // A writer that began anew counts from the oldest of its files, and others are ahead.
      const message = `${name} holds entry ${applied} already, this node is at ${index} again`
      throw new DbError('NOT_READY', message)
    }
  }

  /** Ends the reading of one file. */
  letGo(name: string): void {
    this.#open.get(name)?.close()
    this.#open.delete(name)
  }

  /** Lets go of all files. */
  close(): void {
    for (const database of this.#open.values()) database.close()
    this.#open.clear()
  }

  #openAll(): void {
    const catalogue = this.#open.get(SYSTEM_FILE) ?? this.#openFile(SYSTEM_FILE)
    const names = new Set([SYSTEM_FILE, ...readNames(catalogue)])
    for (const name of this.#open.keys()) if (!names.has(name)) this.letGo(name)
    for (const name of names) if (!this.#open.has(name)) this.#openFile(name)
  }

  #openFile(name: string): DatabaseSync {
    const database = openForReading(join(this.#generation, name))
    this.#open.set(name, database)
    return database
  }
}

/** How far a file has come, as its reader sees it. */
export function readState(
  database: DatabaseSync,
  name: string,
): { readonly applied: number; readonly nowMs: number } {
  const table = name === SYSTEM_FILE ? 'lockstep_state' : 'lockstep_meta'
  const [applied = 0n, nowMs = 0n] = ask(database, `SELECT applied, now_ms FROM ${table}`)
  return { applied: Number(applied), nowMs: Number(nowMs) }
}

/** A transaction of SQLite begins with its first read; this one needs no table. */
function beginReading(database: DatabaseSync): void {
  database.exec('BEGIN')
  ask(database, 'PRAGMA schema_version')
}

function readNames(catalogue: DatabaseSync): readonly string[] {
  const statement = catalogue.prepare('SELECT made_by FROM lockstep_database')
  try {
    const rows = statement.all() as unknown as readonly (readonly bigint[])[]
    return rows.map(([madeBy]) => databaseFileName(Number(madeBy)))
  } finally {
    statement.close()
  }
}

function ask(database: DatabaseSync, sql: string): readonly bigint[] {
  const statement = database.prepare(sql)
  try {
    return statement.get() as unknown as readonly bigint[]
  } finally {
    statement.close()
  }
}
