import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { LocalCluster } from '../../src/cli/local-cluster.ts'
import { OPTIONS } from '../../src/cli/options.ts'
import { programPath } from '../../src/cli/program.ts'

interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** Runs `lockstep` with these words to its end. */
async function lockstep(...args: readonly string[]): Promise<Ended> {
  const child = spawn(process.execPath, [programPath('main'), ...args])
  let out = ''
  let err = ''
  child.stdout.on('data', chunk => (out += String(chunk)))
  child.stderr.on('data', chunk => (err += String(chunk)))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, out, err }
}

/** A directory that goes away with its scope. */
function scratch(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'lockstep-main-'))
  return {
    path,
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true, maxRetries: 20 }),
  }
}

test('help names every command and every option but the secret', async () => {
  const program = await lockstep('--help')
  assert.equal(program.code, 0)
  for (const name of ['init', 'start', 'dev', 'status', 'sql', 'transfer']) {
    assert.match(program.out, new RegExp(`^  ${name} `, 'm'))
  }
  const start = await lockstep('start', '--help')
  const flags = [...start.out.matchAll(/^ +(--[a-z-]+) </gm)].map(match => match[1])
  assert.equal(
    flags.length,
    Object.keys(OPTIONS).length - 1 + 1,
    'all but the secret, and --config',
  )
  assert.ok(!flags.includes('--secret'))
})

test('what is no command, option or value ends with a sentence and leaves nothing behind', async () => {
  const cases: [words: string[], code: number, message: RegExp][] = [
    [['stat'], 2, /unknown command 'stat'/],
    [['start', '--tick', '5'], 2, /unknown option '--tick'/],
    [['start', '--node-id', 'n1'], 1, /^lockstep: --data is needed/],
    [['start', '--tick-ms', 'x'], 1, /^lockstep: --tick-ms must be a whole number of ms, not x\n$/],
    [['init', '--data', 'x'], 2, /required option '--node-id <id>' not specified/],
    [['dev', '--nodes', 'many'], 1, /^lockstep: --nodes must be a whole number .*, not many\n$/],
    [['dev', '--nodes', '0'], 1, /^lockstep: --nodes must be a whole number from 1 to 7, not 0\n$/],
    [['sql', 'SELECT 1', '--nodes', 'a b'], 1, /^lockstep: "a b" is no address of a node/],
  ]
  const ended = await Promise.all(cases.map(([words]) => lockstep(...words)))
  for (const [at, [words, code, message]] of cases.entries()) {
    assert.equal(ended[at]?.code, code, words.join(' '))
    assert.match(ended[at]?.err ?? '', message)
    assert.equal(ended[at]?.out, '')
  }
})

test('init founds once, says how to go on, and a second time what is there already', async () => {
  using directory = scratch()
  const words = ['init', '--data', directory.path, '--node-id', 'n1', '--voters', '1']
  const first = await lockstep(...words)
  assert.deepEqual([first.code, first.err], [0, ''])
  assert.match(first.out, /^Cluster [0-9a-f]{32} waits for its 1 voters\. Start the first:\n/)
  const second = await lockstep(...words)
  assert.equal(second.code, 1)
  assert.match(second.err, /already belongs to node n1 of cluster/)
})

test('sql, status and transfer speak to a cluster and print for people or programs', async () => {
  using directory = scratch()
  const cluster = await LocalCluster.start({ nodes: 2, directory: directory.path })
  try {
    const nodes = ['--nodes', cluster.addresses.join(',')]
    const sql = (...words: string[]): Promise<Ended> => lockstep('sql', ...nodes, ...words)
    const client = await fetch(`http://${cluster.addresses[0]}/execute`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ action: 'create_db', database: 'main' }),
    })
    assert.equal(client.status, 200)

    const created = await sql('CREATE TABLE t (a INTEGER, b TEXT)')
    assert.match(created.out, /^0 rows, by n\d at index \d+\n$/)
    const inserted = await sql('INSERT INTO t VALUES (?, ?), (?, ?)', '7', 'seven', '8', 'null')
    assert.match(inserted.out, /^2 rows, by n\d at index \d+\n$/)
    const read = await sql('SELECT a, b FROM t ORDER BY a')
    assert.match(read.out, / a .* b /)
    assert.match(read.out, / 7 .* seven /)
    assert.match(read.out, / 8 .* null /)
    const json = JSON.parse((await sql('--json', 'SELECT a FROM t WHERE b IS NULL')).out) as {
      rows: unknown
    }
    assert.deepEqual(json.rows, [{ a: 8 }])
    const wrong = await sql('SELECT * FROM nowhere')
    assert.deepEqual([wrong.code, wrong.err], [1, 'lockstep: no such table: nowhere\n'])

    const leader = await cluster.leader()
    const other = cluster.nodes.find(node => node.nodeId !== leader)?.nodeId
    const handed = await lockstep('transfer', ...nodes)
    assert.match(handed.out, new RegExp(`^${other} leads\n`))
    assert.match(handed.out, new RegExp(` ${other} .* voter .* leads `))
    const table = (await lockstep('status', ...nodes)).out
    assert.match(table, new RegExp(` ${other} .* leader .* ready `))
    assert.match(table, new RegExp(` ${leader} .* follower .* ready .* 0 entries `))

    const members = JSON.parse((await lockstep('members', '--json', ...nodes)).out) as {
      members: { nodeId: string; role: string }[]
    }
    const roles = members.members.map(({ nodeId, role }) => [nodeId, role])
    assert.deepEqual(roles, [
      ['n1', 'voter'],
      ['n2', 'voter'],
    ])
    const refused = await lockstep('promote', 'n7', ...nodes)
    assert.equal(refused.code, 1)
    assert.match(refused.err, /node n7 is no member of the cluster; members are n1, n2/)
    await cluster.kill(leader ?? '')
    const away = (await lockstep('status', ...nodes)).out
    assert.match(away, new RegExp(` ${leader} .* away .* can not connect to 127`))
  } finally {
    await cluster.stop('SIGKILL')
  }
})

test('dev runs a cluster, says how to talk to it, and takes it all away on SIGINT', async () => {
  const child = spawn(process.execPath, [programPath('main'), 'dev', '--nodes', '1'])
  let out = ''
  const isUp = Promise.withResolvers<void>()
  child.stdout.on('data', chunk => {
    out += String(chunk)
    if (out.includes('Ctrl-C')) isUp.resolve()
  })
  child.once('exit', () => isUp.reject(new Error(`ended after: ${out}`)))
  try {
    await isUp.promise
    const address = /curl .* http:\/\/(\S+)\/query/.exec(out)?.[1] ?? ''
    const read = await lockstep('sql', '--nodes', address, 'SELECT 1 AS one')
    assert.match(read.out, / one /)
    const ended = once(child, 'exit')
    child.kill('SIGINT')
    assert.deepEqual(await ended, [0, null])
    await assert.rejects(fetch(`http://${address}/health/live`))
  } finally {
    // Not SIGKILL: its nodes would go on without it.
    if (child.exitCode === null && child.kill('SIGINT')) await once(child, 'exit')
  }
})
