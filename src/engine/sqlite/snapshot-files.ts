/** Files of a snapshot as bytes on disk: reading them once, with all their checksums. */
import { createHash } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import { crc32 } from 'node:zlib'
import { SNAPSHOT_CHUNK_BYTES, type SnapshotFile } from '../snapshot.ts'

/** Reads the file to its end. Throws if it isn't there. */
export function describeFile(path: string, name: string): SnapshotFile {
  const hash = createHash('sha256')
  const chunks: number[] = []
  let sizeBytes = 0
  const buffer = new Uint8Array(SNAPSHOT_CHUNK_BYTES)
  const descriptor = openSync(path, 'r')
  try {
    for (;;) {
      const length = readFully(descriptor, buffer)
      if (length === 0) break
      const chunk = buffer.subarray(0, length)
      hash.update(chunk)
      chunks.push(crc32(chunk))
      sizeBytes += length
    }
  } finally {
    closeSync(descriptor)
  }
  return { name, sizeBytes, sha256: hash.digest('hex'), chunks }
}

/** What SQLite finds wrong with the file, undefined if nothing. */
export function whyUnsound(path: string): string | undefined {
  // Nobody changes it meanwhile, and nothing is to be left beside it.
  const url = pathToFileURL(path)
  url.search = '?mode=ro&immutable=1'
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(url, { readOnly: true, returnArrays: true })
    // A check that speaks of the present moment need not hold any more.
    database.exec('PRAGMA ignore_check_constraints = ON')
    const row = database.prepare('PRAGMA quick_check(1)').get() as unknown as readonly unknown[]
    return row[0] === 'ok' ? undefined : String(row[0])
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  } finally {
    database?.close()
  }
}

/** Fills the buffer as far as the file goes, however little the system gives at once. */
function readFully(descriptor: number, buffer: Uint8Array): number {
  let length = 0
  while (length < buffer.length) {
    const count = readSync(descriptor, buffer, length, buffer.length - length, null)
    if (count === 0) break
    length += count
  }
  return length
}
