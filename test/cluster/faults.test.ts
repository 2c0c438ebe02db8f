import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import { LocalCluster } from '../../src/cli/local-cluster.ts'
import { get, lockstep, makeDirectory, post, rolesOf, startCluster, until } from './kit.ts'

const CREATE = { action: 'create_db', database: 'app' }

test('an empty disk that was neither founded nor asked to join never starts', async t => {
  const directory = makeDirectory(t)
  const { code, output } = await lockstep([
    'start',
    '--data',
    join(directory, 'n1'),
    '--node-id',
    'n1',
    '--listen',
    '127.0.0.1:1',
  ])
  assert.notEqual(code, 0)
  assert.match(output, /lockstep -- init/)
})

test('an address that is taken is named, and nothing is served', async t => {
  const directory = makeDirectory(t)
  const other = createServer()
  other.listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.after(() => other.close())
  const listen = `127.0.0.1:${(other.address() as AddressInfo).port}`
  const data = join(directory, 'n1')
  assert.equal(
    (await lockstep(['init', '--data', data, '--node-id', 'n1', '--voters', '1'])).code,
    0,
  )

  const { code, output } = await lockstep([
    'start',
    '--data',
    data,
    '--node-id',
    'n1',
    '--listen',
    listen,
  ])

  assert.notEqual(code, 0)
  assert.match(output, /PORT_IN_USE|in use|taken/)
})

test('two processes can not share a data directory', async t => {
  const cluster = await startCluster(t, { nodes: 1 })
  const [node] = cluster.nodes
  assert(node !== undefined)
  const args = [
    'start',
    '--data',
    node.directory,
    '--node-id',
    node.nodeId,
    '--listen',
    '127.0.0.1:1',
  ]
  const { code, output } = await lockstep(args)
  assert.notEqual(code, 0)
  assert.match(output, /in use/)
})

test('a wiped disk under an old id is refused for ever, and so is a second node under one id', async t => {
  const cluster = await startCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  const victim = cluster.nodes.find(({ nodeId }) => nodeId !== leaderId)
  assert(victim !== undefined)
  const [first] = cluster.nodes
  const secret = readFileSync(join(first?.directory ?? '', 'secret'), 'utf8').trim()
  await cluster.kill(victim.nodeId)
  const others = cluster.nodes.filter(node => node !== victim).map(({ address }) => address)
  const kept = `${victim.directory}-kept`
  cpSync(victim.directory, kept, { recursive: true })
  rmSync(victim.directory, { recursive: true })

  const start = ['start', '--data', victim.directory, '--node-id', victim.nodeId]
  start.push('--listen', victim.address, '--join', others.join(','))
  const { code, output } = await lockstep(start, { LOCKSTEP_SECRET: secret })

  assert.notEqual(code, 0)
  assert.match(output, /FORBIDDEN|disk|incarnation/)
  // With its own disk it is welcome again.
  rmSync(victim.directory, { recursive: true, force: true })
  cpSync(kept, victim.directory, { recursive: true })
  cluster.restart(victim.nodeId)
  await cluster.ready()
})

test('a data directory of another node, and one of a newer version, are refused untouched', async t => {
  const cluster = await startCluster(t, { nodes: 1 })
  const [node] = cluster.nodes
  assert(node !== undefined)
  await cluster.kill(node.nodeId)
  const start = (nodeId: string): ReturnType<typeof lockstep> =>
    lockstep(['start', '--data', node.directory, '--node-id', nodeId, '--listen', node.address])

  const asOther = await start('n9')
  assert.notEqual(asOther.code, 0)
  assert.match(asOther.output, /belongs to node n1/)

  const path = join(node.directory, 'node.json')
  const identity = readFileSync(path, 'utf8')
  const newer = identity.replace(/"format": *\d+/, '"format": 99')
  writeFileSync(path, newer)
  const asNewer = await start('n1')
  assert.notEqual(asNewer.code, 0)
  assert.match(asNewer.output, /newer version/)
  assert.equal(readFileSync(path, 'utf8'), newer)
})

test('a log of another cluster under this node is refused', async t => {
  const one = await startCluster(t, { nodes: 1 })
  const two = await startCluster(t, { nodes: 1 })
  await one.kill('n1')
  await two.kill('n1')
  const [node] = one.nodes
  const [other] = two.nodes
  assert(node !== undefined && other !== undefined)
  const log = join(node.directory, 'group-1', 'log')
  rmSync(log, { recursive: true })
  cpSync(join(other.directory, 'group-1', 'log'), log, { recursive: true })

  const args = ['start', '--data', node.directory, '--node-id', 'n1', '--listen', node.address]
  const { code, output } = await lockstep(args)

  assert.notEqual(code, 0)
  assert.match(output, /another cluster|WRONG_DATA|belongs/)
})

test('a node whose log directory was emptied does not take itself for a new one', async t => {
  const cluster = await startCluster(t, { nodes: 1 })
  const [node] = cluster.nodes
  assert(node !== undefined)
  await cluster.kill('n1')
  rmSync(join(node.directory, 'group-1', 'log'), { recursive: true })

  const args = ['start', '--data', node.directory, '--node-id', 'n1', '--listen', node.address]
  const { code, output } = await lockstep(args)

  assert.notEqual(code, 0)
  assert.match(output, /log/)
})

test('strangers who ask for an upgrade and reset the connection end nothing', async t => {
  const cluster = await startCluster(t, { nodes: 1 })
  const [address = ''] = cluster.addresses
  const pid = cluster.pid('n1')
  const [host = '', port = ''] = address.split(':')
  for (const path of ['/query', '/replicate', '/']) {
    for (let times = 0; times < 20; times += 1) {
      const socket = connect(Number(port), host)
      await once(socket, 'connect')
      const head = `GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n`
      await new Promise(resolve => socket.write(head, resolve))
      socket.on('error', () => {})
      socket.resetAndDestroy()
      await once(socket, 'close')
    }
  }

  assert.equal((await get(address, '/health/live')).status, 200)
  assert.equal(cluster.pid('n1'), pid)
  assert(cluster.isRunning('n1'))
})

test('ten thousand connections neither stop a node nor keep others from asking after its health', async t => {
  const cluster = await startCluster(t, { nodes: 1, options: ['--max-connections', '1000'] })
  const [address = ''] = cluster.addresses
  // A process of its own holds them, since one process may have too few descriptors for both ends.
  const program = new URL('../fixtures/many-connections.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [program, address, '10000'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  const { opened } = JSON.parse(String(line)) as { opened: number }
  assert(opened > 1000, `${opened} connections were opened`)

  child.stdin.end()
  await once(child, 'exit')
  const written = await until(
    () => post(address, '/execute', CREATE),
    ({ status }) => status === 200 || status === 409,
  )
  assert(written.status === 200)
  assert.equal((await get(address, '/health/live')).status, 200)
})

test('a full disk stops the node with a reason, and nothing that was acknowledged is lost', async t => {
  mkdirSync('.lockstep', { recursive: true })
  const data = resolve(mkdtempSync(join('.lockstep', 'small-')))
  // A small file system of its own needs rights that not everybody has.
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', data]).status !== 0) {
    t.diagnostic('not run: this user may not mount a small file system')
    rmSync(data, { recursive: true })
    return
  }
  const started: LocalCluster[] = []
  t.after(async () => {
    for (const cluster of started) await cluster.stop('SIGKILL')
    spawnSync('umount', ['-l', data])
    rmSync(data, { recursive: true })
  })
  // Without a least it writes on until the disk is really full.
  const options = ['--min-free-bytes', '0']
  const cluster = await LocalCluster.start({ nodes: 1, directory: data, options })
  started.push(cluster)
  const [address = ''] = cluster.addresses
  await post(address, '/execute', CREATE)
  await post(address, '/execute', {
    database: 'app',
    sql: 'CREATE TABLE blobs (id INTEGER, b BLOB)',
  })
  let acknowledged = 0
  let failure = 'none'
  for (let id = 1; id < 1000 && failure === 'none'; id += 1) {
    const insert = { database: 'app', sql: `INSERT INTO blobs VALUES (${id}, randomblob(200000))` }
    try {
      const { status, json } = await post(address, '/execute', insert)
      if (status === 200) acknowledged = id
      else failure = json.error?.code ?? 'unknown'
    } catch {
      failure = 'the node ended'
    }
  }
  assert.notEqual(failure, 'none')
  assert(acknowledged > 10, `only ${acknowledged} were acknowledged`)
  await cluster.stop('SIGKILL')

  spawnSync('mount', ['-o', 'remount,size=200m', data])
  cluster.restart('n1')
  await cluster.ready()
  const sql = `SELECT count(*) FROM blobs WHERE id <= ${acknowledged}`
  const { json } = await post(address, '/query', { database: 'app', sql })
  assert.deepEqual(json.results?.[0]?.rows, [[acknowledged]])
})

test('a main process killed in a long statement leaves no orphan behind its successor', async t => {
  const cluster = await startCluster(t, { nodes: 1, options: ['--max-execute-ms', '60000'] })
  const [node] = cluster.nodes
  assert(node !== undefined)
  const { address } = node
  await post(address, '/execute', CREATE)
  await post(address, '/execute', { database: 'app', sql: 'CREATE TABLE t (i INTEGER)' })
  const slow = {
    database: 'app',
    sql: `INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000000)
          SELECT count(*) FROM n`,
    timeoutMs: 60_000,
  }
  const running = post(address, '/execute', slow).catch(() => undefined)
  const pids = await until(
    () => childrenOf(cluster.pid('n1') ?? 0),
    found => found.some(pid => cpuTicks(pid) > 50),
  )
  await cluster.kill('n1')
  cluster.restart('n1')
  await cluster.ready()
  await running

  assert.deepEqual(
    pids.filter(pid => isAlive(pid)),
    [],
  )
  const { json } = await post(address, '/query', { database: 'app', sql: 'SELECT count(*) FROM t' })
  assert.deepEqual(json.results?.[0]?.rows, [[0]])
})

function childrenOf(pid: number): number[] {
  const { stdout } = spawnSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' })
  return stdout.split('\n').filter(Boolean).map(Number)
}

function cpuTicks(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[11])
  } catch {
    // It has ended.
    return 0
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    // No such process.
    return false
  }
}
