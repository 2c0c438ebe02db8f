import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Replica, request } from './replica.ts'

/** A database with something of each kind in it. */
function furnished(): Replica {
  const replica = Replica.withDatabase()
  replica.run(
    'CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE)',
    'CREATE VIEW v AS SELECT a FROM t',
    'CREATE VIEW spy AS SELECT * FROM lockstep_meta',
    'CREATE VIRTUAL TABLE words USING fts5(a)',
    'CREATE VIRTUAL TABLE boxes USING rtree(id, x1, x2)',
    "INSERT INTO t (a) VALUES ('x')",
  )
  return replica
}

test('what is not the same on every node is refused in a write, with a reason', () => {
  using replica = furnished()
  const refused = [
    ["ATTACH ':memory:' AS other", /one database/],
    ['DETACH main', /one database/],
    ['VACUUM', /VACUUM/],
    ["VACUUM INTO '/tmp/lockstep-never'", /VACUUM/],
    ['BEGIN', /BEGIN/],
    ['BEGIN IMMEDIATE', /BEGIN/],
    ['COMMIT', /BEGIN/],
    ['ROLLBACK', /BEGIN/],
    ['SAVEPOINT s', /BEGIN/],
    ['RELEASE lockstep_request', /BEGIN/],
    ['ROLLBACK TO lockstep_request', /BEGIN/],
    ['ANALYZE', /ANALYZE/],
    ['ANALYZE t', /ANALYZE/],
    ['PRAGMA optimize', /optimize/],
    ['PRAGMA journal_mode = DELETE', /journal_mode/],
    ['PRAGMA synchronous = OFF', /synchronous/],
    ['SELECT 1; PRAGMA foreign_keys = OFF', /first statement/],
    ['PRAGMA recursive_triggers = ON', /recursive_triggers/],
    ['PRAGMA case_sensitive_like = ON', /case_sensitive_like/],
    ['PRAGMA reverse_unordered_selects = ON', /reverse_unordered_selects/],
    ['PRAGMA defer_foreign_keys = ON', /defer_foreign_keys/],
    ['PRAGMA ignore_check_constraints = ON', /ignore_check/],
    ['PRAGMA writable_schema = ON', /writable_schema/],
    ['PRAGMA trusted_schema = OFF', /trusted_schema/],
    ['PRAGMA wal_checkpoint', /wal_checkpoint/],
    ['PRAGMA data_version', /data_version/],
    ['PRAGMA page_count', /page_count/],
    ['PRAGMA database_list', /database_list/],
    ['PRAGMA integrity_check', /integrity_check/],
    ["PRAGMA encoding = 'UTF-16'", /encoding|foreign_keys/],
    ['SELECT * FROM pragma_data_version', /data_version/],
    ['SELECT * FROM pragma_database_list', /database_list/],
    ['SELECT * FROM dbstat', /dbstat/],
    ["SELECT load_extension('x')", /load_extension/],
    ['SELECT total_changes()', /total_changes/],
    ['CREATE TEMP TABLE x (a)', /temporary/],
    ['CREATE TABLE temp.x (a)', /temporary/],
    ['CREATE TEMP VIEW x AS SELECT 1', /temporary/],
    ['CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END', /temporary/],
    ['CREATE TRIGGER temp.x AFTER INSERT ON main.t BEGIN SELECT 1; END', /temporary/],
    ['CREATE VIRTUAL TABLE x USING fts3(a)', /fts3/],
    ['CREATE VIRTUAL TABLE x USING fts4(a)', /fts4/],
    ['CREATE VIRTUAL TABLE x USING dbstat', /dbstat/],
  ] as const
  for (const [sql, reason] of refused) {
    const error = replica.fail(sql)
    assert.equal(error.code, 'UNSUPPORTED', `${sql}: ${error.message}`)
    assert.match(error.message, reason, sql)
  }
})

test("the server's own tables can't be read, written, dropped, renamed or taken in name", () => {
  using replica = furnished()
  const refused = [
    'SELECT * FROM lockstep_meta',
    'SELECT applied FROM main.Lockstep_Meta',
    'SELECT 1 FROM lockstep_meta',
    'SELECT (SELECT count(*) FROM "lockstep_meta")',
    'SELECT * FROM spy',
    'SELECT * FROM temp.lockstep_last',
    'INSERT INTO t (a) SELECT applied FROM lockstep_meta',
    'UPDATE lockstep_meta SET applied = 100',
    'DELETE FROM lockstep_meta',
    'DROP TABLE lockstep_meta',
    'ALTER TABLE lockstep_meta ADD COLUMN x',
    'ALTER TABLE lockstep_meta RENAME TO mine',
    'CREATE INDEX i ON lockstep_meta (applied)',
    'CREATE TRIGGER r AFTER UPDATE ON lockstep_meta BEGIN DELETE FROM t; END',
    'CREATE TABLE lockstep_mine (a)',
    'CREATE TABLE "LOCKSTEP_mine" (a)',
    'CREATE VIEW lockstep_mine AS SELECT 1',
    'CREATE INDEX lockstep_mine ON t (a)',
    'CREATE VIRTUAL TABLE lockstep_mine USING fts5(a)',
    'ALTER TABLE t RENAME TO lockstep_mine',
    // Its commit would fail on every node: the parent's column is no key.
    'CREATE TABLE c (a REFERENCES lockstep_meta (applied))',
    'CREATE TABLE c (a REFERENCES "Lockstep_Meta")',
    "CREATE TABLE c (a, FOREIGN KEY (a) REFERENCES/**/'lockstep_meta' (applied))",
    'ALTER TABLE t ADD COLUMN c REFERENCES [lockstep_meta] (applied)',
  ]
  for (const sql of refused) {
    const error = replica.fail(sql)
    assert.equal(error.code, 'UNSUPPORTED', `${sql}: ${error.message}`)
    assert.match(error.message, /kept for the server/, sql)
  }
  const outcome = replica.read('SELECT * FROM lockstep_meta')
  assert(outcome.type === 'failed')
  assert.equal(outcome.error.code, 'UNSUPPORTED')
})

test("SQLite's own tables can't be changed", () => {
  using replica = furnished()
  for (const sql of ["UPDATE sqlite_schema SET sql = ''", 'DELETE FROM sqlite_master']) {
    assert.equal(replica.fail(sql).code, 'SQL_ERROR', sql)
  }
  // Shadow tables of virtual tables are closed to clients as well.
  assert.equal(replica.fail("UPDATE words_content SET c0 = 'y'").code, 'SQL_ERROR')
})

test('what says the same everywhere is let through', () => {
  using replica = furnished()
  const allowed = [
    'PRAGMA table_info(t)',
    "SELECT name FROM pragma_table_info('t')",
    'PRAGMA index_list(t)',
    'PRAGMA foreign_key_list(t)',
    'PRAGMA foreign_keys',
    'PRAGMA foreign_keys = ON',
    'PRAGMA user_version = 7',
    'PRAGMA user_version',
    'PRAGMA application_id = 5',
    'REINDEX',
    "INSERT INTO words VALUES ('hello')",
    "SELECT * FROM words('hello')",
    'INSERT INTO boxes VALUES (1, 2, 3)',
    'SELECT * FROM boxes WHERE x1 > 1',
    "SELECT * FROM json_each('[1]')",
    'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT * FROM n',
    'CREATE TABLE IF NOT EXISTS t (a)',
    'DROP TABLE IF EXISTS missing',
    'ALTER TABLE t ADD COLUMN b',
    'ALTER TABLE t RENAME COLUMN b TO c',
    'ALTER TABLE t DROP COLUMN c',
    'ALTER TABLE t RENAME TO u',
    'DROP VIEW v',
    'DROP TABLE words',
    'DROP TABLE u',
  ]
  for (const sql of allowed) replica.run(sql)
  assert.deepEqual(replica.query('PRAGMA user_version'), [[7n]])
})

test('where a table begins on the disk differs between nodes, so it reads as NULL in a write', () => {
  using replica = furnished()
  const [result] = replica.run("SELECT rootpage IS NULL FROM sqlite_schema WHERE name = 't'")
  assert.deepEqual(result?.rows, [[1n]])

  replica.run('CREATE TABLE pages AS SELECT rootpage FROM sqlite_schema')
  assert.deepEqual(replica.query('SELECT DISTINCT rootpage FROM pages'), [[null]])

  replica.run(
    'CREATE TABLE parent (id INTEGER PRIMARY KEY)',
    'CREATE TABLE child (p REFERENCES parent ON DELETE CASCADE)',
    'CREATE TRIGGER spy_pages AFTER DELETE ON child BEGIN ' +
      'INSERT INTO pages SELECT rootpage FROM sqlite_schema; END',
    'INSERT INTO parent VALUES (1)',
    'INSERT INTO child VALUES (1)',
    'DROP TABLE parent',
  )
  assert.deepEqual(replica.query('SELECT DISTINCT rootpage FROM pages'), [[null]])

  replica.run("CREATE VIRTUAL TABLE stored USING fts5(pageno, content='dbstat')")
  assert.equal(replica.fail('INSERT INTO t (a) SELECT pageno FROM stored').code, 'UNSUPPORTED')
})

test('a table can be dropped and altered in spite of that', () => {
  using replica = furnished()
  replica.run('CREATE TABLE a (x)', 'CREATE TABLE b (x)', 'CREATE TABLE c (x)')
  replica.run('DROP TABLE a')
  replica.run('DROP TABLE c')
  assert.deepEqual(replica.query('PRAGMA integrity_check'), [['ok']])
})

test('a query of a virtual table is a query, also the first of a connection', () => {
  using replica = furnished()
  replica.run('INSERT INTO boxes VALUES (1, 2, 3)', "INSERT INTO words VALUES ('hello')")
  assert.deepEqual(replica.query('SELECT id FROM boxes'), [[1n]])
  assert.deepEqual(replica.query("SELECT a FROM words('hello')"), [['hello']])

  using reopened = replica.crash()
  const executed = reopened.execute(request('SELECT id FROM boxes'), request('SELECT a FROM words'))
  assert.equal(executed.entry, undefined)
})

test('user_version goes back with its request', () => {
  using replica = furnished()
  replica.run('PRAGMA user_version = 3')
  replica.fail('PRAGMA user_version = 4', "INSERT INTO t (a) VALUES ('x')")
  assert.deepEqual(replica.query('PRAGMA user_version'), [[3n]])
})

test('a query may ask about this node, but change nothing', () => {
  using replica = furnished()
  for (const sql of [
    'PRAGMA integrity_check',
    'PRAGMA page_count',
    'SELECT count(*) FROM dbstat',
  ]) {
    assert.equal(replica.read(sql).type, 'ok', sql)
  }
  const writes = [
    "INSERT INTO t (a) VALUES ('y')",
    'CREATE TABLE x (a)',
    'PRAGMA user_version = 9',
    'DELETE FROM t RETURNING *',
  ]
  for (const sql of writes) {
    const outcome = replica.read(sql)
    assert(outcome.type === 'failed', sql)
    assert.equal(outcome.error.code, 'INVALID_REQUEST', `${sql}: ${outcome.error.message}`)
  }
  for (const sql of [
    'CREATE TEMP TABLE x (a)',
    'BEGIN IMMEDIATE',
    'PRAGMA wal_checkpoint',
    'VACUUM',
  ]) {
    const outcome = replica.read(sql)
    assert(outcome.type === 'failed', sql)
    assert.equal(outcome.error.code, 'UNSUPPORTED', `${sql}: ${outcome.error.message}`)
  }
})
