/**
 * Rows that nobody may lose or write twice, and a counter that each of them raises. The table has
 * no key: a row that was written twice is there twice.
 */
import { must } from '../../src/base/assert.ts'
import type { Client } from '../../src/client/client.ts'
import { checkCounter, checkExactlyOnce } from './exactly-once.ts'
import type { ToldFate } from './exactly-once.ts'
import { checkOrder } from './sights.ts'
import type { History, Verdict, Worker, Workload } from './workload.ts'

const DATABASE = 'ledger'
const VALUES_PER_WRITER = 1_000_000
const ROWS_PER_PAGE = 2000

export class LedgerWorkload implements Workload {
  readonly #history: History
  readonly #admin: Client
  readonly #told = new Map<number, ToldFate>()
  readonly #lastOf = new Map<number, number>()

  constructor(history: History, admin: Client) {
    this.#history = history
    this.#admin = admin
  }

  async prepare(): Promise<void> {
    await this.#admin.command({ action: 'create_db', database: DATABASE })
    await this.#admin.batch(
      [
        'CREATE TABLE entries (writer INTEGER NOT NULL, value INTEGER NOT NULL, note TEXT)',
        'CREATE TABLE counter (n INTEGER NOT NULL)',
        'INSERT INTO counter VALUES (0)',
      ],
      { database: DATABASE },
    )
  }

  async step({ number, random, client, pinned }: Worker): Promise<void> {
    const value = (this.#lastOf.get(number) ?? number * VALUES_PER_WRITER) + 1
    this.#lastOf.set(number, value)
    const sender = random.chance(0.5) ? client : random.pick(pinned)
    const line = { workload: DATABASE, type: 'insert', writer: number, wrote: value }
    // Chance and time in the statement: every node must come to the same.
    const insert = "INSERT INTO entries VALUES (?, ?, hex(randomblob(4)) || datetime('now'))"
    const { fate } = await this.#history.write(line, async () => {
      const items = [
        { sql: insert, params: [number, value] },
        { sql: 'UPDATE counter SET n = n + 1' },
      ]
      await sender.batch(items, { database: DATABASE })
    })
    this.#told.set(value, fate)
  }

  async judge(reader: Client): Promise<readonly Verdict[]> {
    const rows: { writer: number; value: number }[] = []
    const options = { database: DATABASE }
    for (let from = 0; ;) {
      const sql = `SELECT rowid, writer, value FROM entries WHERE rowid > ? ORDER BY rowid LIMIT ?`
      const page = await reader.query(sql, [from, ROWS_PER_PAGE], options)
      for (const { writer, value } of page.rows) {
        rows.push({ writer: Number(writer), value: Number(value) })
      }
      if (page.rows.length < ROWS_PER_PAGE) break
      from = Number(must(page.rows.at(-1))['rowid'])
    }
    const counter = await reader.query('SELECT n FROM counter', [], options)
    const values = rows.map(({ value }) => value)
    const complaints = [
      ...checkExactlyOnce(this.#told, values),
      ...checkCounter([...this.#told.values()], Number(must(counter.rows[0])['n'])),
    ]
    // What is of unknown fate may have been under way for long, and take effect behind others.
    const acknowledged = rows.filter(({ value }) => this.#told.get(value) === 'ok')
    const order = checkOrder(acknowledged)
    return [
      { checker: 'rows exactly once', checked: this.#told.size, complaints, undecided: 0 },
      {
        checker: 'order of one writer',
        checked: acknowledged.length,
        complaints: order,
        undecided: 0,
      },
    ]
  }
}
