/** Errors of one node's disk or memory: never taken for a divergence, and told as what they are. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startFaultyCluster } from './faulty-nodes.ts'
import { get, post, rolesOf, until } from './kit.ts'

const IOERR_WRITE = 778

test('an I/O error of SQLite fails a write as not applied on the leader, and delays a follower', async t => {
  const { cluster, setFaults } = await startFaultyCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', { action: 'create_db', database: 'app' })
  await post(leader, '/execute', { database: 'app', sql: 'CREATE TABLE t (a INTEGER)' })
  const follower = cluster.nodes.find(({ nodeId }) => nodeId !== leaderId)
  assert(follower !== undefined)

  setFaults(follower.nodeId, [{ type: 'sql-error', find: 'VALUES (1)', errcode: IOERR_WRITE }])
  const first = await post(leader, '/execute', { database: 'app', sql: 'INSERT INTO t VALUES (1)' })
  assert.equal(first.status, 200)
  await until(
    async () => (await get(follower.address, '/status')).json,
    ({ lastError }) => /SQLite code 778/.test(String(lastError)),
  )
  setFaults(follower.nodeId, [])
  await until(
    async () => (await get(follower.address, '/status')).json,
    ({ appliedIndex }) => Number(appliedIndex) >= (first.json.index ?? Infinity),
  )

  setFaults(leaderId, [{ type: 'sql-error', find: 'VALUES (2)', errcode: IOERR_WRITE }])
  const second = await post(leader, '/execute', {
    database: 'app',
    sql: 'INSERT INTO t VALUES (2)',
  })
  assert.equal(second.json.error?.code, 'NODE_FAULT')
  assert.equal(second.json.error?.fate, 'not-applied')
  setFaults(leaderId, [])
  const rows = await until(
    () => post(follower.address, '/query', { database: 'app', sql: 'SELECT a FROM t' }),
    ({ status }) => status === 200,
  )
  assert.deepEqual(rows.json.results?.[0]?.rows, [[1]])
  for (const address of cluster.addresses) {
    const { divergence, counters } = (await get(address, '/status')).json
    assert.equal(divergence, null)
    assert.equal((counters as Record<string, number>)['divergences'], 0)
  }
})

test('a leader whose log can not be flushed ends, and the others go on without a loss', async t => {
  const { cluster, setFaults } = await startFaultyCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', { action: 'create_db', database: 'app' })
  await post(leader, '/execute', { database: 'app', sql: 'CREATE TABLE t (a INTEGER)' })
  setFaults(leaderId, [{ type: 'flush', path: '/log/', code: 'EIO' }])
  const insert = { database: 'app', sql: 'INSERT INTO t VALUES (1)' }
  // Whatever it says of this one, or nothing at all: the others may have it.
  await post(leader, '/execute', insert).catch(() => undefined)
  await until(
    () =>
      get(leader, '/health/live').then(
        () => 'alive',
        () => 'gone',
      ),
    state => state === 'gone',
  )
  const others = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
  const written = await until(
    () => post(others[0]?.address ?? '', '/execute', insert),
    ({ status }) => status === 200,
  )
  assert.equal(written.status, 200)
})

test('a leader whose disk flushes slower than an election gives up leadership, and the others take writes', async t => {
  const { cluster, setFaults } = await startFaultyCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', { action: 'create_db', database: 'app' })
  await post(leader, '/execute', { database: 'app', sql: 'CREATE TABLE t (a INTEGER)' })
  const others = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
  const [other] = others
  assert(other !== undefined)
  setFaults(leaderId, [{ type: 'flush', path: '/log/', delayMs: 4000 }])
  const insert = (value: number): object => ({
    database: 'app',
    sql: `INSERT INTO t VALUES (${value})`,
  })
  const [bare, named] = await Promise.all([
    post(leader, '/execute', insert(1)),
    post(leader, '/execute', insert(1), { 'idempotency-key': 'slow' }),
  ])
  // The others have it on disk, and the next leader tells what became of it: only by its id.
  assert.equal(named.status, 200, JSON.stringify(named.json))
  if (bare.status !== 200) {
    const { code, fate } = bare.json.error ?? {}
    assert.deepEqual([code, fate], ['LEADERSHIP_LOST', 'unknown'])
  }

  const moved = await until(
    async () => (await get(other.address, '/nodes')).json['leader'] as { nodeId: string } | null,
    found => found !== null && found.nodeId !== leaderId,
  )
  assert(others.some(({ nodeId }) => nodeId === moved?.nodeId))
  for (let value = 2; value <= 20; value += 1) {
    const answer = await post(other.address, '/execute', insert(value))
    assert.equal(answer.status, 200, JSON.stringify(answer.json))
  }
  // It was slow, not gone: it goes on following once its disk is well.
  setFaults(leaderId, [])
  const rows = await until(
    () =>
      post(leader, '/query', {
        database: 'app',
        sql: 'SELECT count(*) FROM t WHERE a > 1',
        consistency: 'local',
      }),
    ({ json }) => JSON.stringify(json.results?.[0]?.rows) === '[[19]]',
  )
  assert.equal(rows.status, 200)
  assert(cluster.isRunning(leaderId))
})
