/**
 * Each client raises a number of its own and reads the numbers of all: in its session, which may
 * never go back, and locally at each node, not older than it asks for.
 */
import type { Client, QueryOptions } from '../../src/client/client.ts'
import { checkLag, checkSessions } from './sights.ts'
import type { RisingRead, RisingWrite, SessionStep } from './sights.ts'
import type { History, Verdict, Worker, Workload } from './workload.ts'

const DATABASE = 'freshness'

export class FreshnessWorkload implements Workload {
  readonly #history: History
  readonly #admin: Client
  readonly #clients: number
  readonly #lastOf = new Map<number, number>()
  readonly #writes: RisingWrite[] = []
  readonly #lagReads: RisingRead[] = []
  readonly #sessions = new Map<number, SessionStep[]>()

  constructor(history: History, admin: Client, clients: number) {
    this.#history = history
    this.#admin = admin
    this.#clients = clients
  }

  async prepare(): Promise<void> {
    await this.#admin.command({ action: 'create_db', database: DATABASE })
    const values = Array.from({ length: this.#clients }, (_, key) => `(${key}, 0)`)
    for (const sql of [
      'CREATE TABLE marks (id INTEGER PRIMARY KEY, value INTEGER NOT NULL)',
      `INSERT INTO marks VALUES ${values.join(', ')}`,
    ]) {
      await this.#admin.execute(sql, [], { database: DATABASE })
    }
  }

  async step(worker: Worker): Promise<void> {
    const kind = worker.random.below(3)
    if (kind === 0) await this.#write(worker)
    else if (kind === 1) await this.#readSession(worker)
    else await this.#readLocally(worker)
  }

  async judge(): Promise<readonly Verdict[]> {
    const sessions = [...this.#sessions.values()]
    const steps = sessions.reduce((sum, { length }) => sum + length, 0)
    const order = checkSessions(sessions)
    const lag = checkLag(this.#writes, this.#lagReads)
    return [
      { checker: 'monotone sessions', checked: steps, complaints: order, undecided: 0 },
      { checker: 'bounded lag', checked: this.#lagReads.length, complaints: lag, undecided: 0 },
    ]
  }

  async #write({ number, client }: Worker): Promise<void> {
    const value = (this.#lastOf.get(number) ?? 0) + 1
    this.#lastOf.set(number, value)
    const line = { workload: DATABASE, type: 'write', key: number, wrote: value }
    // A write of unknown fate may still take effect behind a later one.
    const sql = 'UPDATE marks SET value = ? WHERE id = ? AND value < ?'
    const { fate, endMs } = await this.#history.write(line, () =>
      client.execute(sql, [value, number, value], { database: DATABASE }),
    )
    if (fate !== 'ok') return
    this.#writes.push({ key: number, value, endMs })
    this.#note(number, { type: 'write', key: number, value, what: `at ${endMs.toFixed(0)} ms` })
  }

  /** The client asks any node and carries the token of what it saw. */
  async #readSession({ number, client, random }: Worker): Promise<void> {
    const key = random.below(this.#clients)
    const line = { workload: DATABASE, type: 'session-read', session: number, key }
    const { fate, value, endMs } = await this.#history.read(line, () =>
      readMark(client, key, { consistency: 'session' }),
    )
    if (fate !== 'ok' || value === undefined) return
    this.#note(number, { type: 'read', key, value, what: `at ${endMs.toFixed(0)} ms` })
  }

  async #readLocally({ random, pinned }: Worker): Promise<void> {
    const key = random.below(this.#clients)
    const maxLagMs = random.pick([20, 100, 250, 500, 2000])
    const { nodeId: node, client } = random.pick(pinned)
    const line = { workload: DATABASE, type: 'local-read', key, maxLagMs, node }
    const { fate, value, startMs } = await this.#history.read(line, () =>
      // A node that is older than that may become younger, or not.
      readMark(client, key, { consistency: 'local', maxLagMs, timeoutMs: 300 }),
    )
    if (fate !== 'ok' || value === undefined) return
    const what = `a local read at ${node} after ${startMs.toFixed(0)} ms`
    this.#lagReads.push({ key, value, startMs, maxLagMs, what })
  }

  #note(session: number, step: SessionStep): void {
    const steps = this.#sessions.get(session) ?? []
    this.#sessions.set(session, steps)
    steps.push(step)
  }
}

async function readMark(client: Client, key: number, options: QueryOptions): Promise<number> {
  const sql = 'SELECT value FROM marks WHERE id = ?'
  const { rows } = await client.query(sql, [key], { database: DATABASE, ...options })
  return Number(rows[0]?.['value'] ?? 0)
}
