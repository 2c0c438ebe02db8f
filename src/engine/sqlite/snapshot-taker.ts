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
import { setFloor, SYSTEM_FILE } from './catalogue.ts'
import type { FileSystem } from './file-system.ts'
import { readState, ReadTransactions } from './read-transactions.ts'
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
  readonly #fileSystem: FileSystem
  readonly #id: string
  readonly #files: ReadTransactions
  #begun: { readonly index: number; readonly context: string } | undefined
  #nowMs = 0
  readonly #copied: string[] = []

  /** Opens all files. Throws NOT_READY before the first writer has made them. */
  constructor(directory: string, id: string, fileSystem: FileSystem) {
    this.#directory = snapshotDirectory(directory, id)
    this.#fileSystem = fileSystem
    this.#id = id
    this.#files = new ReadTransactions(directory, fileSystem)
  }

  /** Throws DISK_FULL unless `freeBytes` hold a copy of all files. */
  requireSpace(freeBytes: number): void {
    const needed = RESERVE_BYTES + this.#files.sizeBytes
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
    this.#files.begin(index)
  }

  /** What is to be copied. After each copy `copied` is called. */
  copies(): readonly OpenCopy[] {
    this.#fileSystem.makeDirectory(this.#directory)
    return [...this.#files.open].map(([name, database]) => {
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
    this.#files.letGo(name)
    this.#copied.push(name)
  }

  /** Looks at all copies, now that nothing is held any more, and describes them. */
  finish(progress: () => void): {
    readonly manifest: SnapshotManifest
    readonly location: string
  } {
    const { index, context } = must(this.#begun)
    assert(this.#files.open.size === 0, 'a file of the snapshot was not copied')
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
    this.#files.close()
  }
}

function describeSound(path: string, name: string): SnapshotFile {
  const problem = whyUnsound(path)
  if (problem === undefined) return describeFile(path, name)
  throw new DbError('CORRUPT', `the copy of ${name} is not sound: ${problem}`)
}
