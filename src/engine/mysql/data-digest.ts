/**
 * The digest of all data of a node as of one entry: of every database, and of what Lockstep itself
 * remembers. It is equal on nodes that hold the same, whatever their prefixes are and however their
 * servers lay them out, and whatever a node knows for itself alone is no part of it. The server
 * computes it, in pieces, and rests after each.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { DbError } from '../../base/errors.ts'
import { formatDigest, RowHash } from '../hash.ts'
import { LocalFault } from '../request-errors.ts'
import type { DataDigest, DigestHandler, DigestTask, Done } from '../snapshot.ts'
import { ownDatabase } from './node-tables.ts'
import { ReadView, type ReadViewOptions, type ViewedDatabase } from './read-view.ts'
import { quoteName } from './render.ts'
import { digestSchemas } from './schema-digest.ts'
import {
  type Ask,
  readShapes,
  type RowsAndDigest,
  RowSum,
  sumSql,
  type TableShape,
} from './table-digest.ts'

/**
 * Rows that are asked for first. Later as many as take the server about the time below: so long a
 * schema change waits for the table that is read.
 */
const PIECE_ROWS = 1000
const PIECE_ROWS_MAX = 100_000
const PIECE_MS = 50
/** The server rests so many times as long as it worked: the data are read beside all else. */
const REST_FACTOR = 2
/** Shorter rests are not worth it: they are made up for later. */
const REST_MS_MIN = 5

/**
 * What every node's tables say of it alike. Left out are intents and outcomes of schema changes,
 * which come and go, and verdicts, which only those have who were concerned.
 */
const OWN = [
  'SELECT applied, now_ms, request_floor, request_key_floor, request_row, request_ids FROM $.state',
  'SELECT name, made_by FROM $.db ORDER BY name',
  'SELECT entry, last, ids FROM $.request ORDER BY entry',
]

/** Connects, and takes the digest once it is told where the writer stands still. */
export function startDigest(options: ReadViewOptions, handler: DigestHandler): DigestTask {
  const task = new Digesting()
  const opening = ReadView.open(options)
  const begun = Promise.withResolvers<number>()
  const end = (): void => {
    task.isOver = true
    opening.then(
      view => view.close(),
      () => {},
    )
  }
  const digest = async (): Promise<DataDigest> => {
    const view = await opening
    if (!task.isOver) handler.onReady()
    const own = quoteName(ownDatabase(options.address.prefix))
    const plan = await planDigest(view, await begun.promise, own)
    if (!task.isOver) handler.onBegun()
    return digestAll(view, plan, task)
  }
  const run = async (): Promise<void> => {
    let outcome: Done<{ readonly digest: DataDigest }>
    try {
      outcome = { type: 'ok', digest: await digest() }
    } catch (thrown) {
      outcome = { type: 'failed', error: toError(thrown) }
    }
    if (task.isOver) return
    end()
    handler.onDone(outcome)
  }
  void run()
  return { begin: begun.resolve, cancel: end }
}

/** How long the server has worked without rest; whether anybody still wants the digest. */
class Digesting {
  isOver = false
  #owedMs = 0

  async rest(workedMs: number): Promise<void> {
    this.#owedMs += workedMs * REST_FACTOR
    if (this.#owedMs < REST_MS_MIN) return
    const owedMs = this.#owedMs
    this.#owedMs = 0
    await wait(owedMs)
  }
}

interface DigestPlan {
  /** Digest of what Lockstep remembers. */
  readonly own: string
  readonly databases: readonly {
    readonly name: string
    readonly schema: string
    readonly tables: readonly TableShape[]
  }[]
}

/** Reads what has no older versions, while the writer stands still. */
async function planDigest(view: ReadView, index: number, own: string): Promise<DigestPlan> {
  const { databases } = await view.begin(index)
  const ask: Ask = sql => view.rows(sql)
  const servers = databases.map(({ server }) => server)
  const schemas = await digestSchemas(view.connection, servers)
  const shapes = Map.groupBy(await readShapes(ask, servers), ({ server }) => server)
  const hash = new RowHash()
  hash.reset()
  for (const sql of OWN) {
    for (const row of await ask(sql.replace('$', own))) hash.row(row)
    hash.word(0)
  }
  await view.letGo()
  const planOf = ({ name, server }: ViewedDatabase): DigestPlan['databases'][number] => ({
    name,
    schema: schemas.get(server) ?? '',
    tables: shapes.get(server) ?? [],
  })
  return { own: formatDigest(hash.digest()), databases: databases.map(planOf) }
}

async function digestAll(
  view: ReadView,
  { own, databases }: DigestPlan,
  task: Digesting,
): Promise<DataDigest> {
  const parts = [{ name: '', digest: own }]
  const hash = new RowHash()
  for (const { name, schema, tables } of databases) {
    const found: (readonly [string, RowsAndDigest])[] = []
    for (const table of tables) found.push([table.name, await digestPieces(view, table, task)])
    hash.reset()
    hash.row([schema])
    for (const [table, { rows, digest }] of found) hash.row([table, rows, digest])
    parts.push({ name, digest: formatDigest(hash.digest()) })
  }
  hash.reset()
  for (const { name, digest } of parts) hash.row([name, digest])
  return { digest: formatDigest(hash.digest()), parts }
}

/** One table, piece by piece in the order of its primary key; without a usable one as a whole. */
async function digestPieces(
  view: ReadView,
  table: TableShape,
  task: Digesting,
): Promise<RowsAndDigest> {
  const { key, server, name } = table
  const sum = new RowSum()
  let limit = PIECE_ROWS
  for (let piece = 0; ; piece++) {
    if (task.isOver) throw new DbError('SNAPSHOT_FAILED', 'nobody waits for it any more')
    const startedMs = performance.now()
    const after = key === undefined || piece === 0 ? '' : `WHERE ${isAfter(key, piece)}`
    const order = key === undefined ? '' : `ORDER BY ${key.join(', ')}`
    const which = `${key === undefined ? '' : 'FORCE INDEX (PRIMARY)'} ${after} ${order}`
    const piecewise = key === undefined ? which : `${which} LIMIT ${limit}`
    const [[rows, hashes] = []] = await view.rows(sumSql(table, piecewise))
    sum.add(rows, hashes)
    const isLast = key === undefined || Number(rows) < limit
    if (!isLast) {
      const next = key.map((_, at) => variable(piece + 1, at)).join(', ')
      await view.rows(
        `SELECT ${key.join(', ')} FROM ${quoteName(server)}.${quoteName(name)} ${which} ` +
          `LIMIT 1 OFFSET ${limit - 1} INTO ${next}`,
      )
    }
    const workedMs = performance.now() - startedMs
    await view.letGo()
    await task.rest(workedMs)
    if (isLast) return sum.result
    const factor = Math.min(2, Math.max(0.1, PIECE_MS / Math.max(1, workedMs)))
    limit = Math.min(PIECE_ROWS_MAX, Math.max(1, Math.round(limit * factor)))
  }
}

/** Whether a row comes after the last one of the piece before, as the primary key is sorted. */
function isAfter(key: readonly string[], piece: number): string {
  const alternatives = key.map((column, at) => {
    const equal = key.slice(0, at).map((before, place) => `${before} = ${variable(piece, place)}`)
    return `(${[...equal, `${column} > ${variable(piece, at)}`].join(' AND ')})`
  })
  return alternatives.join(' OR ')
}

/** The server keeps the last key: it loses nothing on its way. One is read, another is set. */
function variable(piece: number, at: number): string {
  return `@lockstep_${piece % 2}_${at}`
}

function toError(thrown: unknown): DbError {
  if (thrown instanceof DbError) return thrown
  if (thrown instanceof LocalFault) return new DbError(thrown.error.code, thrown.error.message)
  const message = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)
  return new DbError('INTERNAL', message)
}
