import assert from 'node:assert/strict'
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import type { LocalCluster, LocalNode } from '../../src/cli/local-cluster.ts'
import { startFaultyCluster } from './faulty-nodes.ts'
import { type Dialect, DIALECTS } from './dialects.ts'
import { testEngines } from './engines.ts'
import { get, lockstep, post, rolesOf, startCluster, until } from './kit.ts'

const CREATE = { action: 'create_db', database: 'app' }
const FILL = 'INSERT INTO accounts VALUES (1, 10), (2, 20), (3, 30)'

async function fill(leader: string, { key }: Dialect = DIALECTS.sqlite): Promise<void> {
  await post(leader, '/execute', CREATE)
  const table = `CREATE TABLE accounts (id ${key}, balance INTEGER NOT NULL)`
  await post(leader, '/execute', { database: 'app', sql: table })
  await post(leader, '/execute', { database: 'app', sql: FILL })
}

function nodeOf(cluster: LocalCluster, isWanted: (node: LocalNode) => boolean): LocalNode {
  const node = cluster.nodes.find(isWanted)
  assert(node !== undefined)
  return node
}

async function statusOf(address: string): Promise<Record<string, unknown>> {
  return (await get(address, '/status')).json
}

/** Waits until a node has healed, and tells how its status was. */
async function healed(address: string): Promise<Record<string, unknown>> {
  return until(
    () => statusOf(address),
    ({ counters, state }) => {
      const { heals = 0 } = counters as Record<string, number>
      return heals > 0 && state === 'ready'
    },
    40_000,
  )
}

async function digestsOf(cluster: LocalCluster): Promise<unknown[]> {
  const answers = await Promise.all(
    cluster.addresses.map(address => get(address, '/digest?database=app')),
  )
  return answers.map(({ json }) => json['digest'])
}

async function sumOf(address: string): Promise<unknown> {
  const read = { database: 'app', sql: 'SELECT CAST(sum(balance) AS SIGNED) FROM accounts' }
  const { json } = await post(address, '/query', read)
  const [row] = json.results?.[0]?.rows ?? []
  return (row as readonly unknown[] | undefined)?.[0]
}

// A row is taken away behind the back of one follower, as a bad disk or a curious hand might do.
// Nothing in the log tells of it, so only the comparison of outcomes can.
testEngines(
  'a follower that computes something else takes the data of another',
  async (t, engine) => {
    const { cluster, changeBehind } = await engine.start(t)
    const { leader, leaderId } = await rolesOf(cluster)
    await fill(leader)
    const odd = nodeOf(cluster, ({ nodeId }) => nodeId !== leaderId)
    await changeBehind(odd.nodeId, 'app', 'DELETE FROM accounts WHERE id = 2')

    const update = 'UPDATE accounts SET balance = balance + 1 WHERE id >= 2'
    const written = await post(leader, '/execute', { database: 'app', sql: update })
    assert.equal(written.json.results?.[0]?.rowsAffected, 2)
    const status = await healed(odd.address)

    assert.equal(status['divergence'], null)
    assert.equal((status['counters'] as Record<string, number>)['divergences'], 1)
    assert.equal((await statusOf(leader))['divergence'], null)
    assert.equal(new Set(await digestsOf(cluster)).size, 1)
    assert.equal(await sumOf(odd.address), 62)
    // Its logger has told entry, statement and both outcomes.
    const log = readFileSync(join(odd.directory, '..', `${odd.nodeId}.log`), 'utf8')
    const line = log.split('\n').find(each => each.includes('computed something else'))
    for (const fact of [`"index":${written.json.index}`, update, 'expected', 'actual']) {
      assert(line?.includes(fact), `${fact} is not in ${line}`)
    }
  },
)

testEngines(
  'a leader that computes something else is deposed, and the others count',
  async (t, engine) => {
    const { cluster, setFaults } = await startFaultyCluster(t, { engine })
    const { leader, leaderId } = await rolesOf(cluster)
    await fill(leader, engine.dialect)
    setFaults(leaderId, [{ type: 'sql', find: '5 + 5', replace: '5 + 6' }])
    const sql = 'INSERT INTO accounts (balance) VALUES (5 + 5) RETURNING balance'
    await post(leader, '/execute', { database: 'app', sql })
    setFaults(leaderId, [])

    const status = await healed(leader)
    assert.equal(status['divergence'], null)
    const after = await until(
      () => cluster.leader(),
      now => now !== undefined && now !== leaderId,
    )
    assert.notEqual(after, leaderId)
    assert.equal(new Set(await digestsOf(cluster)).size, 1)
    for (const address of cluster.addresses) assert.equal(await sumOf(address), 70)
  },
)

testEngines(
  'two nodes that differ write nothing until an operator trusts one',
  async (t, engine) => {
    const { cluster, setFaults } = await startFaultyCluster(t, { engine, nodes: 2 })
    const { leader, leaderId } = await rolesOf(cluster)
    await fill(leader, engine.dialect)
    const odd = nodeOf(cluster, ({ nodeId }) => nodeId !== leaderId)
    setFaults(odd.nodeId, [{ type: 'sql', find: '5 + 5', replace: '5 + 6' }])
    const sql = 'INSERT INTO accounts (balance) VALUES (5 + 5) RETURNING balance'
    const written = await post(leader, '/execute', { database: 'app', sql })
    const refused = await until(
      () => post(leader, '/execute', { database: 'app', sql: FILL.replaceAll('(', '(1') }),
      ({ json }) => json.error?.code === 'DISPUTED',
    )
    assert.deepEqual([refused.status, refused.json.error?.fate], [503, 'not-applied'])
    const { dispute } = await statusOf(leader)
    assert.deepEqual(dispute, { index: written.json.index, isTie: true, subject: 'outcome' })
    const metrics = await (await fetch(`http://${leader}/metrics`)).text()
    assert.match(metrics, /^lockstep_is_disputed 1$/m)
    const local = { database: 'app', sql: 'SELECT 1', consistency: 'local' }
    assert.equal((await post(odd.address, '/query', local)).json.error?.code, 'DIVERGED')
    setFaults(odd.nodeId, [])

    const wrong = await lockstep(['trust', 'n9', '--nodes', leader])
    assert.notEqual(wrong.code, 0)
    assert.match(wrong.output, /no member n9/)
    const { code, output } = await lockstep(['trust', leaderId, '--nodes', leader])
    assert.equal(code, 0, output)
    await healed(odd.address)
    await until(
      () => post(leader, '/execute', { database: 'app', sql }),
      ({ status }) => status === 200,
    )
    assert.equal(new Set(await digestsOf(cluster)).size, 1)
    const nothing = await lockstep(['trust', leaderId, '--nodes', leader])
    assert.match(nothing.output, /nothing to decide/)
  },
)

test('a garbled file of a follower is no divergence, and is replaced by the data of another', async t => {
  const cluster = await startCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await fill(leader)
  const many = `WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n LIMIT 5000)
    INSERT INTO accounts SELECT i, 1 FROM n`
  await post(leader, '/execute', { database: 'app', sql: many })
  const hurt = nodeOf(cluster, ({ nodeId }) => nodeId !== leaderId)
  await cluster.kill(hurt.nodeId, 'SIGTERM')
  const [file] = globSync(join(hurt.directory, 'group-1', 'engine', '**', 'db-*.sqlite'))
  assert(file !== undefined)
  // All of its pages must be in the file for the garbled ones to be read.
  const database = new DatabaseSync(file)
  database.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  database.close()
  const bytes = readFileSync(file)
  bytes.fill(0xee, 4096 * 3)
  writeFileSync(file, bytes)
  cluster.restart(hurt.nodeId)

  const sql = 'UPDATE accounts SET balance = balance + 1'
  await until(
    () => post(leader, '/execute', { database: 'app', sql }),
    ({ status }) => status === 200,
  )
  const status = await until(
    () => statusOf(hurt.address).catch((): Record<string, unknown> => ({})),
    ({ snapshot, state }) =>
      state === 'ready' && (snapshot as { installed?: number } | undefined)?.installed === 1,
    40_000,
  )
  assert.equal(status['divergence'], null)
  assert.equal((status['counters'] as Record<string, number>)['divergences'], 0)
  assert.equal(new Set(await digestsOf(cluster)).size, 1)
})
