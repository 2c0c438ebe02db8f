/**
 * `lockstep restore`: a backup becomes the data of a new cluster of one node, with ids of its own;
 * other nodes join it and get the data by a snapshot. Its log begins after the entry of the backup.
 * Nothing is named as a node's before all of it is there, so that a restore that was cut short can
 * be begun again.
 */
import { closeSync, copyFileSync, existsSync, fsyncSync, mkdirSync, openSync } from 'node:fs'
import { readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DbError } from '../base/errors.ts'
import { refuseName } from '../engine/names.ts'
import { describeFile } from '../engine/sqlite/snapshot-files.ts'
import { makeGeneration } from '../engine/sqlite/restored-generation.ts'
import { writeFileDurably } from '../platform/durable-file.ts'
import { SystemRandom } from '../platform/random.ts'
import { type Backup, readBackup, readMeta, whyGarbled } from './backup-files.ts'
import { DataLock } from './data-lock.ts'
import { orDiskError } from './disk-error.ts'
import { checkNodeId, makeDataDirectory, readIdentity } from './identity.ts'
import { initCluster } from './init.ts'
import { invocation } from './program.ts'

export interface RestoreOptions {
  readonly source: string
  readonly data: string
  readonly nodeId: string
  /** For a single file: what the database is to be called. */
  readonly database: string | undefined
}

const GROUP = 'group-1'
const WORK = 'restoring'
const NOTE = 'restored.json'
const AGAIN = 'nothing was restored; once that is mended, run it again'

/** Restores into an empty directory and says how to go on. Throws `DbError`. */
export function restore(options: RestoreOptions): void {
  const { source, data: directory, nodeId, database } = options
  const backup = readBackup(source, database)
  checkNodeId(nodeId)
  for (const { name } of backup.parts) {
    const refusal = refuseName(name)
    if (refusal !== undefined) throw refusal
  }
  makeDataDirectory(directory)
  const lock = DataLock.acquire(directory)
  try {
    const isCutShort =
      !existsSync(join(directory, 'node.json')) && readRestored(directory) !== undefined
    if (isCutShort) rmSync(join(directory, GROUP), { recursive: true, force: true })
    const present = readIdentity(directory)
    if (present !== undefined) {
      const owner = `${directory} belongs to node ${present.nodeId}`
      throw new DbError('WRONG_DATA', `${owner}; a backup is restored into an empty directory`)
    }
    const secret = process.env['LOCKSTEP_SECRET'] ?? ''
    initCluster({
      directory,
      nodeId,
      voters: 1,
      random: new SystemRandom(),
      addData: () => orDiskError(directory, () => copy(backup, directory), AGAIN),
      ...(secret !== '' && { secret }),
    })
  } finally {
    rmSync(join(directory, WORK), { recursive: true, force: true })
    lock.release()
  }
  const start = `${invocation()} start --data ${directory} --node-id ${nodeId} --listen HOST:PORT`
  process.stdout.write(
    `Restored ${backup.parts.map(({ name }) => name).join(', ')} as of entry ${backup.index}, ` +
      `into a new cluster of one node. Start it:\n  ${start}\n` +
      `and let others join it: ${invocation()} join HOST:PORT --data DIR …\n`,
  )
}

/** The entry after which the log of a restored node begins; undefined if it wasn't restored. */
export function readRestored(directory: string): number | undefined {
  const path = join(directory, GROUP, NOTE)
  if (!existsSync(path)) return undefined
  const { index } = JSON.parse(readFileSync(path, 'utf8')) as { index?: unknown }
  if (typeof index === 'number' && Number.isSafeInteger(index) && index > 0) return index
  throw new DbError('CORRUPT', `${path} names no entry`)
}

/** Puts everything together under another name, makes it durable, and moves it. */
function copy(backup: Backup, directory: string): void {
  const work = join(directory, WORK)
  rmSync(work, { recursive: true, force: true })
  const generation = join(work, 'engine', 'gen-1')
  mkdirSync(generation, { recursive: true })
  const names = new Map<string, number>()
  for (const [at, part] of backup.parts.entries()) {
    const { name, path, sha256 } = part
    if (sha256 !== undefined && describeFile(path, name).sha256 !== sha256) {
      throw new DbError('CORRUPT', `${path} is not the file that was backed up`)
    }
    const problem = whyGarbled(path)
    if (problem !== undefined) throw new DbError('CORRUPT', `${path}: ${problem}`)
    const { applied } = readMeta(path)
    if (applied > backup.index) throw new DbError('CORRUPT', `${path} is newer than its backup`)
    const madeBy = at + 1
    copyFileSync(path, join(generation, `db-${madeBy}.sqlite`))
    sync(join(generation, `db-${madeBy}.sqlite`))
    names.set(name, madeBy)
  }
  makeGeneration(join(work, 'engine'), names, backup)
  const text = `${JSON.stringify({ index: backup.index })}\n`
  writeFileDurably(join(work, NOTE), text, { mode: 0o644 })
  renameSync(work, join(directory, GROUP))
  sync(directory)
}

function sync(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
