/** Lists that clients append to and read, several at a time in one atomic batch. */
import { must } from '../../src/base/assert.ts'
import type { Client } from '../../src/client/client.ts'
import type { BatchItem } from '../../src/client/requests.ts'
import { checkListAppend } from './list-append.ts'
import type { ListAction, ListTransaction } from './list-append.ts'
import type { History, Verdict, Worker, Workload } from './workload.ts'

const DATABASE = 'lists'
/** So many lists are in use at once; each retires after so many appends. */
const LISTS = 5
const APPENDS_PER_LIST = 60

const APPEND =
  "INSERT INTO lists VALUES (?, ?) ON CONFLICT DO UPDATE SET v = v || ',' || excluded.v"
const READ = 'SELECT v FROM lists WHERE key = ?'

/** What is going to be done: a read has no values yet. */
type Intent = { readonly key: number; readonly append: number | undefined }

export class ListWorkload implements Workload {
  readonly #history: History
  readonly #admin: Client
  readonly #transactions: ListTransaction[] = []
  readonly #keys = Array.from({ length: LISTS }, (_, at) => at + 1)
  readonly #appends = new Map<number, number>()
  #lastKey = LISTS
  #lastValue = 0

  constructor(history: History, admin: Client) {
    this.#history = history
    this.#admin = admin
  }

  async prepare(): Promise<void> {
    await this.#admin.command({ action: 'create_db', database: DATABASE })
    await this.#admin.execute('CREATE TABLE lists (key INTEGER PRIMARY KEY, v TEXT NOT NULL)', [], {
      database: DATABASE,
    })
  }

  async step({ random, client, pinned }: Worker): Promise<void> {
    const sender = random.chance(0.5) ? client : random.pick(pinned).client
    const isReader = random.chance(0.3)
    const intents = Array.from({ length: random.between(1, 4) }, () => {
      const slot = random.below(LISTS)
      return isReader || random.chance(0.4) ? this.#intendRead(slot) : this.#intendAppend(slot)
    })
    if (intents.every(({ append }) => append === undefined)) await this.#query(sender, intents)
    else await this.#execute(sender, intents)
  }

  async judge(reader: Client): Promise<readonly Verdict[]> {
    const keys = Array.from({ length: this.#lastKey }, (_, at) => at + 1)
    for (const key of keys) await this.#query(reader, [{ key, append: undefined }])
    const complaints = checkListAppend(this.#transactions, 'strict-serializable')
    const checked = this.#transactions.length
    return [{ checker: 'strictly serializable lists', checked, complaints, undecided: 0 }]
  }

  #intendRead(slot: number): Intent {
    return { key: must(this.#keys[slot]), append: undefined }
  }

  #intendAppend(slot: number): Intent {
    let key = must(this.#keys[slot])
    const appends = this.#appends.get(key) ?? 0
    this.#appends.set(key, appends + 1)
    if (appends >= APPENDS_PER_LIST) {
      this.#lastKey += 1
      key = this.#lastKey
      this.#keys[slot] = key
    }
    this.#lastValue += 1
    return { key, append: this.#lastValue }
  }

  /** Reads alone: one statement, so that all lists are read from one state. */
  async #query(client: Client, intents: readonly Intent[]): Promise<void> {
    const keys = [...new Set(intents.map(({ key }) => key))]
    const line = { workload: DATABASE, type: 'query', keys }
    const { fate, value, startMs, endMs } = await this.#history.read(line, async () => {
      const sql = `SELECT key, v FROM lists WHERE key IN (${keys.map(() => '?').join(', ')})`
      const { rows } = await client.query(sql, keys, { database: DATABASE })
      return new Map(rows.map(({ key, v }) => [Number(key), numbersIn(v)]))
    })
    if (fate !== 'ok' || value === undefined) return
    const actions = keys.map((key): ListAction => {
      return { type: 'read', key, values: value.get(key) ?? [] }
    })
    this.#transactions.push({ actions, outcome: 'ok', startMs, endMs })
  }

  async #execute(client: Client, intents: readonly Intent[]): Promise<void> {
    const items = intents.map(({ key, append }): BatchItem =>
      append === undefined
        ? { sql: READ, params: [key] }
        : { sql: APPEND, params: [key, String(append)] },
    )
    const line = { workload: DATABASE, type: 'batch', intents }
    const { fate, value, startMs, endMs } = await this.#history.write(line, async () => {
      const { results } = await client.batch(items, { database: DATABASE })
      return results.map(({ rows }) => numbersIn(rows[0]?.['v']))
    })
    const actions = intents.flatMap(({ key, append }, at): ListAction[] => {
      if (append !== undefined) return [{ type: 'append', key, value: append }]
      return value === undefined ? [] : [{ type: 'read', key, values: value[at] ?? [] }]
    })
    this.#transactions.push({ actions, outcome: fate, startMs, endMs })
  }
}

function numbersIn(text: unknown): number[] {
  return typeof text === 'string' ? text.split(',').map(Number) : []
}
