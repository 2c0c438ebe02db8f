/**
 * A snapshot: all files of an engine between the same two entries, with a manifest that says what
 * belongs to it. The files are made by one engine, carried by whoever can, and staged and adopted
 * by another as a new generation.
 */
import { DbError } from '../base/errors.ts'

/** Version of the manifest that this build writes, and the newest it reads. */
export const SNAPSHOT_FORMAT = 1

/** Each chunk of a file has a checksum of its own, so that a bad one is fetched again alone. */
export const SNAPSHOT_CHUNK_BYTES = 1024 * 1024

/** Files of databases are SQLite's own, or texts of SQL. */
const FILE_NAME = /^(?:system|db-[1-9]\d{0,15})\.(?:sqlite|sql)$/

export interface SnapshotFile {
  readonly name: string
  readonly sizeBytes: number
  /** Of the whole file, as hexadecimal digits. */
  readonly sha256: string
  /** CRC-32 of each chunk of `SNAPSHOT_CHUNK_BYTES`, the last one shorter. */
  readonly chunks: readonly number[]
}

export interface SnapshotManifest {
  readonly format: number
  /** Random name of this snapshot. */
  readonly id: string
  /** The files hold the entries up to this one, and nothing of later ones. */
  readonly index: number
  /** Newest moment of these entries. */
  readonly nowMs: number
  /** Build of the SQL engine that made it; another one may compute otherwise. */
  readonly build: string
  /** What the maker's owner has it carry: where it stands in the log. */
  readonly context: string
  readonly files: readonly SnapshotFile[]
}

/** The manifest of a snapshot and the directory of its files, or why there is none. */
export type SnapshotOutcome = Done<{
  readonly manifest: SnapshotManifest
  readonly location: string
}>

export interface SnapshotHandler {
  /** All files are open: `begin` may be called. */
  onReady(): void
  /** All files are read as of the entry given: writers may go on. */
  onBegun(): void
  /** The last that is heard of it. */
  onDone(outcome: SnapshotOutcome): void
}

/** A snapshot that is being made. */
export interface SnapshotTask {
  /**
   * The files are to be read as of now, which is entry `index`. Nothing may be committed or applied
   * from before this call until `onBegun`, or `onDone`, comes.
   */
  begin(index: number, context: string): void
  /** Ends it, whatever it does, and removes its files. Nothing is told any more. */
  cancel(): void
}

/** A digest of all data of a node as of one entry. Equal on all nodes that are right. */
export interface DataDigest {
  /** Sixteen hexadecimal digits, over all parts. */
  readonly digest: string
  /** The catalogue, whose name is empty, and every database, by name. */
  readonly parts: readonly { readonly name: string; readonly digest: string }[]
}

export interface DigestHandler {
  /** All files are open: `begin` may be called. */
  onReady(): void
  /** All files are read as of the entry given: writers may go on. */
  onBegun(): void
  /** The last that is heard of it. CORRUPT: SQLite met something in the files that can't be. */
  onDone(outcome: Done<{ readonly digest: DataDigest }>): void
}

/** A digest that is being taken. `begin` and `cancel` are as for a snapshot. */
export interface DigestTask {
  begin(index: number): void
  cancel(): void
}

/** What was asked for is done, with what came of it, or why it isn't. */
export type Done<Result> =
  | ({ readonly type: 'ok' } & Result)
  | { readonly type: 'failed'; readonly error: DbError }

/** Snapshots of an engine: those that it makes, and the one that it takes over. */
export interface SnapshotStore {
  /** Makes a snapshot of this name, sixteen hexadecimal digits, in files of its own. */
  take(id: string, handler: SnapshotHandler): SnapshotTask
  /** Takes a digest of all data, beside whatever else goes on and without loading the node. */
  digest(handler: DigestHandler): DigestTask
  /** Removes the files of a snapshot that was made. */
  drop(id: string): void
  /**
   * Makes room for a snapshot that comes from elsewhere, instead of any other; what has come of
   * this one already stays. `done` hears the directory that its files belong into.
   */
  stage(
    manifest: SnapshotManifest,
    done: (outcome: Done<{ readonly location: string }>) => void,
  ): void
  /** Makes sure that what was staged is whole, sound and survives a power cut. */
  finish(done: (outcome: Done<object>) => void): void
  /** The snapshot that is staged, finished and still as it came, if there is one. */
  staged(done: (manifest: SnapshotManifest | undefined) => void): void
  /**
   * Makes the staged snapshot the engine's data, for good: readers are ended and begin anew. There
   * must be no writer; the next one opens it.
   */
  adopt(id: string, done: (outcome: Done<object>) => void): void
  /** Removes whatever is staged. */
  discard(done: () => void): void
}

/** Manifests are kept and sent as JSON text. */
export function encodeManifest(manifest: SnapshotManifest): string {
  return JSON.stringify(manifest)
}

/** Throws SNAPSHOT_FAILED, with a sentence, unless the text is a manifest of a known format. */
export function decodeManifest(text: string): SnapshotManifest {
  const value = parseObject(text)
  const { format, id, index, nowMs, build, context, files } = value
  if (typeof format === 'number' && format > SNAPSHOT_FORMAT) {
    throw new DbError(
      'SNAPSHOT_FAILED',
      `the snapshot is of format ${format}, this release reads up to ${SNAPSHOT_FORMAT}; ` +
        'run the same release on every node',
    )
  }
  const isWhole = format === SNAPSHOT_FORMAT && isCount(index) && isCount(nowMs)
  const hasTexts = isId(id) && typeof build === 'string' && typeof context === 'string'
  if (!isWhole || !hasTexts || !Array.isArray(files)) throw notManifest()
  const names = new Set<string>()
  for (const file of files as readonly unknown[]) {
    if (!isFile(file) || names.has(file.name)) throw notManifest()
    names.add(file.name)
  }
  if (!names.has('system.sqlite') && !names.has('system.sql')) throw notManifest()
  return { format, id, index, nowMs, build, context, files: files as SnapshotFile[] }
}

/** Whether a text can name a snapshot: such names become names of directories. */
export function isId(text: unknown): text is string {
  return typeof text === 'string' && /^[0-9a-f]{16}$/.test(text)
}

function isFile(value: unknown): value is SnapshotFile {
  if (typeof value !== 'object' || value === null) return false
  const { name, sizeBytes, sha256, chunks } = value as Record<string, unknown>
  const isNamed = typeof name === 'string' && FILE_NAME.test(name)
  if (!isNamed || !isCount(sizeBytes) || !Array.isArray(chunks)) return false
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) return false
  const count = Math.ceil(sizeBytes / SNAPSHOT_CHUNK_BYTES)
  return chunks.length === count && chunks.every(isCount)
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {
    // Not JSON is one more way of not being a manifest.
  }
  throw notManifest()
}

function notManifest(): DbError {
  return new DbError('SNAPSHOT_FAILED', 'the manifest of the snapshot is garbled')
}
