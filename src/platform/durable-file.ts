/** Small files that are replaced as a whole and are there, old or new, after any crash. */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  type Mode,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'

/** What is done to files, one system call each, so that a test can stop between any two. */
export interface FileSystem {
  open(path: string, flags: 'r' | 'w', mode?: Mode): number
  write(file: number, text: string): void
  sync(file: number): void
  close(file: number): void
  rename(from: string, to: string): void
  makeDirectory(path: string): void
}

/** The real one. */
export const systemFiles: FileSystem = {
  open: openSync,
  write: writeFileSync,
  sync: fsyncSync,
  close: closeSync,
  rename: renameSync,
  makeDirectory: path => {
    mkdirSync(path)
  },
}

/**
 * Puts `text` in place of the file, or makes it. When this returns the new text survives a power
 * cut; when it throws or never returns, the file has its old text or the new one.
 */
export function writeFileDurably(
  path: string,
  text: string,
  options: { readonly mode: number; readonly files?: FileSystem },
): void {
  const files = options.files ?? systemFiles
  const temporary = `${path}.new`
  const file = files.open(temporary, 'w', options.mode)
  try {
    files.write(file, text)
    files.sync(file)
  } finally {
    files.close(file)
  }
  files.rename(temporary, path)
  syncDirectory(dirname(path), files)
}

/** Makes a directory below one that is there, and makes its name durable. */
export function makeDirectoryDurably(path: string, files: FileSystem = systemFiles): void {
  files.makeDirectory(path)
  syncDirectory(dirname(path), files)
}

function syncDirectory(path: string, files: FileSystem): void {
  const directory = files.open(path, 'r')
  try {
    files.sync(directory)
  } finally {
    files.close(directory)
  }
}
