import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestId, RequestResult, WriteRequest } from '../../src/engine/engine.ts'
import {
  createDatabase,
  dropDatabase,
  failure,
  on,
  Replica,
  request,
  success,
} from './sqlite/replica.ts'

const TABLE = 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)'
const INSERT = "INSERT INTO t (name) VALUES ('a' || (SELECT count(*) FROM t))"

function sequence(number: number, name = 7, birth = 1): RequestId {
  return { type: 'session', session: { birth, name }, sequence: number }
}

function key(text: string): RequestId & { readonly type: 'key' } {
  return { type: 'key', key: text }
}

function as(id: RequestId, asked: WriteRequest): WriteRequest {
  return { ...asked, id }
}

function cancel(id: RequestId, database = 'd'): WriteRequest {
  return { type: 'cancel', database, id }
}

function withTable(options = {}): Replica {
  const replica = Replica.withDatabase(options)
  replica.run(TABLE)
  return replica
}

function one(replica: Replica, asked: WriteRequest): RequestResult {
  const [result] = replica.write(asked)
  assert(result !== undefined)
  return result
}

function rowCount(replica: Replica): number {
  return Number(replica.query('SELECT count(*) FROM t')[0]?.[0])
}

const KINDS: readonly (readonly [string, RequestId])[] = [
  ['a session', sequence(1)],
  ['a key', key('order 66')],
]

for (const [kind, id] of KINDS) {
  test(`a request that comes again under ${kind} runs once and gets its first answer`, () => {
    using leader = withTable()
    const insert = as(id, request(`${INSERT} RETURNING id, name`))
    const first = one(leader, insert)
    const entries = leader.entries.length

    const again = one(leader, insert)

    assert.deepEqual(again, { ...first, isRepeat: true })
    assert.equal(leader.entries.length, entries, 'nothing more was logged')
    assert.equal(rowCount(leader), 1)
    assert.deepEqual(success(first)[0]?.rows, [[1n, 'a0']])
  })

  test(`under ${kind}, the answer survives a kill, and is known to a follower that leads`, () => {
    using first = withTable()
    const insert = as(id, request(INSERT))
    const answer = one(first, insert)
    using follower = new Replica()
    assert.equal(follower.follow(first).divergence, undefined)
    using leader = first.crash()
    leader.follow(leader)

    assert.deepEqual(one(leader, insert), { ...answer, isRepeat: true })
    assert.deepEqual(one(follower, insert), { ...answer, isRepeat: true })
    assert.equal(rowCount(follower), 1)
  })

  test(`under ${kind}, another body is refused, and changes nothing`, () => {
    using leader = withTable()
    one(leader, as(id, request(INSERT)))

    const other = one(leader, as(id, request(INSERT, INSERT)))
    const dropped = one(leader, as(id, dropDatabase('d')))

    assert.equal(failure(other).code, 'REQUEST_ID_REUSED')
    assert.equal(rowCount(leader), 1)
    assert.equal(failure(dropped).code, 'REQUEST_ID_REUSED')
  })

  test(`under ${kind}, what was cancelled never runs, whoever leads`, () => {
    using leader = withTable()

    assert.equal(failure(one(leader, cancel(id))).code, 'REQUEST_CANCELLED')
    const late = one(leader, as(id, request(INSERT)))
    const again = one(leader, cancel(id))

    using follower = new Replica()
    assert.equal(follower.follow(leader).divergence, undefined)
    const later = one(follower, as(id, request(INSERT)))
    for (const result of [late, again, later]) {
      assert.equal(failure(result).code, 'REQUEST_CANCELLED')
    }
    assert.equal(rowCount(leader), 0)
    assert.equal(leader.entries.length, 3, 'one cancel is logged')
  })

  test(`under ${kind}, a cancel that comes too late gives the first answer`, () => {
    using leader = withTable()
    const first = one(leader, as(id, request(INSERT)))

    assert.deepEqual(one(leader, cancel(id)), { ...first, isRepeat: true })
  })

  test(`under ${kind}, duplicates and cancels in one batch are told apart`, () => {
    using leader = withTable()
    const insert = as(id, request(INSERT))
    const [first, second, other, cancelled] = leader.write(
      insert,
      insert,
      as(id, request('DELETE FROM t')),
      cancel(id),
    )
    assert(first !== undefined)
    assert.deepEqual(second, { ...first, isRepeat: true })
    assert.equal(failure(other).code, 'REQUEST_ID_REUSED')
    assert.deepEqual(cancelled, { ...first, isRepeat: true })
    assert.equal(rowCount(leader), 1)

    const late = id.type === 'key' ? key('another') : sequence(2)
    const results = leader.write(cancel(late), as(late, request(INSERT)), cancel(late))
    assert.deepEqual(
      results.map(result => failure(result).code),
      ['REQUEST_CANCELLED', 'REQUEST_CANCELLED', 'REQUEST_CANCELLED'],
    )
    using follower = new Replica()
    assert.equal(follower.follow(leader).divergence, undefined)
    assert.equal(rowCount(follower), 1)
  })

  test(`under ${kind}, a request that failed or was rolled back leaves nothing`, () => {
    using leader = withTable()
    leader.run("INSERT INTO t (name) VALUES ('taken')")
    const insert = as(id, request("INSERT INTO t (name) VALUES ('taken')"))
    assert.equal(failure(one(leader, insert)).code, 'SQL_CONSTRAINT')
    assert.equal(failure(one(leader, insert)).code, 'SQL_CONSTRAINT')

    leader.run('DELETE FROM t')
    leader.execute(insert)
    leader.rollback()
    const first = one(leader, insert)

    assert(first.type === 'ok')
    assert.equal(first.isRepeat, undefined)
  })

  test(`under ${kind}, databases are made and dropped once`, () => {
    using leader = withTable()
    const created = as(id, createDatabase('e'))
    const droppedId = id.type === 'key' ? key('drop') : sequence(2)
    const dropped = as(droppedId, dropDatabase('e'))

    assert.deepEqual(one(leader, created), { type: 'ok', results: [] })
    assert.deepEqual(one(leader, created), { type: 'ok', results: [], isRepeat: true })
    assert.deepEqual(one(leader, cancel(id, 'e')), { type: 'ok', results: [], isRepeat: true })
    assert.deepEqual(one(leader, dropped), { type: 'ok', results: [] })
    using follower = new Replica()
    assert.equal(follower.follow(leader).divergence, undefined)
    for (const replica of [leader, follower]) {
      assert.deepEqual(one(replica, dropped), { type: 'ok', results: [], isRepeat: true })
      assert.deepEqual(one(replica, created), { type: 'ok', results: [], isRepeat: true })
      assert.deepEqual(
        replica.withReader(reader => reader.databases()),
        ['d'],
      )
    }
  })

  test(`under ${kind}, what is cancelled may be for a database that is not there yet`, () => {
    using leader = withTable()
    assert.equal(failure(one(leader, cancel(id, 'e'))).code, 'REQUEST_CANCELLED')

    assert.equal(failure(one(leader, as(id, createDatabase('e')))).code, 'REQUEST_CANCELLED')
    one(leader, createDatabase('e'))

    assert.equal(failure(one(leader, as(id, on('e', TABLE)))).code, 'REQUEST_CANCELLED')
    assert.equal(failure(one(leader, cancel(sequence(9), 'no such name!'))).code, 'INVALID_REQUEST')
  })

  test(`under ${kind}, a table rebuild runs once`, () => {
    using leader = withTable()
    leader.run(INSERT)
    const rebuild = as(
      id,
      request(
        'PRAGMA foreign_keys = OFF',
        'CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT)',
        'INSERT INTO u SELECT id, name FROM t',
        'DROP TABLE t',
        'ALTER TABLE u RENAME TO t',
      ),
    )
    const first = one(leader, rebuild)
    assert.equal(first.type, 'ok')

    assert.deepEqual(one(leader, rebuild), { ...first, isRepeat: true })
    using follower = new Replica()
    assert.equal(follower.follow(leader).divergence, undefined)
    assert.deepEqual(one(follower, rebuild), { ...first, isRepeat: true })
  })
}

test('the same key is another in another database', () => {
  using leader = withTable()
  leader.write(createDatabase('e'))
  one(leader, as(key('k'), request(INSERT)))

  const other = one(leader, as(key('k'), on('e', TABLE)))

  assert(other.type === 'ok')
  assert.equal(other.isRepeat, undefined)
  assert.equal(failure(one(leader, cancel(key('l'), 'e'))).code, 'REQUEST_CANCELLED')
  assert.equal(one(leader, as(key('l'), request(INSERT))).type, 'ok')
})

test('the same key is another in another database, also in one batch', () => {
  using leader = withTable()
  const insert = as(key('k'), request(INSERT))
  const [first, other, late, cancelled] = leader.write(
    insert,
    cancel(key('k'), 'e'),
    as(key('k'), on('e', TABLE)),
    cancel(key('k'), 'e'),
  )

  assert.equal(first?.type, 'ok')
  for (const result of [other, late, cancelled]) {
    assert.equal(failure(result).code, 'REQUEST_CANCELLED')
  }
})

test('a request that the batch runs again, because a neighbour broke it, is known once', () => {
  using leader = withTable()
  leader.run(
    'CREATE TABLE full (id INTEGER PRIMARY KEY AUTOINCREMENT)',
    'INSERT INTO full VALUES (9223372036854775806)',
    'DELETE FROM full',
    "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'full'",
  )
  const insert = as(sequence(1), request(INSERT))

  const [first, broken, repeated] = leader.write(
    insert,
    request('INSERT INTO full DEFAULT VALUES'),
    insert,
  )

  assert(first?.type === 'ok')
  assert.equal(broken?.type, 'failed')
  assert.deepEqual(repeated, { ...first, isRepeat: true })
  assert.deepEqual(one(leader, insert), { ...first, isRepeat: true })
  using follower = new Replica()
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.equal(rowCount(follower), 1)
})

test('a read under an id is asked anew each time', () => {
  using leader = withTable()
  const count = as(sequence(1), request('SELECT count(*) FROM t'))
  one(leader, count)
  leader.run(INSERT)

  assert.deepEqual(success(one(leader, count))[0]?.rows, [[1n]])
})

test('an answer that is too large is remembered without its rows, and says so', () => {
  using leader = withTable()
  const many = as(
    sequence(1),
    request(
      'WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600) ' +
        'INSERT INTO t (name) SELECT i FROM n RETURNING name',
    ),
  )
  const first = success(one(leader, many))[0]
  assert.equal(first?.rows?.length, 600)

  const again = one(leader, many)

  assert.deepEqual(again, {
    type: 'ok',
    isRepeat: true,
    rowsDropped: true,
    results: [{ rowsAffected: 600, lastInsertId: 600n }],
  })
  // Within one batch nobody gets more than they would a moment later.
  const other = as(sequence(2), request('UPDATE t SET name = name || 1 RETURNING name'))
  const [, repeated] = leader.write(other, other)
  assert.deepEqual(one(leader, other), repeated)
})

test('of a long script only is remembered that it was applied', () => {
  using leader = withTable()
  const script = as(sequence(1), request('DELETE FROM t;'.repeat(1000)))
  assert.equal(success(one(leader, script)).length, 1000)

  assert.deepEqual(one(leader, script), {
    type: 'ok',
    isRepeat: true,
    rowsDropped: true,
    results: [],
  })
})

test('rows of an EXPLAIN are not remembered, since they are not the same on every node', () => {
  using leader = withTable()
  const explained = as(sequence(1), request('EXPLAIN QUERY PLAN SELECT * FROM t', INSERT))
  one(leader, explained)

  const again = one(leader, explained)

  assert(again.type === 'ok')
  assert.equal(again.rowsDropped, true)
  assert.deepEqual(again.results[0], { rowsAffected: 0 })
})

test('a sequence below the window of its session is expired, and one within it is known', () => {
  using leader = withTable()
  for (let number = 1; number <= 70; number++) {
    if (number !== 40) one(leader, as(sequence(number), request(INSERT)))
  }

  for (const number of [1, 6]) {
    const old = one(leader, as(sequence(number), request(INSERT)))
    assert.equal(failure(old).code, 'REQUEST_EXPIRED')
    assert.equal(failure(one(leader, cancel(sequence(number)))).code, 'REQUEST_EXPIRED')
  }
  for (const number of [7, 70]) {
    const known = one(leader, as(sequence(number), request(INSERT)))
    assert(known.type === 'ok')
    assert.equal(known.isRepeat, true)
  }
  const skipped = one(leader, as(sequence(40), request(INSERT)))
  assert(skipped.type === 'ok')
  assert.equal(skipped.isRepeat, undefined)
  // In one batch as well: 200 makes 136 too old.
  const [, , tooOld] = leader.write(
    as(sequence(136), request(INSERT)),
    as(sequence(200), request(INSERT)),
    as(sequence(135), request(INSERT)),
  )
  assert.equal(failure(tooOld).code, 'REQUEST_EXPIRED')
  assert.equal(rowCount(leader), 72)
})

test('the longest unused session is forgotten, and nobody as old is believed to be new', () => {
  const requestLimits = { sessionsMax: 2, keysMax: 2, droppedNamesMax: 2, openRowBytesMax: 50 }
  using leader = withTable({ requestLimits })
  const insert = (name: number, birth: number, number = 1): RequestResult =>
    one(leader, as(sequence(number, name, birth), request(INSERT)))
  assert.equal(insert(1, 1).type, 'ok')
  assert.equal(insert(2, 2).type, 'ok')
  assert.equal(insert(1, 1, 2).type, 'ok')

  assert.equal(insert(3, 1).type, 'ok')

  // The second is gone, and with it everybody who was born with it or before and isn't known.
  assert.equal(failure(insert(2, 2)).code, 'REQUEST_EXPIRED')
  assert.equal(failure(insert(4, 2)).code, 'REQUEST_EXPIRED')
  const first = insert(1, 1, 2)
  assert(first.type === 'ok' && first.isRepeat)
  assert.equal(insert(5, 3).type, 'ok')
  const count = rowCount(leader)

  // The floor is in the file: a restart changes nothing, and neither does a follower's way here.
  using follower = new Replica({ requestLimits })
  assert.equal(follower.follow(leader).divergence, undefined)
  using reborn = leader.crash()
  reborn.follow(reborn)
  for (const replica of [follower, reborn]) {
    const old = one(replica, as(sequence(1, 2, 2), request(INSERT)))
    assert.equal(failure(old).code, 'REQUEST_EXPIRED')
    assert.equal(rowCount(replica), count)
  }
})

const TWO_KEYS = { sessionsMax: 2, keysMax: 2, droppedNamesMax: 2, openRowBytesMax: 50 }

test('the oldest key is forgotten, and nobody as old is believed to be new', () => {
  using leader = withTable({ requestLimits: TWO_KEYS })
  const born = leader.index
  const first = { ...key('a'), birth: born }
  one(leader, as(first, request(INSERT)))
  assert.equal(one(leader, as(first, request(INSERT))).type, 'ok', 'it is known')
  one(leader, as({ ...key('b'), birth: leader.index }, request(INSERT)))
  // As long as nothing was forgotten, a key of which nobody knows the age is new.
  one(leader, as(key('c'), request(INSERT)))
  const count = rowCount(leader)

  for (const old of [first, key('a'), key('never seen'), { ...key('nor this'), birth: born }]) {
    assert.equal(failure(one(leader, as(old, request(INSERT)))).code, 'REQUEST_EXPIRED')
    assert.equal(failure(one(leader, cancel(old))).code, 'REQUEST_EXPIRED', 'not a word of never')
  }
  assert.equal(rowCount(leader), count, 'none was executed')
  using follower = new Replica({ requestLimits: TWO_KEYS })
  assert.equal(follower.follow(leader).divergence, undefined)
  for (const replica of [leader, follower]) {
    assert.equal(failure(one(replica, as(first, request(INSERT)))).code, 'REQUEST_EXPIRED')
    const known = one(replica, cancel(key('c')))
    assert(known.type === 'ok' && known.isRepeat === true)
    const fresh = { ...key('d'), birth: replica.index }
    assert.equal(one(replica, as(fresh, request(INSERT))).type, 'ok')
  }
})

test('a book that is read again has the floor that it had', () => {
  const requestLimits = { ...TWO_KEYS, keysMax: 1, sessionsMax: 9, openRowBytesMax: 150 }
  using leader = withTable({ requestLimits })
  for (const text of ['a', 'b']) one(leader, as(key(text), request(INSERT)))
  const born = leader.index
  // What was forgotten stays in a row that is full only later.
  for (let number = 1; number <= 9; number++) {
    one(leader, as(sequence(number, 7, 1), request(INSERT)))
  }
  using again = leader.copy()
  if (again.index < leader.index) again.follow(leader)

  for (const replica of [leader, again]) {
    assert.equal(one(replica, as({ ...key('c'), birth: born }, request(INSERT))).type, 'ok')
  }
})

test('what was cancelled and is forgotten is still not executed', () => {
  using leader = withTable({ requestLimits: TWO_KEYS })
  const late = { ...key('late'), birth: leader.index }
  // Whoever asks need not know since when it has been sent.
  assert.equal(failure(one(leader, cancel(key('late')))).code, 'REQUEST_CANCELLED')
  for (const text of ['x', 'y']) one(leader, cancel({ ...key(text), birth: leader.index }))

  assert.equal(failure(one(leader, as(late, request(INSERT)))).code, 'REQUEST_EXPIRED')
  assert.equal(failure(one(leader, cancel(late))).code, 'REQUEST_EXPIRED')
  assert.equal(rowCount(leader), 0)
})

test('a key of before its database was dropped is not executed in a new one of the name', () => {
  using leader = withTable()
  const old = { ...key('k'), birth: leader.index }
  one(leader, as(old, request(INSERT)))
  one(leader, dropDatabase('d'))
  assert.equal(failure(one(leader, as(old, request(INSERT)))).code, 'REQUEST_EXPIRED')
  leader.write(createDatabase('d'), request(TABLE))

  assert.equal(failure(one(leader, as(old, request(INSERT)))).code, 'REQUEST_EXPIRED')
  const next = { ...key('k'), birth: leader.index }
  assert.equal(one(leader, as(next, request(INSERT))).type, 'ok')
})

test('a session from the future is refused: it would raise the floor above everybody', () => {
  using leader = withTable()
  const future = sequence(1, 7, leader.index + 1)

  assert.equal(failure(one(leader, as(future, request(INSERT)))).code, 'INVALID_REQUEST')
  assert.equal(failure(one(leader, cancel(future))).code, 'INVALID_REQUEST')
  const futureKey = { ...key('k'), birth: leader.index + 1 }
  assert.equal(failure(one(leader, as(futureKey, request(INSERT)))).code, 'INVALID_REQUEST')
  assert.equal(one(leader, as(sequence(1, 7, leader.index), request(INSERT))).type, 'ok')
})

test('who drew the name of another session is not taken for it', () => {
  using leader = withTable()
  one(leader, as(sequence(1, 7, 1), request(INSERT)))

  const other = one(leader, as(sequence(1, 7, 2), request(INSERT)))

  assert.equal(failure(other).code, 'REQUEST_EXPIRED')
})

test('what a dropped database knew is not forgotten for a new one of its name', () => {
  using leader = withTable({
    requestLimits: { sessionsMax: 9, keysMax: 9, droppedNamesMax: 1, openRowBytesMax: 50 },
  })
  const insert = as(sequence(1), request(INSERT))
  one(leader, insert)
  leader.write(dropDatabase('d'))

  // It was applied, and nobody knows any more: not a word of "not applied".
  assert.equal(failure(one(leader, insert)).code, 'REQUEST_EXPIRED')
  assert.equal(failure(one(leader, cancel(sequence(1)))).code, 'REQUEST_EXPIRED')
  const born = leader.index
  assert.equal(
    failure(one(leader, as(sequence(1, 8, born), request(INSERT)))).code,
    'UNKNOWN_DATABASE',
  )

  leader.write(createDatabase('d'), request(TABLE))
  using follower = new Replica({
    requestLimits: { sessionsMax: 9, keysMax: 9, droppedNamesMax: 1, openRowBytesMax: 50 },
  })
  assert.equal(follower.follow(leader).divergence, undefined)
  for (const replica of [leader, follower]) {
    assert.equal(failure(one(replica, insert)).code, 'REQUEST_EXPIRED')
    assert.equal(one(replica, as(sequence(2, 8, born), request(INSERT))).type, 'ok')
    assert.equal(rowCount(replica), 1)
  }
})

test('of a key whose database was dropped nobody says that it never took effect', () => {
  using leader = withTable()
  one(leader, as(key('k'), request(INSERT)))
  one(leader, dropDatabase('d'))

  assert.equal(failure(one(leader, cancel(key('k')))).code, 'REQUEST_EXPIRED')
  one(leader, createDatabase('d'))
  assert.equal(failure(one(leader, cancel(key('k')))).code, 'REQUEST_EXPIRED')
})

test('when too many names were dropped, the older ones expire together', () => {
  using leader = withTable({
    requestLimits: { sessionsMax: 9, keysMax: 9, droppedNamesMax: 1, openRowBytesMax: 50 },
  })
  leader.write(createDatabase('e'), dropDatabase('d'), dropDatabase('e'))
  const before = sequence(1, 8, leader.index - 2)
  leader.write(createDatabase('d'), request(TABLE))

  assert.equal(failure(one(leader, as(before, request(INSERT)))).code, 'REQUEST_EXPIRED')
  assert.equal(one(leader, as(sequence(1, 8, leader.index), request(INSERT))).type, 'ok')
})

test('clients can neither see nor touch what is remembered', () => {
  using leader = withTable()
  one(leader, as(sequence(1), request(INSERT)))

  for (const sql of [
    'SELECT * FROM lockstep_request',
    'DELETE FROM lockstep_request',
    'DROP TABLE lockstep_request',
    'CREATE TRIGGER r AFTER INSERT ON lockstep_request BEGIN SELECT 1; END',
  ]) {
    assert.equal(leader.fail(sql).code, 'UNSUPPORTED', sql)
  }
  const read = leader.read('SELECT * FROM lockstep_request')
  assert(read.type === 'failed')
  assert.equal(read.error.code, 'UNSUPPORTED')
})

test('a follower that knows an id does not believe a leader that executed it again', () => {
  using leader = withTable()
  using follower = new Replica()
  const insert = as(sequence(1), request(INSERT))
  one(leader, insert)
  follower.follow(leader)
  leader.tamper("UPDATE lockstep_meta SET request_row = 0, request_ids = x''")
  using forgetful = leader.crash()
  forgetful.follow(forgetful)
  const before = forgetful.entries.length

  one(forgetful, insert)

  assert.equal(forgetful.entries.length, before + 1, 'it was executed twice')
  const { divergence } = follower.follow(forgetful)
  assert.match(divergence?.actual ?? '', /known already/)
})
