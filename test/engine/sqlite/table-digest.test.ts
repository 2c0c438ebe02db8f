import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Sql } from './replica.ts'
import { Replica } from './replica.ts'

function digestOf(statements: readonly Sql[], table?: string): { rows: number; digest: string } {
  using replica = Replica.withDatabase()
  for (const statement of statements) replica.run(statement)
  const outcome = replica.digest('d', table)
  assert(outcome.type === 'ok', JSON.stringify(outcome))
  return { rows: outcome.rows, digest: outcome.digest }
}

const TABLE = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)'

test('rows that are the same give the same digest, in whatever order they came', () => {
  const first = digestOf([
    TABLE,
    "INSERT INTO t VALUES (1, 'x', NULL), (2, 2, 2.5), (3, x'00', '')",
  ])
  const second = digestOf([
    TABLE,
    "INSERT INTO t VALUES (3, x'00', '')",
    "INSERT INTO t VALUES (2, 2, 2.5), (1, 'y', NULL), (4, 4, 4)",
    "UPDATE t SET a = 'x' WHERE id = 1",
    'DELETE FROM t WHERE id = 4',
  ])
  assert.deepEqual(second, first)
  assert.equal(first.rows, 3)
  assert.match(first.digest, /^[0-9a-f]{16}$/)
})

test('a change of one value, its type, its place or its rowid gives another digest', () => {
  const seen = new Set<string>()
  const variants = [
    "INSERT INTO t VALUES (1, 'a', 'b')",
    "INSERT INTO t VALUES (1, 'b', 'a')",
    "INSERT INTO t VALUES (1, 'ab', '')",
    "INSERT INTO t VALUES (1, '', 'ab')",
    "INSERT INTO t VALUES (2, 'a', 'b')",
    "INSERT INTO t VALUES (1, 'a', x'62')",
    "INSERT INTO t VALUES (1, 'a', NULL)",
    "INSERT INTO t VALUES (1, 'a', 1)",
    "INSERT INTO t VALUES (1, 'a', 1.0)",
    "INSERT INTO t VALUES (1, 'a', '1')",
    "INSERT INTO t VALUES (1, 'a', 'b'), (2, 'a', 'b')",
    'INSERT INTO t VALUES (1, -1.5, -2.5)',
    'INSERT INTO t VALUES (1, 1.5, 2.5)',
    'DELETE FROM t',
  ]
  for (const sql of variants) seen.add(digestOf([TABLE, sql]).digest)
  assert.equal(seen.size, variants.length)
})

test('the schema and what a client may set in the header are part of a database, not of a table', () => {
  const rows = "INSERT INTO t VALUES (1, 'x', 2)"
  const plain = digestOf([TABLE, rows])
  for (const extra of [
    'CREATE INDEX i ON t (a)',
    'CREATE VIEW v AS SELECT 1',
    'PRAGMA user_version = 5',
  ]) {
    assert.notEqual(digestOf([TABLE, rows, extra]).digest, plain.digest, extra)
    assert.deepEqual(digestOf([TABLE, rows, extra], 't'), digestOf([TABLE, rows], 'T'))
  }
})

test('how many entries a file has seen is no part of it', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE)
  const before = replica.digest()
  replica.run('DELETE FROM t')
  replica.run('CREATE TABLE u (a)', 'DROP TABLE u')
  const after = replica.digest()
  assert(before.type === 'ok' && after.type === 'ok')
  assert.equal(after.digest, before.digest)
  assert(after.appliedIndex > before.appliedIndex)
})

test('rowids count where they are not a column, and names that hide them do no harm', () => {
  const hidden = ['CREATE TABLE h (rowid TEXT, a)', "INSERT INTO h VALUES ('x', 1)"]
  assert.notEqual(
    digestOf([...hidden, 'UPDATE h SET _rowid_ = 9'], 'h').digest,
    digestOf(hidden, 'h').digest,
  )
  const all = ['CREATE TABLE n (rowid, _rowid_, oid)', 'INSERT INTO n VALUES (1, 2, 3)']
  assert.equal(digestOf(all, 'n').rows, 1)
  const without = ['CREATE TABLE w (k PRIMARY KEY) WITHOUT ROWID', 'INSERT INTO w VALUES (1)']
  assert.equal(digestOf(without, 'w').rows, 1)
})

test('names that need quotes, generated columns and virtual tables are digested', () => {
  const odd = [
    `CREATE TABLE "a ""b""; 'c'" ("x y", g AS ("x y" || 1))`,
    `INSERT INTO "a ""b""; 'c'" VALUES (5)`,
    'CREATE VIRTUAL TABLE f USING fts5(body)',
    "INSERT INTO f VALUES ('hello world')",
    'CREATE TABLE s (id INTEGER PRIMARY KEY AUTOINCREMENT)',
    'INSERT INTO s DEFAULT VALUES',
  ]
  assert.equal(digestOf(odd, `a "b"; 'c'`).rows, 1)
  const whole = digestOf(odd)
  assert.notEqual(digestOf([...odd, "INSERT INTO f VALUES ('more')"]).digest, whole.digest)
  assert.notEqual(digestOf([...odd, 'UPDATE sqlite_sequence SET seq = 7']).digest, whole.digest)
})

test('a table that is not there, a view, and our own tables can not be digested', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE, 'CREATE VIEW v AS SELECT 1')
  for (const table of ['missing', 'v', 'lockstep_meta', 'sqlite_schema']) {
    const outcome = replica.digest('d', table)
    assert(outcome.type === 'failed', table)
    assert.equal(outcome.error.code, 'UNKNOWN_TABLE')
  }
})
