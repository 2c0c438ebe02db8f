/**
 * A schema change over a cluster while a client that is no node holds its table on one node's
 * server, in a transaction that it does not end.
 */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { createClient } from '../../src/client/client.ts'
import { Connection } from '../../src/engine/mysql/connection.ts'
import { parseServerAddress } from '../../src/engine/mysql/server-address.ts'
import { behindItsBack } from '../engine/mysql/kit.ts'
import { MariaDbServer, whyNoMariaDb } from '../fixtures/mariadb-server.ts'
import { get, post, rolesOf, startCluster, until } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }

/**
 * A leader waits for the lock as long as its server does, and then lets another one lead; whether a
 * follower waits concerns no writer.
 */
const LONGEST_MS = { leader: 30_000, follower: 4000 }

async function hold(
  t: TestContext,
  server: MariaDbServer,
  table: string,
): Promise<{ readonly id: number; letGo(): Promise<void> }> {
  const client = await Connection.open(parseServerAddress(server.url('')))
  t.after(() => client.close())
  await client.expect(`BEGIN; SELECT * FROM ${table}`)
  return { id: client.id, letGo: async () => void (await client.expect('ROLLBACK')) }
}

for (const role of ['leader', 'follower'] as const) {
  test(`a client that holds a table on the ${role} keeps nobody for long`, options, async t => {
    const server = await MariaDbServer.start()
    t.after(() => server.stop())
    const cluster = await startCluster(t, {
      nodeOptions: nodeId => ['--engine', server.url(`${nodeId}_`)],
    })
    const { leader, leaderId } = await rolesOf(cluster)
    await expectOk(leader, { action: 'create_db', database: 'app' })
    for (const sql of [
      'CREATE TABLE t (id INT PRIMARY KEY)',
      'CREATE TABLE busy (id BIGINT AUTO_INCREMENT PRIMARY KEY, n INT UNIQUE)',
    ]) {
      await expectOk(leader, { database: 'app', sql })
    }
    const isHeld = (nodeId: string): boolean => (nodeId === leaderId) === (role === 'leader')
    const held = cluster.nodes.find(({ nodeId }) => isHeld(nodeId)) ?? assert.fail(role)
    const foreign = await hold(t, server, `${held.nodeId}_app.t`)

    const client = createClient({ nodes: cluster.addresses })
    const writing = { isOver: false, longestMs: 0, count: 0 }
    const write = async (): Promise<void> => {
      for (; !writing.isOver; writing.count++) {
        const begunMs = performance.now()
        const sql = `INSERT INTO busy (n) VALUES (${writing.count})`
        await client.execute(sql, [], { database: 'app', timeoutMs: 60_000 })
        writing.longestMs = Math.max(writing.longestMs, performance.now() - begunMs)
      }
    }
    const writes = write()
    // It is answered while the table is still held: by the next leader, if this one can't.
    const change = createClient({ nodes: cluster.addresses })
    const sql = 'ALTER TABLE t ADD COLUMN more INT'
    await change.execute(sql, [], { database: 'app', timeoutMs: 60_000 })
    await until(
      () => statusOf(held.address),
      ({ lastError }) => {
        const [who, what] = [
          `connection ${foreign.id} of root@`,
          'waits for a lock in the database app',
        ]
        return lastError.includes(what) && lastError.includes(who)
      },
    )
    const before = writing.count
    await until(
      () => writing.count,
      count => count > before + 20,
    )
    await foreign.letGo()
    writing.isOver = true
    await writes
    assert(writing.longestMs < LONGEST_MS[role], `a write took ${writing.longestMs} ms`)
    const digests = await Promise.all(
      cluster.addresses.map(address =>
        until(
          () => get(address, '/digest?database=app&consistency=linearizable&timeoutMs=30000'),
          ({ status }) => status === 200,
          60_000,
        ),
      ),
    )
    assert.equal(new Set(digests.map(({ json }) => json['digest'])).size, 1)
    for (const { nodeId } of cluster.nodes) {
      const columns =
        'SELECT GROUP_CONCAT(column_name ORDER BY ordinal_position) FROM ' +
        `information_schema.columns WHERE table_schema = '${nodeId}_app' AND table_name = 't'`
      assert.deepEqual(await behindItsBack(server.port, columns), [['id,more']])
    }
    for (const address of cluster.addresses) {
      const { counters } = await statusOf(address)
      assert.equal(counters['divergences'], 0)
    }
    const { rows } = await client.query('SELECT count(*) AS count FROM busy', [], {
      database: 'app',
    })
    assert.deepEqual(rows, [{ count: writing.count }])
  })
}

interface Status {
  readonly lastError: string
  readonly counters: Readonly<Record<string, number>>
}

async function statusOf(address: string): Promise<Status> {
  return (await get(address, '/status')).json as unknown as Status
}

async function expectOk(address: string, body: unknown): Promise<void> {
  const { status, json } = await post(address, '/execute', body)
  assert.equal(status, 200, JSON.stringify(json))
}
