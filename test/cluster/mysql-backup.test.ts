/** Backups of nodes whose data are on MariaDB, what is made of them, and a quorum that is lost. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { MariaDbServer, queryServer, whyNoMariaDb } from '../fixtures/mariadb-server.ts'
import { DIALECTS } from './dialects.ts'
import { get, lockstep, makeDirectory, post, rolesOf, startCluster, until } from './kit.ts'
import { fill, makeTable, untilEqual } from './snapshot-kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }
const SURE = '--i-know-that-acknowledged-writes-may-be-lost'
const COUNT = { database: 'main', sql: 'SELECT count(*) FROM t', consistency: 'linearizable' }

async function startServer(t: TestContext): Promise<MariaDbServer> {
  const server = await MariaDbServer.start()
  t.after(() => server.stop())
  return server
}

async function digestOf(address: string): Promise<unknown> {
  const { json } = await get(address, '/digest?database=main&consistency=linearizable')
  return json['digest']
}

async function countAt(address: string): Promise<unknown> {
  return (await post(address, '/query', COUNT)).json.results?.[0]?.rows?.[0]
}

test('a backup of MariaDB nodes is SQL, and a new cluster begins with it', options, async t => {
  const server = await startServer(t)
  const directory = makeDirectory(t)
  const cluster = await startCluster(t, {
    nodeOptions: nodeId => ['--engine', server.url(`${nodeId}_`)],
  })
  const { leader } = await rolesOf(cluster)
  await makeTable(leader, DIALECTS.mariadb)
  await fill(leader, 60)
  const row = { database: 'main', sql: "INSERT INTO t (text) VALUES ('once')" }
  const key = { 'idempotency-key': 'k1' }
  const first = await post(leader, '/execute', row, key)
  assert.equal(first.status, 200, JSON.stringify(first.json))
  await post(leader, '/execute', { database: 'main', sql: 'DELETE FROM t WHERE id = 61' })
  const before = await digestOf(leader)
  const target = join(directory, 'backup')

  const made = await lockstep(['backup', target, '--nodes', cluster.addresses.join(',')])

  assert.equal(made.code, 0, made.output)
  assert.deepEqual(readdirSync(target).toSorted(), ['backup.json', 'lockstep.sql', 'main.sql'])
  await cluster.stop('SIGTERM')

  await t.test('a server with databases of the prefix is refused', async () => {
    const data = join(directory, 'refused')
    const where = ['--data', data, '--node-id', 'r1']
    const used = await lockstep(['restore', target, ...where, '--engine', server.url('n1_')])
    assert.notEqual(used.code, 0)
    assert.match(used.output, /n1_lockstep.* already; choose another prefix/)
    const none = await lockstep(['restore', target, ...where])
    assert.match(none.output, /name the server of this one by --engine/)
    const left = await lockstep(['restore', target, ...where, '--engine', server.url('r1_')])
    assert.equal(left.code, 0, left.output)
  })

  await t.test('the restored node has the data, and others join it', async () => {
    const restored = await startCluster(t, {
      nodes: 1,
      backup: target,
      nodeOptions: nodeId => ['--engine', server.url(`re_${nodeId}_`)],
    })
    const [address = ''] = restored.addresses
    assert.equal(await digestOf(address), before)
    const joined = await restored.join('n2')
    await until(
      () => get(joined.address, '/health/ready').catch(() => undefined),
      answer => answer?.status === 200,
    )
    // What the backup holds is not done a second time, and no id is given twice.
    const again = await post(address, '/execute', row, key)
    assert.equal(again.status, 200, JSON.stringify(again.json))
    assert.deepEqual(await countAt(address), [60])
    await post(address, '/execute', row)
    const query = { ...COUNT, sql: 'SELECT max(id) FROM t' }
    const { json } = await post(joined.address, '/query', query)
    assert.deepEqual(json.results?.[0]?.rows, [[62]])
    await untilEqual(restored)
  })

  await t.test('a single database can be loaded by the client of a server', async () => {
    const text = readFileSync(join(target, 'main.sql'), 'utf8')
    await queryServer(server, `CREATE DATABASE plain; USE plain; ${text}`)
    const rows = await queryServer(server, 'SELECT count(*) AS count FROM plain.t')
    assert.deepEqual(JSON.stringify(rows), '[{"count":60}]')
  })
})

test('with two of three MariaDB nodes lost the third goes on alone', options, async t => {
  const server = await startServer(t)
  const cluster = await startCluster(t, {
    nodeOptions: nodeId => ['--engine', server.url(`${nodeId}_`)],
  })
  const { leader, leaderId } = await rolesOf(cluster)
  await makeTable(leader, DIALECTS.mariadb)
  await fill(leader, 20)
  await untilEqual(cluster)
  const [left, lost] = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
  assert(left !== undefined && lost !== undefined)
  for (const nodeId of [left.nodeId, leaderId, lost.nodeId]) await cluster.kill(nodeId)

  const unnamed = await lockstep(['recover', '--data', left.directory, SURE])
  const engine = server.url(`${left.nodeId}_`)
  const recovered = await lockstep(['recover', '--data', left.directory, SURE], {
    LOCKSTEP_ENGINE: engine,
  })

  assert.match(unnamed.output, /on a MySQL server: name it by --engine/)
  assert.equal(recovered.code, 0, recovered.output)
  assert.match(recovered.output, new RegExp(`Node ${left.nodeId} is the only voter`))
  cluster.restart(left.nodeId)
  await until(
    () => countAt(left.address).catch(() => undefined),
    row => Array.isArray(row) && row[0] === 20,
  )
  await fill(left.address, 20)
  assert.deepEqual(await countAt(left.address), [40])
})
