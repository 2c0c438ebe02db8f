/** Statements that run without a savepoint: what they tell and leave must be as with one. */
import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Authorizer } from '../../../src/engine/sqlite/authorizer.ts'
import { StatementCache } from '../../../src/engine/sqlite/statement-cache.ts'
import type { Sql } from './replica.ts'
import { failure, neverTwice, Replica, request, success } from './replica.ts'

const SCHEMA = [
  'CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b INTEGER CHECK (b < 100))',
  'CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID',
  'CREATE TABLE auto (id INTEGER PRIMARY KEY AUTOINCREMENT, a)',
  'CREATE TABLE parent (id INTEGER PRIMARY KEY, n INTEGER)',
  'CREATE TABLE child (p INTEGER REFERENCES parent ON DELETE CASCADE)',
  'CREATE TABLE log (last INTEGER)',
  'CREATE TABLE seen (x)',
  'CREATE TRIGGER seen_in AFTER INSERT ON seen BEGIN INSERT INTO log VALUES (new.x); END',
  'CREATE VIEW v AS SELECT a FROM t',
  'CREATE TRIGGER v_in INSTEAD OF INSERT ON v BEGIN INSERT INTO t (a) VALUES (new.a); END',
]
const LAST_ROWID = 2n ** 63n - 1n

function plainIn(schema: readonly string[]): (sql: string) => boolean {
  const database = new DatabaseSync(':memory:', { returnArrays: true, readBigInts: true })
  for (const sql of schema) database.exec(sql)
  const authorizer = new Authorizer('replicated')
  authorizer.install(database)
  const cache = new StatementCache(database, authorizer)
  return sql => {
    assert.equal(cache.plain(sql), undefined, `${sql} is not known yet`)
    const prepared = cache.first(sql)
    const plain = cache.plain(sql)
    assert(plain === undefined || plain === prepared, sql)
    return plain !== undefined
  }
}

/** A leader, and a follower that never sees a text twice, so that it runs nothing without savepoint. */
function pair(...schema: readonly string[]): { leader: Replica; follower: Replica } & Disposable {
  const leader = Replica.withDatabase()
  const follower = new Replica({ alterSqlForTests: neverTwice() })
  leader.run(...schema)
  return {
    leader,
    follower,
    [Symbol.dispose]() {
      leader[Symbol.dispose]()
      follower[Symbol.dispose]()
    },
  }
}

function assertSame({ leader, follower }: { leader: Replica; follower: Replica }): void {
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.dataDigest(), leader.dataDigest())
}

test('a statement is plain if SQLite undoes it alone and its change count tells all', () => {
  const isPlain = plainIn(SCHEMA)
  const plain = [
    'INSERT INTO t (a) VALUES (?)',
    'INSERT OR REPLACE INTO t (id, a) VALUES (?, ?)',
    'INSERT OR IGNORE INTO t (a) VALUES (?), (?)',
    'INSERT INTO t (a) SELECT a FROM t',
    'INSERT INTO auto (a) VALUES (random())',
    'UPDATE t SET b = b + 1 WHERE id = ?',
    'DELETE FROM t WHERE id = ?; -- the end',
    'DELETE FROM parent',
  ]
  const others = [
    'SELECT a FROM t',
    'PRAGMA user_version = 3',
    'EXPLAIN INSERT INTO t (a) VALUES (1)',
    'CREATE TABLE u (a)',
    'INSERT INTO t (a) VALUES (?) RETURNING id',
    'INSERT INTO t (a) VALUES (?) ON CONFLICT DO UPDATE SET b = 1',
    'INSERT INTO w VALUES (?, ?)',
    'INSERT INTO v VALUES (?)',
    'INSERT INTO seen VALUES (?)',
    'INSERT INTO log SELECT last_insert_rowid()',
    'UPDATE t SET b = changes()',
    'UPDATE t SET b = (SELECT count(*) FROM v)',
    'INSERT OR FAIL INTO t (a) VALUES (?), (?)',
    'UPDATE OR FAIL t SET a = ?',
  ]
  for (const sql of plain) assert(isPlain(sql), sql)
  for (const sql of others) assert(!isPlain(sql), sql)
})

test('where a constraint or a trigger says FAIL, or a virtual table is, no statement is plain', () => {
  const insert = 'INSERT INTO t (a) VALUES (?)'
  const table = 'CREATE TABLE t (a)'
  const obstacles = [
    'CREATE TABLE u (a UNIQUE ON CONFLICT FAIL)',
    "CREATE TRIGGER r AFTER DELETE ON t BEGIN SELECT RAISE(FAIL, 'no'); END",
    'CREATE VIRTUAL TABLE words USING fts5(a)',
  ]
  for (const obstacle of obstacles) assert(!plainIn([table, obstacle])(insert), obstacle)
  const harmless = 'CREATE TABLE failures (fails INTEGER /* on conflict fail */, "fail" TEXT)'
  assert(plainIn([table, harmless])(insert))
})

test('with a savepoint and without, statements tell and leave the same', () => {
  using both = pair(...SCHEMA)
  const { leader } = both
  const statements: readonly ((n: bigint) => Sql)[] = [
    n => ['INSERT INTO t (a, b) VALUES (?, ?)', [`a${n}`, n]],
    n => ['INSERT INTO t (id, a) VALUES (?, ?)', [n % 7n, `b${n}`]],
    n => ['INSERT OR REPLACE INTO t (id, a) VALUES (?, ?)', [n % 5n, `c${n}`]],
    n => ['INSERT OR IGNORE INTO t (id, a) VALUES (?, ?), (?, hex(randomblob(4)))', [n, 'd', -n]],
    () => ['INSERT INTO auto (a) SELECT a FROM t', []],
    () => ['INSERT INTO auto SELECT id + 100000, a FROM auto WHERE id < 100000 LIMIT 3', []],
    n => ['INSERT INTO parent (n) VALUES (?)', [n]],
    n => ['INSERT INTO child VALUES (?)', [n]],
    n => ['DELETE FROM parent WHERE id % 3 = ?', [n % 3n]],
    n => ['UPDATE t SET b = b + ? WHERE id > 2', [n]],
    n => ['UPDATE t SET a = ?', [`e${n}`]],
    n => ['INSERT INTO t (id) VALUES (?)', [-7_046_029_254_386_353_131n - (n % 2n)]],
    n => ['INSERT INTO t (a, b) VALUES (?, 1), (?, 2), (?, 1000)', [`f${n}`, `g${n}`, `h${n}`]],
    n => ['INSERT INTO t (a) VALUES (?)', [n, n]],
  ]
  let failed = 0
  for (let round = 0n; round < 20n; round++) {
    const results = leader.write(...statements.map(make => request(make(round))))
    failed += results.filter(({ type }) => type === 'failed').length
  }

  assert(failed > 60 && failed < 200, `${failed} failed`)
  assertSame(both)
})

test('a plain statement that fails halfway leaves nothing, nor do its neighbours notice', () => {
  using both = pair(...SCHEMA)
  const { leader } = both
  const three = 'INSERT INTO t (a) VALUES (?), (?), (?)'
  leader.run([three, ['x', 'y', 'z']])
  const results = leader.write(
    request([three, ['1', '2', '3']]),
    request([three, ['4', '5', 'x']]),
    request(['INSERT INTO child VALUES (?)', [99n]]),
    request([three, ['4', '5', '6']]),
  )

  assert.deepEqual(
    results.map(({ type }) => type),
    ['ok', 'failed', 'failed', 'ok'],
  )
  assert.equal(failure(results[1]).details?.['statement'], 0)
  assert.deepEqual(success(results[3])[0], { rowsAffected: 3, lastInsertId: 9n })
  assert.equal(leader.query('SELECT count(*) FROM t')[0]?.[0], 9n)
  assertSame(both)
})

test('rows that FAIL would keep are not kept, however often the text comes', () => {
  using replica = Replica.withDatabase()
  replica.run('CREATE TABLE t (a)')
  for (const n of [1n, 2n]) replica.run(['DELETE FROM t WHERE a = ?', [n]])
  replica.run('CREATE TABLE u (a UNIQUE ON CONFLICT FAIL)')
  const insert = 'INSERT INTO u VALUES (?), (?)'
  replica.run([insert, [1n, 2n]])
  const neighbour = request(['DELETE FROM t WHERE a = ?', [0n]])
  for (const n of [3n, 4n]) failure(replica.write(request([insert, [n, 1n]]), neighbour)[0])
  assert.equal(replica.query('SELECT count(*) FROM u')[0]?.[0], 2n)

  replica.run('DROP TABLE u')
  replica.run(['INSERT INTO t VALUES (?)', [1n]])
  replica.run(['INSERT INTO t VALUES (?)', [1n]])
  const fails = "CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT RAISE(FAIL, 'no'); END"
  replica.run(fails)
  for (const n of [2n, 3n]) {
    failure(replica.write(request(['INSERT INTO t VALUES (?)', [n]]), neighbour)[0])
  }
  assert.equal(replica.query('SELECT count(*) FROM t')[0]?.[0], 2n)
})

test('plain statements that take the last rowid fail, and their neighbours are as without them', () => {
  using both = pair(...SCHEMA)
  const { leader } = both
  const byId = (id: bigint): Sql => ['INSERT INTO t (id, a) VALUES (?, hex(randomblob(8)))', [id]]
  leader.run(byId(1n))
  const results = leader.write(
    request(byId(2n)),
    request(byId(LAST_ROWID)),
    request(['INSERT INTO t (a) VALUES (?)', ['next']]),
    request(byId(LAST_ROWID)),
    request(byId(2n)),
    // Nothing is left to be found when the batch is asked at its end.
    request(['DELETE FROM t WHERE id = ?', [LAST_ROWID]]),
  )

  assert.deepEqual(
    results.map(({ type }) => type),
    ['ok', 'failed', 'ok', 'failed', 'failed', 'ok'],
  )
  assert.match(failure(results[1]).message, /last rowid/)
  assert.match(failure(results[3]).message, /last rowid/)
  assert.equal(success(results[2])[0]?.lastInsertId, 3n)
  assertSame(both)
})

test('a plain statement whose cascade takes the last rowid is found at the end of its batch', () => {
  using both = pair(
    'CREATE TABLE p (u INTEGER UNIQUE)',
    'CREATE TABLE c (id INTEGER PRIMARY KEY REFERENCES p (u) ON UPDATE CASCADE)',
    'INSERT INTO p VALUES (1)',
    'INSERT INTO c VALUES (1)',
  )
  const { leader } = both
  const update = (u: bigint): Sql => ['UPDATE p SET u = ?', [u]]
  leader.run(update(2n))
  const results = leader.write(request(update(3n)), request(update(LAST_ROWID)))

  assert.deepEqual(
    results.map(({ type }) => type),
    ['ok', 'failed'],
  )
  assertSame(both)
})

test('a table that has used its last AUTOINCREMENT id fails plain statements alone', () => {
  using both = pair(...SCHEMA)
  const { leader } = both
  const insert: Sql = ['INSERT INTO auto (a) VALUES (?)', [1n]]
  leader.run(insert)
  leader.run('UPDATE sqlite_sequence SET seq = 9223372036854775807')
  const results = leader.write(
    request(['INSERT INTO t (a) VALUES (?)', ['before']]),
    request(insert),
    request(['INSERT INTO t (a) VALUES (?)', ['after']]),
    request(insert),
  )

  assert.deepEqual(
    results.map(({ type }) => type),
    ['ok', 'failed', 'ok', 'failed'],
  )
  assertSame(both)
})

test('a statement that is plain no more, because of a trigger made since, runs as others do', () => {
  using both = pair(...SCHEMA)
  const { leader } = both
  const insert = (a: string): Sql => ['INSERT INTO t (a) VALUES (?)', [a]]
  leader.run(insert('1'))
  leader.run(insert('2'))
  leader.run(
    'CREATE TRIGGER t_in AFTER INSERT ON t BEGIN INSERT INTO log VALUES (last_insert_rowid()); END',
  )
  leader.write(request(insert('3')), request(['DELETE FROM log WHERE last < ?', [0n]]))
  leader.write(request(insert('4')), request(insert('2')), request(insert('5')))

  assert.equal(leader.query('SELECT count(*) FROM log')[0]?.[0], 3n)
  assertSame(both)
})
