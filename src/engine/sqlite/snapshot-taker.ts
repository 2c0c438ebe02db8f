/**
 * Takes a snapshot: opens every file on a connection of its own, begins a read transaction on all
 * of them while the writer stands still, and copies one after another while it goes on. The host
 * decides how a file is copied and what happens in between.
 */
import type { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { assert, must } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import { SNAPSHOT_FORMAT, type SnapshotFile, type SnapshotManifest } from '../snapshot.ts'
import { engineBuild } from './build.ts'
import { databaseFileName, setFloor, SYSTEM_FILE } from './catalogue.ts'
import { openForReading } from './connection.ts'
import type { FileSystem } from './file-system.ts'
import { currentGeneration } from './generation.ts'
import { describeFile, whyUnsound } from './snapshot-files.ts'

/** Where the files of the snapshot `id` are, below the engine's directory. */
export function snapshotDirectory(directory: string, id: string): string {
  return join(directory, `snapshot-${id}`)
}

/** Removes what snapshots of an earlier life left. */
export function removeSnapshots(directory: string, fileSystem: FileSystem): void {
  for (const name of fileSystem.list(directory)) {
    if (name.startsWith('snapshot-')) fileSystem.remove(join(directory, name))
  }
}

/** A read transaction on one file, to be copied to `target`. */
export interface OpenCopy {
  readonly name: string
  readonly database: DatabaseSync
  readonly target: string
}

/** Free space that is left to everybody else, beyond what the copies take. */
const RESERVE_BYTES = 64 * 1024 * 1024

export class SnapshotTaker {
  readonly #directory: string
  readonly #generation: string
  readonly #fileSystem: FileSystem
  readonly #id: string
  /** By name of the file. */
  readonly #open = new Map<string, DatabaseSync>()
  #begun: { readonly index: number; readonly context: string } | undefined
  #nowMs = 0
  readonly #copied: string[] = []

  /** Opens all files. Throws NOT_READY before the first writer has made them. */
  constructor(directory: string, id: string, fileSystem: FileSystem) {
    const generation = currentGeneration(directory, fileSystem)
    if (generation === undefined) {
      throw new DbError('NOT_READY', 'the databases of this node are not open yet')
    }
    this.#directory = snapshotDirectory(directory, id)
    this.#generation = generation
    this.#fileSystem = fileSystem
    this.#id = id
    try {
      this.#openAll()
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Throws DISK_FULL unless `freeBytes` hold a copy of all files. */
  requireSpace(freeBytes: number): void {
    let needed = RESERVE_BYTES
    for (const name of this.#open.keys()) {
      const path = join(this.#generation, name)
      needed += this.#fileSystem.sizeBytes(path) + this.#fileSystem.sizeBytes(`${path}-wal`)
    }
    if (freeBytes >= needed) return
    throw new DbError(
      'DISK_FULL',
      `a snapshot takes up to ${needed} bytes of this node's disk, ${freeBytes} are free`,
      { details: { neededBytes: needed, freeBytes } },
    )
  }

  /** Begins to read all files as of now; the writer stands still, at entry `index`. */
  begin(index: number, context: string): void {
    assert(this.#begun === undefined, 'a snapshot begins once')
    this.#begun = { index, context }
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

  /** What is to be copied. After each copy `copied` is called. */
  copies(): readonly OpenCopy[] {
    this.#fileSystem.makeDirectory(this.#directory)
    return [...this.#open].map(([name, database]) => {
      return { name, database, target: join(this.#directory, name) }
    })
  }

  /** Lets go of a file that was copied. */
  copied({ name, database }: OpenCopy): void {
    const { index } = must(this.#begun)
    const { applied, nowMs } = readState(database, name)
    // After a power cut one file may have kept more than the others; they are still catching up.
    if (applied > index) {
      const text = `${name} is ahead of the other files, which catch up: ${applied}, not ${index}`
      throw new DbError('SNAPSHOT_FAILED', text)
    }
    this.#nowMs = Math.max(this.#nowMs, nowMs)
    database.close()
    this.#open.delete(name)
    this.#copied.push(name)
  }

  /** Looks at all copies, now that nothing is held any more, and describes them. */
  finish(progress: () => void): {
    readonly manifest: SnapshotManifest
    readonly location: string
  } {
    const { index, context } = must(this.#begun)
    assert(this.#open.size === 0, 'a file of the snapshot was not copied')
    setFloor(join(this.#directory, SYSTEM_FILE), index, this.#nowMs)
    const files = this.#copied.toSorted().map(name => {
      progress()
      return describeSound(join(this.#directory, name), name)
    })
    const manifest = {
      format: SNAPSHOT_FORMAT,
      id: this.#id,
      index,
      nowMs: this.#nowMs,
      build: engineBuild(),
      context,
      files,
    }
    return { manifest, location: this.#directory }
  }

  /** Lets go of all files. */
  close(): void {
    for (const database of this.#open.values()) database.close()
    this.#open.clear()
  }

  #openAll(): void {
    const catalogue = this.#open.get(SYSTEM_FILE) ?? this.#openFile(SYSTEM_FILE)
    const names = new Set([SYSTEM_FILE, ...readNames(catalogue)])
    for (const [name, database] of this.#open) {
      if (names.has(name)) continue
      database.close()
      this.#open.delete(name)
    }
    for (const name of names) if (!this.#open.has(name)) this.#openFile(name)
  }

  #openFile(name: string): DatabaseSync {
    const database = openForReading(join(this.#generation, name))
    this.#open.set(name, database)
    return database
  }
}

function describeSound(path: string, name: string): SnapshotFile {
  const problem = whyUnsound(path)
  if (problem === undefined) return describeFile(path, name)
  throw new DbError('CORRUPT', `the copy of ${name} is not sound: ${problem}`)
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

function readState(
  database: DatabaseSync,
  name: string,
): { readonly applied: number; readonly nowMs: number } {
  const table = name === SYSTEM_FILE ? 'lockstep_state' : 'lockstep_meta'
  const [applied = 0n, nowMs = 0n] = ask(database, `SELECT applied, now_ms FROM ${table}`)
  return { applied: Number(applied), nowMs: Number(nowMs) }
}

function ask(database: DatabaseSync, sql: string): readonly bigint[] {
  const statement = database.prepare(sql)
  try {
    return statement.get() as unknown as readonly bigint[]
  } finally {
    statement.close()
  }
}
