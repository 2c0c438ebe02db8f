/** Nodes that are killed, as a process, in the middle of a schema change on their MariaDB server. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { behindItsBack } from '../engine/mysql/kit.ts'
import { MariaDbServer, whyNoMariaDb } from '../fixtures/mariadb-server.ts'
import { ServerProxy } from '../fixtures/server-proxy.ts'
import { get, post, rolesOf, startCluster, until } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }

let server: MariaDbServer

before(async () => {
  if (missing === undefined) server = await MariaDbServer.start()
})
after(() => server?.stop())

test('nodes that are killed when a schema change has run apply it once', options, async t => {
  const proxies = new Map<string, ServerProxy>()
  for (const nodeId of ['n1', 'n2', 'n3']) {
    const proxy = await ServerProxy.start(server.port)
    t.after(() => proxy.stop())
    proxies.set(nodeId, proxy)
  }
  const proxyOf = (nodeId: string): ServerProxy => proxies.get(nodeId) ?? assert.fail(nodeId)
  const cluster = await startCluster(t, {
    nodeOptions: nodeId => ['--engine', proxyOf(nodeId).url(`${nodeId}_`)],
  })
  const columnsOf = async (nodeId: string): Promise<string> => {
    const rows = await behindItsBack(
      server.port,
      'SELECT GROUP_CONCAT(column_name ORDER BY column_name) FROM information_schema.columns ' +
        `WHERE table_schema = '${nodeId}_app'`,
    )
    return String(rows[0]?.[0])
  }
  const { leader } = await rolesOf(cluster)
  await post(leader, '/execute', { action: 'create_db', database: 'app' })
  const create = 'CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, name TEXT)'
  assert.equal((await post(leader, '/execute', { database: 'app', sql: create })).status, 200)

  for (const [role, column] of [
    ['leader', 'one'],
    ['follower', 'two'],
  ] as const) {
    const roles = await rolesOf(cluster)
    const isKilled = (nodeId: string): boolean =>
      (nodeId === roles.leaderId) === (role === 'leader')
    const { nodeId } = cluster.nodes.find(each => isKilled(each.nodeId)) ?? assert.fail(role)
    const before = await columnsOf(nodeId)
    const held = proxyOf(nodeId).holdAt('ALTER TABLE t', true)
    const sql = `ALTER TABLE t ADD COLUMN ${column} INT`
    // Whoever leads when it is killed can't answer any more.
    const answering = post(roles.leader, '/execute', { database: 'app', sql }).catch(
      () => undefined,
    )
    await held
    await until(
      () => columnsOf(nodeId),
      columns => columns !== before,
    )
    await cluster.kill(nodeId, 'SIGKILL')
    proxyOf(nodeId).cut()
    const answer = await answering
    if (role === 'follower') assert.equal(answer?.status, 200, JSON.stringify(answer?.json))
    cluster.restart(nodeId)
    await cluster.ready()
  }

  // Its entry is the first that carries what the change came to.
  const { leader: last } = await rolesOf(cluster)
  const insert = { database: 'app', sql: 'INSERT INTO t (one, two) VALUES (1, 2)' }
  const { status, json } = await post(last, '/execute', insert)
  assert.equal(status, 200, JSON.stringify(json))
  const digests = new Set<unknown>()
  for (const { nodeId, address } of cluster.nodes) {
    await until(
      () => get(address, '/status'),
      ({ json: { appliedIndex } }) => Number(appliedIndex) >= Number(json.index),
    )
    assert.equal(await columnsOf(nodeId), 'id,name,one,two')
    digests.add((await get(address, '/digest?database=app')).json['digest'])
    assert.equal((await get(address, '/status')).json['divergence'], null)
  }
  assert.equal(digests.size, 1)
})
