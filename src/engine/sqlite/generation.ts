/**
 * Where the engine's files are: a generation, a directory that the file CURRENT names. A snapshot
 * builds a new generation beside the old one and moves the name; files are never replaced in place.
 */
import { basename, dirname, join } from 'node:path'
import { DbError } from '../../base/errors.ts'
import { newCatalogueImage, SYSTEM_FILE } from './catalogue.ts'
import type { FileSystem } from './file-system.ts'

const CURRENT = 'CURRENT'
const FIRST = 'gen-1'
const NAME = /^gen-(\d+)$/

/** The directory of the current generation, for the writer: makes the first one if need be. */
export function openGeneration(
  directory: string,
  fileSystem: FileSystem,
  onFlushed: (path: string) => void,
): string {
  const current = currentGeneration(directory, fileSystem)
  if (current !== undefined) {
    removeGenerations(directory, fileSystem, number => number < numberOf(current))
    return current
  }
  // What an attempt that was cut short left is in nobody's name.
  removeGenerations(directory, fileSystem, () => true)
  const generation = join(directory, FIRST)
  fileSystem.makeDirectory(generation)
  writeDurably(join(generation, SYSTEM_FILE), newCatalogueImage(), fileSystem)
  fileSystem.syncDirectory(generation)
  onFlushed(join(generation, SYSTEM_FILE))
  moveTo(directory, FIRST, fileSystem)
  onFlushed(join(directory, CURRENT))
  return generation
}

/** The directory of the current generation, undefined if no writer has made one yet. */
export function currentGeneration(directory: string, fileSystem: FileSystem): string | undefined {
  const bytes = fileSystem.read(join(directory, CURRENT))
  if (bytes === undefined) return undefined
  const name = new TextDecoder().decode(bytes).trim()
  if (NAME.test(name)) return join(directory, name)
  throw new DbError('CORRUPT', `${join(directory, CURRENT)} names no generation: ${name}`)
}

/** Directories of generations that are newer than the current one, the oldest first. */
export function newerGenerations(directory: string, fileSystem: FileSystem): readonly string[] {
  const current = currentGeneration(directory, fileSystem)
  const number = current === undefined ? 0 : numberOf(current)
  return fileSystem
    .list(directory)
    .filter(name => NAME.test(name) && numberOf(name) > number)
    .toSorted((a, b) => numberOf(a) - numberOf(b))
    .map(name => join(directory, name))
}

/** Where the next generation is to be built. */
export function nextGeneration(directory: string, fileSystem: FileSystem): string {
  const newest = newerGenerations(directory, fileSystem).at(-1)
  const last = newest ?? currentGeneration(directory, fileSystem) ?? 'gen-0'
  return join(directory, `gen-${numberOf(last) + 1}`)
}

/** Makes a generation that is complete and flushed the current one, and removes the older ones. */
export function adoptGeneration(generation: string, fileSystem: FileSystem): void {
  const directory = dirname(generation)
  moveTo(directory, basename(generation), fileSystem)
  removeGenerations(directory, fileSystem, number => number !== numberOf(generation))
}

/** Moves the pointer. It names the old generation or the new one, whatever happens. */
function moveTo(directory: string, name: string, fileSystem: FileSystem): void {
  const path = join(directory, CURRENT)
  writeDurably(`${path}.new`, new TextEncoder().encode(`${name}\n`), fileSystem)
  fileSystem.rename(`${path}.new`, path)
  fileSystem.syncDirectory(directory)
  fileSystem.syncDirectory(dirname(directory))
}

function removeGenerations(
  directory: string,
  fileSystem: FileSystem,
  isMeant: (number: number) => boolean,
): void {
  for (const name of fileSystem.list(directory)) {
    if (NAME.test(name) && isMeant(numberOf(name))) fileSystem.remove(join(directory, name))
  }
}

function numberOf(generation: string): number {
  return Number(NAME.exec(basename(generation))?.[1])
}

/** Writes the file and makes its content, not yet its name, survive a power cut. */
export function writeDurably(path: string, bytes: Uint8Array, fileSystem: FileSystem): void {
  fileSystem.write(path, bytes)
  fileSystem.sync(path)
}
