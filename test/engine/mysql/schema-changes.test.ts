/**
 * Schema changes that are broken off at each of their steps: the node is ended, or its server. The
 * node must know afterwards whether it had run, and come to what others come to.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { WriteRequest } from '../../../src/engine/engine.ts'
import { MariaDbServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import { ServerProxy } from '../../fixtures/server-proxy.ts'
import { statements } from '../harness.ts'
import { behindItsBack, type MysqlNode, soundDigest, startNode } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }

/** A change, what of it is in the packet that runs it, and what tells that it has run. */
interface Change {
  readonly request: WriteRequest
  readonly word: string
  /** Asks for a number that the change makes another one. `$` is the prefix. */
  readonly look: string
}

const IN_APP = "table_schema = '$app' AND table_name"
const COLUMNS = `SELECT count(*) FROM information_schema.columns WHERE ${IN_APP} = 't'`
const TABLE = (name: string): string =>
  `SELECT count(*) FROM information_schema.tables WHERE ${IN_APP} = '${name}'`
const DATABASE = (name: string): string =>
  `SELECT count(*) FROM information_schema.schemata WHERE schema_name = '$${name}'`

const ADD_COLUMN: Change = {
  request: statements('app', 'ALTER TABLE t ADD COLUMN more INT'),
  word: 'ALTER TABLE t',
  look: COLUMNS,
}
const CHANGES: readonly Change[] = [
  ADD_COLUMN,
  {
    request: statements('app', 'CREATE TABLE u (id INT PRIMARY KEY)'),
    word: 'CREATE TABLE u',
    look: TABLE('u'),
  },
  {
    request: statements(
      'app',
      'CREATE OR REPLACE TABLE t (id INT PRIMARY KEY, other INT, third INT)',
    ),
    word: 'CREATE OR REPLACE',
    look: COLUMNS,
  },
  { request: statements('app', 'DROP TABLE t'), word: 'DROP TABLE t', look: TABLE('t') },
  {
    request: statements('app', 'TRUNCATE TABLE t'),
    word: 'TRUNCATE TABLE t',
    look: 'SELECT count(*) FROM $app.t',
  },
  {
    request: { type: 'create-database', database: 'books' },
    word: 'CREATE DATABASE',
    look: DATABASE('books'),
  },
  {
    request: { type: 'drop-database', database: 'app' },
    word: 'DROP DATABASE',
    look: DATABASE('app'),
  },
]

const APPLIED = 'SELECT applied FROM $lockstep.state'
const INTENT = 'SELECT count(*) FROM $lockstep.intent'

/** Where it is broken off: when the node sends this, and before or after the server has run it. */
const POINTS: readonly {
  readonly name: string
  readonly word: (change: Change) => string
  readonly look: (change: Change) => string | undefined
}[] = [
  { name: 'before the intent', word: () => '.intent VALUES', look: () => undefined },
  { name: 'when the intent is committed', word: () => '.intent VALUES', look: () => INTENT },
  { name: 'before it runs', word: ({ word }) => word, look: () => undefined },
  { name: 'when it has run', word: ({ word }) => word, look: ({ look }) => look },
  { name: 'before the index moves', word: () => 'SET applied', look: () => undefined },
  { name: 'when the index has moved', word: () => 'SET applied', look: () => APPLIED },
]

let server: MariaDbServer
let proxy: ServerProxy

before(async () => {
  if (missing !== undefined) return
  server = await MariaDbServer.start()
  proxy = await ServerProxy.start(server.port)
})
after(async () => {
  await proxy?.stop()
  await server?.stop()
})

async function ask({ prefix }: MysqlNode, sql: string): Promise<string> {
  const [[value] = []] = await behindItsBack(server.port, sql.replaceAll('$', prefix))
  return String(value)
}

/** Begins the change and stops at the point, with all connections still there. */
async function runUpTo(
  node: MysqlNode,
  change: Change,
  point: (typeof POINTS)[number],
): Promise<void> {
  const { harness } = node
  const look = point.look(change)
  const first = look && (await ask(node, look))
  const executed = await harness.execute(change.request)
  assert(executed.entry !== undefined)
  const held = proxy.holdAt(point.word(change), look !== undefined)
  const index = harness.index + 1
  harness.entries.push({ index, data: executed.entry })
  const message = { type: 'commit' as const, batch: executed.batch, index }
  // It ends with its writer.
  void harness.writer.ask(message).catch(() => {})
  await held
  if (look === undefined) return
  const deadline = performance.now() + 10_000
  while ((await ask(node, look)) === first) {
    assert(performance.now() < deadline, `${point.name}: ${look} stays ${first}`)
  }
}

async function expectFinished(node: MysqlNode, twin: MysqlNode, what: string): Promise<void> {
  const { harness } = node
  await harness.writer.exit
  await harness.startWriter()
  const applied = harness.entries.slice(twin.harness.entries.length)
  await twin.harness.apply(applied)
  twin.harness.entries.push(...applied)
  twin.harness.index = harness.index
  assert.deepEqual(await soundDigest(node), await soundDigest(twin), what)
  // What it came to is what the others compare with the next entry.
  const outcomes = 'SELECT GROUP_CONCAT(entry, digest ORDER BY entry) FROM $lockstep.outcome'
  assert.equal(await ask(node, outcomes), await ask(twin, outcomes), what)
  assert.equal(await ask(node, INTENT), '0', what)
}

async function startPair(): Promise<{ readonly node: MysqlNode; readonly twin: MysqlNode }> {
  const node = await startNode(proxy.port)
  const { harness } = node
  await harness.createDatabase('app')
  await harness.run('app', 'CREATE TABLE t (id INT PRIMARY KEY, name TEXT)')
  await harness.run('app', "INSERT INTO t VALUES (1, 'one'), (2, 'two')")
  return { node, twin: await startNode(server.port, harness.entries) }
}

for (const point of POINTS) {
  test(`a node that is ended ${point.name} comes to what the others come to`, options, async () => {
    for (const change of CHANGES) {
      const { node, twin } = await startPair()
      await using _node = node
      await using _twin = twin
      await runUpTo(node, change, point)
      proxy.cut()
      await expectFinished(node, twin, `${change.word} ${point.name}`)
    }
  })

  test(`so does one whose server is ended ${point.name}`, options, async () => {
    const { node, twin } = await startPair()
    await using _node = node
    await runUpTo(node, ADD_COLUMN, point)
    await server.kill()
    proxy.cut()
    await server.restart()
    await twin.harness.writer.exit
    await using other = await startNode(server.port, twin.harness.entries)
    await expectFinished(node, other, point.name)
    await twin.harness.stop()
  })
}
