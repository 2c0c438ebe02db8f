/**
 * The files of a snapshot of this engine: texts of SQL, a statement in each line, which a server's
 * own client can read too. The first line says what the file holds. The file `system.sql` has what
 * Lockstep itself remembers; each database has one of its own.
 */
import { createReadStream } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DbError } from '../../base/errors.ts'
import { FileSums } from '../file-sums.ts'
import { nodeFileSystem } from '../sqlite/file-system.ts'
import { SNAPSHOT_CHUNK_BYTES, type SnapshotFile } from '../snapshot.ts'

export const SYSTEM_FILE = 'system.sql'

/** Version of these files. */
const FORMAT = 1
const MARK = '-- lockstep '
const NEWLINE = 10
/** More than the names of all databases that there can be. */
const HEADER_BYTES_MAX = 4 * 1024 * 1024
const FULL_CODES = new Set(['ENOSPC', 'EDQUOT'])

/** What a file says of itself. */
export interface DumpHeader {
  /** As of which entry it is, and its moment. */
  readonly index: number
  readonly nowMs: number
  /** The database that it holds, by its name. */
  readonly database?: string
  /** All databases, in the system's file. */
  readonly databases?: readonly DumpedDatabase[]
}

export interface DumpedDatabase {
  readonly name: string
  /** The entry that made it. */
  readonly madeBy: number
}

/** Name of the file of the database that the entry at `madeBy` made. */
export function databaseFile(madeBy: number): string {
  return `db-${madeBy}.sql`
}

/** What a session must be like for the statements of a file to give what was read. */
const PREAMBLE = [
  "SET NAMES utf8mb4 COLLATE 'utf8mb4_unicode_ci'",
  "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'",
  'SET foreign_key_checks = 0, unique_checks = 0',
]

/** A file that is being written. */
export class DumpWriter {
  readonly #name: string
  readonly #file: FileHandle
  readonly #sums = new FileSums()

  private constructor(name: string, file: FileHandle) {
    this.#name = name
    this.#file = file
  }

  static async open(directory: string, name: string, header: DumpHeader): Promise<DumpWriter> {
    const writer = new DumpWriter(name, await open(join(directory, name), 'wx', 0o600))
    await writer.#write(`${headerLine(header)}\n`)
    for (const statement of PREAMBLE) await writer.add(statement)
    return writer
  }

  /** Adds a statement, which has no line breaks. */
  add(statement: string): Promise<void> {
    return this.#write(`${statement};\n`)
  }

  async close(): Promise<SnapshotFile> {
    await this.#file.close()
    return this.#sums.describe(this.#name)
  }

  /** Lets go of a file that is not wanted any more. */
  async abandon(): Promise<void> {
    await this.#file.close().catch(() => {})
  }

  async #write(text: string): Promise<void> {
    const bytes = Buffer.from(text)
    this.#sums.add(bytes)
    await this.#file.appendFile(bytes)
  }
}

/** The first line of a file. */
export function headerLine(header: DumpHeader): string {
  return `${MARK}${JSON.stringify({ format: FORMAT, ...header })}`
}

/** What the file says of itself. Throws SNAPSHOT_FAILED if it is none of these files. */
export function readHeader(path: string): DumpHeader {
  const [line = ''] = Buffer.from(nodeFileSystem.head(path, HEADER_BYTES_MAX))
    .toString('utf8')
    .split('\n', 1)
  const header = line.startsWith(MARK) ? parseHeader(line.slice(MARK.length)) : undefined
  if (header !== undefined) return header
  throw new DbError('SNAPSHOT_FAILED', `${path} is no file of a snapshot that this release knows`)
}

/** The statements of a file, in their order. */
export async function* readStatements(path: string): AsyncGenerator<string> {
  for await (const line of linesOf(path)) {
    if (line !== '' && !line.startsWith('-- ')) yield line.replace(/;$/, '')
  }
}

/** Why a file is not the one that was announced, undefined if it is. */
export async function whyOther(path: string, expected: SnapshotFile): Promise<string | undefined> {
  const { name, sizeBytes, sha256 } = expected
  const found = await stat(path).catch(() => undefined)
  if (found?.size !== sizeBytes) {
    return `${name} has ${found?.size ?? 0} bytes, ${sizeBytes} were announced`
  }
  const sums = new FileSums()
  for await (const chunk of chunksOf(path)) sums.add(chunk)
  if (sums.describe(name).sha256 === sha256) return undefined
  return `${name} has other bytes than were announced`
}

/** As a failure that is told: what the system says against a file, or what is known already. */
export function toFault(thrown: unknown): DbError {
  if (thrown instanceof DbError) return thrown
  if (!(thrown instanceof Error) || !('syscall' in thrown) || !('code' in thrown)) throw thrown
  const systemCode = String(thrown.code)
  const code = FULL_CODES.has(systemCode) ? 'DISK_FULL' : 'NODE_FAULT'
  return new DbError(code, thrown.message, { details: { systemCode }, cause: thrown })
}

function parseHeader(text: string): DumpHeader | undefined {
  try {
    const header = JSON.parse(text) as DumpHeader & { readonly format?: number }
    return header.format === FORMAT ? header : undefined
  } catch {
    return undefined
  }
}

async function* linesOf(path: string): AsyncGenerator<string> {
  let parts: Buffer[] = []
  for await (const chunk of chunksOf(path)) {
    let from = 0
    for (;;) {
      const end = chunk.indexOf(NEWLINE, from)
      if (end < 0) break
      parts.push(chunk.subarray(from, end))
      yield Buffer.concat(parts).toString('utf8')
      parts = []
      from = end + 1
    }
    parts.push(chunk.subarray(from))
  }
  const rest = Buffer.concat(parts).toString('utf8')
  if (rest !== '') yield rest
}

function chunksOf(path: string): AsyncIterable<Buffer> {
  return createReadStream(path, { highWaterMark: SNAPSHOT_CHUNK_BYTES })
}
