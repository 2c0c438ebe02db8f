import assert from 'node:assert/strict'
import { must } from '../../src/base/assert.ts'
import { createClient } from '../../src/client/index.ts'
import type { LocalCluster } from '../../src/cli/local-cluster.ts'
import { Counting, createCounters, readCounters } from './counters.ts'
import type { Dialect } from './dialects.ts'
import { testEngines } from './engines.ts'
import { type Answer, get, post, rolesOf, until } from './kit.ts'

const CLIENTS = 12

async function keyed(address: string, path: string, key: string, body: object): Promise<Answer> {
  const answer = await fetch(`http://${address}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': key },
    body: JSON.stringify(body),
  })
  return { status: answer.status, json: (await answer.json()) as Answer['json'] }
}

/** Its answer tells the new id; also when it is repeated, in the way in which the engine can. */
function insertOf({ returningId }: Dialect): { readonly database: string; readonly sql: string } {
  return { database: 'app', sql: `INSERT INTO t (a) VALUES (1) ${returningId}` }
}

function idIn({ json }: Answer): unknown {
  const [result] = must(json.results)
  const [row] = result?.rows ?? []
  return (row as readonly unknown[] | undefined)?.[0] ?? result?.lastInsertId
}

/** An empty table; each test has its own rows. */
async function prepare(address: string, { key }: Dialect): Promise<void> {
  // Not dropped: of a key whose database was ever dropped nobody says that it never took effect.
  await post(address, '/execute', { action: 'create_db', database: 'app' })
  await post(address, '/execute', { database: 'app', sql: 'DROP TABLE IF EXISTS t' })
  const sql = `CREATE TABLE t (id ${key}, a INTEGER CHECK (a < 100))`
  assert.equal((await post(address, '/execute', { database: 'app', sql })).status, 200)
}

async function countRows(address: string): Promise<unknown> {
  const { json } = await post(address, '/query', { database: 'app', sql: 'SELECT count(*) FROM t' })
  const [row] = must(json.results?.[0]?.rows)
  return (row as unknown[])[0]
}

/** Kills the leader and starts it again once another leads and took writes. */
async function loseLeader(cluster: LocalCluster, counting: Counting): Promise<void> {
  const leader = await cluster.ready()
  await cluster.kill(leader)
  const before = counting.total
  await until(
    () => counting.total,
    total => total > before + 3 * CLIENTS,
  )
  cluster.restart(leader)
  await cluster.ready()
}

testEngines('clients count each of their writes once', async (t, engine) => {
  const { cluster } = await engine.start(t)

  await t.test(
    'leaders are killed under load, and no client sees an error or counts twice',
    async () => {
      const db = await createCounters(cluster.addresses, 'killed', CLIENTS)
      const counting = new Counting(cluster.addresses, 'killed', CLIENTS)
      await until(
        () => counting.total,
        total => total > 100,
      )
      await loseLeader(cluster, counting)
      await loseLeader(cluster, counting)
      await counting.stop()

      assert.deepEqual(counting.errors, [])
      assert.deepEqual(await readCounters(db), counting.counted)
    },
  )

  await t.test(
    'a leader that freezes under load and wakes up again changes nothing of that',
    async () => {
      const leader = await cluster.ready()
      const db = await createCounters(cluster.addresses, 'frozen', CLIENTS)
      const counting = new Counting(cluster.addresses, 'frozen', CLIENTS)
      await until(
        () => counting.total,
        total => total > 100,
      )
      await cluster.kill(leader, 'SIGSTOP')
      const before = counting.total
      await until(
        () => counting.total,
        total => total > before + 3 * CLIENTS,
      )
      // What lay in its sockets and queues is now older than what was done elsewhere.
      await cluster.kill(leader, 'SIGCONT')
      await cluster.ready()
      await counting.stop()

      assert.deepEqual(counting.errors, [])
      assert.deepEqual(await readCounters(db), counting.counted)
    },
  )
})

testEngines('request ids hold at every node, from one leader to the next', async (t, engine) => {
  const { dialect } = engine
  const insert = insertOf(dialect)
  const { cluster } = await engine.start(t)

  await t.test(
    'a write without an id is passed on by every hand-over, and none fails',
    async () => {
      const { leader } = await rolesOf(cluster)
      await prepare(leader, dialect)
      const stop = new AbortController()
      let written = 0
      const failures: unknown[] = []
      const running = cluster.addresses.map(async address => {
        while (!stop.signal.aborted) {
          const { status, json } = await post(address, '/execute', insert)
          if (status === 200) written += 1
          else failures.push(json.error)
        }
      })
      for (let times = 0; times < 4; times += 1) {
        const before = written
        const { leader: from, leaderId } = await rolesOf(cluster)
        await post(from, '/transfer', {})
        await until(
          async () => (await get(from, '/nodes')).json['leader'] as { nodeId: string } | null,
          now => now !== null && now.nodeId !== leaderId,
        )
        await until(
          () => written,
          now => now > before + 20,
        )
      }
      stop.abort()
      await Promise.all(running)

      assert.deepEqual(failures, [])
      assert.equal(await countRows(leader), written)
    },
  )

  await t.test(
    'one key sent to all nodes at once takes effect once, and all get the one answer',
    async () => {
      const { leader } = await rolesOf(cluster)
      await prepare(leader, dialect)
      for (let round = 1; round <= 10; round += 1) {
        const nodes = [...cluster.addresses, ...cluster.addresses]
        const answers = await Promise.all(
          nodes.map(address => keyed(address, '/execute', `round ${round}`, insert)),
        )
        for (const answer of answers) assert.equal(idIn(answer), round)
        assert.equal(answers.filter(({ json }) => json['repeated'] !== true).length, 1)
      }
      assert.equal(await countRows(leader), 10)
    },
  )

  await t.test(
    'what was said not to be applied is refused when it arrives, by every node and leader',
    async () => {
      const { leader, follower, leaderId } = await rolesOf(cluster)
      await prepare(leader, dialect)
      const fate = await keyed(follower, '/cancel', 'late', { database: 'app' })
      assert.deepEqual([fate.status, fate.json['fate']], [200, 'not-applied'])
      for (const address of cluster.addresses) {
        const original = await keyed(address, '/execute', 'late', insert)
        assert.deepEqual([original.status, original.json.error?.code], [409, 'REQUEST_CANCELLED'])
        assert.equal(original.json.error?.fate, 'not-applied')
      }
      await keyed(leader, '/execute', 'early', insert)
      await cluster.kill(leaderId)
      cluster.restart(leaderId)
      await cluster.ready()
      for (const address of cluster.addresses) {
        const original = await keyed(address, '/execute', 'late', insert)
        assert.equal(original.json.error?.code, 'REQUEST_CANCELLED')
        const done = await keyed(address, '/cancel', 'early', { database: 'app' })
        assert.deepEqual([done.json['fate'], idIn(done)], ['applied', 1])
      }
      assert.equal(await countRows(follower), 1)
    },
  )

  await t.test(
    'a key answers from another node after the leader died, and only for the same write',
    async () => {
      const { leader, leaderId } = await rolesOf(cluster)
      await prepare(leader, dialect)
      const first = await keyed(leader, '/execute', 'order 7', insert)
      assert.equal(first.json['repeated'], undefined)
      // What fails is not remembered: corrected circumstances may let it through.
      const invalid = {
        database: 'app',
        sql: 'INSERT INTO t (a) SELECT 99 + count(*) FROM t',
      }
      assert.equal((await keyed(leader, '/execute', 'order 8', invalid)).status, 409)
      const quoted = await keyed(leader, '/execute', '"order 7"', { ...insert, timeoutMs: 777 })
      assert.equal(quoted.json['repeated'], true, 'a deadline is not part of the write')
      await cluster.kill(leaderId)

      const others = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
      const [second, third] = others.map(({ address }) => address)
      const again = await keyed(must(second), '/execute', 'order 7', insert)
      assert.deepEqual([again.status, again.json['repeated']], [200, true])
      assert.deepEqual(again.json.results, first.json.results)
      const other = await keyed(must(third), '/execute', 'order 7', {
        ...insert,
        sql: 'DELETE FROM t',
      })
      assert.deepEqual([other.status, other.json.error?.code], [409, 'REQUEST_ID_REUSED'])
      await post(must(third), '/execute', { database: 'app', sql: 'DELETE FROM t' })
      const late = await keyed(must(third), '/execute', 'order 8', invalid)
      assert.deepEqual([late.status, late.json['repeated']], [200, undefined])
    },
  )
})

testEngines(
  'a session of another cluster is refused, and its client goes on',
  async (t, engine) => {
    const insert = insertOf(engine.dialect)
    const { cluster } = await engine.start(t, { nodes: 1 })
    const address = must(cluster.addresses[0])
    await prepare(address, engine.dialect)
    const { json } = await post(address, '/sessions', '')
    const foreign = String(json['session']).replace(/^[^-]*/, 'ffffffff')
    const answer = await fetch(`http://${address}/execute`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'lockstep-request': `${foreign}/1` },
      body: JSON.stringify(insert),
    })
    const refused = (await answer.json()) as Answer['json']
    // It may have been applied before a backup of that history was restored.
    assert.deepEqual([refused.error?.code, refused.error?.fate], ['WRONG_HISTORY', 'unknown'])
    const db = createClient({ nodes: [address], database: 'app' })
    assert.equal((await db.execute(insert.sql)).rowsAffected, 1)
  },
)
