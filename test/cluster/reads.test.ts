/** Reads of every level at every node, of a whole cluster and of what is left of one. */
import assert from 'node:assert/strict'
import { must } from '../../src/base/assert.ts'
import { testEngines } from './engines.ts'
import { type Answer, post, rolesOf, until } from './kit.ts'

const READ = { database: 'app', sql: 'SELECT n FROM t WHERE id = 1' }
const ROUNDS = 20

function numberIn({ status, json }: Answer): unknown {
  assert.equal(status, 200, JSON.stringify(json))
  const [row] = must(json.results?.[0]?.rows)
  return (row as readonly unknown[])[0]
}

testEngines('reads are as new as their level promises', async (t, engine) => {
  const { cluster } = await engine.start(t)
  const { leader, leaderId } = await rolesOf(cluster)
  const others = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
  const write = async (address: string, n: number): Promise<string> => {
    const sql = 'UPDATE t SET n = ? WHERE id = 1'
    const body = { database: 'app', sql, params: [n], timeoutMs: 20_000 }
    const { status, json } = await post(address, '/execute', body)
    assert.equal(status, 200, JSON.stringify(json))
    return must(json.token)
  }
  await post(leader, '/execute', { action: 'create_db', database: 'app' })
  for (const sql of [
    'CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)',
    'INSERT INTO t VALUES (1, 0)',
  ]) {
    assert.equal((await post(leader, '/execute', { database: 'app', sql })).status, 200)
  }

  await t.test('a linearizable read at any node sees what was written at any other', async () => {
    for (let n = 1; n <= ROUNDS; n += 1) {
      await write(must(cluster.addresses[n % 3]), n)
      const read = await post(must(cluster.addresses[(n + 1) % 3]), '/query', READ)
      assert.equal(numberIn(read), n)
    }
  })

  await t.test('a read with a token sees at least that, wherever it is asked', async () => {
    for (let n = 1; n <= ROUNDS; n += 1) {
      const atLeast = await write(must(cluster.addresses[n % 3]), 100 + n)
      const session = { ...READ, consistency: 'session', atLeast }
      const seen = await Promise.all(
        cluster.addresses.map(async address => numberIn(await post(address, '/query', session))),
      )
      assert.deepEqual(seen, [100 + n, 100 + n, 100 + n])
    }
  })

  await t.test('a local read comes to be as new as the last write', async () => {
    const local = { ...READ, consistency: 'local' }
    await write(leader, 200)
    for (const address of cluster.addresses) {
      await until(
        async () => numberIn(await post(address, '/query', local)),
        n => n === 200,
      )
    }
  })

  await t.test('a leader that slept reads nothing old when it wakes up', async () => {
    await cluster.kill(leaderId, 'SIGSTOP')
    // It lies in the socket until the node goes on.
    const asked = post(leader, '/query', { ...READ, timeoutMs: 20_000 })
    const other = must(others[0]).address
    const writing = until(
      () => write(other, 300).catch(() => undefined),
      token => token !== undefined,
      40_000,
    )
    await writing
    await cluster.kill(leaderId, 'SIGCONT')
    const { status, json } = await asked
    if (status === 200) assert.equal(numberIn({ status, json }), 300)
    else assert.equal(json.error?.fate, 'not-applied')
    await cluster.ready()
    assert.equal(numberIn(await post(leader, '/query', READ)), 300)
  })

  await t.test('who is alone says what it knows only to those who want no more', async () => {
    const left = must(others[0])
    const atLeast = await write(left.address, 400)
    const session = { ...READ, consistency: 'session', atLeast, timeoutMs: 2000 }
    assert.equal(numberIn(await post(left.address, '/query', session)), 400)
    for (const { nodeId } of cluster.nodes) {
      if (nodeId !== left.nodeId) await cluster.kill(nodeId)
    }
    const ask = (more: object): Promise<Answer> =>
      post(left.address, '/query', { ...READ, timeoutMs: 2000, ...more })
    assert.equal(numberIn(await ask({ consistency: 'local' })), 400)
    assert.equal(numberIn(await ask({ consistency: 'session', atLeast })), 400)
    const bounded = await until(
      () => ask({ consistency: 'local', maxLagMs: 100 }),
      ({ status }) => status !== 200,
    )
    assert.equal(bounded.json.error?.code, 'STALE_READ')
    const linearizable = await until(
      () => ask({ consistency: 'linearizable' }),
      ({ status }) => status !== 200,
    )
    assert.equal(linearizable.json.error?.fate, 'not-applied')
  })
})
