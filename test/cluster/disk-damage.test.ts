/** Single bits that flip on one node's disk while it is stopped: found, told, and healed. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import type { LocalCluster, LocalNode } from '../../src/cli/local-cluster.ts'
import { get, lockstep, post, rolesOf, startCluster, until } from './kit.ts'
import { COUNT, countAt, CREATE, namesOf, run, TABLE, untilRoles } from './members-kit.ts'

const MARK = 'a row that is easily found again'
const ROWS = 40

/** Three nodes with some rows, the first of them marked, and a follower that is stopped. */
async function startWithStopped(
  cluster: LocalCluster,
  signal: NodeJS.Signals,
): Promise<{ readonly leader: string; readonly stopped: LocalNode }> {
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  await post(leader, '/execute', TABLE)
  for (let id = 1; id <= ROWS; id += 1) {
    const params = [id, id === 1 ? MARK : `row ${id}`]
    const insert = { database: 'app', sql: 'INSERT INTO t VALUES (?, ?)', params }
    assert.equal((await post(leader, '/execute', insert)).status, 200)
  }
  const stopped = cluster.nodes.find(({ nodeId }) => nodeId !== leaderId)
  assert(stopped !== undefined)
  await until(
    () => countAt(stopped.address, 'local'),
    row => Array.isArray(row) && row[0] === ROWS,
  )
  await cluster.kill(stopped.nodeId, signal)
  return { leader, stopped }
}

/** The file below the directory, of those with this ending, that has the mark in it, and where. */
function findMark(directory: string, ending: string): { path: string; bytes: Buffer; at: number } {
  const seen: string[] = []
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith(ending)) continue
    seen.push(name)
    const path = join(directory, name)
    const bytes = readFileSync(path)
    const at = bytes.indexOf(MARK)
    if (at >= 0) return { path, bytes, at }
  }
  throw new Error(`no file has the mark: ${seen.join(', ')}`)
}

/** Moves what SQLite's own logs hold into its files, as the engine does now and then. */
function checkpoint(directory: string): void {
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    if (!/db-\d+\.sqlite$/.test(name)) continue
    using database = new DatabaseSync(join(directory, name))
    database.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  }
}

function flipBit(path: string, bytes: Buffer, at: number): void {
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
  writeFileSync(path, bytes)
}

test('a bit flipped in the middle of a log keeps that node from starting, and a new one takes its place', async t => {
  const cluster = await startCluster(t)
  const { leader, stopped } = await startWithStopped(cluster, 'SIGKILL')
  const { path, bytes, at } = findMark(join(stopped.directory, 'group-1', 'log'), '')
  flipBit(path, bytes, at)

  const own = ['--data', stopped.directory, '--node-id', stopped.nodeId]
  const { code, output } = await lockstep(['start', ...own, '--listen', stopped.address])

  assert.equal(code, 1, output)
  assert.match(output, /the log file group-1\/log\/\S+ is damaged at byte \d+/)
  assert.match(
    output,
    /remove the node from the cluster, and let it join again .* under a new node id/,
  )
  assert(readFileSync(path).equals(bytes), 'and leaves it as it is')
  assert.equal(
    (await post(leader, '/execute', { database: 'app', sql: 'DELETE FROM t WHERE id = 2' })).status,
    200,
  )

  await run('remove', stopped.nodeId, '--nodes', leader)
  cluster.forget(stopped.nodeId)
  const joined = await cluster.join('n4')
  await untilRoles(leader, namesOf(...cluster.nodes.map(({ nodeId }) => nodeId)))
  await until(
    () => countAt(joined.address, 'local'),
    row => Array.isArray(row) && row[0] === ROWS - 1,
  )
})

test('a bit flipped in a file of SQLite is noticed when it is read, and healed by another node', async t => {
  const cluster = await startCluster(t)
  const { stopped } = await startWithStopped(cluster, 'SIGKILL')
  const engine = join(stopped.directory, 'group-1', 'engine')
  checkpoint(engine)
  const { path, bytes, at } = findMark(engine, '.sqlite')
  const pageSizeBytes = bytes.readUInt16BE(16)
  // What kind of page it is: with one bit less it is none that there is.
  flipBit(path, bytes, at - (at % pageSizeBytes))

  cluster.restart(stopped.nodeId)
  await until(
    () =>
      post(stopped.address, '/query', { ...COUNT, consistency: 'local' }).catch(() => undefined),
    answer => answer !== undefined && answer.json.error?.code === 'CORRUPT',
  )
  const healed = await until(
    () => countAt(stopped.address, 'local'),
    row => Array.isArray(row) && row[0] === ROWS,
  )
  assert.deepEqual(healed, [ROWS])
  const { snapshot, divergence } = (await get(stopped.address, '/status')).json
  assert.equal((snapshot as { readonly installed: number }).installed, 1)
  assert.equal(divergence, null)
})
