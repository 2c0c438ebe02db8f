import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sql } from '../../src/client/sql.ts'
import { createClient, type Client, type Transaction } from '../../src/client/index.ts'
import { failure } from './failure.ts'
import { errorAnswer, okAnswer, ScriptedNode, type Script } from './scripted-node.ts'

const BEGUN: Script = { json: { transaction: 't', node: 'n', durationMs: 1 } }
const step = (result: object = { rowsAffected: 1 }): Script => ({ json: { results: [result] } })

function clientOf(node: ScriptedNode): Client {
  return createClient({ nodes: [node.address], database: 'main' })
}

const statements = (node: ScriptedNode): unknown[] =>
  node.seen.filter(({ path }) => path.endsWith('/execute')).map(({ json }) => json['sql'])

test('a transaction takes all that a client takes', async () => {
  await using node = await ScriptedNode.start()
  const rows = step({ rowsAffected: 0, columns: ['a'], rows: [[{ $integer: '9007199254740993' }]] })
  node.script = [BEGUN, rows, step(), step(), rows, okAnswer()]
  await clientOf(node).transaction(
    async tx => {
      const read = await tx.query<{ a: bigint }>(sql`SELECT ${1n}`)
      assert.deepEqual(read.rows, [{ a: 9007199254740993n }])
      const results = await tx.batch(['A', sql`B ${1}`])
      assert.deepEqual(results[0]?.rowsAffected, 1)
      await tx.command({ action: 'delete', database: 'other', table: 't' })
      assert.equal((await tx.execute('C')).rows.length, 1)
    },
    { database: 'other' },
  )
  const sent = node.seen.slice(1, 5).map(({ path, json: { timeoutMs, ...json } }) => {
    assert.ok(Number(timeoutMs) > 9000)
    return [path, json]
  })
  assert.deepEqual(sent, [
    ['/transactions/t/query', { sql: 'SELECT ?', params: [1] }],
    ['/transactions/t/execute', { statements: [{ sql: 'A' }, { sql: 'B ?', params: [1] }] }],
    ['/transactions/t/execute', { action: 'delete', database: 'other', table: 't' }],
    ['/transactions/t/execute', { sql: 'C' }],
  ])
})

test('statements run one after another, in the order of the calls', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, errorAnswer('OVERLOADED'), step(), step(), step(), okAnswer()]
  await clientOf(node).transaction(tx => Promise.all(['A', 'B', 'C'].map(text => tx.execute(text))))
  assert.deepEqual(statements(node), ['A', 'A', 'B', 'C'])
})

test('a statement that nobody awaits is still part of the transaction, one after its end is not', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, step(), okAnswer()]
  let late: Transaction | undefined
  let pending: Promise<unknown> | undefined
  await clientOf(node).transaction(async tx => {
    await Promise.resolve()
    late = tx
    pending = tx.execute('A')
  })
  await pending
  assert.deepEqual(node.seen.map(({ path }) => path).slice(1), [
    '/transactions/t/execute',
    '/transactions/t/commit',
  ])
  assert(late !== undefined)
  const error = await failure(late.execute('B'))
  assert.equal(error.code, 'INVALID_REQUEST')
  assert.match(error.message, /the transaction has ended/)
  assert.equal(node.seen.length, 3)
})

test('a statement that fails unheard fails the commit, and the transaction is rolled back', async () => {
  const failed = errorAnswer('SQL_CONSTRAINT')
  const works: ((tx: Transaction) => Promise<unknown>)[] = [
    async tx => void tx.execute('A'),
    async tx => {
      void tx.execute('A')
      await tx.query('B')
      await tx.execute('C')
    },
    async tx => {
      void tx.batch(['A'])
      return tx.execute('B').catch(() => {})
    },
    async tx => void tx.command({ action: 'delete', database: 'main', table: 't' }),
  ]
  for (const work of works) {
    await using node = await ScriptedNode.start()
    node.script = [BEGUN, failed, step()]
    const error = await failure(clientOf(node).transaction(work))
    assert.equal(error.code, 'SQL_CONSTRAINT')
    assert.equal(node.seen.at(-1)?.path, '/transactions/t/rollback')
  }
})

test('a statement that fails and is heard is the business of the function', async () => {
  const works: ((tx: Transaction) => Promise<unknown>)[] = [
    tx => tx.execute('A').catch(() => {}),
    tx => Promise.allSettled([tx.execute('A'), tx.execute('B')]),
    async tx => {
      const pending = tx.execute('A')
      await tx.execute('B')
      await assert.rejects(pending)
    },
  ]
  for (const work of works) {
    await using node = await ScriptedNode.start()
    node.script = [BEGUN, errorAnswer('SQL_CONSTRAINT'), okAnswer()]
    await clientOf(node).transaction(work)
    assert.equal(node.seen.at(-1)?.path, '/transactions/t/commit')
  }
})

test('an unheard conflict runs the function again, whatever it throws itself', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, errorAnswer('TRANSACTION_CONFLICT'), BEGUN, step(), okAnswer()]
  let runs = 0
  await clientOf(node).transaction(async tx => {
    runs += 1
    void tx.execute('A')
    await Promise.resolve()
    if (runs === 1) throw new Error('mine')
  })
  assert.equal(runs, 2)
})

test('who goes on asking after the function has returned stops the commit', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, step()]
  let floating: Promise<unknown> | undefined
  const run = clientOf(node).transaction(async tx => {
    floating = (async () => {
      await tx.execute('A')
      await tx.execute('B')
    })()
    floating.catch(() => {})
    await Promise.resolve()
  })
  assert.equal((await failure(run)).code, 'INVALID_REQUEST')
  assert.equal((await failure(floating ?? run)).code, 'INVALID_REQUEST')
  assert.deepEqual(statements(node), ['A'])
  assert.equal(node.seen.at(-1)?.path, '/transactions/t/rollback')
})

test('a savepoint that nobody awaits stops the commit, since its end comes too late', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, step()]
  const run = clientOf(node).transaction(async tx => {
    await tx.execute('A')
    void tx.savepoint(() => tx.execute('B'))
  })
  assert.equal((await failure(run)).code, 'INVALID_REQUEST')
  assert.equal(node.seen.at(-1)?.path, '/transactions/t/rollback')
})

test('what a savepoint could not undo is not committed, whoever catches its error', async () => {
  await using node = await ScriptedNode.start()
  const refused = errorAnswer('SQL_ERROR')
  node.script = [BEGUN, step(), errorAnswer('SQL_CONSTRAINT'), refused, step()]
  const run = clientOf(node).transaction(tx => tx.savepoint(() => tx.execute('A')).catch(() => {}))
  assert.equal((await failure(run)).code, 'SQL_ERROR')
  assert.equal(node.seen.at(-1)?.path, '/transactions/t/rollback')
})

test('a savepoint undoes what failed inside of it, and the transaction goes on', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, step()]
  const mine = new Error('mine')
  await clientOf(node).transaction(async tx => {
    await tx.execute('A')
    const failed = tx.savepoint(async () => {
      await tx.execute('B')
      throw mine
    })
    await assert.rejects(failed, error => error === mine)
    assert.equal(await tx.savepoint(() => tx.savepoint(() => Promise.resolve(7))), 7)
    node.script = [step(), okAnswer()]
    await tx.execute('C')
  })
  const name = 'lockstep_savepoint_'
  assert.deepEqual(statements(node), [
    'A',
    `SAVEPOINT ${name}1`,
    'B',
    `ROLLBACK TO ${name}1`,
    `RELEASE ${name}1`,
    `SAVEPOINT ${name}2`,
    `SAVEPOINT ${name}3`,
    `RELEASE ${name}3`,
    `RELEASE ${name}2`,
    'C',
  ])
})

test('a conflict inside of a savepoint is one of the whole transaction', async () => {
  await using node = await ScriptedNode.start()
  const conflict = errorAnswer('TRANSACTION_CONFLICT')
  node.script = [BEGUN, step(), conflict, BEGUN, step(), step(), step(), okAnswer()]
  await clientOf(node).transaction(tx => tx.savepoint(() => tx.execute('A')))
  const name = 'lockstep_savepoint_1'
  const again = [`SAVEPOINT ${name}`, 'A', `RELEASE ${name}`]
  assert.deepEqual(statements(node), [`SAVEPOINT ${name}`, 'A', ...again])
})

test('who gives up during a statement gets the reason, and the transaction is rolled back', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, 'hang', step()]
  const abort = new AbortController()
  const run = clientOf(node).transaction(tx => tx.execute('A'), { signal: abort.signal })
  while (node.seen.length < 2) await new Promise(setImmediate)
  abort.abort(new Error('enough'))
  await assert.rejects(run, /^Error: enough$/)
  assert.equal(node.seen.at(-1)?.path, '/transactions/t/rollback')
})
