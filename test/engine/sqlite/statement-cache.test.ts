import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Authorizer } from '../../../src/engine/sqlite/authorizer.ts'
import { StatementCache } from '../../../src/engine/sqlite/statement-cache.ts'

function cacheOver(...schema: string[]): { cache: StatementCache; database: DatabaseSync } {
  const database = new DatabaseSync(':memory:', { returnArrays: true })
  for (const sql of schema) database.exec(sql)
  const authorizer = new Authorizer('replicated')
  authorizer.install(database)
  return { cache: new StatementCache(database, authorizer), database }
}

test('a text of one statement stays prepared, a script does not', () => {
  const { cache } = cacheOver('CREATE TABLE t (a)')
  const once = cache.first('SELECT * FROM t; -- and that is all')
  assert.equal(cache.first('SELECT * FROM t; -- and that is all'), once)
  assert.equal(once.next, undefined)

  const script = 'SELECT 1; SELECT 2'
  const first = cache.first(script)
  assert.equal(first.sql, 'SELECT 1;')
  const second = cache.following(script, first.next ?? 0)
  assert.equal(second.sql, 'SELECT 2')
  assert.equal(second.next, undefined)
})

test('statements are classified by what SQLite says they do', () => {
  const { cache } = cacheOver(
    'CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE)',
    'CREATE TABLE log (a)',
    'CREATE TRIGGER r AFTER DELETE ON t BEGIN INSERT INTO log VALUES (changes()); END',
  )
  const kinds = [
    ['SELECT * FROM t', 'read'],
    ['WITH x AS (SELECT 1) SELECT * FROM x', 'read'],
    ['PRAGMA table_info(t)', 'read'],
    ['EXPLAIN DELETE FROM t', 'read'],
    ['VALUES (1)', 'read'],
    ['INSERT INTO t VALUES (1, 2)', 'write'],
    ['WITH x AS (SELECT 1) DELETE FROM t', 'write'],
    ['UPDATE t SET a = 1 RETURNING a', 'write'],
    ['REPLACE INTO t VALUES (1, 2)', 'write'],
    ['PRAGMA user_version = 1', 'write'],
    ['CREATE TABLE u (a)', 'schema'],
    ['DROP TABLE t', 'schema'],
    ['CREATE INDEX i ON t (a)', 'schema'],
    ['ALTER TABLE t ADD COLUMN b', 'schema'],
    ['REINDEX', 'schema'],
  ] as const
  for (const [sql, kind] of kinds) assert.equal(cache.first(sql).kind, kind, sql)

  const remove = cache.first('DELETE FROM t')
  assert.deepEqual(
    [remove.inserts, remove.modifies, remove.readsConnectionState],
    [false, true, true],
  )
  const upsert = cache.first('INSERT INTO t VALUES (1, 2) ON CONFLICT DO UPDATE SET a = 3')
  assert.deepEqual([upsert.inserts, upsert.updates], [true, true])
  assert.deepEqual([...cache.first('DELETE FROM t WHERE id = 1').tables], ['log'])
})

test('what is known of a statement is forgotten with its tables', () => {
  const { cache, database } = cacheOver()
  assert.equal(cache.first('DROP TABLE IF EXISTS t').kind, 'read')
  database.exec('CREATE TABLE t (a)')
  cache.clear()
  assert.equal(cache.first('DROP TABLE IF EXISTS t').kind, 'schema')
})

test('only so many statements are kept, and those in use stay', () => {
  const { cache } = cacheOver('CREATE TABLE t (a)')
  const used = cache.first('SELECT a FROM t')
  const early = cache.first('SELECT 0')
  for (let i = 1; i < 3000; i++) {
    cache.first(`SELECT ${i}`)
    assert.equal(cache.first('SELECT a FROM t'), used)
  }
  assert.deepEqual(used.statement.all(), [])
  assert.notEqual(cache.first('SELECT 0'), early)
  assert.throws(() => early.statement.all(), /finalized|closed/)
})

test('a text over a megabyte is too large', () => {
  const { cache } = cacheOver()
  const sql = `SELECT '${'x'.repeat(1024 * 1024)}'`
  assert.throws(() => cache.first(sql), { code: 'TOO_LARGE' })
  assert.equal(cache.first(`SELECT '${'x'.repeat(1000 * 1000)}'`).kind, 'read')
})

test('a long script is cut where SQLite cuts it', () => {
  const { cache } = cacheOver('CREATE TABLE t (a)')
  const pieces = [
    `SELECT ';' || 'x${' '.repeat(3000)}'`,
    'CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; SELECT 2; END',
    '/* ; */ SELECT 3 -- ;\n',
    'EXPLAIN CREATE TRIGGER s AFTER INSERT ON t BEGIN SELECT 1; SELECT 2; END',
    `SELECT [a;b] FROM (SELECT 1 AS "a;b")${' '.repeat(5000)}`,
    'SELECT 4',
  ]
  const script = pieces.join(';')
  const found: string[] = []
  let prepared = cache.first(script)
  for (;;) {
    found.push(prepared.sql.replace(/;$/, '').trim())
    if (prepared.next === undefined) break
    prepared = cache.following(script, prepared.next)
  }
  assert.deepEqual(found, [
    pieces[0],
    pieces[1],
    'SELECT 3 -- ;',
    pieces[3],
    pieces[4]?.trim(),
    pieces[5],
  ])
})
