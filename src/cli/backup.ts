/**
 * `lockstep backup`: the data of a running cluster as plain files, of one moment between two
 * writes. They come from a follower if there is one, are put together beside their place, checked,
 * and only then get their name: there is never half a backup.
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync } from 'node:fs'
import { readdirSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import * as z from 'zod'
import { must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { CarriedSnapshot } from '../base/ports.ts'
import { createClient, type MemberStatus } from '../client/index.ts'
import { decodeManifest, SNAPSHOT_CHUNK_BYTES, type SnapshotManifest } from '../engine/snapshot.ts'
import { describeFile } from '../engine/sqlite/snapshot-files.ts'
import { SystemClock } from '../platform/clock.ts'
import { writeFileDurably } from '../platform/durable-file.ts'
import { SystemRandom } from '../platform/random.ts'
import { HttpSnapshotTransfer } from '../platform/snapshot-transfer.ts'
import { BACKUP_FILE, BACKUP_FORMAT, type BackupFacts } from './backup-files.ts'
import { type BackupKind, kindOf, type NamedFile } from './backup-kinds.ts'
import { addressList } from './client-commands.ts'
import { orDiskError, toDiskError } from './disk-error.ts'
import { postToNode, readNodeError } from './node-call.ts'

export interface BackupOptions {
  /** A file if it ends in .sqlite, .db or .sql, else a directory. It must not be there yet. */
  readonly target: string
  readonly nodes: string
  /** Only this database. */
  readonly database: string | undefined
}

const ASK_MS = 5000
const POLL_MS = 300
/** It names a checksum for each megabyte. */
const MANIFEST_BYTES_MAX = 256 * 1024 * 1024
const WAIT_MS_MAX = 10 * 60_000
const NOTHING_LEFT = 'nothing of the backup is left there'

const offer = z.object({ manifest: z.string(), clusterId: z.string(), historyId: z.string() })

type Offer = z.infer<typeof offer>

/** Makes a backup and says what it holds. Throws `DbError`; then nothing is left. */
export async function backup(options: BackupOptions): Promise<void> {
  const target = resolve(options.target)
  if (existsSync(target)) {
    throw new DbError('INVALID_REQUEST', `${target} is there already; name another place`)
  }
  if (!existsSync(dirname(target))) {
    const message = `there is no directory ${dirname(target)}; make it first`
    throw new DbError('INVALID_REQUEST', message)
  }
  const partial = `.${basename(target)}.partial-`
  const work = join(dirname(target), `${partial}${process.pid}`)
  tellOfRemains(dirname(target), partial)
  const clean = (): void => rmSync(work, { recursive: true, force: true })
  const onSignal = (): never => {
    clean()
    process.exit(130)
  }
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
  try {
    orDiskError(target, () => mkdirSync(work), NOTHING_LEFT)
    const facts = await collect(options, work).catch((error: unknown) => {
      throw toDiskError(target, error, NOTHING_LEFT)
    })
    orDiskError(target, () => place(work, target, facts), NOTHING_LEFT)
    const names = facts.databases.map(({ name }) => name).join(', ')
    process.stdout.write(`${target}: ${names || 'no database'}, as of entry ${facts.index}\n`)
  } finally {
    clean()
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
  }
}

/** A backup that was killed could not clean up. Another one may be running: nothing is deleted. */
function tellOfRemains(directory: string, partial: string): void {
  for (const name of readdirSync(directory).filter(each => each.startsWith(partial))) {
    const path = join(directory, name)
    process.stderr.write(`${path} is of a backup that was killed, or runs; if none does, delete it
`)
  }
}

/** Brings everything into the directory `work` and checks it there. */
async function collect(options: BackupOptions, work: string): Promise<BackupFacts> {
  const { address, ...offered } = await askForSnapshot(options.nodes)
  const manifest = decodeManifest(offered.manifest)
  // Apart from the backup's own files: a database may be called as a file of a snapshot is.
  const brought = join(work, 'snapshot')
  mkdirSync(brought)
  const fetch = (names: readonly string[]): Promise<void> => {
    const files = manifest.files.filter(({ name }) => names.includes(name))
    return bring(address, { id: manifest.id, files }, brought)
  }
  const kind = kindOf(manifest.files)
  checkTarget(options.target, kind)
  await fetch([kind.systemFile])
  const wanted = choose(kind.readDatabases(join(brought, kind.systemFile)), options)
  await fetch(wanted.map(({ file }) => file))
  /** Looks at a file that came, and gives it its name in the backup. */
  const take = (file: string, name: string): NotedFile => {
    const expected = must(manifest.files.find(each => each.name === file))
    const { sha256, sizeBytes } = expected
    checkFile(join(brought, file), expected, kind)
    renameSync(join(brought, file), join(work, name))
    return { file: name, sizeBytes, sha256 }
  }
  const databases = wanted.map(({ name, file }) => {
    return { name, ...take(file, `${name}.${kind.extension}`) }
  })
  const isAll = options.database === undefined && !isFile(options.target)
  const { kept } = kind
  const system =
    isAll && kept !== undefined ? { ...take(kind.systemFile, kept), file: kept } : undefined
  rmSync(brought, { recursive: true })
  const { clusterId, historyId } = offered
  const { index, nowMs } = manifest
  const facts = { format: BACKUP_FORMAT, clusterId, historyId, index, nowMs, databases } as const
  return system === undefined ? facts : { ...facts, system }
}

type NotedFile = Omit<BackupFacts['databases'][number], 'name'>

function checkTarget(target: string, { extension }: BackupKind): void {
  if (!isFile(target) || (extension === 'sql') === target.endsWith('.sql')) return
  const problem = `the data of this cluster come as .${extension}, and ${target} ends in another`
  throw new DbError('INVALID_REQUEST', problem)
}

/** A follower's, if one can, as of everything that was acknowledged before; else the leader's. */
async function askForSnapshot(nodes: string): Promise<Offer & { address: string }> {
  const client = createClient({ nodes: addressList(nodes), timeoutMs: ASK_MS })
  const { leader, nodes: members } = await client.nodes()
  if (leader === null) throw new DbError('NO_LEADER', 'nobody leads right now; try again')
  const { commitIndex } = await client.status(leader.address, { timeoutMs: ASK_MS })
  const isLeader = (member: MemberStatus): boolean => member.nodeId === leader.nodeId
  const sources = members
    .filter(member => !member.isDiverged && (member.isConnected || member.isSelf))
    .toSorted((a, b) => Number(isLeader(a)) - Number(isLeader(b)))
  const deadlineMs = performance.now() + WAIT_MS_MAX
  let last: DbError = new DbError('NOT_READY', 'no node could make a snapshot')
  for (const { address } of sources) {
    for (;;) {
      const outcome = await ask(address, commitIndex)
      if (!(outcome instanceof DbError)) return { ...outcome, address }
      last = outcome
      // One that makes it is waited for; one that can't is passed over.
      if (outcome.details['isMaking'] !== true || performance.now() > deadlineMs) break
      await pause(POLL_MS)
    }
  }
  throw last
}

function ask(address: string, atLeast: number): Promise<Offer | DbError> {
  const body = JSON.stringify({ atLeast })
  const clock = new SystemClock()
  const answerBytesMax = MANIFEST_BYTES_MAX
  const call = { address, path: '/backup', body, timeoutMs: ASK_MS, clock, answerBytesMax }
  return new Promise(done => {
    postToNode(call, outcome => {
      if (typeof outcome === 'string') {
        done(readNodeError(outcome) ?? offer.parse(JSON.parse(outcome)))
      } else {
        done(new DbError('CONNECTION_LOST', `${address}: ${outcome.message}`))
      }
    })
  })
}

function bring(address: string, snapshot: CarriedSnapshot, location: string): Promise<void> {
  const silent = (): void => {}
  const transfer = new HttpSnapshotTransfer({
    path: '/backup',
    facts: { clusterId: '', historyId: '', secret: '' },
    addressOf: () => address,
    random: new SystemRandom(),
    logger: { debug: silent, info: silent, warn: silent, error: silent },
    chunkSizeBytes: SNAPSHOT_CHUNK_BYTES,
  })
  return new Promise((done, fail) => {
    transfer.fetch(1, snapshot, location, {
      onProgress: silent,
      onDone: error => (error === undefined ? done() : fail(notWhole(address, error))),
    })
  })
}

function notWhole(address: string, cause: DbError): DbError {
  if (cause.code === 'DISK_FULL') return cause
  const message =
    `${address} did not give the backup whole (${cause.message}); ${NOTHING_LEFT}: run it again, ` +
    'another node gives it if that one is lost'
  return new DbError(cause.code, message, { cause })
}

function choose(all: readonly NamedFile[], options: BackupOptions): readonly NamedFile[] {
  const { database, target } = options
  const chosen = database === undefined ? all : all.filter(({ name }) => name === database)
  if (database !== undefined && chosen.length === 0) {
    throw new DbError('UNKNOWN_DATABASE', `there is no database ${database}`)
  }
  if (!isFile(target) || chosen.length === 1) return chosen
  const names = chosen.map(({ name }) => name).join(', ') || 'none'
  throw new DbError(
    'INVALID_REQUEST',
    `a file holds one database, and there are: ${names}; choose one with --database, or give a ` +
      'directory',
  )
}

function checkFile(
  path: string,
  expected: SnapshotManifest['files'][number],
  kind: BackupKind,
): void {
  const { sha256 } = describeFile(path, expected.name)
  const problem = sha256 === expected.sha256 ? kind.whyGarbled(path) : 'other bytes than were sent'
  if (problem !== undefined) throw new DbError('SNAPSHOT_FAILED', `${expected.name}: ${problem}`)
}

/** Makes all of it durable, and gives it its name. */
function place(work: string, target: string, facts: BackupFacts): void {
  for (const { file } of [
    ...facts.databases,
    ...(facts.system === undefined ? [] : [facts.system]),
  ]) {
    sync(join(work, file))
  }
  if (isFile(target)) {
    renameSync(join(work, must(facts.databases[0]).file), target)
  } else {
    const text = `${JSON.stringify(facts, undefined, 2)}\n`
    writeFileDurably(join(work, BACKUP_FILE), text, { mode: 0o644 })
    renameSync(work, target)
  }
  sync(dirname(target))
}

function isFile(target: string): boolean {
  return /\.(?:sqlite|db|sql)$/.test(target)
}

function sync(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
