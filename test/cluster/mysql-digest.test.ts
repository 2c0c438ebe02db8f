/** Rows on a MariaDB server that change behind a node's back. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import type { LocalCluster } from '../../src/cli/local-cluster.ts'
import { MariaDbServer, whyNoMariaDb } from '../fixtures/mariadb-server.ts'
import { behindItsBack } from '../engine/mysql/kit.ts'
import { get, post, rolesOf, startCluster, until } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }
const FOUND_MS = 40_000

interface Status {
  readonly state: string
  readonly lastError: string | null
  readonly counters: Readonly<Record<string, number>>
  readonly divergence: Readonly<Record<string, unknown>> | null
  readonly dataDigest: { readonly verifiedIndex: number; readonly lastError?: string }
}

interface Fixture {
  readonly cluster: LocalCluster
  readonly leader: string
  /** A follower, its address, and the port of its server with the prefix. */
  readonly odd: { readonly nodeId: string; readonly address: string }
  readonly run: (sql: string) => Promise<void>
}

/** Three nodes on two servers: two share one, under different prefixes. */
async function start(t: TestContext, nodeOptions: readonly string[] = []): Promise<Fixture> {
  const shared = await MariaDbServer.start()
  t.after(() => shared.stop())
  const alone = await MariaDbServer.start()
  t.after(() => alone.stop())
  const placeOf = (nodeId: string): readonly [MariaDbServer, string] =>
    nodeId === 'n3' ? [alone, ''] : [shared, `${nodeId}_`]
  const cluster = await startCluster(t, {
    options: nodeOptions,
    nodeOptions: nodeId => {
      const [server, prefix] = placeOf(nodeId)
      return ['--engine', server.url(prefix)]
    },
  })
  const { leader, leaderId } = await rolesOf(cluster)
  for (const database of ['app', 'books']) {
    await write(leader, { action: 'create_db', database })
    for (const sql of [
      'CREATE TABLE still (id INT PRIMARY KEY, name VARCHAR(20))',
      "INSERT INTO still VALUES (1, 'one'), (2, 'two'), (3, 'three')",
      'CREATE TABLE busy (id BIGINT AUTO_INCREMENT PRIMARY KEY, n INT)',
    ]) {
      await write(leader, { database, sql })
    }
  }
  const odd = cluster.nodes.find(({ nodeId }) => nodeId !== leaderId) ?? assert.fail('a follower')
  const run = async (sql: string): Promise<void> => {
    const [server, prefix] = placeOf(odd.nodeId)
    await behindItsBack(server.port, sql.replaceAll('$', prefix))
  }
  return { cluster, leader, odd, run }
}

async function write(address: string, body: unknown): Promise<void> {
  const { status, json } = await post(address, '/execute', body)
  assert.equal(status, 200, JSON.stringify(json))
}

async function statusOf(address: string): Promise<Status> {
  return (await get(address, '/status')).json as unknown as Status
}

/** Waits until a node has found out that it is wrong, and is the only one. */
async function foundWrong({ cluster, odd }: Fixture): Promise<Record<string, unknown>> {
  const { divergence } = await until(
    () => statusOf(odd.address),
    status => status.divergence !== null,
    FOUND_MS,
  )
  for (const { nodeId, address } of cluster.nodes) {
    if (nodeId !== odd.nodeId) assert.equal((await statusOf(address)).divergence, null, nodeId)
  }
  return divergence ?? {}
}

/** What is known to be wrong is served to nobody; the others go on. */
async function expectNotServed({ leader, odd }: Fixture): Promise<void> {
  const local = { database: 'books', sql: 'SELECT * FROM still', consistency: 'local' }
  const { json } = await post(odd.address, '/query', local)
  assert.equal(json.error?.code, 'DIVERGED', JSON.stringify(json))
  assert.equal((await get(odd.address, '/health/ready')).status, 503)
  await write(leader, { database: 'app', sql: 'INSERT INTO busy (n) VALUES (2)' })
}

test('a row that a plain client changed is found by the digest of all data', options, async t => {
  const fixture = await start(t, ['--digest-interval-ms', '1000'])
  const { cluster, odd, run } = fixture
  for (const address of cluster.addresses) {
    await until(
      () => statusOf(address),
      ({ dataDigest }) => dataDigest.verifiedIndex > 0,
    )
  }
  await run("UPDATE $books.still SET name = 'tvo' WHERE id = 2")
  const divergence = await foundWrong(fixture)
  assert.equal(divergence['database'], 'books')
  assert.match(String(divergence['expected']), /data of digest/)
  await expectNotServed(fixture)
  assert.equal((await statusOf(odd.address)).lastError, '')
})
