/** The demonstration on MySQL servers, as a person starts it. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync, readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { test, type TestContext } from 'node:test'
import { programPath } from '../../src/cli/program.ts'
import { Connection } from '../../src/engine/mysql/connection.ts'
import { parseServerAddress } from '../../src/engine/mysql/server-address.ts'
import { makeDirectory, until } from '../cluster/kit.ts'
import { MariaDbServer, whyNoMariaDb } from '../fixtures/mariadb-server.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }
const ROWS = '2000'

interface Demo {
  readonly child: ChildProcess
  readonly ended: Promise<{ readonly code: number | null; readonly out: string }>
  /** Resolves once this was printed. */
  printed(text: string): Promise<void>
}

function startDemo(t: TestContext, args: readonly string[], env = process.env): Demo {
  const words = [programPath('demo'), '--rows', ROWS, ...args]
  const child = spawn(process.execPath, words, { env })
  t.after(() => child.kill('SIGKILL'))
  let out = ''
  const waiting = new Map<string, () => void>()
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', chunk => {
      out += String(chunk)
      for (const [text, resolve] of waiting) if (out.includes(text)) resolve()
    })
  }
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, out }))
  return {
    child,
    ended,
    printed: async text => {
      const { promise, resolve } = Promise.withResolvers<void>()
      waiting.set(text, resolve)
      const end = ended.then(() => assert.fail(`it ended without printing "${text}": ${out}`))
      if (!out.includes(text)) await Promise.race([promise, end])
    },
  }
}

/** Nobody listens any more where it said that it did. */
async function expectGone(out: string): Promise<void> {
  const addresses = [...new Set(out.match(/127\.0\.0\.1:\d+/g))]
  assert(addresses.length >= 4, out)
  for (const address of addresses) {
    const socket = connect({ host: '127.0.0.1', port: Number(address.split(':')[1]) })
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
    assert.equal(error.code, 'ECONNREFUSED', address)
  }
}

function expectSound(out: string): void {
  assert.match(out, /acknowledged rows missing: 0, rows there twice: 0/)
  assert.match(out, /all digests are equal/)
  assert.equal(out.match(new RegExp(`^n[123]: ${ROWS} rows in `, 'gm'))?.length, 3, out)
}

test('one private server for all nodes, with the kill of the leader', options, async t => {
  const words = ['--engine', 'mysql', '--central', '--kill-leader', '--exit']
  const { code, out } = await startDemo(t, words).ended
  assert.equal(code, 0, out)
  assert.match(out, /all nodes keep their data on one MariaDB server/)
  assert.match(out, /n[123] was killed in the middle of the load/)
  expectSound(out)
  await expectGone(out)
})

test('a private server for each node, until it is interrupted', options, async t => {
  const demo = startDemo(t, ['--engine', 'mysql'])
  await demo.printed('Stop all:')
  demo.child.kill('SIGINT')
  const { code, out } = await demo.ended
  assert.equal(code, 0, out)
  assert.match(out, /each node keeps its data on a MariaDB server of its own/)
  expectSound(out)
  await expectGone(out)
})

test('interrupted while its servers start it leaves none of them behind', options, async t => {
  const directory = makeDirectory(t)
  const demo = startDemo(t, ['--engine', 'mysql'], { ...process.env, TMPDIR: directory })
  await until(
    () => Promise.resolve(readdirSync(directory)),
    names => names.length === 3,
  )
  demo.child.kill('SIGTERM')
  const { out } = await demo.ended
  assert.doesNotMatch(out, /digests/)
  assert.deepEqual(readdirSync(directory), [])
  const commands = globSync('/proc/[0-9]*/cmdline').map(readCommand)
  assert.deepEqual(
    commands.filter(command => command.includes(directory)),
    [],
  )
})

/** Of a process that may be gone by now. */
function readCommand(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

test('a server of the user is left as it was', options, async t => {
  const server = await MariaDbServer.start()
  t.after(() => server.stop())
  const connection = await Connection.open(parseServerAddress(server.url('')))
  t.after(() => connection.close())
  const databases = async (): Promise<unknown[]> => (await connection.rows('SHOW DATABASES')).flat()
  await connection.expect('CREATE DATABASE n4_world; CREATE DATABASE mine_n2_world')
  const before = await databases()
  const url = `mysql://root@127.0.0.1:${server.port}`
  const { code, out } = await startDemo(t, ['--engine', url, '--exit']).ended
  assert.equal(code, 0, out)
  expectSound(out)
  assert.deepEqual(await databases(), before)

  const refused = await startDemo(t, ['--engine', `${url}/?prefix=mine_`, '--exit']).ended
  assert.equal(refused.code, 1)
  assert.match(refused.out, /has a database mine_n2_world already: nothing is overwritten/)
  assert.deepEqual(await databases(), before)
})

test('without a server it says what to install', async t => {
  const env = { ...process.env, PATH: '/nowhere' }
  const { code, out } = await startDemo(t, ['--engine', 'mysql'], env).ended
  assert.equal(code, 1)
  assert.match(out, /not found \(Debian, as root: apt-get install mariadb-server\)/)
  assert.match(out, /npm run setup installs it/)
})

test('options that do not fit are refused with a sentence', async t => {
  for (const [words, message] of [
    [['--central'], /--central goes with --engine mysql/],
    [['--engine', 'postgres'], /--engine must be sqlite, or mysql:/],
    [['--rows', '0'], /--rows must be a whole number from 1, not 0/],
  ] as const) {
    const { code, out } = await startDemo(t, words).ended
    assert.equal(code, 1)
    assert.match(out, message)
  }
})
