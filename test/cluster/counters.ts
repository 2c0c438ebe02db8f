/**
 * Clients that add one to counters, again and again, through whatever happens to the cluster. Each
 * counts its own successes, so that the counters in the database tell whether a write was lost or
 * took effect twice.
 */
import { createClient, type Client } from '../../src/client/index.ts'

/** One counter for each client. */
export async function createCounters(
  addresses: readonly string[],
  database: string,
  count: number,
): Promise<Client> {
  const db = createClient({ nodes: addresses, database, timeoutMs: 30_000 })
  await db.command({ action: 'create_db', database })
  // Not in one batch with the rows: some engines can't undo it together with others.
  await db.execute('CREATE TABLE counters (id INTEGER PRIMARY KEY, value INTEGER NOT NULL)')
  const ids = Array.from({ length: count }, (_, id) => id)
  await db.batch(ids.map(id => ({ sql: 'INSERT INTO counters VALUES (?, 0)', params: [id] })))
  return db
}

export class Counting {
  readonly counted: number[]
  readonly errors: unknown[] = []
  readonly #running: Promise<void>[]
  #isStopped = false

  /** Every client is one of its own, which knows only one node at first. */
  constructor(addresses: readonly string[], database: string, count: number) {
    this.counted = Array.from({ length: count }, () => 0)
    this.#running = this.counted.map((_, id) => {
      const nodes = [addresses[id % addresses.length] ?? '']
      return this.#run(createClient({ nodes, database, timeoutMs: 30_000 }), id)
    })
  }

  get total(): number {
    return this.counted.reduce((sum, count) => sum + count, 0)
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await Promise.all(this.#running)
  }

  async #run(db: Client, id: number): Promise<void> {
    while (!this.#isStopped) {
      try {
        const { results, rowsDropped } = await db.batch([
          { sql: 'UPDATE counters SET value = value + 1 WHERE id = ?', params: [id] },
          { sql: 'SELECT value FROM counters WHERE id = ?', params: [id] },
        ])
        this.counted[id] = (this.counted[id] ?? 0) + 1
        // Nobody else writes this counter: what comes back is what this client has counted.
        const value = results[1]?.rows[0]?.['value']
        if (rowsDropped !== true && value !== this.counted[id]) {
          throw new Error(`counter ${id} is ${String(value)}, not ${this.counted[id]}`)
        }
      } catch (error) {
        this.errors.push(error)
        return
      }
    }
  }
}

/** The counters as the database has them. */
export async function readCounters(db: Client): Promise<number[]> {
  const { rows } = await db.query<{ value: number }>('SELECT value FROM counters ORDER BY id')
  return rows.map(({ value }) => value)
}
