/** Interactive transactions over a real MariaDB server, where it is not as SQLite is. */
import assert from 'node:assert/strict'
import { after, before, test, type TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Connection } from '../../../src/engine/mysql/connection.ts'
import { MysqlEngine } from '../../../src/engine/mysql/mysql-engine.ts'
import { parseServerAddress } from '../../../src/engine/mysql/server-address.ts'
import { SystemClock } from '../../../src/platform/clock.ts'
import { MariaDbServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import { EngineHarness } from '../harness.ts'
import { TransactionTalk } from '../transaction-talk.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }
let server: MariaDbServer | undefined

before(async () => {
  if (missing === undefined) server = await MariaDbServer.start()
})
after(() => server?.stop())

function url(prefix: string): string {
  return server?.url(prefix) ?? assert.fail('a server')
}

let nodes = 0

/** A node of its own on the server. */
async function openNode(t: TestContext): Promise<EngineHarness & { readonly prefix: string }> {
  nodes += 1
  const prefix = `n${nodes}_`
  const harness = await EngineHarness.open(directory => {
    const owner = { clusterId: 'c', nodeId: prefix, incarnation: 'i' }
    const clock = new SystemClock()
    const address = parseServerAddress(url(prefix))
    return Promise.resolve(new MysqlEngine({ address, owner, clock, readersMax: 2, directory }))
  }, '')
  t.after(() => harness.stop())
  return Object.assign(harness, { prefix })
}

const TABLE =
  'CREATE TABLE n (id BIGINT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(50) UNIQUE, b BIGINT, ' +
  'x DOUBLE, at DATETIME(3) DEFAULT NOW(3))'

async function openLeader(t: TestContext): Promise<EngineHarness & { readonly prefix: string }> {
  const leader = await openNode(t)
  await leader.createDatabase('a')
  await leader.run('a', TABLE)
  return leader
}

async function expectFollowed(t: TestContext, leader: EngineHarness): Promise<void> {
  // One by one with care, and many at once.
  for (const sizes of [1, 1000]) {
    const follower = await openNode(t)
    const { entries } = leader
    for (let at = 0; at < entries.length; at += sizes) {
      await follower.apply(entries.slice(at, at + sizes))
    }
    assert.deepEqual(await follower.digest('a'), await leader.digest('a'))
  }
}

/** A client of the server that is no node. */
async function stranger(t: TestContext, prefix: string): Promise<Connection> {
  const connection = await Connection.open(parseServerAddress(url('')))
  t.after(() => connection.close())
  await connection.expect(`USE ${prefix}a`)
  return connection
}

test(
  'time, chance and ids of a transaction are those of its entry, on every node',
  options,
  async t => {
    const leader = await openLeader(t)
    await leader.run('a', 'INSERT INTO n (a) VALUES (UUID())')
    const talk = new TransactionTalk(leader, { nowMs: 1_750_000_000_000 })
    await talk.run('INSERT INTO n (a, x) VALUES (UUID(), RAND()), (UUID(), RAND())')
    await talk.run('SAVEPOINT s')
    await talk.run('INSERT INTO n (a, x) VALUES (UUID(), RAND())')
    await talk.run('ROLLBACK TO s')
    await talk.run(
      'INSERT INTO n (a, x) VALUES (UUID(), RAND())',
      'INSERT INTO n (b) VALUES (LAST_INSERT_ID())',
      "UPDATE n SET x = RAND() WHERE id > 1 AND a <> 'other' ORDER BY id",
    )
    await talk.pause()
    const other = new TransactionTalk(leader, { seed: 5, nowMs: 1_800_000_000_000 })
    await other.run("INSERT INTO n (a) VALUES ('other') RETURNING id")
    await other.commit()
    await talk.run('INSERT INTO n (a) VALUES (UUID()), (UUID()), (UUID())')
    await talk.commit()

    const [[uuids, moments, rands] = []] = await leader.rows(
      'a',
      'SELECT count(DISTINCT a), count(DISTINCT at), count(DISTINCT x) FROM n',
    )
    assert.deepEqual([uuids, moments, rands], [8n, 3n, 3n])
    const [[last] = []] = await leader.rows('a', 'SELECT b - id FROM n WHERE b IS NOT NULL')
    assert.equal(last, -1n)
    await expectFollowed(t, leader)
  },
)

test(
  'an id that a transaction was told and another took meanwhile is a conflict',
  options,
  async t => {
    const leader = await openLeader(t)
    const talk = new TransactionTalk(leader)
    const [inserted] = await talk.run("INSERT INTO n (a) VALUES ('x')")
    await talk.pause()
    await leader.run('a', 'INSERT INTO n (id) VALUES (?)', [inserted?.lastInsertId ?? 0n])
    assert.equal((await talk.fail('SELECT 1')).code, 'TRANSACTION_CONFLICT')
    await expectFollowed(t, leader)
  },
)

test('a schema change is no step, with a sentence, and commits nothing', options, async t => {
  const leader = await openLeader(t)
  const talk = new TransactionTalk(leader)
  await talk.run('INSERT INTO n (id) VALUES (1)')
  for (const sql of [
    'CREATE TABLE u (x INT)',
    'ALTER TABLE n ADD COLUMN c INT',
    'DROP TABLE n',
    'TRUNCATE n',
    'TRUNCATE TABLE n',
    'RENAME TABLE n TO m',
    'CREATE INDEX i ON n (b)',
    'DROP INDEX a ON n',
    'CREATE OR REPLACE VIEW v AS SELECT 1',
    'INSERT INTO n (id) VALUES (2); DROP TABLE n',
    '/*!50100 DROP TABLE n */',
    '/*M!100100 TRUNCATE n */',
  ]) {
    const error = await talk.fail(sql)
    assert.equal(error.code, 'UNSUPPORTED', sql)
    assert.match(error.message, /commits a schema change by itself/)
    assert.equal(talk.last?.isOver, false)
  }
  assert.deepEqual(await leader.rows('a', 'SELECT id FROM n'), [], 'nothing was committed')
  await talk.run('INSERT INTO n (id) VALUES (3)')
  await talk.commit()
  assert.deepEqual(await leader.rows('a', 'SELECT id FROM n ORDER BY id'), [[1n], [3n]])
  await expectFollowed(t, leader)
})

const REFUSED: readonly string[] = [
  'START TRANSACTION',
  'BEGIN',
  'COMMIT WORK',
  'ROLLBACK AND CHAIN',
  '/*!COMMIT*/',
  'SELECT 1; COMMIT',
  'SELECT 1; SAVEPOINT lockstep_client_0',
  'XA START "x"',
  'SET autocommit = 1',
  'SET @x = 1',
  'SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED',
  'LOCK TABLES n WRITE',
  'UNLOCK TABLES',
  "SELECT GET_LOCK('x', 1)",
  "DO RELEASE_LOCK('x')",
  'FLUSH TABLES',
  'ANALYZE TABLE n',
  'OPTIMIZE TABLE n',
  'LOAD DATA INFILE "/tmp/x" INTO TABLE n',
  "SELECT 1 INTO OUTFILE '/tmp/x'",
  'SELECT 1 INTO @x',
  'HANDLER n OPEN',
  'CALL p()',
  'PREPARE p FROM "COMMIT"',
  'EXECUTE IMMEDIATE "COMMIT"',
  'CREATE TEMPORARY TABLE x (y INT)',
  'USE mysql',
  'KILL 1',
  'CREATE USER x',
  'GRANT ALL ON *.* TO x',
]

test(
  'statements that would end a transaction or bind a connection are no steps',
  options,
  async t => {
    const leader = await openLeader(t)
    const talk = new TransactionTalk(leader)
    await talk.run('INSERT INTO n (id) VALUES (1)')
    for (const sql of REFUSED) {
      assert.equal((await talk.fail(sql)).code, 'UNSUPPORTED', sql)
      assert.equal(talk.last?.isOver, false)
    }
    await talk.run('SELECT * FROM n WHERE id = 1 FOR UPDATE')
    await talk.pause()
    assert.deepEqual(await talk.rows('SELECT id FROM n'), [[1n]])
    assert.deepEqual(await leader.rows('a', 'SELECT id FROM n'), [])
    await talk.commit()
    assert.deepEqual(await leader.rows('a', 'SELECT id FROM n'), [[1n]])
  },
)

test('a transaction that the server has undone is over, and says so', options, async t => {
  const leader = await openLeader(t)
  await leader.run('a', 'INSERT INTO n (id, b) VALUES (1, 0), (2, 0), (3, 0), (4, 0)')
  const other = await stranger(t, leader.prefix)
  const talk = new TransactionTalk(leader)
  await talk.run('UPDATE n SET b = 1 WHERE id = 1')
  // It has changed more, so that the server takes the other for the victim of their deadlock.
  await other.expect('START TRANSACTION; UPDATE n SET b = 2, x = 2 WHERE id > 1')
  const waits = other.run('UPDATE n SET b = 2 WHERE id = 1')
  await until(async () => (await lockWaits(t)) > 0)
  const error = await talk.fail('UPDATE n SET b = 1 WHERE id = 2')
  assert.equal(error.code, 'TRANSACTION_LOST')
  assert.match(error.message, /Deadlock found/)
  assert.equal(error.details?.['transaction'], 'over')
  assert.equal(talk.last?.isOver, true)
  assert.equal((await waits).error, undefined)
  await other.expect('ROLLBACK')

  // The writer goes on, and finds no trace of it.
  const next = new TransactionTalk(leader)
  assert.deepEqual(await next.rows('SELECT sum(b) = 0 FROM n'), [[1n]])
  await next.run('UPDATE n SET b = 5')
  await next.commit()
  await expectFollowed(t, leader)
})

test(
  'a transaction whose connection is lost ends the writer, and the next repeats it',
  options,
  async t => {
    const leader = await openLeader(t)
    const other = await stranger(t, leader.prefix)
    const talk = new TransactionTalk(leader)
    await talk.run("INSERT INTO n (a) VALUES ('x')")
    const rows = await other.rows(
      `SELECT id FROM information_schema.processlist WHERE db = '${leader.prefix}a' AND ` +
        'id <> CONNECTION_ID()',
    )
    await other.expect(rows.map(([id]) => `KILL ${String(id)}`).join(';'))
    await leader.writer.exit
    talk.lost()
    await leader.startWriter()
    assert.deepEqual(await leader.rows('a', 'SELECT * FROM n'), [])
    await talk.run("INSERT INTO n (a) VALUES ('y')")
    await talk.commit()
    assert.deepEqual(await leader.rows('a', 'SELECT a FROM n ORDER BY a'), [['x'], ['y']])
    await expectFollowed(t, leader)
  },
)

test('the entry of a transaction tells what schema changes before it came to', options, async t => {
  const leader = await openLeader(t)
  await leader.run('a', 'CREATE TABLE u (x INT PRIMARY KEY)')
  const talk = new TransactionTalk(leader)
  await talk.run('INSERT INTO u VALUES (1)')
  await talk.commit()
  const follower = await openNode(t)
  await follower.apply(leader.entries.slice(0, 2))
  // Here the table is another one.
  const other = await stranger(t, follower.prefix)
  await other.expect('ALTER TABLE n COMMENT "changed behind its back"')
  const rest = { type: 'apply' as const, entries: leader.entries.slice(2) }
  const { divergence } = await follower.writer.expect(rest, 'applied')
  assert.equal(divergence?.index, leader.index)
  assert.match(divergence.sql, /schema change of entry 3/)
  assert.deepEqual(await follower.rows('a', 'SELECT * FROM u'), [], 'none of it was applied')
})

async function lockWaits(t: TestContext): Promise<number> {
  const connection = await stranger(t, `n${nodes}_`)
  const rows = await connection.rows('SELECT count(*) FROM information_schema.innodb_lock_waits')
  connection.close()
  return Number(rows[0]?.[0])
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 10_000
  while (!(await condition())) {
    assert(performance.now() < deadlineMs, 'it happens in time')
    await delay(20)
  }
}
