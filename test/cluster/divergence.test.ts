import assert from 'node:assert/strict'
import { globSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { get, post, rolesOf, startCluster, until } from './kit.ts'

// A row is taken away behind the back of one follower, as a bad disk or a curious hand might do.
// Nothing in the log tells of it, so only the comparison of outcomes can.
test('a follower that computes something else says so, stops serving, and disturbs nobody', async t => {
  const cluster = await startCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', { action: 'create_db', database: 'app' })
  const create = 'CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)'
  await post(leader, '/execute', { database: 'app', sql: create })
  const fill = 'INSERT INTO accounts VALUES (1, 10), (2, 20), (3, 30)'
  const filled = await post(leader, '/execute', { database: 'app', sql: fill })
  const odd = cluster.nodes.find(({ nodeId }) => nodeId !== leaderId)
  assert(odd !== undefined)
  const read = {
    database: 'app',
    sql: 'SELECT 1',
    consistency: 'session',
    atLeast: filled.json.token,
  }
  assert.equal((await post(odd.address, '/query', read)).status, 200)
  await cluster.kill(odd.nodeId, 'SIGTERM')
  const [file] = globSync(join(odd.directory, 'group-1', 'engine', '**', 'db-*.sqlite'))
  assert(file !== undefined)
  const database = new DatabaseSync(file)
  database.exec('DELETE FROM accounts WHERE id = 2')
  database.close()
  cluster.restart(odd.nodeId)
  await cluster.ready()

  const update = 'UPDATE accounts SET balance = balance + 1 WHERE id >= 2'
  const written = await post(leader, '/execute', { database: 'app', sql: update })

  assert.equal(written.json.results?.[0]?.rowsAffected, 2)
  const status = await until(
    async () => (await get(odd.address, '/status')).json,
    ({ divergence }) => divergence !== null && divergence !== undefined,
  )
  const divergence = status['divergence'] as Record<string, unknown>
  assert.equal(divergence['index'], written.json.index)
  assert.equal(divergence['database'], 'app')
  assert.equal(divergence['sql'], update)
  assert.notEqual(divergence['expected'], divergence['actual'])
  assert.equal((await get(odd.address, '/health/ready')).status, 503)
  const local = { database: 'app', sql: 'SELECT 1', consistency: 'local' }
  assert.equal((await post(odd.address, '/query', local)).json.error?.code, 'DIVERGED')
  // The others go on, also without the third vote's data: its log is sound and still counts.
  const again = await post(leader, '/execute', { database: 'app', sql: update })
  assert.equal(again.status, 200)
  const members = (await get(leader, '/nodes')).json['nodes'] as Record<string, unknown>[]
  const seen = await until(
    async () =>
      ((await get(leader, '/nodes')).json['nodes'] as Record<string, unknown>[]).find(
        ({ nodeId }) => nodeId === odd.nodeId,
      ),
    member => member?.['isDiverged'] === true,
  )
  assert(seen !== undefined && members.length === 3)
})
