/**
 * All files of a node's databases: opening, making and removing them, and knowing up to which entry
 * they survive a power cut together.
 */
import { join } from 'node:path'
import { assert } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import type { RequestError } from '../engine.ts'
import { Catalogue, databaseFileName, SYSTEM_FILE } from './catalogue.ts'
import type { WalPages } from './connection.ts'
import { DATABASE_HEAD_BYTES, isDatabaseHead, walPagesOfSize } from './connection.ts'
import { DatabaseFile, newDatabaseImage } from './database-file.ts'
import type { FileSystem } from './file-system.ts'
import type { RequestLimits } from '../limits.ts'
import { RecentlyUsed } from './recently-used.ts'
import type { RecordsBuilder } from '../request-records.ts'
import { LocalFault } from '../request-errors.ts'
import type { Verdicts } from './verdicts.ts'

export interface FileSetOptions {
  /** Directory of the generation. */
  readonly directory: string
  readonly fileSystem: FileSystem
  /**
   * Pages that may wait in WALs, of all files together, before a checkpoint is due. With many files
   * that wait, more may.
   */
  readonly walPagesMax: number
  /** Files that may be open at once; more only while transactions or readers hold them. */
  readonly openFilesMax: number
  readonly requestLimits: RequestLimits
  /** Called with each path once everything in it survives a power cut. */
  readonly onFlushed: (path: string) => void
}

/** Written to learn whether the disk is full, and removed. */
const PROBE_FILE = 'space.probe'
const PROBE_BYTES = 1024 * 1024
/** Files that keep up to 64 MB of pages in memory; others keep 1 MB. */
const ROOMY_FILES_MAX = 64
/** A look at the WALs costs as much as a small request, so it is not taken after each. */
const CHANGES_BETWEEN_LOOKS = 8
/** A flush costs the same for one page, so with many files this part may wait in each of them. */
const WAL_PART_OF_FILE = 1 / 160
/** How much of `walPagesMax` is flushed before the floor is raised, which is a flush by itself. */
const WAL_PART_OF_FLOOR = 1 / 4
/** What request ids may weigh in memory, of all files together: some 100 MB. */
const BOOKS_WEIGHT_MAX = 1_000_000
const DATABASE_FILE = /^db-(\d+)\.sqlite(?:-wal|-shm)?$/

export class FileSet {
  readonly #options: FileSetOptions
  readonly #catalogue: Catalogue
  /** Open files by the entry that made them. */
  readonly #open = new RecentlyUsed<number, DatabaseFile>()
  /** The last used of them, which may keep many pages in memory. */
  readonly #roomy = new RecentlyUsed<number, DatabaseFile>()
  /**
   * Files that hold something that a power cut could take, by the entry that made them: with the
   * last entry that can't be lost, so that the least of these numbers is the first.
   */
  readonly #dirty = new Map<number, number>()
  /** Those of them that changed since their WALs were looked at, and what the looks said. */
  readonly #changed = new Set<number>()
  readonly #walPages = new Map<number, WalPages>()
  #changeCount = 0
  /** Files of dropped databases, to be removed once the drop survives. */
  #dropped: number[] = []
  /** Waiting pages below which no checkpoint is tried: readers kept the last one from more. */
  #walPagesKept = 0
  /** Pages that were flushed since the floor was raised. */
  #pagesBelowFloor = 0
  #durableIndex = 0

  /** Opens the catalogue. `open` is next. */
  constructor(options: FileSetOptions) {
    this.#options = options
    this.#catalogue = new Catalogue(options.directory, options.requestLimits)
  }

  /** Entries up to here are surely in every file. Replay begins after it. */
  get floor(): number {
    return this.#catalogue.floor
  }

  /** Entries up to here survive a power cut. At most the floor. */
  get durableIndex(): number {
    return this.#durableIndex
  }

  get catalogue(): Catalogue {
    return this.#catalogue
  }

  /** Notes something in the catalogue's verdicts, so that it survives a power cut at once. */
  noteVerdict(note: (verdicts: Verdicts) => void): void {
    note(this.#catalogue.verdicts)
    if (this.#catalogue.flush()) {
      this.#options.onFlushed(join(this.#options.directory, SYSTEM_FILE))
    }
  }

  /** Looks at what is there, and removes files that the catalogue doesn't know. */
  open(): void {
    const { directory, fileSystem, onFlushed } = this.#options
    // The floor may be newer than the catalogue's last flush: databases made before it would be
    // lost by a power cut, and databases dropped before it would be back without their files.
    const isFlushed = this.#catalogue.flush()
    if (isFlushed) {
      this.#durableIndex = this.#catalogue.floor
      onFlushed(join(directory, SYSTEM_FILE))
    }
    const known = new Set<number>()
    for (const [, madeBy] of this.#catalogue.entries()) known.add(madeBy)
    for (const name of fileSystem.list(directory)) {
      const madeBy = Number(DATABASE_FILE.exec(name)?.[1] ?? Number.NaN)
      if (Number.isNaN(madeBy)) continue
      if (known.has(madeBy)) {
        // An empty one is what a reader leaves.
        const isWal = name.endsWith('-wal')
        const isDirty = isWal && fileSystem.sizeBytes(join(directory, name)) > 0
        if (isDirty) this.#noteChange(madeBy, this.#catalogue.floor)
      } else if (isFlushed) fileSystem.remove(join(directory, name))
      else this.#dropped.push(madeBy)
    }
    for (const madeBy of known) {
      // Opening them all would take long, and more descriptors than there are.
      const path = this.#path(madeBy)
      if (isDatabaseHead(fileSystem.head(path, DATABASE_HEAD_BYTES))) continue
      throw new DbError('CORRUPT', `the file ${path} of a database is missing or garbled`)
    }
  }

  /** Newest moment of the entries up to the floor. The replay of the others tells theirs. */
  get nowMs(): number {
    return this.#catalogue.nowMs
  }

  /** How many databases' files are open. */
  get openCount(): number {
    return this.#open.size
  }

  /** The file of a database, undefined if there is none of this name. */
  find(name: string): DatabaseFile | undefined {
    const madeBy = this.#catalogue.madeBy(name)
    if (madeBy === undefined) return undefined
    const file = this.#open.use(madeBy) ?? this.#openFile(madeBy)
    if (this.#roomy.use(madeBy) === undefined) this.#makeRoomy(file)
    return file
  }

  /** A transaction of this file is about to end, as entry `index`: it is not what was flushed. */
  noteChange(file: DatabaseFile, index: number): void {
    this.#noteChange(file.madeBy, index - 1)
  }

  #noteChange(madeBy: number, last: number): void {
    this.#changeCount++
    if (!this.#dirty.has(madeBy)) this.#dirty.set(madeBy, last)
    this.#changed.add(madeBy)
  }

  /** Makes a database as entry `index`: the file completely, then its row. */
  create(name: string, index: number, records?: RecordsBuilder): void {
    const { directory, fileSystem, onFlushed } = this.#options
    const path = this.#path(index)
    // A crash may have left a WAL beside a file that it had not named yet; it must not be replayed.
    this.#removeFiles(index)
    fileSystem.write(path, newDatabaseImage(index, this.#catalogue.droppedAt(name)))
    fileSystem.sync(path)
    fileSystem.syncDirectory(directory)
    onFlushed(path)
    this.#catalogue.add(name, index, records)
  }

  /** Takes a database away as entry `index`: its row for good, then its file. */
  drop(name: string, index: number, records?: RecordsBuilder): void {
    const madeBy = this.#catalogue.madeBy(name)
    assert(madeBy !== undefined, `there is no database ${name} to drop`)
    this.#catalogue.remove(name, index, records)
    this.#open.peek(madeBy)?.close()
    this.#open.delete(madeBy)
    this.#roomy.delete(madeBy)
    this.#noteFlushed(madeBy)
    this.#dropped.push(madeBy)
    this.#removeDropped()
  }

  /** Throws `full` as this node's fault unless the disk takes some more. */
  requireSpace(full: RequestError): void {
    const { directory, fileSystem } = this.#options
    const path = join(directory, PROBE_FILE)
    try {
      fileSystem.write(path, new Uint8Array(PROBE_BYTES))
      fileSystem.sync(path)
    } catch {
      throw new LocalFault(full)
    } finally {
      fileSystem.remove(path)
    }
  }

  /**
   * Checkpoints if the WALs have grown to where it is due: the files that wait longest, and no more
   * of them than need be, so that the next entry isn't kept waiting for a flush of each file.
   * `applied`: last entry in the files; `nowMs`: newest moment of an entry up to it.
   */
  checkpointIfDue(applied: number, nowMs: number): void {
    if (this.#changeCount < CHANGES_BETWEEN_LOOKS) return
    this.#changeCount = 0
    this.#trimBooks()
    const { walPagesMax } = this.#options
    const { waiting, inLog } = this.#sumWalPages()
    const dueAt = walPagesMax * Math.max(1, this.#dirty.size * WAL_PART_OF_FILE)
    if (waiting < Math.max(dueAt, this.#walPagesKept)) return
    // Readers that overlap keep a WAL growing for ever; far over the limit, wait for a gap in them.
    // One that stays is waited for seldom.
    const waits = inLog > dueAt * 4
    this.#flushOldest(waiting - dueAt, waits ? 'TRUNCATE' : 'PASSIVE')
    const { waiting: left } = this.#sumWalPages()
    const more = waits ? walPagesMax : walPagesMax / 4
    this.#walPagesKept = left >= dueAt ? left + more : 0
    this.#pagesBelowFloor += waiting - left
    const isWorthwhile = this.#pagesBelowFloor >= walPagesMax * WAL_PART_OF_FLOOR
    if (isWorthwhile || this.#dirty.size === 0) this.#raiseFloor(applied, nowMs)
  }

  /** Makes everything up to `applied` survive a power cut, as far as readers let it. */
  checkpoint(applied: number, nowMs: number): void {
    this.#flushOldest(Infinity, 'PASSIVE')
    this.#raiseFloor(applied, nowMs)
    if (this.#dirty.size === 0) this.#walPagesKept = 0
  }

  /** Open transactions are rolled back. */
  close(): void {
    for (const [, file] of this.#open.entries()) file.close()
    this.#open.clear()
    this.#roomy.clear()
    this.#catalogue.close()
  }

  /** Flushes the files that are dirty longest, until more than so many pages waited in them. */
  #flushOldest(pages: number, mode: 'PASSIVE' | 'TRUNCATE'): void {
    let left = pages
    for (const madeBy of this.#dirty.keys()) {
      const waiting = this.#walPages.get(madeBy)?.waiting ?? 0
      if (!this.#flush(this.#open.peek(madeBy) ?? this.#openFile(madeBy), mode)) continue
      left -= waiting
      if (left < 0) return
    }
  }

  /** Everything up to the floor survives a power cut then, as far as files are flushed. */
  #raiseFloor(applied: number, nowMs: number): void {
    const { directory, onFlushed } = this.#options
    const [floor = applied] = this.#dirty.values()
    if (!this.#catalogue.raiseFloor(floor, nowMs)) return
    onFlushed(join(directory, SYSTEM_FILE))
    this.#pagesBelowFloor = 0
    this.#durableIndex = this.#catalogue.floor
    this.#removeDropped()
  }

  /** Lets go of what the longest unused files remember of requests, when it is too much. */
  #trimBooks(): void {
    let weight = 0
    for (const [, { requests }] of this.#open.entries()) weight += requests.weightInMemory
    for (const [, { requests }] of this.#open.entries()) {
      if (weight <= BOOKS_WEIGHT_MAX) return
      weight -= requests.weightInMemory
      requests.forgetMemory()
    }
  }

  /** True if everything committed in the file survives a power cut now. */
  #flush(file: DatabaseFile, mode: 'PASSIVE' | 'TRUNCATE'): boolean {
    if (!this.#dirty.has(file.madeBy)) return true
    if (!file.checkpoint(mode)) return false
    this.#noteFlushed(file.madeBy)
    this.#options.onFlushed(file.path)
    return true
  }

  #removeDropped(): void {
    if (this.#dropped.length === 0 || !this.#catalogue.flush()) return
    this.#options.onFlushed(join(this.#options.directory, SYSTEM_FILE))
    for (const madeBy of this.#dropped) this.#removeFiles(madeBy)
    this.#dropped = []
  }

  #removeFiles(madeBy: number): void {
    const { fileSystem } = this.#options
    const path = this.#path(madeBy)
    fileSystem.remove(`${path}-wal`)
    fileSystem.remove(`${path}-shm`)
    fileSystem.remove(path)
  }

  #noteFlushed(madeBy: number): void {
    this.#dirty.delete(madeBy)
    this.#changed.delete(madeBy)
    this.#walPages.delete(madeBy)
  }

  #sumWalPages(): WalPages {
    for (const madeBy of this.#changed) this.#walPages.set(madeBy, this.#walPagesOf(madeBy))
    this.#changed.clear()
    let inLog = 0
    let waiting = 0
    for (const pages of this.#walPages.values()) {
      inLog += pages.inLog
      waiting += pages.waiting
    }
    return { inLog, waiting }
  }

  #walPagesOf(madeBy: number): WalPages {
    const open = this.#open.peek(madeBy)
    if (open !== undefined) return open.walPages()
    return walPagesOfSize(this.#options.fileSystem.sizeBytes(`${this.#path(madeBy)}-wal`))
  }

  #openFile(madeBy: number): DatabaseFile {
    this.#makeRoom()
    const file = new DatabaseFile(this.#path(madeBy), madeBy, this.#options.requestLimits)
    this.#open.add(madeBy, file)
    return file
  }

  /** Lets a file keep many pages in memory, in place of the one that has used its own least. */
  #makeRoomy(file: DatabaseFile): void {
    for (const [madeBy, other] of this.#roomy.entries()) {
      if (this.#roomy.size < ROOMY_FILES_MAX) break
      this.#roomy.delete(madeBy)
      other.setRoomy(false)
    }
    this.#roomy.add(file.madeBy, file)
    file.setRoomy(true)
  }

  /**
   * Closes files until there is room for one more, the longest unused first. One in a transaction
   * stays, and so does one that a reader keeps from being flushed: the last to close a file flushes
   * it whole, whoever waits, and what is closed must need no second look to be durable.
   */
  #makeRoom(): void {
    for (const [madeBy, file] of this.#open.entries()) {
      if (this.#open.size < this.#options.openFilesMax) return
      if (file.database.isTransaction || !this.#flush(file, 'PASSIVE')) continue
      this.#open.delete(madeBy)
      this.#roomy.delete(madeBy)
      file.close()
    }
  }

  #path(madeBy: number): string {
    return join(this.#options.directory, databaseFileName(madeBy))
  }
}
