/** Backups of real nodes, taken under load, and new clusters that are made from them. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { globSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { must } from '../../src/base/assert.ts'
import { get, lockstep, makeDirectory, post, rolesOf, startCluster, until } from './kit.ts'

const INSERT = 'INSERT INTO t (text) VALUES (?)'

async function makeTables(address: string): Promise<void> {
  for (const database of ['main', 'other']) {
    await post(address, '/execute', { action: 'create_db', database })
    const sql = 'CREATE TABLE t (id INTEGER PRIMARY KEY, text)'
    assert.equal((await post(address, '/execute', { database, sql })).status, 200)
  }
}

async function insert(address: string, database: string, text: string): Promise<string> {
  const answer = await post(address, '/execute', { database, sql: INSERT, params: [text] })
  assert.equal(answer.status, 200, JSON.stringify(answer.json))
  return String(answer.json.token)
}

function countIn(path: string): number {
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    return Number(database.prepare('SELECT count(*) AS count FROM t').get()?.['count'])
  } finally {
    database.close()
  }
}

async function digestOf(address: string, database: string): Promise<unknown> {
  const { json } = await get(address, `/digest?database=${database}&consistency=linearizable`)
  return json['digest']
}

test('a backup under load holds what was acknowledged, one moment of all databases, and restores', async t => {
  const directory = makeDirectory(t)
  const cluster = await startCluster(t)
  const { leader } = await rolesOf(cluster)
  await makeTables(leader)
  for (let row = 0; row < 50; row++) await insert(leader, 'main', `row ${row}`)
  // A row of main comes always before its row of other.
  const over = new AbortController()
  const writing = (async () => {
    for (let row = 0; !over.signal.aborted; row++) {
      await insert(leader, 'main', `pair ${row}`)
      await insert(leader, 'other', `pair ${row}`)
    }
  })()

  const target = join(directory, 'backup')
  const made = await lockstep(['backup', target, '--nodes', cluster.addresses.join(',')])

  over.abort()
  await writing
  assert.equal(made.code, 0, made.output)
  const inMain = countIn(join(target, 'main.sqlite'))
  const inOther = countIn(join(target, 'other.sqlite'))
  assert(inMain >= 50)
  assert(inMain - 50 === inOther || inMain - 50 === inOther + 1, `${inMain} and ${inOther}`)
  const oldToken = await insert(leader, 'main', 'later')

  const restored = await startCluster(t, { nodes: 1, backup: target })
  await restored.ready()
  const address = restored.addresses[0] ?? ''
  const joined = await restored.join('n2')
  await until(
    () => get(joined.address, '/health/ready').catch(() => undefined),
    answer => answer?.status === 200,
  )

  const rows = await post(joined.address, '/query', {
    database: 'main',
    sql: 'SELECT count(*) FROM t',
  })
  assert.deepEqual(rows.json.results?.[0]?.rows, [[inMain]])
  for (const database of ['main', 'other']) {
    assert.equal(await digestOf(address, database), await digestOf(joined.address, database))
  }
  const old = await post(address, '/query', {
    database: 'main',
    sql: 'SELECT 1',
    consistency: 'session',
    atLeast: oldToken,
  })
  assert.equal(old.json.error?.code, 'WRONG_HISTORY')
  await insert(address, 'main', 'new')
})

test('one database is a file by itself, with the digest of the database, and restores under a name', async t => {
  const directory = makeDirectory(t)
  const cluster = await startCluster(t, { nodes: 1 })
  const address = cluster.addresses[0] ?? ''
  await makeTables(address)
  await insert(address, 'main', 'one')
  const before = await digestOf(address, 'main')
  const file = join(directory, 'main.sqlite')

  const refused = await lockstep(['backup', file, '--nodes', address])
  const made = await lockstep(['backup', file, '--database', 'main', '--nodes', address])

  assert.equal(refused.code, 1)
  assert.match(refused.output, /main, other; choose one with --database/)
  assert.equal(made.code, 0, made.output)
  assert.equal(countIn(file), 1)
  const restored = await startCluster(t, { nodes: 1, backup: file })
  await restored.ready()
  assert.equal(await digestOf(restored.addresses[0] ?? '', 'main'), before)
})

test('databases that are called like files of a snapshot are in the backup too', async t => {
  const directory = makeDirectory(t)
  const cluster = await startCluster(t, { nodes: 1 })
  const address = cluster.addresses[0] ?? ''
  // Files of a snapshot are numbered by the entries that made them: some of these names are taken.
  const names = ['db-8', 'db-7', 'db-6', 'db-5', 'db-4', 'db-3', 'backup', 'system']
  for (const database of names) {
    await post(address, '/execute', { action: 'create_db', database })
    const sql = `CREATE TABLE t AS SELECT '${database}' AS name`
    assert.equal((await post(address, '/execute', { database, sql })).status, 200)
  }
  const target = join(directory, 'backup')

  const made = await lockstep(['backup', target, '--nodes', address])

  assert.equal(made.code, 0, made.output)
  const files = names.map(name => `${name}.sqlite`)
  assert.deepEqual(readdirSync(target).toSorted(), ['backup.json', ...files].toSorted())
  for (const name of names) {
    const database = new DatabaseSync(join(target, `${name}.sqlite`), { readOnly: true })
    assert.equal(database.prepare('SELECT name FROM t').get()?.['name'], name)
    database.close()
  }
})

test('what can not be backed up or restored is refused and leaves nothing', async t => {
  const directory = makeDirectory(t)
  const cluster = await startCluster(t, { nodes: 1 })
  const address = cluster.addresses[0] ?? ''
  await makeTables(address)
  const nodes = ['--nodes', address]
  const good = join(directory, 'good')
  assert.equal((await lockstep(['backup', good, ...nodes])).code, 0)

  const missing = await lockstep(['backup', join(directory, 'x'), ...nodes, '--database', 'no'])
  const there = await lockstep(['backup', good, ...nodes])
  const nowhere = await lockstep(['backup', join(directory, 'no', 'x'), ...nodes])
  const closed = join(directory, 'closed')
  const data = cluster.nodes[0]?.directory ?? ''
  const full = await lockstep(['restore', good, '--data', data, '--node-id', 'n1'])
  const file = [join(good, 'main.sqlite'), '--data', join(directory, 'named')]
  const named = await lockstep(['restore', ...file, '--node-id', 'n1', '--database', 'lockstep_x'])

  for (const [name, { code, output }] of Object.entries({ missing, there, nowhere, full, named })) {
    assert.equal(code, 1, `${name}: ${output}`)
  }
  assert.match(missing.output, /no database no/)
  assert.match(there.output, /there already/)
  assert.match(nowhere.output, /there is no directory .*no; make it first/)
  assert.match(named.output, /can't name a database/)
  assert.match(full.output, /in use|belongs to node n1/)

  // A byte that has changed since is noticed, and what was begun can be begun again.
  const path = join(good, 'main.sqlite')
  const bytes = readFileSync(path)
  const before = bytes[5000] ?? 0
  bytes[5000] = before ^ 1
  writeFileSync(path, bytes)
  const fresh = join(directory, 'fresh')
  const garbled = await lockstep(['restore', good, '--data', fresh, '--node-id', 'r1'])
  assert.equal(garbled.code, 1)
  assert.match(garbled.output, /not the file that was backed up/)
  assert(!existsSync(join(fresh, 'node.json')))
  assert(!existsSync(join(fresh, 'restoring')), 'no half of it stays')
  bytes[5000] = before
  writeFileSync(path, bytes)
  const again = await lockstep(['restore', good, '--data', fresh, '--node-id', 'r1'])
  assert.equal(again.code, 0, again.output)
  const twice = await lockstep(['restore', good, '--data', fresh, '--node-id', 'r1'])
  assert.match(twice.output, /belongs to node r1/)
  if (process.getuid?.() !== 0) {
    chmodSync(directory, 0o500)
    assert.equal((await lockstep(['backup', closed, ...nodes])).code, 1)
    chmodSync(directory, 0o700)
  }
  assert.deepEqual(readdirSync(directory).toSorted(), ['fresh', 'good'])
})

test('a backup or a restore that has no room says so in a sentence and leaves nothing of it', async t => {
  const small = mkdtempSync(join(tmpdir(), 'lockstep-small-'))
  t.after(() => {
    spawnSync('umount', ['-l', small])
    rmSync(small, { recursive: true })
  })
  const directory = makeDirectory(t)
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', small]).status !== 0) {
    t.diagnostic('not run: this user may not mount small file systems')
    return
  }
  const cluster = await startCluster(t, { nodes: 1 })
  const address = cluster.addresses[0] ?? ''
  await makeTables(address)
  const sql = 'INSERT INTO t (text) VALUES (randomblob(1000000))'
  assert.equal((await post(address, '/execute', { database: 'main', sql })).status, 200)
  const good = join(directory, 'good')
  assert.equal((await lockstep(['backup', good, '--nodes', address])).code, 0)

  const backup = await lockstep(['backup', join(small, 'b'), '--nodes', address])
  assert.equal(backup.code, 1)
  assert.match(backup.output, /^lockstep: .*\/b can not be written: ENOSPC.*nothing of the .*\n$/)
  assert.deepEqual(readdirSync(small), [])
  const data = join(small, 'data')
  const restore = await lockstep(['restore', good, '--data', data, '--node-id', 'r1'])
  assert.equal(restore.code, 1)
  assert.match(restore.output, /^lockstep: .*\/data can not be written: ENOSPC.*run it again\n$/)
  for (const name of ['node.json', 'group-1', 'restoring']) assert(!existsSync(join(data, name)))
})

test('a backup whose node is lost on the way says so and leaves nothing', async t => {
  const directory = makeDirectory(t)
  const options = ['--snapshot-bytes-per-second', '65536']
  const cluster = await startCluster(t, { nodes: 1, options })
  const node = must(cluster.nodes[0])
  await makeTables(node.address)
  const sql = 'INSERT INTO t (text) VALUES (randomblob(2000000))'
  assert.equal((await post(node.address, '/execute', { database: 'main', sql })).status, 200)
  const target = join(directory, 'b')

  const made = lockstep(['backup', target, '--nodes', node.address])
  await until(
    () => Promise.resolve(globSync(join(directory, '.b.partial-*', 'snapshot', 'db-*')).length),
    count => count > 0,
  )
  await cluster.kill(node.nodeId)

  const { code, output } = await made
  assert.equal(code, 1)
  assert.match(
    output,
    /^lockstep: .* did not give the backup whole .*; nothing .* run it again.*\n$/,
  )
  assert.deepEqual(readdirSync(directory), [])
})
