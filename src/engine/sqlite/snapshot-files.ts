/** Files of a snapshot as bytes on disk: reading them once, with all their checksums. */
import { closeSync, openSync, readSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import { FileSums } from '../file-sums.ts'
import { SNAPSHOT_CHUNK_BYTES, type SnapshotFile } from '../snapshot.ts'

/** Reads the file to its end. Throws if it isn't there. */
export function describeFile(path: string, name: string): SnapshotFile {
  const sums = new FileSums()
  const buffer = new Uint8Array(SNAPSHOT_CHUNK_BYTES)
  const descriptor = openSync(path, 'r')
  try {
    for (;;) {
      const length = readSync(descriptor, buffer)
      if (length === 0) break
      sums.add(buffer.subarray(0, length))
    }
  } finally {
    closeSync(descriptor)
  }
  return sums.describe(name)
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
