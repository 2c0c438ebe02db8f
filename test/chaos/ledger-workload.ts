/**
 * Rows that nobody may lose or write twice, and a counter that each of them raises. Their values
 * are no key: a row that was written twice is there twice.
 */
import { must } from '../../src/base/assert.ts'
import type { Client, WriteOptions } from '../../src/client/client.ts'
import type { WriteReference } from '../../src/client/writes.ts'
import type { Dialect } from '../cluster/dialects.ts'
import { checkCounter, checkExactlyOnce } from './exactly-once.ts'
import type { ToldFate } from './exactly-once.ts'
import { checkOrder } from './sights.ts'
import type { History, Noted, Verdict, Worker, Workload } from './workload.ts'

const DATABASE = 'ledger'
const VALUES_PER_WRITER = 1_000_000
const ROWS_PER_PAGE = 2000

export class LedgerWorkload implements Workload {
  readonly #history: History
  readonly #admin: Client
  readonly #told = new Map<number, ToldFate>()
  readonly #lastOf = new Map<number, number>()
  readonly #contradictions: string[] = []
  /** Of values with an unknown fate: by what it can be asked for. */
  readonly #unsettled = new Map<number, WriteReference>()
  readonly #dialect: Dialect

  constructor(history: History, admin: Client, dialect: Dialect) {
    this.#history = history
    this.#admin = admin
    this.#dialect = dialect
  }

  async prepare(): Promise<void> {
    await this.#admin.command({ action: 'create_db', database: DATABASE })
    const columns = 'writer INTEGER NOT NULL, value INTEGER NOT NULL, note TEXT'
    for (const sql of [
      `CREATE TABLE entries (position ${this.#dialect.key}, ${columns})`,
      'CREATE TABLE counter (n INTEGER NOT NULL)',
      'INSERT INTO counter VALUES (0)',
    ]) {
      await this.#admin.execute(sql, [], { database: DATABASE })
    }
  }

  async step({ number, random, client, pinned }: Worker): Promise<void> {
    const value = (this.#lastOf.get(number) ?? number * VALUES_PER_WRITER) + 1
    this.#lastOf.set(number, value)
    const sender = random.chance(0.5) ? client : random.pick(pinned).client
    if (random.chance(0.8)) {
      this.#tell(value, [await this.#insert(sender, number, value, {})])
      await this.#settle(client, value)
      return
    }
    // An impatient program that sends the same twice, to two nodes, at once or one after another.
    const options = { idempotencyKey: `value ${value}` }
    const first = this.#insert(sender, number, value, options)
    if (random.chance(0.5)) await first
    const second = this.#insert(random.pick(pinned).client, number, value, options)
    this.#tell(value, await Promise.all([first, second]))
    await this.#settle(client, value)
  }

  #insert(
    client: Client,
    writer: number,
    value: number,
    options: WriteOptions,
  ): Promise<Noted<void>> {
    const line = { workload: DATABASE, type: 'insert', writer, wrote: value, ...options }
    // Chance and time in the statement: every node must come to the same.
    const values = `VALUES (?, ?, ${this.#dialect.chance})`
    const insert = `INSERT INTO entries (writer, value, note) ${values}`
    return this.#history.write(line, async () => {
      const items = [
        { sql: insert, params: [writer, value] },
        { sql: 'UPDATE counter SET n = n + 1' },
      ]
      await client.batch(items, { database: DATABASE, ...options })
    })
  }

  /** Notes what was told of a value that was sent once or twice. */
  #tell(value: number, answers: readonly Noted<void>[]): void {
    const fates = answers.map(({ fate }) => fate)
    const fate = (['ok', 'unknown'] as const).find(fate => fates.includes(fate)) ?? 'not-applied'
    this.#told.set(value, fate)
    if (fate === 'ok' && answers.some(({ code }) => code === 'REQUEST_CANCELLED')) {
      this.#contradictions.push(`told both: ${value} is applied, and never will be`)
    }
    const reference = answers.find(({ reference }) => reference !== undefined)?.reference
    if (fate === 'unknown' && reference !== undefined) this.#unsettled.set(value, reference)
  }

  /** Asks what became of what nobody could tell; the answer is as good as any other. */
  async #settle(client: Client, value: number): Promise<void> {
    const reference = this.#unsettled.get(value)
    if (reference === undefined || this.#told.get(value) !== 'unknown') return
    const line = { workload: DATABASE, type: 'fate', of: value }
    const { value: answer } = await this.#history.read(line, () => client.fate(reference))
    if (answer === undefined) return
    this.#told.set(value, answer.fate === 'applied' ? 'ok' : answer.fate)
  }

  async judge(reader: Client): Promise<readonly Verdict[]> {
    for (const value of this.#unsettled.keys()) await this.#settle(reader, value)
    const undecided = [...this.#told.values()].filter(fate => fate === 'unknown').length
    const rows: { writer: number; value: number }[] = []
    const options = { database: DATABASE }
    for (let from = 0; ;) {
      const sql = `SELECT position, writer, value FROM entries WHERE position > ? ORDER BY position LIMIT ?`
      const page = await reader.query(sql, [from, ROWS_PER_PAGE], options)
      for (const { writer, value } of page.rows) {
        rows.push({ writer: Number(writer), value: Number(value) })
      }
      if (page.rows.length < ROWS_PER_PAGE) break
      from = Number(must(page.rows.at(-1))['position'])
    }
    const counter = await reader.query('SELECT n FROM counter', [], options)
    const values = rows.map(({ value }) => value)
    const complaints = [
      ...this.#contradictions,
      ...checkExactlyOnce(this.#told, values),
      ...checkCounter([...this.#told.values()], Number(must(counter.rows[0])['n'])),
    ]
    // What was of unknown fate was left under way, and may have taken effect behind others.
    const acknowledged = rows.filter(
      ({ value }) => this.#told.get(value) === 'ok' && !this.#unsettled.has(value),
    )
    const order = checkOrder(acknowledged)
    return [
      { checker: 'rows exactly once', checked: this.#told.size, complaints, undecided },
      {
        checker: 'order of one writer',
        checked: acknowledged.length,
        complaints: order,
        undecided: 0,
      },
    ]
  }
}
