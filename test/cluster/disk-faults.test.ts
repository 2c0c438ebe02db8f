/** Every operation on a node's log and data that can fail: who ends, who goes on, what is kept. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import type { LocalCluster, LocalNode } from '../../src/cli/local-cluster.ts'
import { type Fault, startFaultyCluster } from './faulty-nodes.ts'
import { get, post, rolesOf, until } from './kit.ts'

const CREATE = { action: 'create_db', database: 'app' }
const TABLE = { database: 'app', sql: 'CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)' }
const TEXT = 'x'.repeat(4000)
/** The system takes so little at once, on all nodes and all the time. */
const SHORT: Fault = { type: 'short-write', path: '/log/', sizeBytes: 777 }
/** Small files: the log begins a new one often, and its old entries are not in memory. */
const SMALL = ['--segment-size-bytes', '65536', '--log-fill-bytes', '0']

const insert = (id: number): object => ({
  database: 'app',
  sql: 'INSERT INTO t VALUES (?, ?)',
  params: [id, TEXT],
})

async function countAt(address: string): Promise<unknown> {
  const query = { database: 'app', sql: 'SELECT count(*) FROM t', consistency: 'local' }
  const answer = await post(address, '/query', query).catch(() => undefined)
  return (answer?.json.results?.[0]?.rows?.[0] as unknown[] | undefined)?.[0]
}

async function untilCount(cluster: LocalCluster, count: number): Promise<void> {
  for (const address of cluster.addresses) {
    await until(
      () => countAt(address),
      seen => seen === count,
    )
  }
}

async function noneDiverged(cluster: LocalCluster): Promise<void> {
  for (const address of cluster.addresses) {
    const { divergence, counters } = (await get(address, '/status')).json
    assert.equal(divergence, null)
    assert.equal((counters as Record<string, number>)['divergences'], 0)
  }
}

async function restartsOf(address: string): Promise<number> {
  const { counters } = (await get(address, '/status')).json
  return (counters as Record<string, number>)['engineRestarts'] ?? 0
}

function outputOf({ directory, nodeId }: LocalNode): string {
  return readFileSync(join(dirname(directory), `${nodeId}.log`), 'utf8')
}

test('a node whose log can not be written, flushed or begun anew ends and says so, short writes are nothing, and all is kept', async t => {
  const { cluster, setFaults } = await startFaultyCluster(t, { options: SMALL })
  for (const { nodeId } of cluster.nodes) setFaults(nodeId, [SHORT])
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  await post(leader, '/execute', TABLE)
  const victim = cluster.nodes.find(({ nodeId }) => nodeId !== leaderId)
  assert(victim !== undefined)
  let rows = 0
  const faults: readonly Fault[] = [
    { type: 'write', path: '/log/', code: 'EIO' },
    { type: 'flush', path: '/log/', code: 'EIO' },
    { type: 'rename', path: '/log/', code: 'EIO' },
  ]
  for (const fault of faults) {
    const said = outputOf(victim).length
    setFaults(victim.nodeId, [SHORT, fault])
    await until(
      async () => {
        rows += 1
        const { status, json } = await post(leader, '/execute', insert(rows))
        assert.equal(status, 200, JSON.stringify(json))
        return get(victim.address, '/health/live').catch(() => 'gone')
      },
      state => state === 'gone',
    )
    const words = outputOf(victim).slice(said)
    assert.match(words, /the disk failed to write the log in group-1\/log \(injected EIO\)/)

    setFaults(victim.nodeId, [SHORT])
    await cluster.kill(victim.nodeId)
    cluster.restart(victim.nodeId)
    await cluster.ready()
  }
  await untilCount(cluster, rows)
  await noneDiverged(cluster)
})

test('a leader whose log can not be read ends, does not start again on it, and the others go on', async t => {
  const options = [...SMALL, '--log-cache-bytes', String(1 << 20)]
  const { cluster, setFaults } = await startFaultyCluster(t, { options })
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  await post(leader, '/execute', TABLE)
  const [first, second] = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
  const sick = cluster.nodes.find(({ nodeId }) => nodeId === leaderId)
  assert(first !== undefined && second !== undefined && sick !== undefined)
  await cluster.kill(first.nodeId)
  const rows = 400
  for (let id = 1; id <= rows; id += 1) {
    assert.equal((await post(leader, '/execute', insert(id))).status, 200)
  }
  // What the other one lacks is in memory no more.
  setFaults(leaderId, [{ type: 'read', path: 'group-1/log/', code: 'EIO' }])
  cluster.restart(first.nodeId)
  const failure = /the disk failed to read the log in group-1\/log \(injected EIO\)/
  await until(
    () => outputOf(sick),
    text => failure.test(text),
  )
  const written = await until(
    () => post(second.address, '/execute', insert(rows + 1)).catch(() => undefined),
    answer => answer?.status === 200,
  )
  assert.equal(written?.status, 200)

  const said = outputOf(sick).length
  await cluster.kill(leaderId)
  cluster.restart(leaderId)
  await until(
    () => outputOf(sick).slice(said),
    text => failure.test(text),
  )
  setFaults(leaderId, [])
  await cluster.kill(leaderId)
  cluster.restart(leaderId)
  await untilCount(cluster, rows + 1)
  await noneDiverged(cluster)
})

test('a COMMIT that SQLite fails to write or flush loses nothing, on a follower and on the leader', async t => {
  const { cluster, setFaults } = await startFaultyCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  await post(leader, '/execute', TABLE)
  const follower = cluster.nodes.find(({ nodeId }) => nodeId !== leaderId)
  assert(follower !== undefined)
  let rows = 0
  // Input or output: write, flush, and a disk without room.
  for (const errcode of [778, 1034, 13]) {
    for (const nodeId of [follower.nodeId, leaderId]) {
      const sick = cluster.nodes.find(other => other.nodeId === nodeId)?.address ?? ''
      const before = await restartsOf(sick)
      setFaults(nodeId, [{ type: 'run-error', find: 'COMMIT', errcode }])
      rows += 1
      const address = cluster.nodes.find(other => other.nodeId !== nodeId)?.address ?? ''
      const key = { 'idempotency-key': `row ${rows}` }
      const { status, json } = await post(address, '/execute', insert(rows), key)
      assert.equal(status, 200, `${nodeId} ${errcode} ${JSON.stringify(json)}`)
      await until(
        () => restartsOf(sick),
        restarts => restarts > before,
      )
      assert.match(String((await get(sick, '/status')).json['lastError']), /injected/)
      setFaults(nodeId, [])
      await untilCount(cluster, rows)
      await cluster.ready()
    }
  }
  await noneDiverged(cluster)
  for (const { nodeId } of cluster.nodes) assert(cluster.isRunning(nodeId))
})
