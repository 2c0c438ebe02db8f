/** Snapshots between real nodes: whoever is too far behind gets one by itself, and is as the others. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { testEngines } from './engines.ts'
import { get, post, rolesOf, until } from './kit.ts'
import { untilRoles } from './members-kit.ts'
import {
  fill,
  makeTable,
  nodeAt,
  SMALL_LOG,
  snapshotOf,
  untilEqual,
  untilFetching,
  untilForgotten,
} from './snapshot-kit.ts'

testEngines(
  'a follower that was away too long gets a snapshot, and then follows the log again',
  async (t, engine) => {
    const { cluster } = await engine.start(t, { options: SMALL_LOG })
    const { leader, follower } = await rolesOf(cluster)
    await makeTable(leader, engine.dialect)
    const { nodeId, directory } = nodeAt(cluster, follower)
    await cluster.kill(nodeId)
    const before = Number((await get(leader, '/status')).json['lastIndex'])
    await fill(leader, 300)
    await untilForgotten(leader, before)

    cluster.restart(nodeId)
    await cluster.ready()

    await untilEqual(cluster)
    const { json } = await get(follower, '/status')
    assert.equal((json['snapshot'] as Record<string, unknown>)['installed'], 1)
    await fill(leader, 20)
    await untilEqual(cluster)
    if (engine.name === 'sqlite') {
      const files = readdirSync(join(directory, 'group-1', 'engine'))
      assert.deepEqual(
        files.filter(name => name.startsWith('gen-')),
        ['gen-2'],
      )
    }
    // What it installed is there after a restart too.
    await cluster.kill(nodeId)
    cluster.restart(nodeId)
    await cluster.ready()
    await untilEqual(cluster)
  },
)

testEngines(
  'a node joins a log of almost nothing while it is written to without a pause',
  async (t, engine) => {
    const { cluster } = await engine.start(t, { nodes: 1, options: SMALL_LOG })
    const [leader = ''] = cluster.addresses
    await makeTable(leader, engine.dialect)
    await fill(leader, 1000)
    const over = new AbortController()
    const writing = (async () => {
      while (!over.signal.aborted) await fill(leader, 20)
    })()
    try {
      const { address } = await cluster.join('n2')
      await untilRoles(leader, 'n1 voter, n2 voter')
      const { installed } = snapshotOf(await get(address, '/status'))
      assert.equal(installed, 1, 'the log went on from the first one')
    } finally {
      over.abort()
      await writing
    }
    await untilEqual(cluster)
  },
)

testEngines(
  'a node with an empty disk joins a cluster whose log begins late, and votes',
  async (t, engine) => {
    const { cluster } = await engine.start(t, { options: SMALL_LOG })
    const { leader } = await rolesOf(cluster)
    await makeTable(leader, engine.dialect)
    const before = Number((await get(leader, '/status')).json['lastIndex'])
    await fill(leader, 300)
    await untilForgotten(leader, before)

    const { address } = await cluster.join('n4')

    await until(
      async () => (await get(leader, '/members')).json['members'] as Record<string, unknown>[],
      members => members.some(({ nodeId, role }) => nodeId === 'n4' && role === 'voter'),
    )
    await cluster.ready()
    await fill(leader, 20)
    await untilEqual(cluster)
    const { json } = await get(address, '/status')
    assert.equal((json['snapshot'] as Record<string, unknown>)['installed'], 1)
  },
)

testEngines(
  'a snapshot that is interrupted on either side is gone on with, or begun anew',
  async (t, engine) => {
    const slow = ['--snapshot-bytes-per-second', '400000']
    const { cluster } = await engine.start(t, { options: [...SMALL_LOG, ...slow] })
    const { leader, follower } = await rolesOf(cluster)
    await makeTable(leader, engine.dialect)
    const { nodeId } = nodeAt(cluster, follower)
    await cluster.kill(nodeId)
    const before = Number((await get(leader, '/status')).json['lastIndex'])
    await fill(leader, 300)
    await untilForgotten(leader, before)
    cluster.restart(nodeId)
    await untilFetching(follower)

    const refused = await post(follower, '/query', {
      database: 'main',
      sql: 'SELECT 1',
      consistency: 'local',
    })
    const ready = await get(follower, '/health/ready')
    await cluster.kill(nodeId)
    cluster.restart(nodeId)
    const { from } = await untilFetching(follower)
    await cluster.kill(from ?? '')
    cluster.restart(from ?? '')

    assert.equal(refused.json.error?.code, 'NOT_READY')
    assert.equal(ready.status, 503)
    await cluster.ready()
    await untilEqual(cluster)
  },
)
