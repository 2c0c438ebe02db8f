/** Snapshots between nodes whose data are on MariaDB: joining, and catching up by them. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { MariaDbServer, whyNoMariaDb } from '../fixtures/mariadb-server.ts'
import { DIALECTS } from './dialects.ts'
import { get, post, rolesOf, startCluster } from './kit.ts'
import { untilRoles } from './members-kit.ts'
import {
  fill,
  makeTable,
  nodeAt,
  SMALL_LOG,
  snapshotOf,
  untilEqual,
  untilForgotten,
} from './snapshot-kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }

async function startServer(t: TestContext): Promise<MariaDbServer> {
  const server = await MariaDbServer.start()
  t.after(() => server.stop())
  return server
}

test(
  'a node joins behind a log that was cut, and one that was away too long catches up',
  options,
  async t => {
    const server = await startServer(t)
    const cluster = await startCluster(t, {
      options: SMALL_LOG,
      nodeOptions: nodeId => ['--engine', server.url(`${nodeId}_`)],
    })
    const { leader, follower } = await rolesOf(cluster)
    await makeTable(leader, DIALECTS.mariadb)
    const view = 'CREATE VIEW longest AS SELECT max(length(text)) AS length FROM t'
    await post(leader, '/execute', { database: 'main', sql: view })
    const { nodeId } = nodeAt(cluster, follower)
    await cluster.kill(nodeId)
    const before = Number((await get(leader, '/status')).json['lastIndex'])
    await fill(leader, 300)
    await untilForgotten(leader, before)

    const { address } = await cluster.join('n4')
    await untilRoles(leader, 'n1 voter, n2 voter, n3 voter, n4 voter')
    cluster.restart(nodeId)
    await cluster.ready()

    await untilEqual(cluster)
    for (const each of [address, follower]) {
      const { installed } = snapshotOf(await get(each, '/status'))
      assert.equal(installed, 1, each)
    }
    await fill(leader, 20)
    await untilEqual(cluster)
    const query = { database: 'main', sql: 'SELECT length FROM longest', consistency: 'local' }
    const { json } = await post(address, '/query', query)
    assert.deepEqual(json.results?.[0]?.rows, [[2000]])
    // What it installed is there after a restart too.
    await cluster.kill('n4')
    cluster.restart('n4')
    await cluster.ready()
    await untilEqual(cluster)
  },
)
