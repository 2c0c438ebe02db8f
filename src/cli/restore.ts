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
import { MYSQL_BUILD } from '../engine/mysql/mysql-engine.ts'
import { refuseServerName } from '../engine/mysql/names.ts'
import { stageBackup } from '../engine/mysql/restored-files.ts'
import type { ServerAddress } from '../engine/mysql/server-address.ts'
import { refuseUsed } from '../engine/mysql/server-visits.ts'
import { refuseName } from '../engine/names.ts'
import { describeFile } from '../engine/sqlite/snapshot-files.ts'
import { makeGeneration } from '../engine/sqlite/restored-generation.ts'
import { encodePoint, foundingMembership } from '../log/membership.ts'
import { writeFileDurably } from '../platform/durable-file.ts'
import { SystemRandom } from '../platform/random.ts'
import { type Backup, type BackupPart, readBackup, readMeta, whyGarbled } from './backup-files.ts'
import { DataLock } from './data-lock.ts'
import { orDiskError } from './disk-error.ts'
import { noteMysql, stagedFiles } from './engine-choice.ts'
import { checkNodeId, makeDataDirectory, readIdentity } from './identity.ts'
import { initCluster } from './init.ts'
import { invocation } from './program.ts'

export interface RestoreOptions {
  readonly source: string
  readonly data: string
  readonly nodeId: string
  /** For a single file: what the database is to be called. */
  readonly database: string | undefined
  /** The server of the node, for a backup of nodes that keep their data in MySQL. */
  readonly mysql: ServerAddress | undefined
}

const GROUP = 'group-1'
const WORK = 'restoring'
const NOTE = 'restored.json'
const AGAIN = 'nothing was restored; once that is mended, run it again'

/** Restores into an empty directory and says how to go on. Rejects with `DbError`. */
export async function restore(options: RestoreOptions): Promise<void> {
  const { source, data: directory, nodeId, database, mysql } = options
  const backup = readBackup(source, database)
  checkNodeId(nodeId)
  const names = backup.parts.map(({ name }) => name)
  for (const name of names) {
    const refusal = mysql === undefined ? refuseName(name) : refuseServerName(name)
    if (refusal !== undefined) throw refusal
  }
  checkKind(backup, mysql)
  if (mysql !== undefined) await refuseUsed(mysql, names)
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
      addData: () => orDiskError(directory, () => copy(backup, options), AGAIN),
      ...(secret !== '' && { secret }),
    })
  } finally {
    rmSync(join(directory, WORK), { recursive: true, force: true })
    lock.release()
  }
  const engine = mysql === undefined ? '' : ' --engine mysql://…'
  const start =
    `${invocation()} start --data ${directory} --node-id ${nodeId} --listen HOST:PORT` + engine
  process.stdout.write(
    `Restored ${names.join(', ')} as of entry ${backup.index}, ` +
      `into a new cluster of one node. Start it:\n  ${start}\n` +
      `and let others join it: ${invocation()} join HOST:PORT --data DIR …\n`,
  )
  if (mysql !== undefined) process.stdout.write('Its start brings the data to the server.\n')
}

/** The entry after which the log of a restored node begins; undefined if it wasn't restored. */
export function readRestored(directory: string): number | undefined {
  const path = join(directory, GROUP, NOTE)
  if (!existsSync(path)) return undefined
  const { index } = JSON.parse(readFileSync(path, 'utf8')) as { index?: unknown }
  if (typeof index === 'number' && Number.isSafeInteger(index) && index > 0) return index
  throw new DbError('CORRUPT', `${path} names no entry`)
}

function checkKind({ parts, system }: Backup, mysql: ServerAddress | undefined): void {
  const isSql = system !== undefined || parts.some(({ path }) => path.endsWith('.sql'))
  if (isSql === (mysql !== undefined)) return
  throw new DbError(
    'INVALID_REQUEST',
    isSql
      ? 'the backup is of nodes that keep their data in MySQL: name the server of this one by ' +
          '--engine mysql://…'
      : 'the backup is of nodes that keep their data in SQLite: leave out --engine',
  )
}

/** Puts everything together under another name, makes it durable, and moves it. */
function copy(backup: Backup, { data: directory, nodeId, mysql }: RestoreOptions): void {
  const work = join(directory, WORK)
  rmSync(work, { recursive: true, force: true })
  mkdirSync(work, { recursive: true })
  for (const part of [...backup.parts, ...(backup.system === undefined ? [] : [backup.system])]) {
    checkPart(part, backup)
  }
  if (mysql === undefined) copyFiles(backup, join(work, 'engine'))
  else stage(backup, work, nodeId)
  const text = `${JSON.stringify({ index: backup.index })}\n`
  writeFileDurably(join(work, NOTE), text, { mode: 0o644 })
  renameSync(work, join(directory, GROUP))
  sync(directory)
}

/** Throws CORRUPT unless it is the file that was backed up. */
function checkPart({ path, name, sha256 }: BackupPart, { index }: Backup): void {
  if (sha256 !== undefined && describeFile(path, name).sha256 !== sha256) {
    throw new DbError('CORRUPT', `${path} is not the file that was backed up`)
  }
  const problem = path.endsWith('.sql') ? undefined : whyGarbled(path)
  if (problem !== undefined) throw new DbError('CORRUPT', `${path}: ${problem}`)
  if (readMeta(path).applied > index) {
    throw new DbError('CORRUPT', `${path} is newer than its backup`)
  }
}

/** As the files of an engine. */
function copyFiles(backup: Backup, engine: string): void {
  const generation = join(engine, 'gen-1')
  mkdirSync(generation, { recursive: true })
  const names = new Map<string, number>()
  for (const [at, { name, path }] of backup.parts.entries()) {
    const madeBy = at + 1
    copyFileSync(path, join(generation, `db-${madeBy}.sqlite`))
    sync(join(generation, `db-${madeBy}.sqlite`))
    names.set(name, madeBy)
  }
  makeGeneration(engine, names, backup)
}

/** As a snapshot that the node adopts when it starts, on its server. */
function stage({ index, nowMs, parts, system }: Backup, group: string, nodeId: string): void {
  noteMysql(group)
  // Who the members are is known when the node starts, and its log says it.
  const members = [{ raftId: 1, nodeId, address: '', incarnation: '' }]
  const point = encodePoint({ index, term: 1, membership: foundingMembership(members) })
  stageBackup(
    stagedFiles(group).location,
    { index, nowMs, databases: parts, systemPath: system?.path },
    { id: new SystemRandom().bytes(8).toHex(), build: MYSQL_BUILD, context: point.toHex() },
  )
}

function sync(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
