/** Clusters whose data are on MariaDB servers: one for all nodes, and one for each. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { freePorts, type LocalCluster } from '../../src/cli/local-cluster.ts'
import { type Client, createClient } from '../../src/client/client.ts'
import { MariaDbServer, whyNoMariaDb } from '../fixtures/mariadb-server.ts'
import { get, post, rolesOf, startCluster, until } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }
const WRITERS = 8

async function startServer(t: TestContext): Promise<MariaDbServer> {
  const server = await MariaDbServer.start()
  t.after(() => server.stop())
  return server
}

/** Writes rows one by one until it is told to stop; gives the names that were acknowledged. */
function keepWriting(client: Client): { stop(): Promise<readonly string[]> } {
  const acknowledged: string[] = []
  const state = { isStopped: false }
  const write = async (writer: number): Promise<void> => {
    for (let count = 0; !state.isStopped; count++) {
      const name = `${writer}-${count}`
      const params = [name]
      await client.execute('INSERT INTO t (name) VALUES (?)', params, {
        database: 'a',
        timeoutMs: 60_000,
      })
      acknowledged.push(name)
    }
  }
  const writers = Promise.all(Array.from({ length: WRITERS }, (_, writer) => write(writer)))
  return {
    stop: async () => {
      state.isStopped = true
      await writers
      return acknowledged
    },
  }
}

/** Every acknowledged row is there once, on all nodes alike. */
async function expectSound(
  cluster: LocalCluster,
  client: Client,
  acknowledged: readonly string[],
): Promise<void> {
  const { rows } = await client.query<{ name: string }>('SELECT name FROM t', [], {
    database: 'a',
    timeoutMs: 60_000,
  })
  const names = rows.map(({ name }) => name)
  assert.equal(new Set(names).size, names.length, 'no row is there twice')
  const there = new Set(names)
  assert.deepEqual(
    acknowledged.filter(name => !there.has(name)),
    [],
  )
  const token = client.token ?? assert.fail('a token')
  const digests = await Promise.all(
    cluster.addresses.map(async address => {
      const query = `database=a&consistency=session&atLeast=${token}&timeoutMs=60000`
      const { status, json } = await get(address, `/digest?${query}`)
      assert.equal(status, 200, JSON.stringify(json))
      return json['digest']
    }),
  )
  assert.equal(new Set(digests).size, 1, digests.join(' '))
}

async function makeTable(client: Client): Promise<void> {
  await client.command({ action: 'create_db', database: 'a' })
  await client.command({
    action: 'create_table',
    database: 'a',
    table: 't',
    columns: [
      { name: 'id', type: 'INTEGER', primary_key: true },
      { name: 'name', type: 'TEXT', not_null: true, unique: true },
    ],
  })
}

test(
  'three nodes share one server, and a leader that is killed loses nothing',
  options,
  async t => {
    const server = await startServer(t)
    const cluster = await startCluster(t, {
      nodeOptions: nodeId => ['--engine', server.url(`${nodeId}_`)],
    })
    const client = createClient({ nodes: cluster.addresses })
    await makeTable(client)
    const { follower, leaderId } = await rolesOf(cluster)

    await t.test('schema changes and their failures reach the client', async () => {
      const create = { database: 'a', sql: 'CREATE INDEX i ON t (name)' }
      assert.equal((await post(follower, '/execute', create)).status, 200)
      const again = await post(follower, '/execute', create)
      assert.equal(again.status, 400)
      assert.equal(again.json.error?.code, 'SQL_ERROR')
      assert.equal(again.json.error.fate, 'not-applied')
    })

    await t.test('time, chance and ids are the same on every node', async () => {
      for (const sql of [
        'CREATE TABLE r (id BIGINT AUTO_INCREMENT PRIMARY KEY, u CHAR(36), x DOUBLE, ' +
          'at DATETIME(6) DEFAULT NOW(6), l DATETIME)',
        'INSERT INTO r (u, x, l) VALUES (UUID(), RAND(), SYSDATE()), (UUID(), RAND(), NOW())',
        'INSERT INTO r (u) VALUES (UUID()), (UUID())',
        'UPDATE r SET x = RAND() * 10, at = DEFAULT WHERE id > 1 ORDER BY id',
      ]) {
        await client.execute(sql, [], { database: 'a' })
      }
      const { rows } = await client.query<{ uuids: number }>(
        "SELECT count(DISTINCT u) AS uuids FROM r WHERE u RLIKE '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'",
        [],
        { database: 'a' },
      )
      assert.deepEqual(rows, [{ uuids: 4 }])
      await expectSound(cluster, client, [])
    })

    await t.test('the names of other databases of the server are out of reach', async () => {
      for (const sql of [
        'SELECT * FROM n2_a.t',
        'SELECT User FROM mysql.user',
        'SELECT 1 FROM n1_lockstep.state',
      ]) {
        const answer = await post(follower, '/query', { database: 'a', sql })
        assert.equal(answer.json.error?.code, 'UNSUPPORTED', sql)
      }
    })

    await t.test('the leader is killed under load', async () => {
      const writing = keepWriting(client)
      await until(
        () => rowCount(cluster),
        count => count > 50,
      )
      await cluster.kill(leaderId)
      const before = await rowCount(cluster)
      await until(
        () => rowCount(cluster),
        count => count > before + 50,
      )
      cluster.restart(leaderId)
      await cluster.ready()
      await expectSound(cluster, client, await writing.stop())
    })
  },
)

test(
  'servers that are killed come back, and nothing is applied twice or lost',
  options,
  async t => {
    const servers = new Map<string, MariaDbServer>()
    for (const nodeId of ['n1', 'n2', 'n3']) servers.set(nodeId, await startServer(t))
    const serverOf = (nodeId: string): MariaDbServer => servers.get(nodeId) ?? assert.fail(nodeId)
    const cluster = await startCluster(t, {
      nodeOptions: nodeId => ['--engine', serverOf(nodeId).url('')],
    })
    const client = createClient({ nodes: cluster.addresses })
    await makeTable(client)
    const writing = keepWriting(client)
    const { leaderId } = await rolesOf(cluster)
    const followerId = cluster.nodes.find(({ nodeId }) => nodeId !== leaderId)?.nodeId ?? ''
    for (const nodeId of [followerId, leaderId]) {
      const before = await rowCount(cluster)
      await until(
        () => rowCount(cluster),
        count => count > before + 30,
      )
      await serverOf(nodeId).kill()
      const then = await rowCount(cluster)
      await until(
        () => rowCount(cluster),
        count => count > then + 30,
        60_000,
      )
      await serverOf(nodeId).restart()
      await cluster.ready()
    }
    await expectSound(cluster, client, await writing.stop())
  },
)

test('a node waits for a server that is down, and says so', options, async t => {
  const server = await startServer(t)
  await server.kill()
  const ports = await freePorts(1)
  const address = `127.0.0.1:${ports[0]}`
  const starting = startCluster(t, {
    nodes: 1,
    ports,
    nodeOptions: () => ['--engine', server.url('')],
  })
  // It may be given up by the cluster meanwhile.
  starting.catch(() => {})
  const said = await until(
    () => get(address, '/status').catch(() => undefined),
    answer => String(answer?.json['lastError']).includes("can't be used"),
  )
  assert.match(
    String(said?.json['lastError']),
    /the MySQL server at 127\.0\.0\.1:\d+ can't be used/,
  )
  const health = await get(address, '/health/ready')
  assert.equal(health.status, 503)
  assert.match(health.json.error?.message ?? '', /the MySQL server at .* can't be used/)
  await server.restart()
  const cluster = await starting
  assert.equal((await get(address, '/status')).json['engine'], 'ready')

  await t.test('what it has written before is served by nobody until it is back', async () => {
    const client = createClient({ nodes: cluster.addresses })
    await makeTable(client)
    await client.execute("INSERT INTO t (name) VALUES ('x')", [], { database: 'a' })
    await cluster.kill('n1')
    await server.kill()
    cluster.restart('n1')
    await until(
      () => get(address, '/status').catch(() => undefined),
      answer => String(answer?.json['lastError']).includes("can't be used"),
    )
    for (const consistency of ['local', 'linearizable']) {
      const read = { database: 'a', sql: 'SELECT count(*) FROM t', consistency, timeoutMs: 500 }
      const { status, json } = await post(address, '/query', read)
      assert.equal(status, 503, JSON.stringify(json))
    }
    const insert = { database: 'a', sql: "INSERT INTO t (name) VALUES ('y')", timeoutMs: 500 }
    const { json } = await post(address, '/execute', insert)
    assert.equal(json.error?.fate, 'not-applied', JSON.stringify(json))
    await server.restart()
    await cluster.ready()
    assert.equal(await rowCount(cluster), 1)
  })
})

/** As the first node says that can; one whose server is away can't. */
async function rowCount(cluster: LocalCluster): Promise<number> {
  const body = { database: 'a', sql: 'SELECT count(*) FROM t', timeoutMs: 1000 }
  for (const { nodeId, address } of cluster.nodes) {
    if (!cluster.isRunning(nodeId)) continue
    const { status, json } = await post(address, '/query', body)
    const [count] = (json.results?.[0]?.rows?.[0] ?? []) as readonly number[]
    if (status === 200 && count !== undefined) return count
  }
  return 0
}
