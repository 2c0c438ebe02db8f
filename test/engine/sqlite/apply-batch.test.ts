import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeEntry, EntryBuilder } from '../../../src/engine/entry.ts'
import { encodeRequest } from '../../../src/engine/request.ts'
import { nodeFileSystem } from '../../../src/engine/sqlite/file-system.ts'
import { createDatabase, dropDatabase, on, Replica, request } from './replica.ts'

const TABLE = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE, n INTEGER)'

test('a replica that computes something else is caught at that statement of that entry', () => {
  using leader = Replica.withDatabase()
  using wrong = new Replica({ alterSqlForTests: sql => sql.replace('n + 1 ', 'n + 1 + (id = 2) ') })
  leader.run(TABLE, "INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2)")
  leader.run("UPDATE t SET a = 'z' WHERE id = 1")
  leader.run('SELECT 1', 'UPDATE t SET n = n + 1 RETURNING n')
  leader.run('DELETE FROM t')

  const { index, divergence } = wrong.follow(leader)

  assert.equal(index, 3)
  assert.equal(divergence?.index, 4)
  assert.equal(divergence.database, 'd')
  assert.equal(divergence.sql, 'UPDATE t SET n = n + 1 RETURNING n')
  assert.notEqual(divergence.expected, divergence.actual)
  // Nothing of that entry is there.
  assert.deepEqual(wrong.query('SELECT * FROM t'), [
    [1n, 'z', 1n],
    [2n, 'y', 2n],
  ])
})

test('rows affected, an inserted id and an error are compared as well', () => {
  const cases = [
    [
      'DELETE FROM t WHERE id > 1',
      'DELETE FROM t WHERE id > 2',
      '2 rows affected',
      '1 rows affected',
    ],
    ["INSERT INTO t (a) VALUES ('w')", "INSERT INTO t VALUES (9, 'w', 0)", 'id 4', 'id 9'],
    ['UPDATE t SET n = 5', 'UPDATE t SET a = 5', 'success', 'SQL_CONSTRAINT'],
    ['SELECT 1; DELETE FROM t', 'DELETE FROM t', 'rows', '3 rows affected'],
  ] as const
  for (const [right, altered, expected, actual] of cases) {
    using leader = Replica.withDatabase()
    using wrong = new Replica({ alterSqlForTests: sql => (sql === right ? altered : sql) })
    leader.run(TABLE, "INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2), (3, 'z', 3)")
    leader.run(right)

    const { divergence } = wrong.follow(leader)

    assert(divergence !== undefined, right)
    assert(divergence.expected.includes(expected), `${divergence.expected} for ${right}`)
    assert(divergence.actual.includes(actual), `${divergence.actual} for ${right}`)
  }
})

test('a diverged writer executes and applies nothing any more, and says why', () => {
  using leader = Replica.withDatabase()
  using wrong = new Replica({ alterSqlForTests: sql => sql.replace("'x'", "'y', 0), (7, 'z'") })
  leader.run(TABLE)
  leader.run("INSERT INTO t VALUES (1, 'x', 1)")
  leader.run('DELETE FROM t')
  const first = wrong.follow(leader)
  assert(first.divergence !== undefined)

  const again = wrong.apply(...leader.entries.filter(entry => entry.index > first.index))
  assert.deepEqual(again.divergence, first.divergence)
  assert.equal(again.index, first.index)
  const executed = wrong.execute(request('DELETE FROM t'), request('SELECT 1'))
  assert.equal(executed.entry, undefined)
  assert.deepEqual(
    executed.results.map(result => result.type === 'failed' && result.error.code),
    ['DIVERGED', 'DIVERGED'],
  )
  assert.equal(wrong.checkpoint(), 0)
})

test('a divergence in the second database of an entry leaves the first as it was', () => {
  using leader = Replica.withDatabase()
  using wrong = new Replica({
    alterSqlForTests: sql => sql.replace("'in e'", "'in e', 'and more'"),
  })
  leader.write(createDatabase('e'), on('d', TABLE), on('e', TABLE))
  leader.write(
    on('d', "INSERT INTO t (a) VALUES ('in d')"),
    on('e', "INSERT INTO t (a) VALUES ('in e')"),
  )
  const { index, divergence } = wrong.follow(leader)
  assert.equal(index, leader.index - 1)
  assert.equal(divergence?.database, 'e')
  assert.deepEqual(wrong.query('SELECT * FROM t', 'd'), [])
})

test('a database that should be there and is not, or the other way round, is a divergence', () => {
  const divergenceOf = (...requests: Parameters<typeof encodeRequest>): unknown => {
    using replica = Replica.withDatabase()
    const builder = new EntryBuilder()
    builder.begin(1, new Uint8Array(16))
    for (const each of requests) builder.add(encodeRequest(each), [])
    const { divergence } = replica.apply({ index: 2, data: builder.finish() })
    return divergence?.actual
  }
  assert.equal(divergenceOf(on('nowhere', 'SELECT 1')), 'no such database')
  assert.equal(divergenceOf(createDatabase('d')), 'a database d')
  assert.equal(divergenceOf(dropDatabase('nowhere')), 'no such database')
})

test("a full disk is this node's fault and never a divergence", () => {
  using leader = Replica.withDatabase()
  leader.run(TABLE, 'CREATE TABLE s (id INTEGER PRIMARY KEY AUTOINCREMENT, a)')
  leader.run("INSERT INTO t (a) VALUES ('x')")
  // SQLite says "full" here and not on the leader: so it can only be the disk.
  using full = new Replica({
    alterSqlForTests: sql =>
      sql.startsWith("INSERT INTO t (a) VALUES ('x')")
        ? 'INSERT INTO s VALUES (9223372036854775807, 1); INSERT INTO s (a) VALUES (2)'
        : sql,
  })
  const reply = full.writer.handle({ type: 'apply', entries: leader.entries })
  assert(reply.type === 'fault')
  assert.equal(reply.error.code, 'DISK_FULL')
})

test('a corrupt page on a follower is its fault and never a divergence', () => {
  using leader = Replica.withDatabase()
  leader.run(TABLE)
  leader.run(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000)
      INSERT INTO t (a) SELECT hex(randomblob(50)) FROM n`,
  )
  using follower = new Replica()
  follower.follow(leader)
  const bytes = follower.flushedNow('db-1.sqlite')
  bytes.fill(0xee, 4096 * 4)
  using garbled = follower.crashWith('db-1.sqlite', bytes)
  leader.run("UPDATE t SET a = a || 'x'")
  const entries = leader.entries.slice(garbled.index)
  const reply = garbled.writer.handle({ type: 'apply', entries })
  assert(reply.type === 'fault')
  assert.equal(reply.error.code, 'CORRUPT')
})

test('a full disk on the leader ends its writer, and nothing is answered', () => {
  let isFull = false
  const fileSystem = {
    ...nodeFileSystem,
    write(path: string, bytes: Uint8Array): void {
      if (isFull) throw Object.assign(new Error('no space'), { code: 'ENOSPC', syscall: 'write' })
      nodeFileSystem.write(path, bytes)
    },
  }
  using leader = Replica.withDatabase({ fileSystem })
  leader.run('CREATE TABLE s (id INTEGER PRIMARY KEY AUTOINCREMENT)')
  leader.run("INSERT INTO sqlite_sequence VALUES ('s', 9223372036854775807)")
  isFull = true
  const seed = new Uint8Array(16)
  const requests = [encodeRequest(request('INSERT INTO s DEFAULT VALUES'))]
  const reply = leader.writer.handle({
    type: 'execute',
    batch: 50,
    nowMs: 1,
    seed,
    commitIndex: 0,
    requests,
  })
  assert(reply.type === 'fault')
  assert.equal(reply.error.code, 'DISK_FULL')

  const next = leader.writer.handle({ type: 'checkpoint' })
  assert(next.type === 'fault')
})

test('each file skips what it has, and takes what it has not', () => {
  using leader = Replica.withDatabase()
  leader.write(createDatabase('e'), on('d', TABLE), on('e', TABLE))
  for (let i = 0; i < 6; i++) {
    leader.write(
      on('d', `INSERT INTO t (a) VALUES ('d${i}' || random())`),
      on('e', `INSERT INTO t (a) VALUES ('e${i}' || random())`),
    )
    if (i % 2 === 0) leader.write(on('e', `DELETE FROM t WHERE id = ${i}`))
  }
  // One file of an old copy, the other of a new one: as after a crash between two commits.
  using follower = new Replica()
  follower.apply(...leader.entries.slice(0, 6))
  const old = follower.flushedNow('db-1.sqlite')
  follower.apply(...leader.entries.slice(6, 10))
  const mixed = follower.crashWith('db-1.sqlite', old)

  assert.equal(mixed.opened.appliedIndex, 6)
  assert.equal(mixed.follow(leader).divergence, undefined)
  for (const name of ['d', 'e']) assert.deepEqual(mixed.digest(name), leader.digest(name))
  mixed[Symbol.dispose]()
})

test('entries for a database that was dropped since are skipped in a replay', () => {
  using leader = Replica.withDatabase()
  leader.run(TABLE, "INSERT INTO t (a) VALUES ('old')")
  leader.write(dropDatabase('d'))
  leader.write(createDatabase('d'))
  leader.run('CREATE TABLE u (a)', 'INSERT INTO u VALUES (1)')
  leader.write(createDatabase('e'), dropDatabase('e'))

  using again = leader.crash()
  assert.equal(again.opened.appliedIndex, 0)
  const before = again.digest()
  assert.equal(again.apply(...leader.entries).divergence, undefined)
  assert.deepEqual(again.digest(), before)
  assert.deepEqual(
    again.withReader(reader => reader.databases()),
    ['d'],
  )
})

test('an entry that can not be read is a fault, not a divergence', () => {
  using replica = Replica.withDatabase()
  const reply = replica.writer.handle({
    type: 'apply',
    entries: [{ index: 2, data: new Uint8Array([1, 2]) }],
  })
  assert(reply.type === 'fault')
  assert.equal(reply.error.code, 'CORRUPT')
})

test('an entry carries what its requests gave, statement by statement', () => {
  using leader = Replica.withDatabase()
  leader.run(TABLE)
  const executed = leader.execute(
    request("INSERT INTO t (a) VALUES ('x')", 'SELECT * FROM t'),
    request('nonsense'),
    request('DELETE FROM t; DELETE FROM t'),
  )
  assert(executed.entry !== undefined)
  const { requests, nowMs } = decodeEntry(executed.entry)
  assert.equal(nowMs, leader.nowMs)
  assert.deepEqual(
    requests.map(each =>
      each.outcomes.map(outcome => [outcome.rowsAffected, outcome.lastInsertId]),
    ),
    [
      [
        [1, 1n],
        [0, undefined],
      ],
      [
        [1, undefined],
        [0, undefined],
      ],
    ],
  )
  assert.equal(requests[0]?.outcomes[0]?.rowsDigest, undefined)
  assert.notEqual(requests[0]?.outcomes[1]?.rowsDigest, undefined)
})
