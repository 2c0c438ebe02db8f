/** Every process of a cluster is killed under load: nodes, what runs their SQL, and all at once. */
import assert from 'node:assert/strict'
import type { LocalCluster } from '../../src/cli/local-cluster.ts'
import { Counting, createCounters, readCounters } from './counters.ts'
import { testEngines } from './engines.ts'
import { get, until } from './kit.ts'

const CLIENTS = 8

async function untilFurther(counting: Counting): Promise<void> {
  const before = counting.total
  await until(
    () => counting.total,
    total => total > before + 2 * CLIENTS,
    60_000,
  )
}

async function digestsOf(cluster: LocalCluster, atLeast: string): Promise<unknown[]> {
  const query = `database=counters&consistency=session&atLeast=${atLeast}&timeoutMs=60000`
  const answers = await Promise.all(
    cluster.addresses.map(address => get(address, `/digest?${query}`)),
  )
  return answers.map(({ status, json }) => {
    assert.equal(status, 200, JSON.stringify(json))
    return json['digest']
  })
}

testEngines('any process is killed under load, and each write counts once', async (t, engine) => {
  const { cluster, killSql, startSql } = await engine.start(t, { hasOwnServers: true })
  const nodeIds = cluster.nodes.map(({ nodeId }) => nodeId)
  const db = await createCounters(cluster.addresses, 'counters', CLIENTS)
  const counting = new Counting(cluster.addresses, 'counters', CLIENTS)
  const pick = async (isLeader: boolean): Promise<string> => {
    const leader = await cluster.ready()
    return nodeIds.find(nodeId => (nodeId === leader) === isLeader) ?? leader
  }
  /** What is left goes on; what was killed comes back. */
  const lose = async (
    kill: () => Promise<unknown>,
    heal: () => Promise<unknown>,
  ): Promise<void> => {
    await untilFurther(counting)
    await kill()
    await untilFurther(counting)
    await heal()
    await cluster.ready()
    await untilFurther(counting)
    assert.deepEqual(counting.errors, [])
  }

  for (const isLeader of [false, true]) {
    const who = isLeader ? 'the leader' : 'a follower'
    await t.test(`${who} is killed`, async () => {
      const victim = await pick(isLeader)
      await lose(
        () => cluster.kill(victim),
        async () => cluster.restart(victim),
      )
    })
    await t.test(`what runs the SQL of ${who} is killed`, async () => {
      const victim = await pick(isLeader)
      await lose(
        () => killSql(victim),
        () => startSql(victim),
      )
    })
    await t.test(`${who} is killed together with what runs its SQL`, async () => {
      const victim = await pick(isLeader)
      await lose(
        async () => {
          await killSql(victim)
          await cluster.kill(victim)
        },
        async () => {
          // The node comes first, and waits.
          cluster.restart(victim)
          await startSql(victim)
        },
      )
    })
  }

  await t.test('all nodes are killed at once', async () => {
    await untilFurther(counting)
    await Promise.all(nodeIds.map(nodeId => cluster.kill(nodeId)))
    for (const nodeId of nodeIds) cluster.restart(nodeId)
    await cluster.ready()
    await untilFurther(counting)
  })

  await t.test('what runs the SQL of all nodes is killed at once', async () => {
    await untilFurther(counting)
    await Promise.all(nodeIds.map(killSql))
    await Promise.all(nodeIds.map(startSql))
    await cluster.ready()
    await untilFurther(counting)
  })

  await t.test('each client counted what the database counted, and all nodes agree', async () => {
    await counting.stop()
    assert.deepEqual(counting.errors, [])
    assert.deepEqual(await readCounters(db), counting.counted)
    assert.equal(new Set(await digestsOf(cluster, db.token ?? '')).size, 1)
  })
})
