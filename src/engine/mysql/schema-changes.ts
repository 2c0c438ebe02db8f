/**
 * What MySQL commits by itself: schema changes, and databases made and dropped. Each is alone in
 * its entry and runs when that is committed, on all nodes alike: an intent is written down, then it
 * runs, then the applied index moves. A node that was ended in between sees by the intent, and by
 * what the database looks like, whether it had run. What it came to is compared by a later entry.
 */
import { DbError } from '../../base/errors.ts'
import type { RequestError, RequestResult, WriteRequest } from '../engine.ts'
import { formatDigest, RowHash } from '../hash.ts'
import { LocalFault } from '../request-errors.ts'
import type { RecordsBuilder } from '../request-records.ts'
import { classifyServerError } from './mysql-errors.ts'
import { DATABASE_COLLATION } from './node-tables.ts'
import { parseText } from './parsed-text.ts'
import { quoteName, quoteText } from './render.ts'
import { RequestPlan } from './request-plan.ts'
import { digestSchema } from './schema-digest.ts'
import { momentCommand, ownFault, type Session } from './session.ts'
import { describeHolders, LOCK_NOT_GIVEN, withWay } from './table-locks.ts'

export type SchemaRequest = WriteRequest & {
  readonly type: 'statements' | 'create-database' | 'drop-database'
}

/** An entry that is one such request. */
export interface SoloEntry {
  readonly index: number
  readonly nowMs: number
  readonly seed: Uint8Array
  readonly request: SchemaRequest
  /** What the book notes if it succeeds. */
  readonly records: RecordsBuilder | undefined
}

/** Runs such an entry, or finishes what was begun; the answer that its client gets. */
export async function runSolo(session: Session, entry: SoloEntry): Promise<RequestResult> {
  session.forgetDatabase()
  try {
    if (entry.request.type === 'create-database') return await create(session, entry)
    if (entry.request.type === 'drop-database') return await drop(session, entry)
    return await change(session, entry)
  } finally {
    session.forgetDatabase()
    session.targets.forget()
    await session.tables.lookAround()
  }
}

async function create(session: Session, entry: SoloEntry): Promise<RequestResult> {
  const { tables } = session
  const { index, request } = entry
  const server = tables.serverName(request.database)
  if ((await tables.intentOf(index)) === undefined) {
    if (await isThere(session, server)) {
      const message = `the server has a database ${server} already, which Lockstep did not make`
      throw new LocalFault({ code: 'NODE_FAULT', message })
    }
    await tables.intend(index, '')
  }
  await session.expect(`CREATE DATABASE IF NOT EXISTS ${quoteName(server)} ${DATABASE_COLLATION}`)
  await finish(session, entry, [tables.addSql(request.database, index)], true)
  return { type: 'ok', results: [] }
}

async function drop(session: Session, entry: SoloEntry): Promise<RequestResult> {
  const { tables } = session
  const { index, request } = entry
  if ((await tables.intentOf(index)) === undefined) await tables.intend(index, '')
  const server = tables.serverName(request.database)
  const sql = `DROP DATABASE IF EXISTS ${quoteName(server)}`
  const failure = await withWay(session, server, () => session.run([{ sql }]))
  if (failure !== undefined) throw await localFault(session, entry, ownFault(failure).error)
  await finish(session, entry, [tables.removeSql(request.database)], true)
  return { type: 'ok', results: [] }
}

async function change(session: Session, entry: SoloEntry): Promise<RequestResult> {
  const { tables, connection } = session
  const { index, request } = entry
  const server = tables.serverName(request.database)
  const before = await digestSchema(connection, server)
  const intent = await tables.intentOf(index)
  if (intent === undefined) await tables.intend(index, before)
  const isDone = intent !== undefined && intent !== before && !isReplacement(request)
  const error = isDone ? undefined : await runChange(session, entry)
  const digest = error === undefined ? await digestSchema(connection, server) : digestFailure(error)
  await finish(session, entry, tables.outcomeSql({ index, digest }), error === undefined)
  await connection.expect('SET timestamp = DEFAULT')
  return error === undefined
    ? { type: 'ok', results: [{ rowsAffected: 0 }] }
    : { type: 'failed', error }
}

/** A server that was killed may have dropped the old table and not made the new one. */
function isReplacement(request: SchemaRequest): boolean {
  const [statement] = request.type === 'statements' ? request.statements : []
  if (statement === undefined) return false
  // Without comments, which may stand between any two words.
  const [first] = parseText(statement.sql)[0]?.pieces ?? []
  return typeof first === 'string' && /^CREATE\s+OR\s+REPLACE\b/i.test(first)
}

/** What the server says against it; nothing has changed then. */
async function runChange(session: Session, entry: SoloEntry): Promise<RequestError | undefined> {
  const { tables, chance, isMariaDb } = session
  const { nowMs, seed, request } = entry
  if (tables.madeBy(request.database) === undefined) {
    return { code: 'UNKNOWN_DATABASE', message: `there is no database ${request.database}` }
  }
  chance.setSeed(seed)
  const isForeign = (): boolean => false
  const statements = request.type === 'statements' ? request.statements : []
  let plan: RequestPlan
  try {
    plan = new RequestPlan(statements, {
      database: request.database,
      position: 0,
      ordinal: 0,
      chance,
      isMariaDb,
      isForeign,
    })
  } catch (thrown) {
    if (!(thrown instanceof DbError)) throw thrown
    return { code: thrown.code, message: thrown.message }
  }
  const server = tables.serverName(request.database)
  for (const { sql } of statements) session.changes.note(server, sql)
  const begin = [momentCommand(nowMs), ...session.use(request.database)]
  const commands = [...begin, ...plan.commands]
  const failure = await withWay(session, server, () => session.run(commands))
  if (failure === undefined) return undefined
  const classified = classifyServerError(failure.error, server)
  if (classified.type === 'local') throw await localFault(session, entry, classified.error)
  return classified.error
}

/** A lock that was not given is asked for again by the next writer: it says for whom it waits. */
async function localFault(
  session: Session,
  { index, request }: SoloEntry,
  error: RequestError,
): Promise<LocalFault> {
  if (error.details?.['mysqlCode'] !== LOCK_NOT_GIVEN) return new LocalFault(error)
  const { database } = request
  const holders = await describeHolders(session, session.tables.serverName(database))
  const message =
    `the schema change of entry ${index} waits for a lock in the database ${database}, and will ` +
    `be tried again: ${holders}`
  return new LocalFault({ ...error, message })
}

async function finish(
  session: Session,
  { index, nowMs, records }: SoloEntry,
  statements: readonly string[],
  isOk: boolean,
): Promise<void> {
  const kept = isOk && records !== undefined ? [{ index, records }] : []
  await session.expect(
    'START TRANSACTION',
    ...session.tables.endIntentSql(),
    ...statements,
    ...session.tables.commitSql(index, nowMs, kept),
  )
}

async function isThere(session: Session, server: string): Promise<boolean> {
  const rows = await session.connection.rows(
    'SELECT 1 FROM information_schema.schemata WHERE schema_name = ' + quoteText(server),
  )
  return rows.length > 0
}

function digestFailure({ code, details }: RequestError): string {
  const hash = new RowHash()
  hash.reset()
  hash.row(['failed', code, Number(details?.['mysqlCode'] ?? 0)])
  return formatDigest(hash.digest())
}
