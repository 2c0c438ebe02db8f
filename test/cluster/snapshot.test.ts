/** Snapshots between real nodes: whoever is too far behind gets one by itself, and is as the others. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { LocalCluster, LocalNode } from '../../src/cli/local-cluster.ts'
import { type Answer, get, post, rolesOf, startCluster, until } from './kit.ts'

/** A log so small that it forgets soon. */
const SMALL_LOG = ['--max-log-bytes', '65536', '--segment-size-bytes', '65536', '--report-ms', '20']

const TEXT = 'x'.repeat(2000)

async function fill(address: string, rows: number): Promise<void> {
  for (let done = 0; done < rows; done += 20) {
    const statements = Array.from({ length: 20 }, () => ({
      sql: 'INSERT INTO t (text) VALUES (?)',
      params: [TEXT],
    }))
    const answer = await post(address, '/execute', { database: 'main', statements })
    assert.equal(answer.status, 200, JSON.stringify(answer.json))
  }
}

async function makeTable(address: string): Promise<void> {
  const database = 'main'
  await post(address, '/execute', { action: 'create_db', database })
  const sql = 'CREATE TABLE t (id INTEGER PRIMARY KEY, text)'
  assert.equal((await post(address, '/execute', { database, sql })).status, 200)
}

/** Waits until the log of a node begins after `index`. */
function untilForgotten(address: string, index: number): Promise<unknown> {
  return until(
    () => get(address, '/status'),
    ({ json }) => Number(json['firstIndex']) > index,
  )
}

async function untilEqual(cluster: LocalCluster): Promise<void> {
  await until(
    () =>
      Promise.all(
        cluster.addresses.map(address =>
          get(address, '/digest?database=main&consistency=linearizable'),
        ),
      ),
    answers => answers.every(({ json }) => json['digest'] === answers[0]?.json['digest']),
  )
}

function nodeAt(cluster: LocalCluster, address: string): LocalNode {
  const node = cluster.nodes.find(node => node.address === address)
  assert(node !== undefined)
  return node
}

test('a follower that was away too long gets a snapshot, and then follows the log again', async t => {
  const cluster = await startCluster(t, { options: SMALL_LOG })
  const { leader, follower } = await rolesOf(cluster)
  await makeTable(leader)
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
  const engine = readdirSync(join(directory, 'group-1', 'engine'))
  assert.deepEqual(
    engine.filter(name => name.startsWith('gen-')),
    ['gen-2'],
  )
  // What it installed is there after a restart too.
  await cluster.kill(nodeId)
  cluster.restart(nodeId)
  await cluster.ready()
  await untilEqual(cluster)
})

test('a node with an empty disk joins a cluster whose log begins late, and votes', async t => {
  const cluster = await startCluster(t, { options: SMALL_LOG })
  const { leader } = await rolesOf(cluster)
  await makeTable(leader)
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
})

test('a snapshot that is interrupted on either side is gone on with, or begun anew', async t => {
  const slow = ['--snapshot-bytes-per-second', '400000']
  const cluster = await startCluster(t, { options: [...SMALL_LOG, ...slow] })
  const { leader, follower } = await rolesOf(cluster)
  await makeTable(leader)
  const { nodeId } = nodeAt(cluster, follower)
  await cluster.kill(nodeId)
  const before = Number((await get(leader, '/status')).json['lastIndex'])
  await fill(leader, 300)
  await untilForgotten(leader, before)
  const untilFetching = async (): Promise<SnapshotJson> => {
    const answer = await until(
      () => get(follower, '/status').catch(() => undefined),
      seen => {
        const { step, receivedBytes } = snapshotOf(seen)
        return step === 'fetching' && receivedBytes > 0
      },
    )
    return snapshotOf(answer)
  }
  cluster.restart(nodeId)
  await untilFetching()

  const refused = await post(follower, '/query', {
    database: 'main',
    sql: 'SELECT 1',
    consistency: 'local',
  })
  const ready = await get(follower, '/health/ready')
  await cluster.kill(nodeId)
  cluster.restart(nodeId)
  const { from } = await untilFetching()
  await cluster.kill(from ?? '')
  cluster.restart(from ?? '')

  assert.equal(refused.json.error?.code, 'NOT_READY')
  assert.equal(ready.status, 503)
  await cluster.ready()
  await untilEqual(cluster)
})

interface SnapshotJson {
  readonly step: string
  readonly from: string | null
  readonly receivedBytes: number
}

function snapshotOf(answer: Answer | undefined): SnapshotJson {
  const none: SnapshotJson = { step: 'none', from: null, receivedBytes: 0 }
  return (answer?.json['snapshot'] as SnapshotJson | null | undefined) ?? none
}
