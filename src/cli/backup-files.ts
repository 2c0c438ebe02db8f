/** What a backup is on disk: a directory of files with `backup.json`, or one file. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import * as z from 'zod'
import { DbError } from '../base/errors.ts'
import { readHeader } from '../engine/mysql/snapshot-files.ts'

/** Version of backup.json that this build writes, and the newest it reads. */
export const BACKUP_FORMAT = 1
export const BACKUP_FILE = 'backup.json'

const notedFile = {
  sizeBytes: z.int().min(0),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
}

const facts = z.strictObject({
  format: z.literal(BACKUP_FORMAT),
  clusterId: z.string(),
  historyId: z.string(),
  /** The files hold the entries of the log up to this one. */
  index: z.int().min(1),
  nowMs: z.int().min(0),
  databases: z.array(
    z.strictObject({
      name: z.string().regex(/^[A-Za-z_][A-Za-z0-9_-]{0,63}$/),
      file: z.string().regex(/^[A-Za-z0-9_-]{1,64}\.(?:sqlite|sql)$/),
      ...notedFile,
    }),
  ),
  /** What was remembered of requests, where no file of a database holds it. */
  system: z.strictObject({ file: z.literal('lockstep.sql'), ...notedFile }).optional(),
})

export type BackupFacts = Readonly<z.infer<typeof facts>>

/** One database of a backup that is to be restored. */
export interface BackupPart {
  readonly name: string
  readonly path: string
  /** Undefined for a file by itself: nobody has noted it. */
  readonly sha256: string | undefined
}

export interface Backup {
  readonly index: number
  readonly nowMs: number
  readonly parts: readonly BackupPart[]
  readonly system: BackupPart | undefined
}

/** Looks at a backup. `database` names the one of a single file; else its own name does. */
export function readBackup(source: string, database: string | undefined): Backup {
  if (!existsSync(source)) throw new DbError('INVALID_REQUEST', `there is no ${source}`)
  if (!statSync(source).isDirectory()) {
    const name = database ?? basename(source).replace(/\.(?:sqlite|db|sql)$/, '')
    const { applied, nowMs } = readMeta(source)
    const parts = [{ name, path: source, sha256: undefined }]
    return { index: applied, nowMs, parts, system: undefined }
  }
  if (database !== undefined) {
    throw new DbError('INVALID_REQUEST', '--database is for a single file; a directory has names')
  }
  const { index, nowMs, databases, system } = readFacts(join(source, BACKUP_FILE))
  const toPart = ({ name, file, sha256 }: { name: string; file: string; sha256: string }) => {
    return { name, path: join(source, file), sha256 }
  }
  return {
    index,
    nowMs,
    parts: databases.map(toPart),
    system: system && toPart({ name: '', ...system }),
  }
}

function readFacts(path: string): BackupFacts {
  let json: unknown
  try {
    json = JSON.parse(readFileSync(path, 'utf8'))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new DbError('INVALID_REQUEST', `${path} can not be read: ${reason}`, { cause })
  }
  const format = z.object({ format: z.int() }).safeParse(json).data?.format ?? 0
  if (format > BACKUP_FORMAT) {
    const known = `this release reads up to ${BACKUP_FORMAT}`
    throw new DbError('WRONG_DATA', `${path} is of the newer format ${format}, ${known}`)
  }
  const parsed = facts.safeParse(json)
  if (parsed.success) return parsed.data
  throw new DbError('CORRUPT', `${path} is no description of a backup`)
}

/** How far the database of a file is, by its own word. Throws for a file that isn't Lockstep's. */
export function readMeta(path: string): { readonly applied: number; readonly nowMs: number } {
  if (path.endsWith('.sql')) {
    const { index, nowMs } = readHeader(path)
    return { applied: index, nowMs }
  }
  return inFile(path, database => {
    const row = database.prepare('SELECT applied, now_ms FROM lockstep_meta').get()
    return { applied: Number(row?.['applied'] ?? 0), nowMs: Number(row?.['now_ms'] ?? 0) }
  })
}

/** What is wrong with a database file, read to its end; undefined if nothing is. */
export function whyGarbled(path: string): string | undefined {
  return inFile(path, database => {
    // A check that speaks of the present moment need not hold any more.
    database.exec('PRAGMA ignore_check_constraints = ON')
    const problem = database.prepare('PRAGMA integrity_check(1)').get()?.['integrity_check']
    return problem === 'ok' ? undefined : String(problem)
  })
}

function inFile<Result>(path: string, act: (database: DatabaseSync) => Result): Result {
  const url = pathToFileURL(path)
  url.search = '?mode=ro&immutable=1'
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(url, { readOnly: true })
    return act(database)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new DbError('CORRUPT', `${path} is no database of Lockstep's: ${reason}`, { cause })
  } finally {
    database?.close()
  }
}
