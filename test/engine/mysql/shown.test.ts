/** What clients are told of databases, by nodes whose servers have other names for them. */
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import { after, before, test } from 'node:test'
import { MariaDbServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import { statements } from '../harness.ts'
import { TransactionTalk } from '../transaction-talk.ts'
import { behindItsBack, type MysqlNode, startNode } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }

let server: MariaDbServer

before(async () => {
  if (missing === undefined) server = await MariaDbServer.start()
})
after(() => server?.stop())

const ASKED = [
  'SHOW TABLES',
  'SHOW FULL TABLES',
  "SHOW TABLES LIKE 't%'",
  'SHOW CREATE TABLE t',
  'SHOW CREATE TABLE child',
  'SHOW CREATE TABLE seen',
  'SHOW CREATE VIEW seen',
  'SHOW COLUMNS FROM t',
  'SHOW INDEX FROM t',
  'DESCRIBE seen',
  'SELECT DATABASE(), SCHEMA() AS name',
  "SELECT 'Tables_in_x' AS Tables_in_y, text_ FROM t",
  'EXPLAIN SELECT * FROM seen',
  'EXPLAIN FORMAT=JSON SELECT * FROM seen',
  'SELECT * FROM nothing',
  'SELECT nothing(1)',
  'SELECT nothing FROM t',
  'SELECT * FROM app.t',
  'SELECT table_schema FROM information_schema.tables',
]
const FAILING = [
  'INSERT INTO child VALUES (1, 99)',
  'INSERT INTO nothing VALUES (1)',
  "INSERT INTO t (id, text_) VALUES (1, 'again')",
  'DELETE FROM t',
  'UPDATE t SET n = 200',
  'DROP TABLE nothing',
  'DROP TABLE t',
  'CREATE TABLE t (id INT)',
  'CREATE VIEW seen AS SELECT 1',
  'ALTER TABLE t DROP COLUMN nothing',
  'RENAME TABLE t TO child',
  'ALTER TABLE child ADD FOREIGN KEY (id) REFERENCES nothing (id)',
]

test('nodes with different prefixes tell the same', options, async () => {
  await using one = await startNode(server.port)
  const { harness } = one
  await harness.createDatabase('app')
  for (const sql of [
    'CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, text_ TEXT, n INT CHECK (n < 100))',
    'CREATE TABLE child (id INT PRIMARY KEY, t INT, CONSTRAINT f FOREIGN KEY (t) REFERENCES t (id))',
    "INSERT INTO t (text_) VALUES ('Tables_in_d1_app.t AUTO_INCREMENT=7 DEFINER=`a`@`b` ')",
    'INSERT INTO child VALUES (7, 1)',
    'CREATE VIEW seen AS SELECT t.id, child.t FROM t JOIN child ON child.t = t.id',
  ]) {
    await harness.run('app', sql)
  }
  await using two = await startNode(server.port, harness.entries)
  // What was rolled back on one node only has moved its counter.
  await behindItsBack(
    server.port,
    `BEGIN; INSERT INTO ${one.prefix}app.t (n) VALUES (1), (2); ROLLBACK`,
  )
  for (const sql of ASKED) {
    const [first, second] = [await harness.query('app', sql), await two.harness.query('app', sql)]
    assert.deepEqual(first, second, sql)
    expectNoPrefix(one, first, sql)
  }
  const told = await harness.query('app', 'SHOW FULL TABLES')
  assert(told.type === 'ok')
  assert.deepEqual(told.results[0]?.columns, ['Tables_in_app', 'Table_type'])
  const like = await harness.query('app', "SHOW TABLES LIKE 't%'")
  assert(like.type === 'ok')
  assert.deepEqual(like.results[0]?.columns, ['Tables_in_app (t%)'])
  const view = (await harness.rows('app', 'SHOW CREATE VIEW seen'))[0]?.[1]
  assert.match(String(view), /^CREATE ALGORITHM=UNDEFINED SQL SECURITY DEFINER VIEW `seen` AS/)
  // Rows of users stay as they are.
  assert.match(
    String((await harness.rows('app', 'SELECT text_ FROM t'))[0]?.[0]),
    /^Tables_in_d1_app\.t AUTO_INCREMENT=7 DEFINER=/,
  )

  const talk = new TransactionTalk(harness, { database: 'app' })
  const [steps] = await talk.run('SHOW TABLES')
  assert.deepEqual(steps?.columns, ['Tables_in_app'])
  await talk.pause()

  for (const sql of FAILING) {
    const [result] = await harness.write(statements('app', sql))
    assert(result?.type === 'failed', sql)
    expectNoPrefix(one, result, sql)
  }
})

function expectNoPrefix({ prefix }: MysqlNode, told: unknown, sql: string): void {
  const text = inspect(told, { depth: 10 }).replaceAll('Tables_in_d1_app.t', '')
  assert(!text.includes(prefix), `${sql}: ${text}`)
}

/** None of them may run on a node whose server happens to have such a database. */
const REACHING = [
  'DROP TABLE shop.orders',
  'DROP TABLE IF EXISTS `shop`.orders',
  'TRUNCATE shop.orders',
  'TRUNCATE TABLE /* x */ shop . orders',
  'ALTER TABLE shop.orders ADD COLUMN n INT',
  'CREATE TABLE shop.fresh (id INT)',
  'CREATE TABLE fresh LIKE shop.orders',
  'CREATE TABLE fresh (LIKE shop.orders)',
  'RENAME TABLE shop.orders TO orders',
  'RENAME TABLE t TO shop.t',
  'ALTER TABLE t RENAME TO shop.t',
  'ALTER TABLE t RENAME AS shop.t',
  'ALTER TABLE t RENAME shop.t',
  'CREATE INDEX i ON shop.orders (id)',
  'DROP INDEX shop ON shop.orders',
  'DROP VIEW shop.seen',
  'CREATE VIEW shop.seen AS SELECT 1',
  'CREATE VIEW v AS SELECT id FROM shop.orders',
  'CREATE VIEW v AS SELECT shop.id FROM shop.orders shop',
  'CREATE VIEW v AS SELECT shop.id FROM t AS shop, shop.orders AS o',
  'CREATE VIEW v AS SELECT shop.id FROM (t AS shop, shop.orders AS o)',
  'CREATE VIEW v AS SELECT shop.id FROM t AS shop JOIN (shop.orders AS o) ON 1 = 1',
  'CREATE VIEW v AS SELECT 1 FROM t AS shop WHERE id IN (SELECT id FROM shop.orders)',
  'CREATE TABLE shop (id INT, FOREIGN KEY (id) REFERENCES shop.orders (id))',
]
const KEPT_IN = [
  'CREATE VIEW v1 AS SELECT t.id, u.n FROM t JOIN t AS u ON u.id = t.id WHERE t.n > u.n',
  'CREATE VIEW v2 AS SELECT EXTRACT(YEAR FROM t.d) AS y, TRIM(t.x) AS x FROM t, other ORDER BY t.id',
  'CREATE VIEW v3 AS SELECT a.id FROM (SELECT t.id FROM t, other WHERE other.id = t.id) AS a',
  'CREATE VIEW v4 AS SELECT t.id FROM t WHERE t.x LIKE t.y AND EXISTS (SELECT 1 FROM other WHERE t.id = other.id)',
  'CREATE VIEW v5 AS SELECT COUNT(*) AS c, `T`.id FROM `T` GROUP BY `T`.id, `T`.n',
  'CREATE TABLE made (id INT, n INT, CHECK (made.n > 0))',
]

test('a schema change reaches into no other database, wherever that may be', options, async () => {
  await using node = await startNode(server.port)
  const { harness } = node
  await harness.createDatabase('app')
  await harness.run('app', 'CREATE TABLE t (id INT PRIMARY KEY, n INT, d DATE, x TEXT, y TEXT)')
  await harness.run('app', 'CREATE TABLE `T` (id INT PRIMARY KEY, n INT)')
  await harness.run('app', 'CREATE TABLE other (id INT PRIMARY KEY)')
  for (const sql of REACHING) {
    const executed = await harness.execute(statements('app', sql))
    assert.equal(executed.entry, undefined, `${sql} is not logged`)
    const [result] = executed.results
    assert(result?.type === 'failed', sql)
    assert.match(result.error.message, /leave out shop before the dot/, sql)
  }
  for (const sql of KEPT_IN) await harness.run('app', sql)
})
