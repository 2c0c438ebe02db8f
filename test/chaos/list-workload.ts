/** Lists that clients append to and read, several at a time: in one batch, or in a transaction. */
import { setTimeout as pause } from 'node:timers/promises'
import { must } from '../../src/base/assert.ts'
import type { Client } from '../../src/client/client.ts'
import type { BatchItem } from '../../src/client/requests.ts'
import type { SimRandom } from '../../sim/sim-random.ts'
import type { Dialect } from '../cluster/dialects.ts'
import { checkListAppend } from './list-append.ts'
import type { ListAction, ListTransaction } from './list-append.ts'
import type { History, Noted, Verdict, Worker, Workload } from './workload.ts'

const DATABASE = 'lists'
/** So many lists are in use at once; each retires after so many appends. */
const LISTS = 5
const APPENDS_PER_LIST = 60

const READ = 'SELECT v FROM lists WHERE id = ?'

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
  readonly #append: string

  constructor(history: History, admin: Client, { upsert, concat }: Dialect) {
    this.#history = history
    this.#admin = admin
    const longer = upsert('v', (old, given) => concat(old, "','", given))
    this.#append = `INSERT INTO lists VALUES (?, ?) ${longer}`
  }

  async prepare(): Promise<void> {
    await this.#admin.command({ action: 'create_db', database: DATABASE })
    await this.#admin.execute('CREATE TABLE lists (id INTEGER PRIMARY KEY, v TEXT NOT NULL)', [], {
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
    const isRead = intents.every(({ append }) => append === undefined)
    if (random.chance(0.4)) await this.#transact(sender, intents, random)
    else if (isRead) await this.#query(sender, intents)
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
      const sql = `SELECT id, v FROM lists WHERE id IN (${keys.map(() => '?').join(', ')})`
      const { rows } = await client.query(sql, keys, { database: DATABASE })
      return new Map(rows.map(({ id, v }) => [Number(id), numbersIn(v)]))
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
        : { sql: this.#append, params: [key, String(append)] },
    )
    const line = { workload: DATABASE, type: 'batch', intents }
    const { fate, value, startMs, endMs } = await this.#history.write(line, async () => {
      const { results, rowsDropped } = await client.batch(items, { database: DATABASE })
      // Of an answer to a request that was sent again nobody may know any more what it read.
      return results.map(({ rows }) =>
        rowsDropped !== true ? numbersIn(rows[0]?.['v']) : undefined,
      )
    })
    this.#note(intents, value, { fate, startMs, endMs })
  }

  /** The same step by step, with some idling in between in which others get their turn. */
  async #transact(client: Client, intents: readonly Intent[], random: SimRandom): Promise<void> {
    const line = { workload: DATABASE, type: 'transaction', intents }
    const pausesMs = intents.map(() => (random.chance(0.3) ? random.between(1, 40) : 0))
    const send = (): Promise<(number[] | undefined)[]> =>
      client.transaction(
        async transaction => {
          const seen: (number[] | undefined)[] = []
          for (const [at, { key, append }] of intents.entries()) {
            await pause(pausesMs[at])
            if (append === undefined) {
              const { rows } = await transaction.query(READ, [key])
              seen.push(numbersIn(rows[0]?.['v']))
            } else {
              await transaction.execute(this.#append, [key, String(append)])
              seen.push(undefined)
            }
          }
          return seen
        },
        { database: DATABASE },
      )
    const { fate, value, startMs, endMs } = await this.#history.write(line, send)
    this.#note(intents, value, { fate, startMs, endMs })
  }

  /** `seen` is absent if there was no answer. */
  #note(
    intents: readonly Intent[],
    seen: readonly (readonly number[] | undefined)[] | undefined,
    told: Pick<Noted<unknown>, 'fate' | 'startMs' | 'endMs'>,
  ): void {
    const actions = intents.flatMap(({ key, append }, at): ListAction[] => {
      if (append !== undefined) return [{ type: 'append', key, value: append }]
      const values = seen?.[at]
      return values === undefined ? [] : [{ type: 'read', key, values }]
    })
    const { fate, startMs, endMs } = told
    this.#transactions.push({ actions, outcome: fate, startMs, endMs })
  }
}

function numbersIn(text: unknown): number[] {
  return typeof text === 'string' ? text.split(',').map(Number) : []
}
