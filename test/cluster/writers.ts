/**
 * Clients that write rows with ids of their own to all nodes of a cluster and remember what they
 * were told of each: acknowledged, surely not applied, or unknown. They never send an id twice, so
 * whatever is in the table afterwards speaks for itself.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { must } from '../../src/base/assert.ts'
import type { Fate } from '../../src/base/errors.ts'
import { createClient } from '../../src/client/client.ts'

const DATABASE = 'ledger'
const TABLE = 'rows'
const REQUEST_TIMEOUT_MS = 8000
const PAUSE_MS = 20
const IDS_PER_PAGE = 2000

export interface Ledger {
  readonly acknowledged: Set<number>
  readonly notApplied: Set<number>
  readonly unknown: Set<number>
  /** Monotonic times at which writes were acknowledged. */
  readonly acknowledgedAtMs: number[]
  /** Codes of failures, counted. */
  readonly failures: Map<string, number>
}

export interface Verdict {
  readonly rows: number
  readonly lost: readonly number[]
  readonly doubled: readonly number[]
  /** Rows that are there although their writer was told that they are not. */
  readonly denied: readonly number[]
  /** Rows that nobody wrote. */
  readonly invented: readonly number[]
  readonly digests: readonly string[]
}

/** Without a key or index: a row that was written twice would be there twice. */
export async function createLedger(addresses: readonly string[]): Promise<void> {
  const client = createClient({ nodes: addresses, database: DATABASE, timeoutMs: 30_000 })
  await client.command({ action: 'create_db', database: DATABASE })
  await client.execute(`CREATE TABLE ${TABLE} (id INTEGER NOT NULL, note TEXT NOT NULL)`)
}

export class Writers {
  readonly ledger: Ledger = {
    acknowledged: new Set(),
    notApplied: new Set(),
    unknown: new Set(),
    acknowledgedAtMs: [],
    failures: new Map(),
  }
  readonly #addresses: readonly string[]
  readonly #running: Promise<void>[]
  #nextId: number
  #isStopped = false

  constructor(addresses: readonly string[], connections: number, firstId = 1) {
    this.#addresses = addresses
    this.#nextId = firstId
    this.#running = Array.from({ length: connections }, (_, at) => this.#run(at))
  }

  get nextId(): number {
    return this.#nextId
  }

  /** Waits for what is on its way. */
  async stop(): Promise<Ledger> {
    this.#isStopped = true
    await Promise.all(this.#running)
    return this.ledger
  }

  async #run(start: number): Promise<void> {
    for (let turn = start; !this.#isStopped; turn += 1) {
      const id = this.#nextId
      this.#nextId += 1
      const address = must(this.#addresses[turn % this.#addresses.length])
      const isAcknowledged = await this.#write(address, id)
      if (!isAcknowledged) await pause(PAUSE_MS)
    }
  }

  async #write(address: string, id: number): Promise<boolean> {
    const { ledger } = this
    const outcome = await send(address, id)
    if (outcome === 'acknowledged') {
      ledger.acknowledged.add(id)
      ledger.acknowledgedAtMs.push(performance.now())
      return true
    }
    ledger.failures.set(outcome.code, (ledger.failures.get(outcome.code) ?? 0) + 1)
    if (outcome.fate === 'unknown') ledger.unknown.add(id)
    else ledger.notApplied.add(id)
    return false
  }
}

async function send(
  address: string,
  id: number,
): Promise<'acknowledged' | { readonly fate: Fate; readonly code: string }> {
  const body = JSON.stringify({
    database: DATABASE,
    sql: `INSERT INTO ${TABLE} (id, note) VALUES (?, ?)`,
    params: [id, `row ${id}`],
    timeoutMs: REQUEST_TIMEOUT_MS,
  })
  let text: string
  let isOk: boolean
  try {
    const headers = { 'content-type': 'application/json' }
    const answer = await fetch(`http://${address}/execute`, { method: 'POST', headers, body })
    isOk = answer.ok
    text = await answer.text()
  } catch (error) {
    const cause =
      error instanceof Error ? (error.cause as { code?: string } | undefined) : undefined
    // Refused before anything was sent; everything else may have reached the node.
    if (cause?.code === 'ECONNREFUSED') return { fate: 'not-applied', code: 'ECONNREFUSED' }
    return { fate: 'unknown', code: cause?.code ?? 'broken' }
  }
  if (isOk) return 'acknowledged'
  const { error } = JSON.parse(text) as { error: { code: string; fate: Fate } }
  return error
}

/** Compares what is in the table with what the writers were told. */
export async function judge(
  addresses: readonly string[],
  ledgers: readonly Ledger[],
): Promise<Verdict> {
  const client = createClient({ nodes: addresses, database: DATABASE, timeoutMs: 60_000 })
  const times = new Map<number, number>()
  const { rows: all } = await client.query<{ last: number | null }>(
    `SELECT max(rowid) AS last FROM ${TABLE}`,
  )
  const last = all[0]?.last ?? 0
  for (let from = 0; from <= last; from += IDS_PER_PAGE) {
    const { rows } = await client.query<{ id: number }>(
      `SELECT id FROM ${TABLE} WHERE rowid >= ? AND rowid < ?`,
      [from, from + IDS_PER_PAGE],
    )
    for (const { id } of rows) times.set(id, (times.get(id) ?? 0) + 1)
  }
  const acknowledged = ledgers.flatMap(ledger => [...ledger.acknowledged])
  const notApplied = ledgers.flatMap(ledger => [...ledger.notApplied])
  const known = new Set([
    ...acknowledged,
    ...notApplied,
    ...ledgers.flatMap(ledger => [...ledger.unknown]),
  ])
  const token = must(client.token, 'a token')
  return {
    rows: [...times.values()].reduce((sum, count) => sum + count, 0),
    lost: acknowledged.filter(id => !times.has(id)),
    doubled: [...times].filter(([, count]) => count > 1).map(([id]) => id),
    denied: notApplied.filter(id => times.has(id)),
    invented: [...times.keys()].filter(id => !known.has(id)),
    digests: await Promise.all(addresses.map(address => digestOf(address, token))),
  }
}

async function digestOf(address: string, atLeast: string): Promise<string> {
  const search = new URLSearchParams({
    database: DATABASE,
    consistency: 'session',
    atLeast,
    timeoutMs: '60000',
  })
  const answer = await fetch(`http://${address}/digest?${search.toString()}`)
  const text = await answer.text()
  if (!answer.ok) throw new Error(`no digest from ${address}: ${text}`)
  return (JSON.parse(text) as { digest: string }).digest
}

/** True if nothing was lost, doubled, denied or invented, and all nodes hold the same. */
export function isSound(verdict: Verdict): boolean {
  const { lost, doubled, denied, invented, digests } = verdict
  const strange = lost.length + doubled.length + denied.length + invented.length
  return strange === 0 && new Set(digests).size === 1
}
