/**
 * A snapshot that comes from another node is staged as the next generation, beside the current one:
 * its manifest first, then the files as they come, then a mark that says that all of them are whole
 * and flushed. Only the pointer makes it the current one. Whatever was cut short is found again by
 * the manifest, or begun anew.
 */
import { join } from 'node:path'
import { assert } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import { decodeManifest, encodeManifest, type SnapshotManifest } from '../snapshot.ts'
import { engineBuild } from './build.ts'
import type { FileSystem } from './file-system.ts'
import {
  adoptGeneration,
  currentGeneration,
  newerGenerations,
  nextGeneration,
  writeDurably,
} from './generation.ts'
import { describeFile, whyUnsound } from './snapshot-files.ts'

const MANIFEST = 'manifest.json'
const COMPLETE = 'complete'

/**
 * The directory into which the files of this snapshot are to be put; what is there of them already
 * stays. Anything else that was staged is removed. Throws SNAPSHOT_FAILED for another build of SQL.
 */
export function beginStaging(
  directory: string,
  manifest: SnapshotManifest,
  fileSystem: FileSystem,
): string {
  if (manifest.build !== engineBuild()) {
    throw new DbError(
      'SNAPSHOT_FAILED',
      `the snapshot was made by the SQL engine "${manifest.build}", this is "${engineBuild()}"; ` +
        'run the same release on every node, replicas must compute the same',
    )
  }
  for (const generation of newerGenerations(directory, fileSystem)) {
    const isSame = readManifest(generation, fileSystem)?.id === manifest.id
    if (isSame) return generation
    fileSystem.remove(generation)
  }
  const generation = nextGeneration(directory, fileSystem)
  fileSystem.makeDirectory(generation)
  const text = new TextEncoder().encode(encodeManifest(manifest))
  writeDurably(join(generation, MANIFEST), text, fileSystem)
  fileSystem.syncDirectory(generation)
  fileSystem.syncDirectory(directory)
  return generation
}

/**
 * Looks at everything that was staged, flushes it and marks it complete. A file that isn't what
 * the manifest says is removed, so that it comes again; then it throws SNAPSHOT_FAILED, or CORRUPT
 * if it was given away like that.
 */
export function finishStaging(directory: string, fileSystem: FileSystem): SnapshotManifest {
  const generation = newerGenerations(directory, fileSystem).at(-1)
  const manifest = generation === undefined ? undefined : readManifest(generation, fileSystem)
  if (generation === undefined || manifest === undefined) {
    throw new DbError('SNAPSHOT_FAILED', 'there is no snapshot to be finished')
  }
  for (const file of manifest.files) {
    const path = join(generation, file.name)
    const problem = whyWrong(path, file, fileSystem)
    if (problem !== undefined) {
      removeWrong(generation, file.name, fileSystem)
      throw problem
    }
    fileSystem.sync(path)
  }
  fileSystem.syncDirectory(generation)
  const text = new TextEncoder().encode(`${manifest.id}\n`)
  writeDurably(join(generation, COMPLETE), text, fileSystem)
  fileSystem.syncDirectory(generation)
  return manifest
}

/** The manifest of the snapshot that is staged completely, if there is one. */
export function stagedSnapshot(
  directory: string,
  fileSystem: FileSystem,
): SnapshotManifest | undefined {
  const generation = newerGenerations(directory, fileSystem).at(-1)
  if (generation === undefined) return undefined
  const manifest = readManifest(generation, fileSystem)
  const mark = fileSystem.read(join(generation, COMPLETE))
  const isComplete = mark !== undefined && new TextDecoder().decode(mark).trim() === manifest?.id
  return isComplete ? manifest : undefined
}

/**
 * As {@link stagedSnapshot}, but looks at the files too: those of an earlier life may have lain on
 * a bad disk. A file that isn't what the manifest says is removed, and the mark with it.
 */
export function soundSnapshot(
  directory: string,
  fileSystem: FileSystem,
): SnapshotManifest | undefined {
  const manifest = stagedSnapshot(directory, fileSystem)
  const generation = newerGenerations(directory, fileSystem).at(-1)
  if (manifest === undefined || generation === undefined) return undefined
  for (const file of manifest.files) {
    if (whyWrong(join(generation, file.name), file, fileSystem) === undefined) continue
    removeWrong(generation, file.name, fileSystem)
    return undefined
  }
  return manifest
}

/** Removes whatever is staged. */
export function discardStaged(directory: string, fileSystem: FileSystem): void {
  for (const generation of newerGenerations(directory, fileSystem)) fileSystem.remove(generation)
}

/** Makes the staged snapshot `id` the current generation. Nobody may have the old one open. */
export function adoptStaged(directory: string, id: string, fileSystem: FileSystem): void {
  const generation = newerGenerations(directory, fileSystem).at(-1)
  if (generation === undefined) {
    // A crash may have come between the move and its answer.
    const current = currentGeneration(directory, fileSystem)
    const isDone = current !== undefined && readManifest(current, fileSystem)?.id === id
    assert(isDone, `there is no staged snapshot ${id}`)
    return
  }
  assert(stagedSnapshot(directory, fileSystem)?.id === id, `the staged snapshot isn't ${id}`)
  adoptGeneration(generation, fileSystem)
}

function whyWrong(
  path: string,
  expected: SnapshotManifest['files'][number],
  fileSystem: FileSystem,
): DbError | undefined {
  const what = `${expected.name} of the snapshot`
  const sizeBytes = fileSystem.sizeBytes(path)
  if (sizeBytes !== expected.sizeBytes) {
    const message = `${what} has ${sizeBytes} bytes, ${expected.sizeBytes} were announced`
    return new DbError('SNAPSHOT_FAILED', message)
  }
  const { sha256 } = describeFile(path, expected.name)
  if (sha256 !== expected.sha256) {
    return new DbError('SNAPSHOT_FAILED', `${what} has other bytes than were announced`)
  }
  const problem = whyUnsound(path)
  if (problem === undefined) return undefined
  return new DbError('CORRUPT', `${what} came as it was announced and is not sound: ${problem}`)
}

/** From here on the snapshot is not complete: the mark goes first. */
function removeWrong(generation: string, name: string, fileSystem: FileSystem): void {
  fileSystem.remove(join(generation, COMPLETE))
  fileSystem.syncDirectory(generation)
  fileSystem.remove(join(generation, name))
}

function readManifest(generation: string, fileSystem: FileSystem): SnapshotManifest | undefined {
  const bytes = fileSystem.read(join(generation, MANIFEST))
  if (bytes === undefined) return undefined
  try {
    return decodeManifest(new TextDecoder().decode(bytes))
  } catch (error) {
    // Half written when the power went, or of a release that was taken back: nobody needs it.
    if (error instanceof DbError) return undefined
    throw error
  }
}
