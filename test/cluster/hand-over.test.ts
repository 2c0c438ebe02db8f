/** Planned hand-overs under load: nobody is failed, and the time without an answer is short. */
import assert from 'node:assert/strict'
import { SteadyLoad } from '../../bench/steady-load.ts'
import { createClient } from '../../src/client/client.ts'
import { testEngines } from './engines.ts'
import { post, until } from './kit.ts'

/** Far above what bench/hand-over.ts measures, for machines that do ten things at once. */
const GAP_MS_MAX = 2000

testEngines(
  'leadership changes hands under load, and no request of anybody fails',
  async (t, engine) => {
    const { cluster } = await engine.start(t)
    const load = new SteadyLoad({ database: 'app', addresses: cluster.addresses, writers: 8 })
    await load.start()
    const client = createClient({ nodes: cluster.addresses, timeoutMs: 20_000 })
    const leaders = new Set<string>()
    for (let time = 0; time < 6; time += 1) {
      const written = load.acknowledged.length
      await until(
        () => load.acknowledged.length,
        count => count > written + 20,
      )
      const fromMs = performance.now()
      const before = (await client.members()).leader?.nodeId
      const { leader } = await client.changeMembers({ action: 'transfer' })
      leaders.add(leader?.nodeId ?? 'nobody')
      assert.notEqual(leader?.nodeId, before)
      const gapMs = load.longestGapMs(fromMs, performance.now())
      assert(gapMs < GAP_MS_MAX, `${gapMs} ms without an answer`)
    }
    await load.stop()

    assert.deepEqual(load.failures, [])
    assert(!leaders.has('nobody'))
    await assertAllThere(load, cluster.addresses)
  },
)

testEngines(
  'a leader under load is demoted, promoted and removed, and no request fails',
  async (t, engine) => {
    const { cluster } = await engine.start(t)
    const load = new SteadyLoad({ database: 'app', addresses: cluster.addresses, writers: 8 })
    await load.start()
    const client = createClient({ nodes: cluster.addresses, timeoutMs: 30_000 })
    const first = await cluster.ready()
    await client.changeMembers({ action: 'demote', node: first })
    await client.changeMembers({ action: 'promote', node: first })
    const second = (await client.members()).leader?.nodeId ?? ''
    assert.notEqual(second, first)
    // Nobody asks who is to go: what a removed node is asked it must refuse.
    load.addresses = cluster.nodes
      .filter(({ nodeId }) => nodeId !== second)
      .map(node => node.address)
    const written = load.acknowledged.length
    await until(
      () => load.acknowledged.length,
      count => count > written + 50,
    )
    const after = await client.changeMembers({ action: 'remove', node: second })
    await load.stop()

    assert.deepEqual(load.failures, [])
    assert.equal(after.members.length, 2)
    await assertAllThere(load, load.addresses)
  },
)

testEngines(
  'a leader that is stopped under load fails no request on the connections that it has',
  async (t, engine) => {
    const { cluster } = await engine.start(t)
    const load = new SteadyLoad({ database: 'app', addresses: cluster.addresses, writers: 8 })
    await load.start()
    for (let time = 0; time < 3; time += 1) {
      const leader = await cluster.ready()
      await cluster.kill(leader, 'SIGTERM')
      // While it starts again it says NOT_READY, and a load balancer would pass it by.
      load.addresses = cluster.nodes.filter(({ nodeId }) => nodeId !== leader).map(n => n.address)
      cluster.restart(leader)
      await cluster.ready()
      load.addresses = cluster.addresses
    }
    await load.stop()

    assert.deepEqual(load.failures, [])
    await assertAllThere(load, cluster.addresses)
  },
)

async function assertAllThere(load: SteadyLoad, addresses: readonly string[]): Promise<void> {
  const sql = 'SELECT count(*), count(DISTINCT id) FROM steady'
  const { json } = await post(addresses[0] ?? '', '/query', { database: 'app', sql })
  const count = load.acknowledged.length
  assert(count > 0)
  assert.deepEqual(json.results?.[0]?.rows, [[count, count]])
}
