import assert from 'node:assert/strict'
import { test } from 'node:test'
import { failure, on, Replica, request, success } from './replica.ts'

const SCHEMA = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE)'

/** A leader with table `t`, and a follower that has nothing yet. */
function pair(...schema: readonly string[]): { leader: Replica; follower: Replica } & Disposable {
  const leader = Replica.withDatabase()
  const follower = new Replica()
  leader.run(SCHEMA, ...schema)
  return {
    leader,
    follower,
    [Symbol.dispose]() {
      leader[Symbol.dispose]()
      follower[Symbol.dispose]()
    },
  }
}

test('a request that fails leaves nothing, also when it fails at its last statement', () => {
  using replica = Replica.withDatabase()
  replica.run(SCHEMA, "INSERT INTO t VALUES (1, 'x')")

  const error = replica.fail(
    "INSERT INTO t VALUES (2, 'y')",
    'CREATE TABLE u (a)',
    'PRAGMA user_version = 9',
    "INSERT INTO t VALUES (3, 'x')",
  )

  assert.equal(error.code, 'SQL_CONSTRAINT')
  assert.equal(error.details?.['statement'], 3)
  assert.deepEqual(replica.query('SELECT * FROM t'), [[1n, 'x']])
  assert.deepEqual(replica.query("SELECT name FROM sqlite_schema WHERE name = 'u'"), [])
  assert.deepEqual(replica.query('PRAGMA user_version'), [[0n]])
})

test('OR FAIL keeps no rows of a request that fails', () => {
  using replica = Replica.withDatabase()
  replica.run(SCHEMA)
  replica.fail("INSERT OR FAIL INTO t (a) VALUES ('x'), ('y'), ('x')")
  assert.deepEqual(replica.query('SELECT * FROM t'), [])
})

test('a failing neighbour is undone alone', () => {
  using replica = Replica.withDatabase()
  replica.run(SCHEMA)
  const results = replica.write(
    request("INSERT INTO t VALUES (1, 'x')"),
    request("INSERT INTO t VALUES (2, 'y')", "INSERT INTO t VALUES (3, 'x')"),
    request("INSERT INTO t VALUES (3, 'z')"),
  )
  assert.deepEqual(
    results.map(result => result.type),
    ['ok', 'failed', 'ok'],
  )
  assert.deepEqual(replica.query('SELECT * FROM t'), [
    [1n, 'x'],
    [3n, 'z'],
  ])
})

test('the id of an inserted row is told, and only if one was inserted', () => {
  using replica = Replica.withDatabase()
  replica.run(SCHEMA, 'CREATE TABLE w (k TEXT PRIMARY KEY) WITHOUT ROWID')
  replica.run('CREATE VIEW v AS SELECT a FROM t')
  replica.run(
    'CREATE TRIGGER vi INSTEAD OF INSERT ON v BEGIN INSERT INTO t (a) VALUES (new.a); END',
  )
  const ids = (...sql: string[]): unknown[] =>
    replica.run(...sql).map(result => result.lastInsertId)

  assert.deepEqual(ids("INSERT INTO t VALUES (7, 'a')"), [7n])
  assert.deepEqual(ids("INSERT INTO t (a) VALUES ('b'), ('c')"), [9n])
  assert.deepEqual(ids("INSERT INTO t VALUES (0, 'zero')"), [0n])
  assert.deepEqual(ids("INSERT INTO t VALUES (-5, 'minus')"), [-5n])
  assert.deepEqual(ids("INSERT OR IGNORE INTO t VALUES (7, 'x')"), [undefined])
  assert.deepEqual(ids("INSERT INTO t VALUES (7, 'x') ON CONFLICT DO UPDATE SET a = 'a2'"), [
    undefined,
  ])
  assert.deepEqual(ids("INSERT INTO w VALUES ('k')"), [undefined])
  assert.deepEqual(ids("INSERT INTO v VALUES ('through a view')"), [undefined])
  assert.deepEqual(ids("UPDATE t SET a = 'd' WHERE id = 7", 'DELETE FROM t WHERE id = 8'), [
    undefined,
    undefined,
  ])
  assert.deepEqual(ids("INSERT INTO t (id, a) VALUES (20, 'e') RETURNING a"), [20n])
  assert.deepEqual(
    ids("INSERT INTO t VALUES (30, 'f')", 'SELECT 1', "INSERT OR IGNORE INTO t VALUES (30, 'f')"),
    [30n, undefined, undefined],
  )
})

test('last_insert_rowid and changes carry from statement to statement of a request, not further', () => {
  using both = pair('CREATE TABLE child (id INTEGER PRIMARY KEY, t INTEGER, n INTEGER)')
  const { leader, follower } = both
  const [, child] = leader.run(
    "INSERT INTO t VALUES (41, 'x'), (42, 'y')",
    'INSERT INTO child (t, n) VALUES (last_insert_rowid(), changes())',
  )
  assert.equal(child?.lastInsertId, 1n)
  assert.deepEqual(leader.query('SELECT t, n FROM child'), [[42n, 2n]])

  const [state] = leader.run('SELECT last_insert_rowid(), changes()', 'DELETE FROM child')
  assert.deepEqual(state?.rows, [[0n, 0n]])
  assert.equal(follower.follow(leader).divergence, undefined)
})

test('with the same id in two tables, both inserts tell it although the state is carried on', () => {
  using replica = Replica.withDatabase()
  replica.run(SCHEMA, 'CREATE TABLE child (id INTEGER PRIMARY KEY)')
  const results = replica.run(
    "INSERT INTO t VALUES (1, 'x')",
    'INSERT INTO child VALUES (last_insert_rowid())',
    "INSERT INTO t VALUES (1, 'y') ON CONFLICT DO UPDATE SET a = 'z'",
  )
  assert.deepEqual(
    results.map(result => result.lastInsertId),
    [1n, 1n, undefined],
  )
})

test('what a rolled-back neighbour did to last_insert_rowid, followers need not know', () => {
  using both = pair(
    'CREATE TABLE log (last INTEGER, n INTEGER)',
    'CREATE TRIGGER r BEFORE UPDATE ON t BEGIN INSERT INTO log VALUES (last_insert_rowid(), changes()); END',
  )
  const { leader, follower } = both
  leader.write(request("INSERT INTO t VALUES (1, 'x')"))
  leader.write(
    request("INSERT INTO t VALUES (77, 'y'), (78, 'z')", 'SELECT nonsense'),
    request("UPDATE t SET a = 'w'"),
    request("INSERT OR IGNORE INTO t VALUES (1, 'again')"),
  )
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.query('SELECT * FROM log'), leader.query('SELECT * FROM log'))
})

test('rows affected are those of the statement itself', () => {
  using replica = Replica.withDatabase()
  replica.run(SCHEMA, 'CREATE TABLE log (a)')
  replica.run('CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO log VALUES (1), (2); END')
  const counts = (...sql: string[]): number[] => replica.run(...sql).map(each => each.rowsAffected)

  assert.deepEqual(
    counts("INSERT INTO t (a) VALUES ('x'), ('y'), ('z')", 'CREATE TABLE u (a)'),
    [3, 0],
  )
  assert.deepEqual(counts("UPDATE t SET a = a || '2' WHERE id > 1", 'SELECT * FROM t'), [2, 0])
  assert.deepEqual(counts('DELETE FROM log WHERE 0', 'DELETE FROM log'), [0, 6])
  assert.deepEqual(counts('DELETE FROM t RETURNING id'), [3])
  assert.deepEqual(counts('CREATE TABLE copied AS SELECT 1', 'DROP TABLE copied'), [0, 0])
})

test('an id beyond 2^53 is told exactly, and its row is there', () => {
  using replica = Replica.withDatabase()
  replica.run(SCHEMA)
  const id = 2n ** 60n + 1n
  const [result] = replica.run(['INSERT INTO t VALUES (?, ?)', [id, 'x']])
  assert.equal(result?.lastInsertId, id)
  assert.deepEqual(replica.query('SELECT id FROM t'), [[id]])
})

test('an AUTOINCREMENT id that was rolled back is given again, on every node', () => {
  using both = pair('CREATE TABLE s (id INTEGER PRIMARY KEY AUTOINCREMENT, a)')
  const { leader, follower } = both
  leader.write(request('INSERT INTO s (a) VALUES (1)'))
  leader.execute(request('INSERT INTO s (a) VALUES (2)'))
  leader.rollback()
  const results = leader.write(
    request('INSERT INTO s (a) VALUES (3)', 'SELECT nonsense'),
    request('INSERT INTO s (a) VALUES (4)'),
  )
  assert.equal(success(results[1])[0]?.lastInsertId, 2n)
  assert.equal(follower.follow(leader).divergence, undefined)
})

test('a row may not take the last rowid, because SQLite would throw dice for the next', () => {
  using both = pair(
    'CREATE TABLE log (id INTEGER PRIMARY KEY)',
    'CREATE TRIGGER r AFTER DELETE ON t BEGIN INSERT INTO log VALUES (9223372036854775807); END',
    'CREATE VIRTUAL TABLE words USING fts5(a)',
    'CREATE TABLE odd (rowid TEXT, _rowid_ INTEGER PRIMARY KEY)',
    'CREATE TABLE p (u INTEGER UNIQUE)',
    'CREATE TABLE c (id INTEGER PRIMARY KEY REFERENCES p (u) ON UPDATE CASCADE)',
    'INSERT INTO p VALUES (1)',
    'INSERT INTO c VALUES (1)',
  )
  const { leader, follower } = both
  const last = 9223372036854775807n
  const offenders = [
    request(['INSERT INTO t (id) VALUES (?)', [last]]),
    request(['INSERT INTO t (id) VALUES (?), (5)', [last]]),
    request("INSERT INTO t VALUES (6, 'x')", 'UPDATE t SET id = 9223372036854775807 WHERE id = 6'),
    request("INSERT INTO t VALUES (8, 'y')", 'DELETE FROM t WHERE id = 8'),
    request("INSERT INTO words (rowid, a) VALUES (9223372036854775807, 'x')"),
    request('INSERT INTO odd (oid) VALUES (9223372036854775807)'),
    request('UPDATE p SET u = 9223372036854775807'),
  ]
  for (const offender of offenders) {
    // Neighbours on both sides must be as if it hadn't been there.
    const results = leader.write(
      request('INSERT INTO t (a) VALUES (hex(randomblob(8)))'),
      offender,
      request('INSERT INTO t (a) VALUES (hex(randomblob(8)))'),
    )
    const error = failure(results[1])
    assert.equal(error.code, 'UNSUPPORTED')
    assert.match(error.message, /last rowid/)
    success(results[0])
    success(results[2])
  }
  assert.equal(
    leader.fail('INSERT INTO t (id) VALUES (9223372036854775807)', 'DELETE FROM t').code,
    'UNSUPPORTED',
  )

  assert.equal(leader.query('SELECT count(*) FROM t')[0]?.[0], 14n)
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.digest(), leader.digest())
})

test('a script runs its statements one after another, each seeing what the last one made', () => {
  using replica = Replica.withDatabase()
  const results = replica.run(
    `-- a comment; with a semicolon
     CREATE TABLE a (x); CREATE TRIGGER r AFTER INSERT ON a BEGIN
       UPDATE a SET x = x + 1; SELECT 1;
     END;
     INSERT INTO a VALUES (1);; SELECT x FROM a /* the end */ ; `,
  )
  assert.equal(results.length, 4)
  assert.deepEqual(results[3]?.rows, [[2n]])
})

test('parameters go with a single statement', () => {
  using replica = Replica.withDatabase()
  replica.run('CREATE TABLE a (x)')
  assert.equal(replica.fail(['SELECT 1; SELECT ?', [1n]]).code, 'INVALID_REQUEST')
  assert.equal(replica.fail('SELECT 1; SELECT ?').code, 'INVALID_REQUEST')
  assert.equal(replica.fail(['; INSERT INTO a VALUES (?);', []]).code, 'INVALID_REQUEST')
  replica.run(['; INSERT INTO a VALUES (?); -- end', [1n]])
  assert.deepEqual(replica.query('SELECT x FROM a'), [[1n]])
})

test('a text without a statement and a text with a NUL are invalid', () => {
  using replica = Replica.withDatabase()
  for (const sql of ['', '  ', ';;', '-- nothing', 'SELECT 1\0; SELECT 2']) {
    assert.equal(replica.fail(sql).code, 'INVALID_REQUEST', JSON.stringify(sql))
  }
  assert.equal(replica.fail().code, 'INVALID_REQUEST')
})

test('EXPLAIN of a write is a read, and its rows are compared with nobody', () => {
  using both = pair('CREATE VIRTUAL TABLE words USING fts5(a)')
  const { leader, follower } = both
  const executed = leader.execute(request('EXPLAIN INSERT INTO t (id) VALUES (1)'))
  assert.equal(executed.entry, undefined)
  assert(leader.query('EXPLAIN QUERY PLAN DELETE FROM t WHERE id = 1').length > 0)

  // The program of a virtual table shows an address in this node's memory.
  leader.run('EXPLAIN SELECT * FROM words', 'DELETE FROM t')
  assert.equal(follower.follow(leader).divergence, undefined)
})

test('a write that returns too much fails, and nothing of it stays', () => {
  using replica = Replica.withDatabase()
  replica.run('CREATE TABLE big (a)')
  const numbers = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100001)'
  const error = replica.fail(`INSERT INTO big ${numbers} SELECT i FROM n RETURNING a`)
  assert.equal(error.code, 'TOO_LARGE')
  assert.equal(replica.fail('SELECT zeroblob(20000000)').code, 'TOO_LARGE')
  // The interrupted statement holds nothing open: a table can be dropped, a checkpoint completes.
  replica.run('DROP TABLE big')
  assert.equal(replica.checkpoint(), replica.index)
})

test('two clients never get the same random bytes, whoever fails or only reads beside them', () => {
  using replica = Replica.withDatabase()
  replica.run('CREATE TABLE a (x)')
  const dice = request('SELECT hex(randomblob(16))')
  const script = request('SELECT hex(randomblob(16)); SELECT 1')
  const write = request('INSERT INTO a VALUES (1) RETURNING hex(randomblob(16))')
  const two = request('DELETE FROM a WHERE 0 RETURNING 1', 'SELECT hex(randomblob(16))')
  const results = replica.write(dice, write, dice, script, write, two, script, dice, write, two)
  const bytes = results.map(result => {
    const [first, second] = success(result)
    return (first?.rows?.[0] ?? second?.rows?.[0])?.[0]
  })
  assert.equal(new Set(bytes).size, bytes.length)
})

test('a request on an unknown database or table says so', () => {
  using replica = Replica.withDatabase()
  assert.equal(failure(replica.write(on('nowhere', 'SELECT 1'))[0]).code, 'UNKNOWN_DATABASE')
  assert.equal(replica.fail('INSERT INTO nothere VALUES (1)').code, 'UNKNOWN_TABLE')
  const outcome = replica.read('SELECT 1', 'nowhere')
  assert(outcome.type === 'failed')
  assert.equal(outcome.error.code, 'UNKNOWN_DATABASE')
})
