/**
 * The files of a snapshot that comes from elsewhere, in a directory of their own: its manifest
 * first, then the files as they come, then a mark that says that all of them are whole and flushed.
 */
import { readFile, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { DbError } from '../../base/errors.ts'
import { decodeManifest, encodeManifest, type SnapshotManifest } from '../snapshot.ts'
import { nodeFileSystem } from '../sqlite/file-system.ts'
import { whyOther } from './snapshot-files.ts'

/** The manifest of what is staged. */
export const MANIFEST = 'manifest.json'
/** Says that all of it is there. */
export const COMPLETE = 'complete'
/** Says that it is of a backup: there is no other one to be had. */
export const RESTORED = 'restored'

export class StagedFiles {
  /** Where they are. */
  readonly location: string
  readonly #build: string

  constructor(directory: string, build: string) {
    this.location = join(directory, 'staged')
    this.#build = build
  }

  /**
   * The directory into which the files of this snapshot are to be put; what is there of them stays
   * there. Rejects with SNAPSHOT_FAILED for one of another engine.
   */
  async begin(manifest: SnapshotManifest): Promise<string> {
    if (manifest.build !== this.#build) {
      throw new DbError(
        'SNAPSHOT_FAILED',
        `the snapshot was made by the SQL engine "${manifest.build}", this is "${this.#build}"; ` +
          'run the same engine and release on every node',
      )
    }
    const present = await this.#manifest()
    if (present?.id === manifest.id) return this.location
    await this.remove()
    nodeFileSystem.makeDirectory(this.location)
    this.#writeDurably(MANIFEST, encodeManifest(manifest))
    for (let path = this.location; path !== dirname(dirname(this.location)); path = dirname(path)) {
      nodeFileSystem.syncDirectory(dirname(path))
    }
    return this.location
  }

  /**
   * Looks at all files, flushes them and marks them complete. One that isn't what the manifest says
   * is removed, so that it comes again; then it rejects with SNAPSHOT_FAILED.
   */
  async finish(): Promise<SnapshotManifest> {
    const manifest = await this.#manifest()
    if (manifest === undefined) {
      throw new DbError('SNAPSHOT_FAILED', 'there is no snapshot to be finished')
    }
    const problem = await this.#check(manifest)
    if (problem !== undefined) throw new DbError('SNAPSHOT_FAILED', problem)
    for (const { name } of manifest.files) nodeFileSystem.sync(join(this.location, name))
    this.#writeDurably(COMPLETE, `${manifest.id}\n`)
    return manifest
  }

  /** The snapshot that is complete and still as it came, if there is one. */
  async sound(): Promise<SnapshotManifest | undefined> {
    const manifest = await this.#manifest()
    const mark = await this.#read(COMPLETE)
    if (manifest === undefined || mark?.trim() !== manifest.id) return undefined
    return (await this.#check(manifest)) === undefined ? manifest : undefined
  }

  /** Removes them, unless they are what a backup brought and nobody has adopted yet. */
  async discard(): Promise<void> {
    if ((await this.#read(RESTORED)) === undefined) await this.remove()
  }

  async remove(): Promise<void> {
    await rm(this.location, { recursive: true, force: true })
  }

  /** The first file that isn't what it should be is removed, and the mark before it. */
  async #check({ files }: SnapshotManifest): Promise<string | undefined> {
    for (const file of files) {
      const path = join(this.location, file.name)
      const problem = await whyOther(path, file)
      if (problem === undefined) continue
      nodeFileSystem.remove(join(this.location, COMPLETE))
      nodeFileSystem.syncDirectory(this.location)
      nodeFileSystem.remove(path)
      return problem
    }
    return undefined
  }

  async #manifest(): Promise<SnapshotManifest | undefined> {
    const text = await this.#read(MANIFEST)
    try {
      return text === undefined ? undefined : decodeManifest(text)
    } catch (error) {
      // Half written when the power went: nobody needs it.
      if (error instanceof DbError) return undefined
      throw error
    }
  }

  async #read(name: string): Promise<string | undefined> {
    try {
      return await readFile(join(this.location, name), 'utf8')
    } catch {
      return undefined
    }
  }

  #writeDurably(name: string, text: string): void {
    const path = join(this.location, name)
    nodeFileSystem.write(path, new TextEncoder().encode(text))
    nodeFileSystem.sync(path)
    nodeFileSystem.syncDirectory(this.location)
  }
}
