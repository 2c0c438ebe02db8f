/**
 * Files that stop at a given operation, and that know what a power cut would leave: of a file only
 * what was synced, and of its name only what the directory's sync covered.
 */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import type { FileSystem } from '../../../src/engine/sqlite/file-system.ts'
import { nodeFileSystem } from '../../../src/engine/sqlite/file-system.ts'

/** Thrown where the machine stops. */
export class Crash extends Error {}

export class CrashingFiles implements FileSystem {
  /** Operations that change or sync something, so far. */
  operations = 0
  readonly #root: string
  readonly #crashAt: number
  /** Content as of the last sync, by path; it is there after a power cut if its name is. */
  readonly #synced = new Map<string, Uint8Array>()
  /** Files and directories whose names survive a power cut. */
  readonly #durable = new Map<string, Uint8Array>()
  readonly #durableDirectories = new Set<string>()

  /** Stops before operation `crashAt`, from 1 on. The directory that holds `root` survives. */
  constructor(root: string, crashAt = Infinity) {
    this.#root = root
    this.#crashAt = crashAt
  }

  /** To be told what SQLite itself has flushed. */
  readonly onFlushed = (path: string): void => {
    // A new file is not flushed by SQLite but by us, and it must have been.
    assert(this.#synced.has(path), `${path} is said to be flushed, but was never synced`)
    const bytes = readFileSync(path)
    this.#synced.set(path, bytes)
    // Flushing a file says nothing of its name.
    if (this.#durable.has(path)) this.#durable.set(path, bytes)
  }

  /** Writes what a power cut would leave into another directory. */
  writeDurable(directory: string): void {
    for (const [path, bytes] of this.#durable) {
      if (!this.#isReachable(dirname(path))) continue
      const target = join(directory, relative(this.#root, path))
      mkdirSync(dirname(target), { recursive: true })
      writeFileSync(target, bytes)
    }
  }

  list(directory: string): readonly string[] {
    return nodeFileSystem.list(directory)
  }

  read(path: string): Uint8Array | undefined {
    return nodeFileSystem.read(path)
  }

  head(path: string, sizeBytes: number): Uint8Array {
    return nodeFileSystem.head(path, sizeBytes)
  }

  sizeBytes(path: string): number {
    return nodeFileSystem.sizeBytes(path)
  }

  write(path: string, bytes: Uint8Array): void {
    this.#step(() => nodeFileSystem.write(path, bytes))
  }

  sync(path: string): void {
    this.#step(() => {
      nodeFileSystem.sync(path)
      this.#synced.set(path, readFileSync(path))
      if (this.#durable.has(path)) this.#durable.set(path, readFileSync(path))
    })
  }

  syncDirectory(directory: string): void {
    this.#step(() => {
      nodeFileSystem.syncDirectory(directory)
      const names = nodeFileSystem.list(directory)
      for (const path of this.#durable.keys()) {
        if (dirname(path) === directory && !names.includes(relative(directory, path))) {
          this.#durable.delete(path)
        }
      }
      for (const name of names) {
        const path = join(directory, name)
        const bytes = this.#synced.get(path)
        if (bytes !== undefined) this.#durable.set(path, bytes)
        else if (statSync(path).isDirectory()) this.#durableDirectories.add(path)
        // A file whose content was never synced has a name and nothing in it.
        else if (!this.#durable.has(path)) this.#durable.set(path, new Uint8Array(0))
      }
    })
  }

  makeDirectory(directory: string): void {
    this.#step(() => nodeFileSystem.makeDirectory(directory))
  }

  rename(from: string, to: string): void {
    this.#step(() => {
      nodeFileSystem.rename(from, to)
      const bytes = this.#synced.get(from)
      if (bytes !== undefined) this.#synced.set(to, bytes)
      this.#synced.delete(from)
    })
  }

  remove(path: string): void {
    this.#step(() => {
      nodeFileSystem.remove(path)
      this.#synced.delete(path)
    })
  }

  #isReachable(directory: string): boolean {
    if (directory === dirname(this.#root)) return true
    return this.#durableDirectories.has(directory) && this.#isReachable(dirname(directory))
  }

  #step(act: () => void): void {
    this.operations++
    if (this.operations >= this.#crashAt) throw new Crash('the machine stopped')
    act()
  }
}
