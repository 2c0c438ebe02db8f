/** Disks that are nearly full: each node has a small file system of its own that a file fills. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { test, type TestContext } from 'node:test'
import { LocalCluster, type LocalNode } from '../../src/cli/local-cluster.ts'
import type { StatusResponse } from '../../src/protocol/http-api.ts'
import { type Answer, get, post, rolesOf, startCluster, until } from './kit.ts'
import { COUNT, CREATE, insert, TABLE } from './members-kit.ts'

const MIB = 1 << 20
const DISK_BYTES = 96 * MIB
const LEAST_BYTES = 24 * MIB
const NODES = ['n1', 'n2', 'n3']

/** Three nodes on disks of their own; undefined if this user may not mount them. */
async function startOnSmallDisks(t: TestContext): Promise<LocalCluster | undefined> {
  mkdirSync('.lockstep', { recursive: true })
  const directory = resolve(mkdtempSync(join('.lockstep', 'small-')))
  const started: LocalCluster[] = []
  t.after(async () => {
    for (const cluster of started) await cluster.stop('SIGKILL')
    for (const nodeId of NODES) spawnSync('umount', ['-l', join(directory, nodeId)])
    rmSync(directory, { recursive: true, force: true, maxRetries: 20 })
  })
  for (const nodeId of NODES) {
    const root = join(directory, nodeId)
    mkdirSync(root)
    const size = `size=${DISK_BYTES}`
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', size, 'tmpfs', root]).status !== 0) {
      t.diagnostic('not run: this user may not mount small file systems')
      return undefined
    }
  }
  const options = ['--min-free-bytes', String(LEAST_BYTES)]
  const cluster = await LocalCluster.start({ nodes: NODES.length, directory, options })
  started.push(cluster)
  return cluster
}

function fill({ directory }: LocalNode, leftBytes: number): void {
  const { bavail, bsize } = statfsSync(directory)
  const sizeBytes = bavail * bsize - leftBytes
  const { status } = spawnSync('fallocate', ['-l', String(sizeBytes), join(directory, 'ballast')])
  assert.equal(status, 0)
}

function empty({ directory }: LocalNode): void {
  rmSync(join(directory, 'ballast'))
}

async function statusOf({ address }: LocalNode): Promise<StatusResponse> {
  return (await get(address, '/status')).json as unknown as StatusResponse
}

/** Writes one row after another at `node` until the answer fits. */
async function writeUntil(
  node: LocalNode,
  firstId: number,
  fits: (answer: Answer) => Promise<boolean> | boolean,
): Promise<{ readonly rows: number; readonly last: Answer }> {
  const deadlineMs = performance.now() + 20_000
  for (let rows = 0; ; rows += 1) {
    const last = await post(node.address, '/execute', insert(firstId + rows))
    if (await fits(last)) return { rows, last }
    assert.equal(last.status, 200, JSON.stringify(last.json))
    assert(performance.now() < deadlineMs, 'it did not happen in time')
  }
}

test('a leader whose disk is nearly full hands over without failing a write, and has room again later', async t => {
  const cluster = await startOnSmallDisks(t)
  if (cluster === undefined) return
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  await post(leader, '/execute', TABLE)
  const full = cluster.nodes.find(({ nodeId }) => nodeId === leaderId)
  assert(full !== undefined)
  fill(full, LEAST_BYTES / 2)

  const { rows } = await writeUntil(full, 1, async ({ status }) => {
    return status === 200 && (await statusOf(full)).leader?.nodeId !== leaderId
  })
  const status = await statusOf(full)
  assert(status.isShortOfRoom && (status.freeBytes ?? Infinity) < LEAST_BYTES)
  const metrics = await (await fetch(`http://${full.address}/metrics`)).text()
  assert.match(metrics, /^lockstep_is_short_of_room 1$/m)
  // It takes no leadership, but goes on following.
  const refused = await post(status.leader?.address ?? '', '/members', {
    action: 'transfer',
    node: leaderId,
  })
  assert.equal(refused.json.error?.code, 'MEMBERS_BUSY')
  await until(
    () => post(full.address, '/query', { ...COUNT, consistency: 'local' }),
    ({ json }) => JSON.stringify(json.results?.[0]?.rows) === `[[${rows + 1}]]`,
  )

  empty(full)
  await until(
    () => statusOf(full),
    ({ isShortOfRoom }) => !isShortOfRoom,
  )
})

test('when all disks are nearly full, writes are refused as not applied, reads go on, and room ends it', async t => {
  const cluster = await startOnSmallDisks(t)
  if (cluster === undefined) return
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  await post(leader, '/execute', TABLE)
  const [first, second] = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
  assert(first !== undefined && second !== undefined)
  for (const node of cluster.nodes) fill(node, LEAST_BYTES / 2)

  const { rows, last } = await writeUntil(first, 1, ({ status }) => status !== 200)
  assert.equal(last.status, 507)
  assert.equal(last.json.error?.code, 'DISK_FULL')
  assert.equal(last.json.error?.fate, 'not-applied')
  assert.match(last.json.error?.message ?? '', /--min-free-bytes/)
  const counted = await post(second.address, '/query', COUNT)
  assert.deepEqual(counted.json.results?.[0]?.rows, [[rows]], 'the refused one is not there')
  assert.equal((await statusOf(first)).state, 'ready')
  for (const { nodeId } of cluster.nodes) assert(cluster.isRunning(nodeId))

  // One with room comes to lead, but no majority could store a write with it. Two could.
  empty(second)
  const refused = await until(
    () => post(first.address, '/execute', insert(1000)),
    ({ json }) => /no majority of the voters could store/.test(json.error?.message ?? ''),
  )
  assert.deepEqual([refused.status, refused.json.error?.fate], [507, 'not-applied'])
  assert.equal((await statusOf(second)).leader?.nodeId, second.nodeId)
  empty(first)
  const taken = await until(
    () => post(first.address, '/execute', insert(1000)),
    ({ status }) => status === 200,
  )
  assert.equal(taken.status, 200)
})

test('when only the files of SQLite have no room, no write waits or is of unknown fate, another leads, and room heals it', async t => {
  const mounted: string[] = []
  // Before the directory is removed, and so before the cluster is there.
  t.after(() => {
    for (const path of mounted) spawnSync('umount', ['-l', path])
  })
  const cluster = await startCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  await post(leader, '/execute', TABLE)
  const node = cluster.nodes.find(({ nodeId }) => nodeId !== leaderId)
  const other = cluster.nodes.find(({ nodeId }) => nodeId === leaderId)
  assert(node !== undefined && other !== undefined)
  await cluster.kill(node.nodeId)
  const engine = join(node.directory, 'group-1', 'engine')
  cpSync(engine, `${engine}-kept`, { recursive: true })
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', engine]).status !== 0) {
    t.diagnostic('not run: this user may not mount small file systems')
    return
  }
  mounted.push(engine)
  cpSync(`${engine}-kept`, engine, { recursive: true })
  cluster.restart(node.nodeId)
  await cluster.ready()
  const transfer = { action: 'transfer', node: node.nodeId }
  assert.equal((await post(node.address, '/members', transfer)).status, 200)

  const sql = 'INSERT INTO t VALUES (?, hex(zeroblob(100000)))'
  const write = ({ address }: LocalNode, id: number): Promise<Answer> => {
    const body = { database: 'app', sql, params: [id], timeoutMs: 3000 }
    return post(address, '/execute', body, { 'idempotency-key': `row ${id}` })
  }
  const isLeading = async (): Promise<boolean> =>
    (await statusOf(other)).leader?.nodeId === node.nodeId
  let rows = 0
  let slowestMs = 0
  let last: Answer
  do {
    const startedMs = performance.now()
    last = await write(node, rows + 1)
    slowestMs = Math.max(slowestMs, performance.now() - startedMs)
    if (last.status === 200) rows += 1
  } while (last.status === 200 && rows < 200 && (await isLeading()))
  assert(rows > 5 && rows < 200, `${rows} rows were taken`)
  // SQLite may meet the full disk before the entry is in the logs. When it is there, it is applied.
  const { code, fate } = last.json.error ?? {}
  if (last.status !== 200) assert.deepEqual([code, fate], ['DISK_FULL', 'not-applied'])
  assert(slowestMs < 2500, `a write waited for ${slowestMs} ms, till its deadline`)
  await until(
    () => statusOf(other),
    ({ leader: seen }) => seen !== null && seen.nodeId !== node.nodeId,
  )
  rows += 1
  assert.equal((await write(other, rows)).status, 200)
  assert(cluster.isRunning(node.nodeId))

  assert.equal(spawnSync('mount', ['-o', 'remount,size=100m', engine]).status, 0)
  await until(
    () => post(node.address, '/query', { ...COUNT, consistency: 'local' }),
    ({ json }) => JSON.stringify(json.results?.[0]?.rows) === `[[${rows}]]`,
  )
  assert.equal((await statusOf(node)).divergence, null)
})
