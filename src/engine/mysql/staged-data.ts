/**
 * A snapshot's data on the server, beside the live ones: in databases of their own whose names no
 * client can give to any. A note says which they are before the first is made, so that nothing else
 * is ever removed; and that they are complete, once they are.
 */
import { join } from 'node:path'
import { DbError } from '../../base/errors.ts'
import type { SnapshotManifest } from '../snapshot.ts'
import type { Connection } from './connection.ts'
import { packetTooSmall, whyTooLong } from './long-rows.ts'
import { classifyServerError } from './mysql-errors.ts'
import { DATABASE_COLLATION, flushServer, makeTables, ownDatabase } from './node-tables.ts'
import { deleteNoteSql, readNote, replaceNoteSql } from './notes.ts'
import { quoteName, quoteText } from './render.ts'
import { databaseFile, readHeader, readStatements, SYSTEM_FILE } from './snapshot-files.ts'

/** What is asked of a server here. */
export type Server = Pick<Connection, 'expect' | 'rows'>

/** A database that is to become a live one. */
export interface StagedDatabase {
  readonly name: string
  /** Its names on the server, now and then. */
  readonly staged: string
  readonly live: string
}

/** What the note says. */
export interface Staged {
  /** Of the snapshot. */
  readonly id: string
  readonly index: number
  readonly databases: readonly StagedDatabase[]
  /** All of it is there. */
  readonly isLoaded: boolean
}

const NOTE = 'staged'
/** Where the texts of views are until their tables have their names. */
const VIEW_TABLE = 'view_text'
const VIEW = /^CREATE (?:ALGORITHM=\w+ )?(?:SQL SECURITY \w+ )?VIEW /

/** Name of the database that stands for the node's own tables until then. */
export function stagedOwn(prefix: string): string {
  return `${prefix}lockstep_staged`
}

/** The table with the texts of views, as its name goes into statements. */
export function viewTable(prefix: string): string {
  return `${quoteName(stagedOwn(prefix))}.${VIEW_TABLE}`
}

/** What is staged, complete or not. */
export async function readStaged(server: Server, prefix: string): Promise<Staged | undefined> {
  const text = await readNote(server, prefix, NOTE)
  // We wrote it, and nobody else may.
  return text === undefined ? undefined : (JSON.parse(text) as Staged)
}

/** The statement that notes it. */
export function stagedSql(prefix: string, staged: Staged): string {
  return replaceNoteSql(prefix, NOTE, JSON.stringify(staged))
}

/** Removes what is staged. */
export async function removeStaged(server: Server, prefix: string): Promise<void> {
  const staged = await readStaged(server, prefix)
  if (staged === undefined) return
  await server.expect('SET foreign_key_checks = 0')
  const names = [...staged.databases.map(each => each.staged), stagedOwn(prefix)]
  for (const name of names) await server.expect(`DROP DATABASE IF EXISTS ${quoteName(name)}`)
  await server.expect(deleteNoteSql(prefix, NOTE))
}

/**
 * Loads the files of a snapshot, unless they are loaded. Rejects with SNAPSHOT_FAILED if a database
 * of these names is there that Lockstep did not make, or if the server does not take what is in the
 * files; with SERVER_UNFIT if its limits are too low for the data.
 */
export async function loadStaged(
  connection: Connection,
  prefix: string,
  directory: string,
  manifest: SnapshotManifest,
): Promise<Staged> {
  const { id, index } = manifest
  const before = await readStaged(connection, prefix)
  if (before?.id === id && before.isLoaded) return before
  await removeStaged(connection, prefix)
  const { databases = [] } = readHeader(join(directory, SYSTEM_FILE))
  const staged: Staged = {
    id,
    index,
    databases: databases.map(({ name, madeBy }) => ({
      name,
      staged: `${stagedOwn(prefix)}_${madeBy}`,
      live: `${prefix}${name}`,
    })),
    isLoaded: false,
  }
  await refuseTaken(connection, prefix, staged)
  const names = [stagedOwn(prefix), ...staged.databases.map(each => each.staged)]
  await refuseNames(connection, names)
  await connection.expect(stagedSql(prefix, staged))
  await makeTables(connection, stagedOwn(prefix))
  const views = `id INT AUTO_INCREMENT PRIMARY KEY, db VARCHAR(64) NOT NULL, text LONGTEXT NOT NULL`
  await connection.expect(`CREATE TABLE ${viewTable(prefix)} (${views}) ENGINE = InnoDB`)
  await connection.expect(`USE ${quoteName(stagedOwn(prefix))}`)
  await runFile(connection, join(directory, SYSTEM_FILE))
  for (const [at, { madeBy, name }] of databases.entries()) {
    const server = quoteName(staged.databases[at]?.staged ?? '')
    await connection.expect(`CREATE DATABASE ${server} ${DATABASE_COLLATION}; USE ${server}`)
    const views = await runFile(connection, join(directory, databaseFile(madeBy)))
    await makeViews(connection, prefix, name, views)
  }
  await flushServer(connection, prefix, index)
  const loaded = { ...staged, isLoaded: true }
  await connection.expect(stagedSql(prefix, loaded))
  return loaded
}

/** Rejects with SNAPSHOT_FAILED if a database that Lockstep did not make has the name of one. */
export async function refuseTaken(
  server: Server,
  prefix: string,
  { databases }: Staged,
): Promise<void> {
  const own = await server.rows(`SELECT name FROM ${quoteName(ownDatabase(prefix))}.db`)
  const known = new Set(own.map(([name]) => String(name)))
  const fresh = databases.filter(({ name }) => !known.has(name)).map(({ live }) => live)
  await refuseNames(server, fresh)
}

async function refuseNames(server: Server, names: readonly string[]): Promise<void> {
  if (names.length === 0) return
  const list = names.map(quoteText).join(', ')
  const taken = await server.rows(
    `SELECT schema_name FROM information_schema.schemata WHERE schema_name IN (${list})`,
  )
  if (taken.length === 0) return
  const found = taken.map(([name]) => String(name)).join(', ')
  throw new DbError(
    'SNAPSHOT_FAILED',
    `the server has a database ${found} that Lockstep did not make; move it away: ` +
      'nothing is overwritten',
  )
}

/** Runs the statements of a file in the current database; gives those that make views. */
async function runFile(connection: Connection, path: string): Promise<readonly string[]> {
  const views: string[] = []
  const [[limit] = []] = await connection.rows('SELECT @@max_allowed_packet')
  const limitBytes = Number(limit)
  for await (const statement of readStatements(path)) {
    if (VIEW.test(statement)) views.push(statement)
    else await runStatement(connection, statement, limitBytes)
  }
  return views
}

/** Makes views in an order in which each finds those that it reads, and notes it. */
async function makeViews(
  connection: Connection,
  prefix: string,
  database: string,
  views: readonly string[],
): Promise<void> {
  let left = views
  while (left.length > 0) {
    const next: string[] = []
    for (const view of left) {
      const { error } = await connection.run(view)
      if (error !== undefined) next.push(view)
      else {
        const values = `${quoteText(database)}, ${quoteText(view)}`
        await connection.expect(`INSERT INTO ${viewTable(prefix)} (db, text) VALUES (${values})`)
      }
    }
    // One of those that can't be made says why.
    if (next.length === left.length) return runStatement(connection, next[0] ?? '', Infinity)
    left = next
  }
}

/** The sums of its file are right: whatever it fails of is no reason to call its giver broken. */
async function runStatement(
  connection: Connection,
  statement: string,
  limitBytes: number,
): Promise<void> {
  const sizeBytes = Buffer.byteLength(statement) + 1
  const shown = `"${statement.slice(0, 100)}" of the snapshot`
  if (sizeBytes >= limitBytes) {
    // Of a release that did not part long rows. The server would close the connection.
    throw packetTooSmall(`the statement ${shown}, of ${sizeBytes} bytes`, sizeBytes)
  }
  const { error } = await connection.run(statement)
  if (error === undefined) return
  const tooLong = whyTooLong(statement, error, limitBytes)
  if (tooLong !== undefined) throw tooLong
  const failure = classifyServerError(error)
  const { code, message, details = {} } = failure.error
  if (failure.type === 'local') throw new DbError(code, message, { details })
  const text = `the MySQL server of this node does not take ${shown}: ${message}`
  throw new DbError('SNAPSHOT_FAILED', text, { details })
}
