/** Servers that can't carry a node, and data on them that are not its own. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { MysqlEngine } from '../../../src/engine/mysql/mysql-engine.ts'
import type { Owner } from '../../../src/engine/mysql/node-tables.ts'
import { parseServerAddress } from '../../../src/engine/mysql/server-address.ts'
import { findProblem } from '../../../src/engine/mysql/server-check.ts'
import { SystemClock } from '../../../src/platform/clock.ts'
import { MariaDbServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import { AskedWriter } from '../harness.ts'
import { behindItsBack, startNode } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }
const OWNER: Owner = { clusterId: 'c1', nodeId: 'n1', incarnation: 'i1' }

let server: MariaDbServer

before(async () => {
  // A binlog of rows is no hindrance.
  const settings = ['log-bin', 'binlog-format=ROW']
  if (missing === undefined) server = await MariaDbServer.start(settings)
})
after(() => server?.stop())

/** What a writer says that opens on this server: its fault as one text, or that it opened. */
async function open(url: string, owner = OWNER): Promise<string> {
  const address = parseServerAddress(url)
  const engine = new MysqlEngine({ address, owner, clock: new SystemClock(), readersMax: 1 })
  const writer = new AskedWriter(engine)
  try {
    const reply = await writer.ask({ type: 'open' })
    return reply.type === 'fault' ? `${reply.error.code}: ${reply.error.message}` : reply.type
  } finally {
    await new Promise<void>(resolve => engine.stop(resolve))
  }
}

async function run(...sql: readonly string[]): Promise<readonly (readonly unknown[])[]> {
  return behindItsBack(server.port, ...sql)
}

/** All that is in the databases whose names begin so, as one text. */
async function contentOf(prefix: string): Promise<string> {
  const tables = await run(
    'SELECT table_schema, table_name FROM information_schema.tables ' +
      `WHERE table_schema LIKE '${prefix}%' ORDER BY 1, 2`,
  )
  const content: unknown[] = []
  for (const [database, table] of tables) {
    const name = `\`${String(database)}\`.\`${String(table)}\``
    content.push(await run(`SHOW CREATE TABLE ${name}`), await run(`CHECKSUM TABLE ${name}`))
  }
  return JSON.stringify(content, (_, value: unknown) =>
    typeof value === 'bigint' ? String(value) : value,
  )
}

test('wrong credentials and missing rights are told without the password', options, async () => {
  await run(
    "CREATE USER strict@'127.0.0.1' IDENTIFIED BY 'right'",
    "CREATE USER poor@'127.0.0.1' IDENTIFIED BY 'secret'",
    "GRANT ALL ON `other\\_%`.* TO poor@'127.0.0.1'",
  )
  const place = `127.0.0.1:${server.port}`
  for (const [account, said] of [
    ['nobody:secret', /^SERVER_REFUSED: the MySQL server at .* lets this node not in/],
    ['strict:secret', /^SERVER_REFUSED: the MySQL server at .* lets this node not in/],
    ['poor:secret', /^SERVER_REFUSED: .*denied.* to database 'x1_lockstep'/],
  ] as const) {
    const told = await open(`mysql://${account}@${place}/?prefix=x1_`)
    assert.match(told, said)
    assert.doesNotMatch(told, /secret/)
  }
  assert.equal(await contentOf('x1_'), '[]')
  assert.equal(await open(`mysql://poor:secret@${place}/?prefix=other_`), 'opened')
})

test('a server that nothing answers at is down', options, async () => {
  assert.match(await open('mysql://root@127.0.0.1:1/'), /^SERVER_DOWN: .* at 127\.0\.0\.1:1 can't/)
})

const UNFIT: readonly (readonly [setting: string, said: RegExp])[] = [
  ["binlog_format = 'STATEMENT'", /binlog of statements.*set binlog_format=ROW/],
  ['read_only = 1', /read-only.*give the node a server of its own/],
  ["innodb_default_row_format = 'compact'", /compact rows; set innodb_default_row_format to dy/],
  ['max_allowed_packet = 1048576', /packets of 1048576 bytes; set max_allowed_packet to 16777216/],
]

test('a server with settings that do not do is refused by their name', options, async () => {
  for (const [setting, said] of UNFIT) {
    const [name = ''] = setting.split(' ', 1)
    const [[before] = []] = await run(`SELECT @@GLOBAL.${name}`)
    await run(`SET GLOBAL ${setting}`)
    const told = await open(server.url('unfit_'))
    const value = typeof before === 'string' ? `'${before}'` : String(before)
    await run(`SET GLOBAL ${name} = ${value}`)
    assert.match(told, /^SERVER_UNFIT: the MySQL server at 127\.0\.0\.1:\d+ /)
    assert.match(told, said)
  }
  assert.equal(await contentOf('unfit_'), '[]')
  assert.equal(await open(server.url('unfit_')), 'opened')
})

test('a server that is too old, or lets nobody set the time, is refused', options, async () => {
  for (const [setting, said] of [
    ['version=10.5.12-MariaDB', /version 10\.5\.12.* needs MariaDB 10\.6 or MySQL 8\.0/],
    ['secure-timestamp=YES', /secure_timestamp=YES/],
  ] as const) {
    await using unfit = await MariaDbServer.start([setting])
    assert.match(await open(unfit.url('')), said)
    const list = await behindItsBack(unfit.port, "SHOW DATABASES LIKE '%lockstep%'")
    assert.deepEqual(list, [])
  }
})

test(
  'a prefix in use by another cluster, node or earlier life is left alone',
  options,
  async () => {
    const url = server.url('used_')
    assert.equal(await open(url), 'opened')
    const content = await contentOf('used_')
    for (const [owner, whose] of [
      [{ ...OWNER, clusterId: 'c2' }, 'node n1 of cluster c1'],
      [{ ...OWNER, nodeId: 'n2' }, 'node n1 of cluster c1'],
      [{ ...OWNER, incarnation: 'i2' }, 'an earlier life of node n1'],
    ] as const) {
      const told = await open(url, owner)
      assert.match(told, new RegExp(`^WRONG_DATA: used_lockstep on the server belongs to ${whose}`))
    }
    assert.equal(await contentOf('used_'), content)
    assert.equal(await open(url), 'opened')
  },
)

const STRANGERS: readonly (readonly [what: string, sql: readonly string[]])[] = [
  ['other tables', ['CREATE TABLE $.notes (id INT)', 'INSERT INTO $.notes VALUES (1)']],
  ['a table state of its own', ['CREATE TABLE $.state (id INT)', 'INSERT INTO $.state VALUES (1)']],
  ['an empty table of ours by name', ['CREATE TABLE $.note (id INT)']],
  [
    'rows in a table like ours',
    [
      'CREATE TABLE $.note (name VARCHAR(64) PRIMARY KEY, value MEDIUMTEXT NOT NULL)',
      "INSERT INTO $.note VALUES ('flushed', 'mine')",
    ],
  ],
]

for (const [at, [what, sql]] of STRANGERS.entries()) {
  test(`a database lockstep of somebody else with ${what} is left alone`, options, async () => {
    const prefix = `s${at}_`
    await run(`CREATE DATABASE ${prefix}lockstep`)
    await run(...sql.map(each => each.replaceAll('$', `${prefix}lockstep`)))
    const content = await contentOf(prefix)
    assert.match(await open(server.url(prefix)), /^WRONG_DATA: .*that Lockstep did not make/)
    assert.equal(await contentOf(prefix), content)
  })
}

test('a first start that was broken off is begun anew', options, async () => {
  await run('CREATE DATABASE half_lockstep')
  assert.equal(await open(server.url('half_')), 'opened')
  await run('DELETE FROM half_lockstep.state', 'DROP TABLE half_lockstep.note')
  assert.equal(await open(server.url('half_')), 'opened')
})

test('a database of the prefix that Lockstep did not make is kept from harm', options, async () => {
  await using node = await startNode(server.port)
  const { harness, prefix } = node
  const theirs = `${prefix}world`
  await run(`CREATE DATABASE ${theirs}`, `CREATE TABLE ${theirs}.t (id INT)`)
  await harness.createDatabase('app')
  const [result] = await harness.write({ type: 'create-database', database: 'world' })
  assert(result?.type === 'failed')
  assert.equal(result.error.code, 'DATABASE_EXISTS')
  assert.match(result.error.message, new RegExp(`${theirs} that Lockstep did not make`))
  // Another node made it, as it could there: this one says why it can't follow, and stays.
  await using other = await startNode(server.port)
  await other.harness.createDatabase('app')
  await other.harness.createDatabase('world')
  const [, entry] = other.harness.entries
  assert(entry !== undefined)
  const reply = await harness.writer.ask({ type: 'apply', entries: [{ ...entry, index: 2 }] })
  assert(reply.type === 'fault', reply.type)
  assert.match(reply.error.message, new RegExp(`${theirs} already, which Lockstep did not make`))
  assert.deepEqual(await run(`SHOW TABLES FROM ${theirs}`), [['t']])
  assert.deepEqual(await harness.databases(), ['app'])
})

const FIT = {
  log_bin: 'ON',
  binlog_format: 'ROW',
  read_only: 'OFF',
  max_allowed_packet: '16777216',
}

function problem(version: string, variables: Readonly<Record<string, string>> = {}): string {
  return findProblem(version, new Map(Object.entries({ ...FIT, ...variables }))) ?? ''
}

test('servers that are new enough are let be', () => {
  for (const version of [
    '10.11.19-MariaDB-0+deb12u1',
    '10.6.0-MariaDB',
    '11.4.2-MariaDB',
    '8.0.36',
    '9.1.0',
  ]) {
    assert.equal(problem(version), '', version)
  }
})

test('old servers, and settings that would lose or change something, are named', () => {
  assert.match(problem('10.5.12-MariaDB'), /10\.5\.12.*needs MariaDB 10\.6/)
  assert.match(problem('5.7.44'), /needs .*MySQL 8\.0/)
  assert.match(problem('8.0.36', { read_only: 'ON' }), /read-only/)
  assert.match(problem('8.0.36', { binlog_format: 'STATEMENT' }), /binlog_format=ROW/)
  assert.equal(problem('8.0.36', { log_bin: 'OFF', binlog_format: 'STATEMENT' }), '')
  assert.match(problem('8.0.36', { max_allowed_packet: '4194304' }), /max_allowed_packet/)
  assert.match(problem('10.11.0-MariaDB', { secure_timestamp: 'YES' }), /secure_timestamp/)
  assert.match(problem('10.11.0-MariaDB', { innodb_page_size: '4096' }), /pages of 4096 bytes/)
  const implicit = { explicit_defaults_for_timestamp: 'OFF' }
  assert.match(problem('10.6.12-MariaDB', implicit), /set explicit_defaults_for_timestamp=ON/)
})
