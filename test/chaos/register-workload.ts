/** Registers that clients write, compare and set, and read with the strongest level at any node. */
import { must } from '../../src/base/assert.ts'
import type { Client } from '../../src/client/client.ts'
import type { Dialect } from '../cluster/dialects.ts'
import { checkRegister } from './linearizability.ts'
import type { RegisterOperation } from './linearizability.ts'
import type { History, Verdict, Worker, Workload } from './workload.ts'

const DATABASE = 'registers'
/** So many registers are in use at once; each retires after so many operations. */
const REGISTERS = 4
const OPERATIONS_PER_REGISTER = 120
const INITIAL = 0

interface Row extends Record<string, number> {
  readonly value: number
}

export class RegisterWorkload implements Workload {
  readonly #history: History
  readonly #operations = new Map<number, RegisterOperation[]>()
  /** What somebody saw last in a register: a good guess of what it holds. */
  readonly #guesses = new Map<number, number>()
  readonly #keys = Array.from({ length: REGISTERS }, (_, at) => at + 1)
  readonly #used = new Map<number, number>()
  #lastKey = REGISTERS
  #lastValue = INITIAL
  readonly #admin: Client
  readonly #insert: string

  constructor(history: History, admin: Client, { upsert }: Dialect) {
    this.#history = history
    this.#admin = admin
    this.#insert = `INSERT INTO registers VALUES (?, ?) ${upsert('value', (_, given) => given)}`
  }

  async prepare(): Promise<void> {
    await this.#admin.command({ action: 'create_db', database: DATABASE })
    await this.#admin.execute(
      'CREATE TABLE registers (id INTEGER PRIMARY KEY, value INTEGER NOT NULL)',
      [],
      { database: DATABASE },
    )
  }

  async step({ random, client, pinned }: Worker): Promise<void> {
    const key = this.#keyOf(random.below(REGISTERS))
    // Half of the requests go to a node that need not lead.
    const sender = random.chance(0.5) ? client : random.pick(pinned).client
    const kind = random.below(4)
    if (kind <= 1) await this.#read(sender, key)
    else if (kind === 2) await this.#write(sender, key)
    else await this.#compareAndSet(sender, key)
  }

  async judge(reader: Client): Promise<readonly Verdict[]> {
    for (const key of this.#operations.keys()) await this.#read(reader, key)
    const complaints: string[] = []
    let undecided = 0
    for (const [key, operations] of this.#operations) {
      const verdict = checkRegister(operations, INITIAL)
      if (verdict === 'undecided') undecided += 1
      if (verdict === 'not-linearizable') complaints.push(`register ${key} is not linearizable`)
    }
    const checked = [...this.#operations.values()].reduce((sum, { length }) => sum + length, 0)
    return [{ checker: 'linearizable registers', checked, complaints, undecided }]
  }

  #keyOf(slot: number): number {
    const key = must(this.#keys[slot])
    const used = this.#used.get(key) ?? 0
    this.#used.set(key, used + 1)
    if (used < OPERATIONS_PER_REGISTER) return key
    this.#lastKey += 1
    this.#keys[slot] = this.#lastKey
    return this.#lastKey
  }

  async #read(client: Client, key: number): Promise<void> {
    const line = { workload: DATABASE, type: 'read', key }
    const { fate, value, startMs, endMs } = await this.#history.read(line, async () => {
      const sql = 'SELECT value FROM registers WHERE id = ?'
      const { rows } = await client.query<Row>(sql, [key], { database: DATABASE })
      return rows[0]?.value ?? INITIAL
    })
    if (fate !== 'ok' || value === undefined) return
    this.#guesses.set(key, value)
    this.#add(key, { action: { type: 'read', value }, startMs, endMs })
  }

  async #write(client: Client, key: number): Promise<void> {
    this.#lastValue += 1
    const value = this.#lastValue
    const line = { workload: DATABASE, type: 'write', key, wrote: value }
    const { fate, startMs, endMs } = await this.#history.write(line, async () => {
      await client.execute(this.#insert, [key, value], { database: DATABASE })
    })
    if (fate === 'not-applied') return
    this.#guesses.set(key, value)
    this.#add(key, { action: { type: 'write', value }, startMs, endMs })
  }

  async #compareAndSet(client: Client, key: number): Promise<void> {
    const expected = this.#guesses.get(key) ?? INITIAL
    // A register without a row can't be set, so that nothing is asked of it.
    if (expected === INITIAL) return this.#write(client, key)
    this.#lastValue += 1
    const value = this.#lastValue
    const line = { workload: DATABASE, type: 'compare-and-set', key, expected, wrote: value }
    const {
      fate,
      value: isSet,
      startMs,
      endMs,
    } = await this.#history.write(line, async () => {
      const sql = 'UPDATE registers SET value = ? WHERE id = ? AND value = ?'
      const { rowsAffected } = await client.execute(sql, [value, key, expected], {
        database: DATABASE,
      })
      return rowsAffected === 1
    })
    if (fate === 'not-applied') return
    const action = { type: 'compare-and-set', expected, value, isSet } as const
    this.#add(key, { action, startMs, endMs })
  }

  #add(key: number, operation: RegisterOperation): void {
    const operations = this.#operations.get(key) ?? []
    this.#operations.set(key, operations)
    operations.push(operation)
  }
}
