/**
 * The disk under a simulated engine. SQLite itself runs on real files in memory-backed storage; what
 * of them would survive a power cut is kept track of here, by what the engine flushed, and put back
 * when power is lost.
 *
 * The rules for SQLite in WAL mode with `synchronous=NORMAL`: a database file changes only in a
 * checkpoint, and is whole again when one is complete, so that its copy of that moment plus any
 * prefix of the WAL written since is what a disk may hold.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

import { type FileSystem, nodeFileSystem } from '../src/engine/sqlite/file-system.ts'
import type { SimRandom } from './sim-random.ts'

/** Salts of a SQLite WAL: they change whenever it begins anew. */
const WAL_SALTS_FROM = 16
const WAL_SALTS_TO = 24

type Files = Map<string, Uint8Array>

export class EngineDisk {
  readonly root: string
  readonly #random: SimRandom
  /** Contents of files as of their last flush. */
  readonly #flushed: Files = new Map()
  /** WALs as they were when their database was last flushed. */
  readonly #flushedWals: Files = new Map()
  /** Names that survive: of files made by the engine, and of directories. */
  readonly #durableNames = new Set<string>()
  /** Renames since the directory was flushed; both names change together. */
  #renames: { readonly from: string; readonly to: string }[] = []

  constructor(root: string, random: SimRandom) {
    this.root = root
    this.#random = random
    mkdirSync(root, { recursive: true })
    this.#durableNames.add(root)
  }

  /** Files as the engine changes them by itself, with what they owe to a flush. */
  get fileSystem(): FileSystem {
    return {
      ...nodeFileSystem,
      sync: path => {
        this.#flushed.set(path, readFileSync(path))
      },
      syncDirectory: directory => this.#syncDirectory(directory),
      rename: (from, to) => {
        this.#renames.push({ from, to })
        nodeFileSystem.rename(from, to)
        const flushed = this.#flushed.get(from)
        this.#flushed.delete(from)
        if (flushed !== undefined) this.#flushed.set(to, flushed)
      },
    }
  }

  /** Everything in the file survives now, whatever becomes of its WAL. */
  onFlushed(path: string): void {
    this.#flushed.set(path, readFileSync(path))
    const wal = nodeFileSystem.read(`${path}-wal`)
    if (wal === undefined) this.#flushedWals.delete(path)
    else this.#flushedWals.set(path, wal)
  }

  /** Changes rows of a database behind its owner's back; false if it is in use, or has none. */
  tamper(path: string, sql: string): boolean {
    const database = new DatabaseSync(path, { timeout: 0 })
    try {
      return Number(database.prepare(sql).run().changes) > 0
    } catch {
      // Its writer has it, or it has no such table yet.
      return false
    } finally {
      database.close()
      this.noteClosed()
    }
  }

  /** Files of databases that are there. */
  databases(): string[] {
    return listFiles(this.root).filter(path => /gen-\d+\/db-\d+\.sqlite$/.test(path))
  }

  /**
   * A connection was closed while others are open, or was the last one: SQLite may have moved a WAL
   * into its file by itself, flushed, and begun a new one.
   */
  noteClosed(): void {
    for (const path of listFiles(this.root)) {
      if (path.endsWith('.sqlite') && nodeFileSystem.sizeBytes(`${path}-wal`) === 0) {
        this.onFlushed(path)
      }
    }
  }

  /**
   * The process ends without closing anything: `close` is how its connections are got rid of here,
   * which SQLite takes for an orderly end, so that files are put back as they were.
   */
  processDeath(close: () => void): void {
    const files = this.#capture()
    close()
    this.#restore(files)
  }

  /** The machine is off. Chance decides about everything that was not flushed. */
  powerCut(close: () => void): void {
    const current = this.#capture()
    close()
    const kept: Files = new Map()
    const names = new Set([...this.#durableNames, ...current.keys(), ...listDirectories(this.root)])
    const coins = new Map<string, boolean>()
    const survives = (path: string): boolean => {
      if (path === this.root || !path.startsWith(this.root)) return true
      const isCurrent = current.has(path) || isDirectory(path)
      const isDurable = this.#durableNames.has(path)
      const isKept = isCurrent && isDurable ? true : isCurrent !== this.#isUndone(path, coins)
      return isKept && survives(dirname(path))
    }
    const directories = [...names].filter(path => isDirectory(path) && survives(path))
    for (const path of [...names].sort()) {
      if (path.endsWith('-wal') || isDirectory(path) || !survives(path)) continue
      const content = this.#survivingContent(path, current.get(path))
      if (content === undefined) continue
      kept.set(path, content)
      const wal = this.#survivingWal(path, current.get(`${path}-wal`))
      if (wal !== undefined) kept.set(`${path}-wal`, wal)
    }
    this.#restore(kept)
    for (const directory of directories) mkdirSync(directory, { recursive: true })
    // What is there now was read from the disk: it can't be lost any more.
    this.#renames = []
    this.#durableNames.clear()
    for (const path of [this.root, ...directories, ...kept.keys()]) this.#durableNames.add(path)
    this.#flushed.clear()
    this.#flushedWals.clear()
    for (const [path, content] of kept) {
      if (path.endsWith('-wal')) this.#flushedWals.set(path.slice(0, -'-wal'.length), content)
      else this.#flushed.set(path, content)
    }
  }

  #syncDirectory(directory: string): void {
    const isInside = (path: string): boolean => dirname(path) === directory
    for (const path of this.#durableNames) if (isInside(path)) this.#durableNames.delete(path)
    for (const name of nodeFileSystem.list(directory)) this.#durableNames.add(join(directory, name))
    this.#renames = this.#renames.filter(({ to }) => !isInside(to))
  }

  /** Whether a change of this name that was not flushed is taken back; both ends of a rename are. */
  #isUndone(path: string, coins: Map<string, boolean>): boolean {
    const rename = this.#renames.find(({ from, to }) => from === path || to === path)
    const key = rename?.to ?? path
    const isUndone = coins.get(key) ?? this.#random.chance(0.5)
    coins.set(key, isUndone)
    return isUndone
  }

  #survivingContent(path: string, current: Uint8Array | undefined): Uint8Array | undefined {
    const flushed = this.#flushed.get(path)
    if (flushed !== undefined) return flushed
    // Written and never flushed: any prefix may be there.
    return current?.slice(0, this.#random.below(current.length + 1))
  }

  #survivingWal(path: string, current: Uint8Array | undefined): Uint8Array | undefined {
    if (current === undefined) return undefined
    const flushed = this.#flushedWals.get(path)
    const isSameWal = flushed !== undefined && sameSalts(flushed, current)
    // What the engine calls flushed is in the database file: it may lose the WAL, but not a part.
    if (isSameWal && this.#random.chance(0.3)) return undefined
    const least = isSameWal ? flushed.length : 0
    const cut = least + this.#random.below(Math.max(0, current.length - least) + 1)
    if (this.#random.chance(0.3)) return current
    const kept = current.slice(0, cut)
    // Where the WAL began anew, what it held before may still be behind the cut.
    if (isSameWal || flushed === undefined || flushed.length <= cut) return kept
    const mixed = flushed.slice()
    mixed.set(kept)
    return mixed
  }

  #capture(): Files {
    const files: Files = new Map()
    for (const path of listFiles(this.root)) {
      if (!path.endsWith('-shm')) files.set(path, readFileSync(path))
    }
    return files
  }

  /** Files are made anew: nobody has them open any more. */
  #restore(files: Files): void {
    rmSync(this.root, { recursive: true, force: true })
    mkdirSync(this.root, { recursive: true })
    for (const [path, content] of files) {
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, content)
    }
  }
}

function sameSalts(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length < WAL_SALTS_TO || right.length < WAL_SALTS_TO) return false
  for (let at = WAL_SALTS_FROM; at < WAL_SALTS_TO; at++) if (left[at] !== right[at]) return false
  return true
}

function listFiles(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
    .sort()
}

function listDirectories(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isDirectory())
    .map(entry => join(entry.parentPath, entry.name))
    .sort()
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
}
