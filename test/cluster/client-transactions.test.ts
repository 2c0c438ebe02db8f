/** Transactions of the client library, over both engines. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { createClient, sql, type Client, type Transaction } from '../../src/client/index.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { checkListAppend, type ListAction, type ListTransaction } from '../chaos/list-append.ts'
import type { Dialect } from './dialects.ts'
import { type Engine, testEngines } from './engines.ts'
import { get, until } from './kit.ts'

const ACCOUNTS = 6
const START = 100

/** Moves money from one account to another, unless that would overdraw it. */
async function move(db: Client, from: number, to: number, amount: number): Promise<boolean> {
  return db.transaction(async tx => {
    const { rows } = await tx.query<{ balance: number }>(
      sql`SELECT balance FROM accounts WHERE id = ${from}`,
    )
    const balance = rows[0]?.balance ?? 0
    if (balance < amount) return false
    // The new balance is computed here, so that a lost update would show in the sum.
    await tx.execute(sql`UPDATE accounts SET balance = ${balance - amount} WHERE id = ${from}`)
    await tx.execute(sql`UPDATE accounts SET balance = balance + ${amount} WHERE id = ${to}`)
    await tx.execute(
      sql`INSERT INTO moves (source, target, amount) VALUES (${from}, ${to}, ${amount})`,
    )
    return true
  })
}

const LISTS = 8

/** Reads lists and appends to them, with pauses in which others get their turn. */
async function runSteps(
  tx: Transaction,
  steps: readonly { readonly key: number; readonly append: number | undefined }[],
  random: SimRandom,
  { upsert, concat }: Dialect,
): Promise<ListAction[]> {
  const append = upsert('v', (old, given) => concat(old, "','", given))
  const actions: ListAction[] = []
  for (const { key, append: value } of steps) {
    if (random.chance(0.3)) await new Promise(resolve => setTimeout(resolve, random.below(10)))
    if (value === undefined) {
      const { rows } = await tx.query(sql`SELECT v FROM lists WHERE k = ${key}`)
      actions.push({ type: 'read', key, values: numbersIn(rows[0]?.['v']) })
    } else {
      await tx.execute(`INSERT INTO lists VALUES (?, ?) ${append}`, [key, String(value)])
      actions.push({ type: 'append', key, value })
    }
  }
  return actions
}

function numbersIn(text: unknown): number[] {
  return typeof text === 'string' ? text.split(',').map(Number) : []
}

testEngines('transactions of many clients', async (t: TestContext, engine: Engine) => {
  const { dialect } = engine
  // They give way as soon as they idle, also after conflicts, so that they meet each other.
  const { cluster } = await engine.start(t, { options: ['--transaction-idle-ms', '0'] })
  const leader = await cluster.ready()
  const options = { nodes: cluster.addresses, database: 'bank', timeoutMs: 30_000 }
  const db = createClient(options)
  await db.command({ action: 'create_db', database: 'bank' })
  await db.execute('CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)')
  await db.execute(
    `CREATE TABLE moves (id ${dialect.key}, source INTEGER, target INTEGER, amount INTEGER)`,
  )
  await db.batch(
    Array.from({ length: ACCOUNTS }, (_, id) => sql`INSERT INTO accounts VALUES (${id}, ${START})`),
  )
  const leaderAddress = async (): Promise<string> => {
    const { json } = await get(cluster.addresses[0] ?? '', '/nodes')
    return (json['leader'] as { readonly address: string }).address
  }
  const one = async (statement: string): Promise<unknown> =>
    Object.values((await db.query(statement)).rows[0] ?? {})[0]

  await t.test(
    'a transaction sees what it did itself, and nobody else does before its end',
    async () => {
      await db.transaction(async tx => {
        await tx.execute('UPDATE accounts SET balance = 0 WHERE id = 0')
        assert.equal(
          (await tx.query('SELECT balance AS b FROM accounts WHERE id = 0')).rows[0]?.['b'],
          0,
        )
        assert.equal(await one('SELECT balance FROM accounts WHERE id = 0'), START)
        await tx.execute('UPDATE accounts SET balance = 100 WHERE id = 0')
      })
    },
  )

  await t.test(
    'what fails inside of a savepoint is undone alone, what is thrown undoes all',
    async () => {
      const duplicate = 'INSERT INTO accounts VALUES (0, 0)'
      await db.transaction(async tx => {
        const failed = tx.savepoint(async () => {
          await tx.execute('INSERT INTO moves (amount) VALUES (1)')
          await tx.execute(duplicate)
        })
        await assert.rejects(failed, { code: 'SQL_CONSTRAINT' })
        await tx.savepoint(() => tx.execute('INSERT INTO moves (amount) VALUES (2)'))
      })
      const mine = new Error('mine')
      const thrown = db.transaction(async tx => {
        await tx.execute('INSERT INTO moves (amount) VALUES (3)')
        throw mine
      })
      await assert.rejects(thrown, error => error === mine)
      assert.equal(await one('SELECT group_concat(amount) FROM moves'), '2')
      await db.execute('DELETE FROM moves')
    },
  )

  await t.test('64 at once of five statements all end, and are serializable', async () => {
    await db.execute('CREATE TABLE lists (k INTEGER PRIMARY KEY, v TEXT NOT NULL)')
    const transactions: ListTransaction[] = []
    const workers = Array.from({ length: 64 }, async (_, worker) => {
      const own = createClient({ ...options, nodes: [cluster.addresses[worker % 3] ?? ''] })
      const random = new SimRandom(worker, 'lists')
      for (let round = 1; round <= 2; round += 1) {
        const steps = Array.from({ length: 5 }, (__, at) => ({
          key: random.below(LISTS),
          append: random.chance(0.4) ? worker * 100 + round * 10 + at : undefined,
        }))
        const startMs = performance.now()
        const actions = await own.transaction(tx => runSteps(tx, steps, random, dialect))
        transactions.push({ actions, outcome: 'ok', startMs, endMs: performance.now() })
      }
    })
    await Promise.all(workers)
    const startMs = performance.now()
    const { rows } = await db.query('SELECT k, v FROM lists')
    const all = rows.map((row): ListAction => {
      return { type: 'read', key: Number(row['k']), values: numbersIn(row['v']) }
    })
    transactions.push({ actions: all, outcome: 'ok', startMs, endMs: performance.now() })

    assert.equal(transactions.length, 129)
    assert.deepEqual(checkListAppend(transactions, 'strict-serializable'), [])
    const metrics = await (await fetch(`http://${await leaderAddress()}/metrics`)).text()
    const replays = Number(/^lockstep_transaction_replays_total (\d+)/m.exec(metrics)?.[1])
    assert(replays > 64, `only ${replays} were repeated, so that they hardly met each other`)
  })

  await t.test('money is neither made nor lost, while their leader is killed', async () => {
    const stop = new AbortController()
    let moved = 0
    const errors: unknown[] = []
    const running = Array.from({ length: 8 }, async (_, client) => {
      const own = createClient({ ...options, nodes: [cluster.addresses[client % 3] ?? ''] })
      for (let turn = client; !stop.signal.aborted; turn += 1) {
        try {
          const isMoved = await move(
            own,
            turn % ACCOUNTS,
            (turn * 5 + 1) % ACCOUNTS,
            1 + (turn % 7),
          )
          if (isMoved) moved += 1
        } catch (error) {
          errors.push(error)
          return
        }
      }
    })
    await until(
      () => moved,
      count => count > 30,
    )
    await cluster.kill(leader)
    const before = moved
    await until(
      () => moved,
      count => count > before + 30,
    )
    stop.abort()
    await Promise.all(running)

    assert.deepEqual(errors, [])
    // A sum is a DECIMAL in MariaDB, and comes as text.
    assert.equal(Number(await one('SELECT sum(balance) FROM accounts')), ACCOUNTS * START)
    assert.equal(
      await one('SELECT count(*) FROM moves'),
      moved,
      'each that was told done is there once',
    )
    const balances = await db.query<{ id: number; balance: number; sum: number | string }>(
      `SELECT id, balance, ${START} + coalesce((SELECT sum(amount) FROM moves WHERE target = accounts.id), 0)
       - coalesce((SELECT sum(amount) FROM moves WHERE source = accounts.id), 0) AS sum FROM accounts`,
    )
    for (const { id, balance, sum } of balances.rows)
      assert.equal(balance, Number(sum), `account ${id}`)
  })
})
