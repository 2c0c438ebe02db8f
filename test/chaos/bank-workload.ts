/** Accounts between which clients move money, and readers of all levels at all nodes. */
import { DbError } from '../../src/base/errors.ts'
import type { Client } from '../../src/client/client.ts'
import { checkBank } from './bank.ts'
import type { BankRead } from './bank.ts'
import type { History, Verdict, Worker, Workload } from './workload.ts'

const DATABASE = 'bank'
const ACCOUNTS = 8
const BALANCE = 100

export class BankWorkload implements Workload {
  readonly #history: History
  readonly #admin: Client
  readonly #reads: BankRead[] = []

  constructor(history: History, admin: Client) {
    this.#history = history
    this.#admin = admin
  }

  async prepare(): Promise<void> {
    await this.#admin.command({ action: 'create_db', database: DATABASE })
    const values = Array.from({ length: ACCOUNTS }, (_, at) => `(${at + 1}, ${BALANCE})`)
    for (const sql of [
      'CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER CHECK (balance >= 0))',
      `INSERT INTO accounts VALUES ${values.join(', ')}`,
    ]) {
      await this.#admin.execute(sql, [], { database: DATABASE })
    }
  }

  async step({ random, client, pinned }: Worker): Promise<void> {
    if (random.chance(0.5)) {
      const sender = random.chance(0.5) ? client : random.pick(pinned).client
      const from = random.between(1, ACCOUNTS)
      const to = 1 + ((from + random.below(ACCOUNTS - 1)) % ACCOUNTS)
      await this.#transfer(sender, from, to, random.between(1, BALANCE))
    } else {
      const reader = random.pick(pinned)
      const consistency = random.pick(['linearizable', 'session', 'local'] as const)
      await this.#read(reader.client, consistency, reader.nodeId)
    }
  }

  async judge(reader: Client): Promise<readonly Verdict[]> {
    await this.#read(reader, 'linearizable', 'the last reader')
    const complaints = checkBank(this.#reads, ACCOUNTS, ACCOUNTS * BALANCE)
    return [{ checker: 'constant bank sum', checked: this.#reads.length, complaints, undecided: 0 }]
  }

  async #transfer(client: Client, from: number, to: number, amount: number): Promise<void> {
    const move = 'UPDATE accounts SET balance = balance + ? WHERE id = ?'
    // The receiver first: a debt must take back what was already done.
    const items = [
      { sql: move, params: [amount, to] },
      { sql: move, params: [-amount, from] },
    ]
    const line = { workload: DATABASE, type: 'transfer', from, to, amount }
    await this.#history.write(line, async () => {
      try {
        await client.batch(items, { database: DATABASE })
      } catch (error) {
        // Too little money is an answer like any other.
        if (!(error instanceof DbError && error.code === 'SQL_CONSTRAINT')) throw error
      }
    })
  }

  async #read(
    client: Client,
    consistency: 'linearizable' | 'session' | 'local',
    who: string,
  ): Promise<void> {
    const line = { workload: DATABASE, type: 'read', consistency, who }
    const { fate, value, startMs } = await this.#history.read(line, async () => {
      const sql = 'SELECT balance FROM accounts ORDER BY id'
      const { rows } = await client.query(sql, [], { database: DATABASE, consistency })
      return rows.map(({ balance }) => Number(balance))
    })
    if (fate !== 'ok' || value === undefined) return
    const what = `a ${consistency} read at ${who} after ${startMs.toFixed(0)} ms`
    this.#reads.push({ balances: value, what })
  }
}
