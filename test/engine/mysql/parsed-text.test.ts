import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseText } from '../../../src/engine/mysql/parsed-text.ts'
import { render } from '../../../src/engine/mysql/render.ts'
import type { ParsedStatement } from '../../../src/engine/mysql/statement-parser.ts'

function parseOne(sql: string): ParsedStatement {
  const [statement, ...others] = parseText(sql)
  assert.equal(others.length, 0)
  return statement ?? assert.fail()
}

test('a script is cut into its statements, and not inside of strings', () => {
  const script = "INSERT INTO t VALUES ('a;b'); -- c;d\n SELECT 1;; SELECT `;`"
  assert.deepEqual(
    parseText(script).map(statement => render(statement, [], 'a')),
    ["INSERT INTO t VALUES ('a;b')", 'SELECT 1', 'SELECT `;`'],
  )
})

test('the text that is sent holds no comment that could reach into the next one', () => {
  for (const [sql, sent] of [
    ['SELECT 1 /* open', 'SELECT 1'],
    ['SELECT 1 -- end', 'SELECT 1'],
    ['SELECT 1 # end', 'SELECT 1'],
    ['SELECT/* a */1 +/*! 2 */', 'SELECT 1 + 2'],
    ['SELECT /*+ SET_VAR(sql_mode = "") */ 1', 'SELECT 1'],
    ['/*!40101 SELECT 1 */', 'SELECT 1'],
    ['/*M!999999\\- sandbox */ SELECT 1', 'SELECT 1'],
  ] as const) {
    assert.equal(render(parseOne(sql), [], 'a'), sent)
  }
  assert.throws(() => parseText("SELECT 'a"), { code: 'SQL_SYNTAX' })
  assert.throws(() => parseText(' ; -- nothing'), { code: 'SQL_SYNTAX' })
})

test('what a statement does is known by its verb, behind brackets and WITH too', () => {
  for (const [kind, sql] of [
    ['read', '(SELECT 1) UNION (SELECT 2)'],
    ['read', 'WITH a AS (SELECT 1) SELECT * FROM a'],
    ['write', 'WITH a AS (SELECT 1) DELETE FROM t WHERE id IN (SELECT * FROM a)'],
    ['write', 'REPLACE INTO t VALUES (1)'],
    ['schema', 'TRUNCATE t'],
    ['schema', 'create or replace view v as select 1'],
  ] as const) {
    assert.equal(parseOne(sql).kind, kind, sql)
    assert.equal(parseOne(sql).refusal, undefined, sql)
  }
})

test('what differs between nodes, or outlives a request, is refused with a reason', () => {
  for (const sql of [
    'ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u',
    'BEGIN',
    'SET autocommit = 0',
    'USE other',
    'LOCK TABLES t WRITE',
    'CALL p()',
    'GRANT ALL ON *.* TO x',
    'KILL 5',
    'FLUSH TABLES',
    'HANDLER t OPEN',
    'PREPARE s FROM "SELECT 1"',
    'INSERT INTO t VALUES (@a)',
    'SELECT @@version',
    'SELECT 1 INTO OUTFILE "/tmp/x"',
    'SELECT GET_LOCK("a", 1)',
    "DELETE FROM t FOR PORTION OF p FROM '2020-03-01' TO '2020-04-01'",
    'CREATE TABLE x (a INT) WITH SYSTEM VERSIONING',
    'ALTER TABLE t ADD SYSTEM VERSIONING',
    "UPDATE t SET a = ENCRYPT('x')",
    'UPDATE t SET a = UUID_V7()',
    'INSERT INTO t VALUES (UUID_SHORT())',
    'INSERT INTO t VALUES (RANDOM_BYTES(8))',
    'INSERT INTO t VALUES (CURRENT_USER)',
    'INSERT INTO t VALUES (/*! LAST_INSERT_ID() + */ CONNECTION_ID())',
    'UPDATE t SET a = 1 LIMIT 5',
    'DELETE FROM t LIMIT 1',
    'INSERT INTO t SELECT * FROM s LIMIT 3',
    'CREATE DATABASE x',
    'CREATE TEMPORARY TABLE x (a INT)',
    'CREATE TABLE x (a INT) ENGINE = MyISAM',
    'CREATE TABLE x ENGINE=MEMORY (a INT)',
    'CREATE TABLE x (id CHAR(36) DEFAULT (UUID()))',
    'CREATE TABLE x AS SELECT 1',
    'CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1',
    'CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM t',
    'DROP TABLE a, b',
    'RENAME TABLE a TO b, c TO d',
    'SHOW DATABASES',
    'SHOW TABLES FROM mysql',
    'SHOW COLUMNS FROM user FROM mysql',
    'EXPLAIN ANALYZE SELECT 1',
    'LOCKSTEP OUTCOMES',
  ]) {
    assert.match(parseOne(sql).refusal ?? '', /\w.* .*\w/, sql)
  }
})

test('DATABASE() is the name that the cluster knows, under the name of its column', () => {
  for (const [sql, sent] of [
    ['SELECT DATABASE()', "SELECT 'a' AS `DATABASE()`"],
    ['SELECT schema ( ), 1 FROM t', "SELECT 'a' AS `SCHEMA()`, 1 FROM t"],
    ['SELECT DATABASE() AS d', "SELECT 'a' AS d"],
    ['UPDATE t SET a = `database`()', "UPDATE t SET a = 'a'"],
  ] as const) {
    assert.equal(render(parseOne(sql), [], 'a'), sent)
  }
})

test('what only looks as if it were refused is let pass', () => {
  for (const sql of [
    'SELECT USER(), VERSION(), RAND()',
    "INSERT INTO t VALUES ('SYSDATE()', 'UUID_SHORT()')",
    'INSERT INTO t (`user`, version, `database`) VALUES (1, 2, 3)',
    'UPDATE t SET a = 1 ORDER BY id LIMIT 5',
    'DELETE FROM t -- LIMIT 5',
    'CREATE TABLE x (a INT) ENGINE = InnoDB',
    'CREATE TABLE x (`engine` INT, `select` INT)',
    'CREATE UNIQUE INDEX i ON t (a)',
    'ALTER TABLE t ADD COLUMN a INT, DROP COLUMN b',
    'SHOW FULL COLUMNS FROM t',
    'SHOW CREATE TABLE t',
    'DESCRIBE t',
  ]) {
    assert.equal(parseOne(sql).refusal, undefined, sql)
  }
})

test('the moment of a call is that of its statement, and a UUID is an expression', () => {
  const uuid = (): string => '<uuid>'
  const insert = parseOne('INSERT INTO t VALUES (SYSDATE(3), uuid ( ), ?, UUID())')
  assert.equal(insert.usesChance, true)
  assert.equal(render(insert, [1n], 'a', uuid), 'INSERT INTO t VALUES (NOW(3), <uuid>, 1, <uuid>)')
  assert.equal(parseOne('SELECT sysdate FROM t').usesChance, false)
})

test('names before a dot are known, as tables or as databases', () => {
  const { qualifiers } = parseOne('SELECT a.x, `B`.`y`, c.d.e FROM a JOIN c.d WHERE 1.5 > a.z')
  assert.deepEqual([...qualifiers].sort(), ['a', 'b', 'c'])
})

test('an insert of rows without an order is known, since their ids follow it', () => {
  assert.equal(parseOne('INSERT INTO t SELECT * FROM s').isUnorderedInsert, true)
  assert.equal(parseOne('INSERT INTO t SELECT * FROM s ORDER BY id').isUnorderedInsert, false)
  assert.equal(parseOne('INSERT INTO t VALUES (1)').isUnorderedInsert, false)
})

test('what each row draws for itself is refused where nobody knows the order of the rows', () => {
  for (const sql of [
    'UPDATE t SET a = 1 WHERE RAND() < 0.5',
    'UPDATE t SET a = 1 ORDER BY RAND() LIMIT 1',
    'UPDATE t SET a = RAND() WHERE b = UUID()',
    'UPDATE t, s SET t.a = RAND() WHERE t.id = s.id',
    'UPDATE t JOIN s USING (id) SET t.a = UUID()',
    'UPDATE t SET a = (SELECT RAND() FROM s ORDER BY id LIMIT 1)',
    'UPDATE t SET a = 1 WHERE id = LAST_INSERT_ID(id)',
    'DELETE FROM t WHERE RAND() < 0.5',
    'DELETE FROM t ORDER BY RAND() LIMIT 1',
    'INSERT INTO t (a) SELECT RAND() FROM s ORDER BY id',
    'INSERT INTO t (a) SELECT x FROM (SELECT UUID() AS x FROM s) AS y ORDER BY x',
    'INSERT INTO t (a) VALUES ((SELECT id FROM s ORDER BY RAND() LIMIT 1))',
    'REPLACE INTO t (a) WITH c AS (SELECT RAND() AS r FROM s) SELECT r FROM c ORDER BY r',
  ]) {
    assert.match(parseOne(sql).refusal ?? '', /in an order of the rows/, sql)
  }
  for (const [sql, isUnorderedDraw] of [
    ['INSERT INTO t (a, b) VALUES (RAND(), SUBSTRING(UUID() FROM 3)), (UUID(), (SELECT 1))', false],
    ['INSERT INTO t (a) SELECT UUID()', false],
    ['INSERT INTO t (a) VALUES (1), (2) ON DUPLICATE KEY UPDATE a = RAND()', false],
    ['UPDATE t SET a = FLOOR(RAND() * 5), b = UUID() WHERE c IN (SELECT id FROM s)', true],
    ['UPDATE t SET a = LAST_INSERT_ID(a + 1)', true],
    ['UPDATE t SET a = RAND() ORDER BY id', false],
    ['UPDATE t, s SET t.a = 1', false],
  ] as const) {
    const parsed = parseOne(sql)
    assert.deepEqual([parsed.refusal, parsed.isUnorderedDraw], [undefined, isUnorderedDraw], sql)
  }
})

test('a text that is longer than texts may be is too large', () => {
  assert.throws(() => parseText(`SELECT '${'x'.repeat(1_100_000)}'`), { code: 'TOO_LARGE' })
})
