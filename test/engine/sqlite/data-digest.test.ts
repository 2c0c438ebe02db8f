/** The digest of all data of a node: what is part of it, and what is not. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { createDatabase, dropDatabase, Replica, request, tamperFile } from './replica.ts'
import { Talk } from './talk.ts'

const TABLE = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a, g AS (lower(a)))'
const ROWS = "INSERT INTO t (a) VALUES ('One'), ('Two'), ('Three')"

function filled(): Replica {
  const replica = Replica.withDatabase()
  replica.write(createDatabase('e'))
  replica.run(TABLE, ROWS)
  replica.write({
    ...request("INSERT INTO t (a) VALUES ('Four')"),
    id: { type: 'key', key: 'k' },
  })
  return replica
}

function copyOf(replica: Replica): Replica {
  const copy = replica.copy()
  // It holds all of the entries, and only can't be sure of that.
  copy.index = replica.index
  return copy
}

test('whatever changes data, schema, catalogue or what is remembered of requests changes it', () => {
  using replica = filled()
  const seen = new Map([[replica.dataDigest().digest, 'nothing']])
  const changes = [
    "UPDATE t SET a = 'one' WHERE id = 1",
    'DELETE FROM t WHERE id = 2',
    'CREATE INDEX i ON t (a)',
    'CREATE TABLE empty (a)',
    'PRAGMA user_version = 3',
    "UPDATE lockstep_meta SET request_ids = x''",
    'UPDATE lockstep_meta SET applied = applied - 1',
    'UPDATE lockstep_meta SET now_ms = now_ms + 1',
    'UPDATE lockstep_meta SET request_floor = 7',
    'UPDATE lockstep_meta SET request_key_floor = 7',
    "INSERT INTO lockstep_request VALUES (1, 1, x'00')",
    "INSERT INTO lockstep_request VALUES (1, 2, x'00')",
  ]
  for (const sql of changes) {
    using changed = copyOf(replica)
    changed.tamper(sql)
    const { digest } = changed.dataDigest()
    assert.equal(seen.get(digest), undefined, sql)
    seen.set(digest, sql)
  }
  for (const sql of [
    "UPDATE lockstep_database SET name = 'f' WHERE name = 'e'",
    "INSERT INTO lockstep_dropped VALUES ('x', 2)",
    'UPDATE lockstep_state SET dropped_floor = 1',
    'UPDATE lockstep_state SET request_key_floor = 1',
    "UPDATE lockstep_state SET request_ids = x'00'",
  ]) {
    using changed = copyOf(replica)
    tamperFile(join(changed.directory, 'gen-1', 'system.sqlite'), sql)
    const { digest } = changed.dataDigest()
    assert.equal(seen.get(digest), undefined, sql)
    seen.set(digest, sql)
  }
})

test('how files are laid out, and what a node knows for itself alone, is no part of it', () => {
  using replica = filled()
  const before = replica.dataDigest()
  for (const act of [
    (copy: Replica): unknown => copy.checkpoint(),
    (copy: Replica): unknown => copy.tamper('CREATE TABLE x (a); DROP TABLE x; VACUUM'),
    (copy: Replica): unknown => copy.tamper('UPDATE lockstep_meta SET schema = schema + 1'),
    (copy: Replica): unknown =>
      copy.send({ type: 'accept', index: 2, digest: '0000000000000000' }, 'accepted'),
  ]) {
    using copy = copyOf(replica)
    act(copy)
    assert.deepEqual(copy.dataDigest(), before)
  }
  assert(replica.checkpoint() > 0)
  assert.deepEqual(replica.dataDigest(), before)
})

test('it says which part differs', () => {
  using replica = filled()
  using changed = copyOf(replica)
  changed.tamper("UPDATE t SET a = 'one' WHERE id = 1")
  const right = replica.dataDigest().parts
  const differing = changed.dataDigest().parts.filter(({ digest }, at) => {
    return digest !== right[at]?.digest
  })
  assert.deepEqual(
    right.map(({ name }) => name),
    ['', 'd', 'e'],
  )
  assert.deepEqual(
    differing.map(({ name }) => name),
    ['d'],
  )
})

test('a dropped database is no part of it but for its name', () => {
  using replica = filled()
  replica.write(dropDatabase('e'))
  assert.deepEqual(
    replica.dataDigest().parts.map(({ name }) => name),
    ['', 'd'],
  )
})

// FTS5 writes out what it holds in memory at every savepoint. Those of a client exist on the leader
// only, what it undid never came to the others, and what gave way was done twice.
test('a leader and a follower have the same, wherever the leader set savepoints', () => {
  using leader = filled()
  using follower = leader.copy()
  leader.run('CREATE VIRTUAL TABLE words USING fts5(body)')
  leader.run('CREATE VIRTUAL TABLE boxes USING rtree(id, x1, x2)')
  const talk = new Talk(leader)
  for (let round = 0; round < 12; round++) {
    if (round % 4 === 3) talk.pause()
    talk.run(`INSERT INTO words VALUES ('alpha ${round}')`)
    talk.run('SAVEPOINT s')
    talk.run(
      `INSERT INTO words VALUES ('beta ${round}')`,
      `INSERT INTO boxes VALUES (${round}, 1, 2)`,
    )
    if (round % 2 === 0) talk.run('ROLLBACK TO s')
    talk.run('RELEASE s')
  }
  talk.fail("INSERT INTO words VALUES ('epsilon')", 'INSERT INTO missing VALUES (1)')
  talk.commit()
  leader.write(
    request("INSERT INTO words VALUES ('gamma')"),
    request("INSERT INTO words VALUES ('delta')", 'INSERT INTO missing VALUES (1)'),
    request('INSERT INTO boxes VALUES (100, 1, 2)'),
  )
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.dataDigest(), leader.dataDigest())

  // What such a table holds counts all the same.
  follower.run("UPDATE words SET body = 'omega' WHERE body = 'gamma'")
  assert.notEqual(follower.dataDigest().digest, leader.dataDigest().digest)
})

test('files that are ahead of the entry asked for are not read', () => {
  using replica = filled()
  replica.index -= 1
  assert.throws(() => replica.dataDigest(), { code: 'NOT_READY', message: /holds entry/ })
})

test('a column that is computed when it is read is no part of it, also where it can not be', () => {
  using replica = filled()
  replica.run('CREATE TABLE u (rowid_ INTEGER, s AS (a || 1) STORED, a)')
  replica.run("INSERT INTO u (a) VALUES ('one')")
  const before = replica.dataDigest()
  // It fails for the rows that are there, which nobody is told before they are read.
  replica.run("ALTER TABLE t ADD COLUMN rowid AS (json_extract(a, '$.x'))")
  assert.equal(replica.read('SELECT * FROM t').type, 'failed')
  const after = replica.dataDigest()
  assert.notEqual(after.digest, before.digest, 'the schema is another one')
  assert.equal(replica.digest().type, 'ok')
  replica.tamper("DELETE FROM t WHERE a = 'Four'")
  assert.notEqual(replica.dataDigest().digest, after.digest)
})

test('rows are read where they are, and not from an index that holds the same', () => {
  using replica = filled()
  replica.run(
    'CREATE TABLE r (id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c AS (a || b))',
    'CREATE TABLE w (a TEXT PRIMARY KEY, b INTEGER) WITHOUT ROWID',
    'CREATE INDEX ri ON r (a, b)',
    'CREATE INDEX wi ON w (b, a)',
    "INSERT INTO r (a, b) VALUES ('one', 1)",
    "INSERT INTO w (a, b) VALUES ('one', 1)",
  )
  for (const [table, index] of [
    ['r', 'ri'],
    ['w', 'wi'],
  ] as const) {
    using changed = copyOf(replica)
    changed.tamper(
      'PRAGMA writable_schema = ON; ' +
        `CREATE TEMP TABLE kept AS SELECT * FROM sqlite_schema WHERE name = '${index}'; ` +
        `DELETE FROM sqlite_schema WHERE name = '${index}'; PRAGMA writable_schema = RESET; ` +
        `UPDATE ${table} SET b = 2; PRAGMA writable_schema = ON; ` +
        'INSERT INTO sqlite_schema SELECT * FROM kept',
    )
    assert.notEqual(changed.dataDigest().digest, replica.dataDigest().digest, table)
  }
})
