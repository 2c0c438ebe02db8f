import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WriteRequest } from '../../../src/engine/engine.ts'
import { encodeRequest } from '../../../src/engine/request.ts'
import { createDatabase, dropDatabase, failure, on, Replica, request, success } from './replica.ts'

const TABLE = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE)'

test('a request that only reads is answered and not logged', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE)
  const only = replica.execute(request('SELECT 1'), request('SELECT * FROM t'))
  assert.equal(only.entry, undefined)
  assert.equal(only.results.length, 2)
  // No batch is open any more: the next one may come.
  replica.run("INSERT INTO t (a) VALUES ('x')")

  const mixed = replica.execute(request('SELECT 1'), request("INSERT INTO t (a) VALUES ('y')"))
  assert(mixed.entry !== undefined)
  replica.commit(mixed)
})

test('a batch in which nothing succeeds is not logged', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE)
  const executed = replica.execute(
    request('INSERT INTO t VALUES (1)'),
    request("INSERT INTO t VALUES (1, 'x')", "INSERT INTO t VALUES (1, 'y')"),
  )
  assert.equal(executed.entry, undefined)
  assert.deepEqual(replica.query('SELECT * FROM t'), [])
})

test('nobody sees a batch before it is committed, and nothing of it after a rollback', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE)
  const executed = replica.execute(request("INSERT INTO t (a) VALUES ('x')"))
  assert.deepEqual(replica.query('SELECT a FROM t'), [])
  replica.rollback()
  assert.deepEqual(replica.query('SELECT a FROM t'), [])
  assert(executed.entry !== undefined)

  replica.commit(replica.execute(request("INSERT INTO t (a) VALUES ('y')")))
  assert.deepEqual(replica.query('SELECT a FROM t'), [['y']])
})

test('the answer to a neighbour may rest on what is not committed, and goes back with it', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE)
  const insert = request("INSERT INTO t (a) VALUES ('x')")
  const executed = replica.execute(insert, insert)
  success(executed.results[0])
  assert.equal(failure(executed.results[1]).code, 'SQL_CONSTRAINT')
  replica.rollback()

  success(replica.write(insert)[0])
})

test('a request that must be alone ends the batch before it, or is taken alone', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE)
  const write = request("INSERT INTO t (a) VALUES ('x')")
  const rebuild = request('PRAGMA foreign_keys = OFF', 'DROP TABLE t', TABLE)
  for (const solo of [createDatabase('e'), dropDatabase('e'), rebuild]) {
    const before = replica.execute(write, solo, write)
    assert.equal(before.taken, 1)
    replica.rollback()

    const alone = replica.execute(solo, write)
    assert.equal(alone.taken, 1)
    assert.equal(alone.results.length, 1)
    replica.commit(alone)
  }
})

test('a request that failed before a solo one is taken without it', () => {
  using replica = Replica.withDatabase()
  const executed = replica.execute(request('nonsense'), createDatabase('e'))
  assert.equal(executed.taken, 1)
  assert.equal(executed.entry, undefined)
})

test('creating and dropping a database only take place at the commit', () => {
  using replica = Replica.withDatabase()
  const names = (): readonly string[] => replica.withReader(reader => reader.databases())

  const creation = replica.execute(createDatabase('e'))
  assert.deepEqual(names(), ['d'])
  replica.rollback()
  assert.deepEqual(names(), ['d'])
  assert(creation.entry !== undefined)
  replica.commit(replica.execute(createDatabase('e')))
  assert.deepEqual(names(), ['d', 'e'])

  replica.execute(dropDatabase('e'))
  replica.rollback()
  assert.deepEqual(names(), ['d', 'e'])
  replica.commit(replica.execute(dropDatabase('e')))
  assert.deepEqual(names(), ['d'])
})

test('a database is not created twice, not dropped twice, and has a proper name', () => {
  using replica = Replica.withDatabase()
  const fail = (change: WriteRequest): string => failure(replica.write(change)[0]).code

  assert.equal(fail(createDatabase('d')), 'DATABASE_EXISTS')
  assert.equal(fail(dropDatabase('e')), 'UNKNOWN_DATABASE')
  for (const name of [
    '',
    '../d',
    'a b',
    '1a',
    'lockstep_x',
    'Lockstep',
    'a'.repeat(65),
    'ä',
    'a.b',
  ]) {
    assert.equal(fail(createDatabase(name)), 'INVALID_REQUEST', name)
  }
  success(replica.write(createDatabase('A-b_9'))[0])
})

test('a database that was dropped and made again is empty', () => {
  using replica = Replica.withDatabase()
  using follower = new Replica()
  replica.run(TABLE, "INSERT INTO t (a) VALUES ('old')")
  replica.write(dropDatabase('d'), createDatabase('d'))
  assert.deepEqual(replica.query("SELECT * FROM sqlite_schema WHERE tbl_name = 't'"), [])
  replica.run('CREATE TABLE u (a)')
  assert.equal(follower.follow(replica).divergence, undefined)
  assert.deepEqual(follower.digest(), replica.digest())
})

test('one batch works on several databases', () => {
  using leader = Replica.withDatabase()
  using follower = new Replica()
  leader.write(createDatabase('e'), on('d', TABLE), on('e', TABLE))
  const executed = leader.execute(
    on('d', "INSERT INTO t (a) VALUES ('d')"),
    on('e', "INSERT INTO t (a) VALUES ('e')"),
    on('e', "INSERT INTO t (a) VALUES ('e')"),
    on('d', 'INSERT INTO t (a) VALUES (hex(randomblob(4)))'),
  )
  assert.equal(executed.taken, 4)
  leader.commit(executed)
  assert.equal(follower.follow(leader).divergence, undefined)
  for (const name of ['d', 'e']) assert.deepEqual(follower.digest(name), leader.digest(name))
})

test('a statement that takes the whole transaction with it takes no neighbour', () => {
  using leader = Replica.withDatabase()
  using follower = new Replica()
  leader.run(TABLE, 'CREATE TABLE u (a)')
  follower.follow(leader)
  const slip =
    "CREATE TRIGGER slip BEFORE INSERT ON u WHEN new.a = 'slip' BEGIN SELECT RAISE(ROLLBACK, 'all'); END"
  leader.tamper(slip)
  follower.tamper(slip)

  const results = leader.write(
    request('INSERT INTO t (a) VALUES (hex(randomblob(4))) RETURNING a'),
    request('INSERT INTO u VALUES (last_insert_rowid())', 'SELECT count(*) FROM t'),
    request('ALTER TABLE u ADD COLUMN b DEFAULT 5'),
    request('INSERT INTO t (a) VALUES (1)', "INSERT INTO u VALUES ('slip', 2)"),
    request('UPDATE u SET b = 6', 'INSERT INTO t (a) VALUES (hex(randomblob(4))) RETURNING a'),
  )
  assert.equal(failure(results[3]).code, 'SQL_CONSTRAINT')
  for (const i of [0, 1, 2, 4]) success(results[i])
  assert.deepEqual(leader.query('SELECT a FROM t'), [
    success(results[0])[0]?.rows?.[0],
    success(results[4])[1]?.rows?.[0],
  ])
  assert.deepEqual(leader.query('SELECT * FROM u'), [[0n, 6n]])
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.digest(), leader.digest())
})

test('a table that has no id left fails its request, not the disk and not the batch', () => {
  using leader = Replica.withDatabase()
  using follower = new Replica()
  leader.run(
    TABLE,
    'CREATE TABLE s (id INTEGER PRIMARY KEY AUTOINCREMENT, a)',
    'INSERT INTO s (a) VALUES (1)',
    'UPDATE sqlite_sequence SET seq = 9223372036854775807',
  )
  const results = leader.write(
    request('INSERT INTO t (a) VALUES (hex(randomblob(8))) RETURNING a'),
    request('CREATE TABLE made (a)'),
    request('INSERT INTO s (a) VALUES (2)'),
    request('INSERT INTO t (a) VALUES (hex(randomblob(8))) RETURNING a'),
    request('INSERT INTO made VALUES (1)'),
  )
  const error = failure(results[2])
  assert.equal(error.code, 'SQL_ERROR')
  assert.match(error.message, /last rowid/)
  for (const i of [0, 1, 3, 4]) success(results[i])
  assert.deepEqual(leader.query('SELECT a FROM t'), [
    success(results[0])[0]?.rows?.[0],
    success(results[3])[0]?.rows?.[0],
  ])
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.digest(), leader.digest())
})

test('bytes that are no request are refused, and their neighbours run', () => {
  using replica = Replica.withDatabase()
  const { results } = replica.send(
    {
      type: 'execute',
      batch: 99,
      nowMs: 0,
      seed: new Uint8Array(16),
      commitIndex: 0,
      requests: [new Uint8Array([1, 2, 3]), encodeRequest(request(TABLE))],
    },
    'executed',
  )
  assert.equal(failure(results[0]).code, 'INVALID_REQUEST')
  success(results[1])
})

test('a table can be rebuilt with foreign keys off, and they are on again afterwards', () => {
  using leader = Replica.withDatabase()
  using follower = new Replica()
  leader.run(
    'CREATE TABLE p (id INTEGER PRIMARY KEY, a)',
    'CREATE TABLE c (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p ON DELETE CASCADE)',
    'INSERT INTO p VALUES (1, 2)',
    'INSERT INTO c VALUES (1, 1)',
  )
  leader.run(
    'PRAGMA foreign_keys = OFF;',
    'CREATE TABLE p_new (id INTEGER PRIMARY KEY, a TEXT NOT NULL)',
    'INSERT INTO p_new SELECT * FROM p; DROP TABLE p; ALTER TABLE p_new RENAME TO p;',
    'PRAGMA foreign_key_check',
    'PRAGMA foreign_keys=on',
  )
  assert.deepEqual(leader.query('SELECT * FROM c'), [[1n, 1n]])
  assert.equal(leader.fail('INSERT INTO c VALUES (2, 99)').code, 'SQL_CONSTRAINT')
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.digest(), leader.digest())
  assert.equal(follower.fail('INSERT INTO c VALUES (2, 99)').code, 'SQL_CONSTRAINT')
})

test('a rebuild that would break a reference is refused', () => {
  using replica = Replica.withDatabase()
  replica.run(
    'CREATE TABLE p (id INTEGER PRIMARY KEY)',
    'CREATE TABLE c (p INTEGER REFERENCES p)',
    'INSERT INTO p VALUES (1)',
    'INSERT INTO c VALUES (1)',
  )
  const error = replica.fail('PRAGMA foreign_keys(0)', 'DELETE FROM p')
  assert.equal(error.code, 'SQL_CONSTRAINT')
  assert.match(error.message, /in c/)
  assert.deepEqual(replica.query('SELECT * FROM p'), [[1n]])
  assert.equal(replica.fail('DELETE FROM p').code, 'SQL_CONSTRAINT')
})

test('deferred foreign keys are refused where they would be made, so that COMMIT never fails', () => {
  using replica = Replica.withDatabase()
  replica.run('CREATE TABLE p (id INTEGER PRIMARY KEY)')
  const refused = [
    'CREATE TABLE c (p INTEGER REFERENCES p DEFERRABLE INITIALLY DEFERRED)',
    'CREATE TABLE c (p INTEGER, FOREIGN KEY (p) REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED)',
    'ALTER TABLE p ADD COLUMN q REFERENCES p DEFERRABLE INITIALLY DEFERRED',
    'PRAGMA defer_foreign_keys = ON',
  ]
  for (const sql of refused) assert.equal(replica.fail(sql).code, 'UNSUPPORTED', sql)
})

test('a corrupt page fails the request that needs it, and ends nothing', () => {
  using whole = Replica.withDatabase()
  whole.run(TABLE, 'CREATE TABLE u (a)')
  whole.run(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000)
      INSERT INTO t (a) SELECT hex(randomblob(50)) FROM n`,
  )
  const bytes = whole.flushedNow('db-1.sqlite')
  const [page] = whole.query(
    "SELECT max(pageno) FROM dbstat WHERE name = 't' AND pagetype = 'leaf'",
  )
  const offset = (Number(page?.[0]) - 1) * 4096
  bytes.fill(0xee, offset, offset + 4096)

  using garbled = whole.crashWith('db-1.sqlite', bytes)
  const results = garbled.write(
    request('INSERT INTO u VALUES (1)'),
    request('INSERT INTO u VALUES (2)', "UPDATE t SET a = a || 'x'"),
    request('INSERT INTO u VALUES (3)'),
  )
  assert.equal(failure(results[1]).code, 'CORRUPT')
  assert.deepEqual(garbled.query('SELECT a FROM u'), [[1n], [3n]])
})
