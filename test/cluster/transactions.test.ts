/** Interactive transactions over real HTTP, on real processes. */
import assert from 'node:assert/strict'
import { testEngines } from './engines.ts'
import { type Answer, get, post, rolesOf, until } from './kit.ts'

const OPTIONS = ['--transaction-idle-timeout-ms', '600']

class Transaction {
  readonly #address: string
  readonly path: string

  private constructor(address: string, path: string) {
    this.#address = address
    this.path = path
  }

  static async begin(address: string): Promise<Transaction> {
    const { status, json } = await post(address, '/transactions', { database: 'app' })
    assert.equal(status, 200, JSON.stringify(json))
    return new Transaction(address, `/transactions/${String(json['transaction'])}`)
  }

  /** The same transaction, asked at another node. */
  at(address: string): Transaction {
    return new Transaction(address, this.path)
  }

  execute(sql: string, params: readonly unknown[] = []): Promise<Answer> {
    return post(this.#address, `${this.path}/execute`, { sql, params })
  }

  query(sql: string): Promise<Answer> {
    return post(this.#address, `${this.path}/query`, { sql })
  }

  commit(): Promise<Answer> {
    return post(this.#address, `${this.path}/commit`, '')
  }

  rollback(): Promise<Answer> {
    return post(this.#address, `${this.path}/rollback`, {})
  }
}

function rowsOf({ status, json }: Answer): unknown {
  assert.equal(status, 200, JSON.stringify(json))
  return json.results?.[0]?.rows
}

function codeOf({ json }: Answer): string {
  return json.error?.code ?? 'ok'
}

testEngines('interactive transactions work at every node of a cluster', async (t, engine) => {
  const { cluster } = await engine.start(t, { options: OPTIONS })
  const { leader, follower } = await rolesOf(cluster)
  const write = (sql: string): Promise<Answer> => post(leader, '/execute', { database: 'app', sql })
  const read = async (sql: string): Promise<unknown> =>
    rowsOf(await post(follower, '/query', { database: 'app', sql }))
  await post(leader, '/execute', { action: 'create_db', database: 'app' })
  await write('CREATE TABLE accounts (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL)')
  await write('INSERT INTO accounts VALUES (1, 100), (2, 100)')

  await t.test(
    'a transaction reads its own writes; nobody else does before it commits',
    async () => {
      const transfer = await Transaction.begin(follower)
      await transfer.execute('UPDATE accounts SET amount = amount - ? WHERE id = 1', [30])
      // Any node carries its calls to the leader.
      const there = transfer.at(leader)
      await there.execute('UPDATE accounts SET amount = amount + 30 WHERE id = 2')
      const own = await transfer.query('SELECT amount FROM accounts ORDER BY id')
      assert.deepEqual(rowsOf(own), [[70], [130]])
      assert.deepEqual(await read('SELECT amount FROM accounts ORDER BY id'), [[100], [100]])
      const committed = await transfer.commit()
      assert.equal(committed.status, 200)
      assert.equal(typeof committed.json.token, 'string')
      assert.deepEqual(await read('SELECT amount FROM accounts ORDER BY id'), [[70], [130]])

      const again = await there.commit()
      assert.equal(again.status, 200, 'who commits again hears of the first time')
      assert.equal(again.json['repeated'], true)
      assert.deepEqual(await read('SELECT CAST(sum(amount) AS SIGNED) FROM accounts'), [[200]])
    },
  )

  await t.test('savepoints work, and a failed statement ends nothing', async () => {
    const transaction = await Transaction.begin(leader)
    await transaction.execute('SAVEPOINT s')
    await transaction.execute('DELETE FROM accounts')
    assert.equal(
      codeOf(await transaction.execute('INSERT INTO nowhere VALUES (1)')),
      'UNKNOWN_TABLE',
    )
    await transaction.execute('ROLLBACK TO s')
    await transaction.execute('UPDATE accounts SET amount = 100')
    assert.equal((await transaction.commit()).status, 200)
    assert.deepEqual(await read('SELECT CAST(sum(amount) AS SIGNED), count(*) FROM accounts'), [
      [200, 2],
    ])
  })

  await t.test('who is overtaken in what it read is told to run it again', async () => {
    const transaction = await Transaction.begin(leader)
    await transaction.query('SELECT amount FROM accounts WHERE id = 1')
    await write('UPDATE accounts SET amount = 90 WHERE id = 1')
    const { json } = await transaction.execute('UPDATE accounts SET amount = 91 WHERE id = 1')
    assert.equal(json.error?.code, 'TRANSACTION_CONFLICT')
    assert.equal(json.error.retry, 'transaction')
    await write('UPDATE accounts SET amount = 100 WHERE id = 1')
  })

  await t.test('a rollback, and a client that went away, leave nothing', async () => {
    const transaction = await Transaction.begin(follower)
    await transaction.execute('DELETE FROM accounts')
    assert.equal((await transaction.rollback()).status, 200)
    const left = await Transaction.begin(follower)
    await left.execute('DELETE FROM accounts')
    const status = async (): Promise<Answer> => get(leader, '/status')
    await until(status, ({ json }) => json['openTransactions'] === 0)
    assert.equal(codeOf(await left.commit()), 'TRANSACTION_EXPIRED')
    assert.deepEqual(await read('SELECT count(*) FROM accounts'), [[2]])
  })

  await t.test('64 that work on the same rows at once all finish, and none is lost', async () => {
    await write('CREATE TABLE counters (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)')
    await write('INSERT INTO counters VALUES (1, 0), (2, 0)')
    const run = async (worker: number): Promise<number> => {
      for (let attempt = 1; ; attempt += 1) {
        const transaction = await Transaction.begin(worker % 2 === 0 ? leader : follower)
        const answers = [await transaction.query('SELECT n FROM counters WHERE id = 1')]
        const [[n] = []] = (answers[0]?.json.results?.[0]?.rows ?? []) as number[][]
        const next = (n ?? 0) + 1
        for (const id of [1, 2]) {
          answers.push(
            await transaction.execute(`UPDATE counters SET n = ${next} WHERE id = ${id}`),
          )
        }
        answers.push(await transaction.query('SELECT n FROM counters'))
        answers.push(
          await transaction.execute('UPDATE accounts SET amount = amount + 1 WHERE id = 1'),
        )
        const committed = await transaction.commit()
        if (committed.status === 200) return attempt
        assert.equal(committed.json.error?.retry, 'transaction', JSON.stringify(committed.json))
      }
    }
    const attempts = await Promise.all(Array.from({ length: 64 }, (_, worker) => run(worker)))
    assert.deepEqual(await read('SELECT n FROM counters'), [[64], [64]])
    assert.deepEqual(await read('SELECT CAST(sum(amount) AS SIGNED) FROM accounts'), [[264]])
    t.diagnostic(`${attempts.reduce((sum, count) => sum + count, 0)} attempts for 64 transactions`)
  })

  await t.test('a change of leader ends it with an error that says run it again', async () => {
    const transaction = await Transaction.begin(leader)
    await transaction.execute('DELETE FROM accounts')
    await post(leader, '/transfer', {})
    const status = async (): Promise<Answer> => get(leader, '/status')
    await until(status, ({ json }) => json['role'] === 'follower' && json['leader'] !== null)
    const answer = await until(
      () => transaction.execute('SELECT 1'),
      ({ json }) => json.error?.code !== 'NO_LEADER' && json.error?.code !== 'NOT_LEADER',
    )
    assert.equal(codeOf(answer), 'TRANSACTION_LOST')
    assert.equal(answer.json.error?.retry, 'transaction')
    assert.equal(codeOf(await transaction.commit()), 'TRANSACTION_LOST')
    assert.deepEqual(await read('SELECT count(*) FROM accounts'), [[2]])
  })
})
