/**
 * Keeps a second process out of a data directory. The lock is the operating system's, taken by
 * SQLite on the empty file DIR/lock: it ends with the process, however that ends, so there is no
 * stale lock to judge by process ids, which are reused and mean nothing in another container that
 * shares the volume. DIR/lock.holder only helps the sentence.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import * as z from 'zod'
import { DbError } from '../base/errors.ts'
import { orDiskError } from './disk-error.ts'

const holder = z.object({ pid: z.int(), host: z.string(), sinceMs: z.number() })

/** Held locks must not be collected as garbage: that would close their files and free them. */
const held = new Set<DataLock>()

export class DataLock {
  readonly #database: DatabaseSync

  private constructor(database: DatabaseSync) {
    this.#database = database
    held.add(this)
  }

  /** Throws WRONG_DATA if a process, this one included, holds the directory. It must be there. */
  static acquire(directory: string): DataLock {
    const path = join(directory, 'lock')
    let database: DatabaseSync | undefined
    try {
      database = new DatabaseSync(path, { timeout: 0 })
      database.exec('BEGIN EXCLUSIVE')
    } catch (cause) {
      database?.close()
      throw new DbError('WRONG_DATA', whyNot(directory, cause), { cause })
    }
    const text = JSON.stringify({ pid: process.pid, host: hostname(), sinceMs: Date.now() })
    try {
      orDiskError(`${path}.holder`, () => writeFileSync(`${path}.holder`, text))
    } catch (error) {
      database.close()
      throw error
    }
    return new DataLock(database)
  }

  /** Lets go; a second call does nothing. */
  release(): void {
    if (held.delete(this)) this.#database.close()
  }
}

const SQLITE_BUSY = 5

function whyNot(directory: string, cause: unknown): string {
  const isBusy = cause instanceof Error && 'errcode' in cause && cause.errcode === SQLITE_BUSY
  if (!isBusy) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    return `the data directory ${directory} can not be locked: ${reason}`
  }
  const facts = readHolder(directory)
  const who =
    facts === undefined
      ? 'another process'
      : `process ${facts.pid} on ${facts.host} (since ${new Date(facts.sinceMs).toISOString()})`
  return `the data directory ${directory} is in use by ${who}; stop it or choose another directory`
}

function readHolder(directory: string): z.infer<typeof holder> | undefined {
  try {
    return holder.parse(JSON.parse(readFileSync(join(directory, 'lock.holder'), 'utf8')))
  } catch {
    // The holder may not have written it yet; the sentence does without.
    return undefined
  }
}
