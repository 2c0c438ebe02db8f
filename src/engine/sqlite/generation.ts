/**
 * Where the engine's files are: a generation, a directory that the file CURRENT names. A snapshot
 * builds a new generation beside the old one and moves the name; files are never replaced in place.
 */
import { dirname, join } from 'node:path'
import { DbError } from '../../base/errors.ts'
import { newCatalogueImage, SYSTEM_FILE } from './catalogue.ts'
import type { FileSystem } from './file-system.ts'

const CURRENT = 'CURRENT'
const FIRST = 'gen-1'

/** The directory of the current generation, for the writer: makes the first one if need be. */
export function openGeneration(
  directory: string,
  fileSystem: FileSystem,
  onFlushed: (path: string) => void,
): string {
  const current = currentGeneration(directory, fileSystem)
  if (current !== undefined) return current

  // What an attempt that was cut short left is in nobody's name.
  for (const name of fileSystem.list(directory)) {
    if (name.startsWith('gen-')) fileSystem.remove(join(directory, name))
  }
  const generation = join(directory, FIRST)
  fileSystem.makeDirectory(generation)
  writeDurably(join(generation, SYSTEM_FILE), newCatalogueImage(), fileSystem)
  fileSystem.syncDirectory(generation)
  onFlushed(join(generation, SYSTEM_FILE))
  const path = join(directory, CURRENT)
  writeDurably(`${path}.new`, new TextEncoder().encode(`${FIRST}\n`), fileSystem)
  fileSystem.rename(`${path}.new`, path)
  fileSystem.syncDirectory(directory)
  fileSystem.syncDirectory(dirname(directory))
  onFlushed(path)
  return generation
}

/** The directory of the current generation, undefined if no writer has made one yet. */
export function currentGeneration(directory: string, fileSystem: FileSystem): string | undefined {
  const bytes = fileSystem.read(join(directory, CURRENT))
  if (bytes === undefined) return undefined
  const name = new TextDecoder().decode(bytes).trim()
  if (/^gen-\d+$/.test(name)) return join(directory, name)
  throw new DbError('CORRUPT', `${join(directory, CURRENT)} names no generation: ${name}`)
}

function writeDurably(path: string, bytes: Uint8Array, fileSystem: FileSystem): void {
  fileSystem.write(path, bytes)
  fileSystem.sync(path)
}
