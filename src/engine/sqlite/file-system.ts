/**
 * The few things that the engine does to files by itself, beside SQLite: making a database's file,
 * removing it, and making sure of both. Injected, so that a test can stop at each step.
 */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'

export interface FileSystem {
  /** Names in `directory`, sorted; none if it isn't there. */
  list(directory: string): readonly string[]
  /** Undefined if the file isn't there. */
  read(path: string): Uint8Array | undefined
  /** The first bytes of a file; fewer if it is shorter, none if it isn't there. */
  head(path: string, sizeBytes: number): Uint8Array
  /** Makes or replaces the file. Survives a power cut only after `sync` and `syncDirectory`. */
  write(path: string, bytes: Uint8Array): void
  sync(path: string): void
  syncDirectory(directory: string): void
  makeDirectory(directory: string): void
  rename(from: string, to: string): void
  /** Removes a file or a directory with all in it; nothing if it isn't there. */
  remove(path: string): void
  /** 0 if the file isn't there. */
  sizeBytes(path: string): number
}

/** The machine's own files. */
export const nodeFileSystem: FileSystem = {
  list(directory) {
    try {
      return readdirSync(directory).toSorted()
    } catch (error) {
      if (isMissing(error)) return []
      throw error
    }
  },
  read(path) {
    try {
      return readFileSync(path)
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
  },
  head(path, sizeBytes) {
    let descriptor: number
    try {
      descriptor = openSync(path, 'r')
    } catch (error) {
      if (isMissing(error)) return new Uint8Array(0)
      throw error
    }
    try {
      const bytes = new Uint8Array(sizeBytes)
      return bytes.subarray(0, readSync(descriptor, bytes))
    } finally {
      closeSync(descriptor)
    }
  },
  write(path, bytes) {
    writeFileSync(path, bytes)
  },
  sync,
  syncDirectory: sync,
  makeDirectory(directory) {
    mkdirSync(directory, { recursive: true })
  },
  rename: renameSync,
  remove(path) {
    rmSync(path, { recursive: true, force: true })
  },
  sizeBytes(path) {
    return statSync(path, { throwIfNoEntry: false })?.size ?? 0
  },
}

function sync(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}
