/** Interactive transactions on the leader's writer, and their entries on a follower's. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeEntry } from '../../../src/engine/entry.ts'
import { createDatabase, dropDatabase, NOW_MS, on, Replica, request } from './replica.ts'
import { Talk } from './talk.ts'

function withTable(): Replica {
  const replica = Replica.withDatabase()
  replica.run('CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE, b)')
  return replica
}

/** A follower of everything that `leader` has logged; it must agree, and hold the same rows. */
function assertFollows(leader: Replica): void {
  using follower = new Replica()
  const applied = follower.follow(leader)
  assert.equal(applied.divergence, undefined, JSON.stringify(applied.divergence))
  assert.deepEqual(follower.digest(), leader.digest())
}

test('a transaction sees its own writes, nobody else does, and its commit is one entry', () => {
  using leader = withTable()
  const talk = new Talk(leader)
  const [inserted] = talk.run(["INSERT INTO t (a) VALUES ('x')", []])
  assert.equal(inserted?.lastInsertId, 1n)
  assert.deepEqual(talk.rows('SELECT a FROM t'), [['x']])
  assert.deepEqual(leader.query('SELECT a FROM t'), [], 'it is not committed')
  talk.run("UPDATE t SET b = a || 'y'")
  const before = leader.entries.length
  assert.deepEqual(talk.commit(), { type: 'ok', results: [] })

  assert.equal(leader.entries.length, before + 1)
  assert.deepEqual(leader.query('SELECT a, b FROM t'), [['x', 'xy']])
  assertFollows(leader)
})

test('its entry holds the steps that changed something, in their order, and no others', () => {
  using leader = withTable()
  const talk = new Talk(leader)
  talk.rows('SELECT count(*) FROM t')
  talk.run("INSERT INTO t (a) VALUES ('x')", "INSERT INTO t (a) VALUES ('y')")
  talk.fail("INSERT INTO t (a) VALUES ('x')")
  talk.rows('SELECT * FROM t')
  talk.run('DELETE FROM t WHERE id = 1')
  talk.commit()

  const [entry] = decodeEntry(leader.entries.at(-1)?.data ?? new Uint8Array()).requests
  assert(entry?.request.type === 'transaction')
  const texts = entry.request.steps.map(step => step.map(({ sql }) => sql))
  assert.deepEqual(texts, [
    ["INSERT INTO t (a) VALUES ('x')", "INSERT INTO t (a) VALUES ('y')"],
    ['DELETE FROM t WHERE id = 1'],
  ])
  assert.equal(entry.outcomes.length, 3)
  assertFollows(leader)
})

test('a step that fails is undone whole and alone, and the transaction goes on', () => {
  using leader = withTable()
  const talk = new Talk(leader)
  talk.run("INSERT INTO t (a) VALUES ('x')")
  const error = talk.fail("INSERT INTO t (a) VALUES ('y')", "INSERT INTO t (a) VALUES ('x')")
  assert.equal(error.code, 'SQL_CONSTRAINT')
  assert.equal(error.details?.['statement'], 1)
  assert.equal(error.details?.['transaction'], undefined, 'it is still open')
  assert.deepEqual(talk.rows('SELECT a FROM t'), [['x']])
  talk.run("INSERT INTO t (a) VALUES ('z')")
  talk.commit()

  assert.deepEqual(leader.query('SELECT a FROM t ORDER BY a'), [['x'], ['z']])
  assertFollows(leader)
})

test('chance does not depend on the reads, failures and undone steps in between', () => {
  using leader = withTable()
  const talk = new Talk(leader)
  talk.run('INSERT INTO t (b) VALUES (random())')
  talk.rows('SELECT random()')
  talk.fail('INSERT INTO t (id, b) VALUES (1, random())')
  talk.run('SAVEPOINT s')
  talk.run('INSERT INTO t (b) VALUES (random())')
  talk.run('ROLLBACK TO s')
  talk.run('INSERT INTO t (b) VALUES (random()), (hex(randomblob(8)))')
  talk.commit()

  const values = leader.query('SELECT b FROM t')
  assert.equal(values.length, 3)
  assert.equal(new Set(values.map(([b]) => String(b))).size, 3)
  assertFollows(leader)
})

test('two transactions get different random values, and one the same at each repetition', () => {
  using leader = withTable()
  const first = new Talk(leader, { seed: 1 })
  const random = first.rows('SELECT random(), hex(randomblob(4))')
  first.pause()
  const second = new Talk(leader, { seed: 2 })
  assert.notDeepEqual(second.rows('SELECT random(), hex(randomblob(4))'), random)
  second.commit()
  first.run('DELETE FROM t')
  assert.deepEqual(first.commit(), { type: 'ok', results: [] })
})

test('a step that failed at one statement and now fails alike at another one is a conflict', () => {
  using leader = withTable()
  const talk = new Talk(leader)
  const insert = "INSERT INTO t (a) VALUES ('x')"
  assert.equal(talk.fail(insert, insert).details?.['statement'], 1, "there was no 'x' before")
  talk.pause()
  leader.run(insert)
  assert.equal(talk.fail('SELECT 1').code, 'TRANSACTION_CONFLICT')
})

test('after a pause it goes on where it was, if nothing that it saw has changed', () => {
  using leader = withTable()
  leader.run("INSERT INTO t (id, a) VALUES (10, 'old')")
  const talk = new Talk(leader)
  talk.rows("SELECT b FROM t WHERE a = 'old'")
  talk.run("UPDATE t SET b = 1 WHERE a = 'old'")
  talk.pause()
  leader.run("INSERT INTO t (id, a) VALUES (5, 'other')")
  assert.deepEqual(talk.rows("SELECT b FROM t WHERE a = 'old'"), [[1n]])
  talk.pause()
  assert.deepEqual(talk.commit(), { type: 'ok', results: [] })

  assert.deepEqual(leader.query('SELECT id, b FROM t ORDER BY id'), [
    [5n, null],
    [10n, 1n],
  ])
  assertFollows(leader)
})

const CHANGES: readonly [what: string, mine: string, others: string][] = [
  ['rows that it read', 'SELECT b FROM t', 'UPDATE t SET b = 2'],
  ['that there were no rows', 'SELECT b FROM t WHERE id > 1', 'INSERT INTO t (id) VALUES (2)'],
  ['how many rows it changed', 'UPDATE t SET b = 9 WHERE id > 1', 'INSERT INTO t VALUES (2, 2, 2)'],
  ['the id that it got', "INSERT INTO t (a) VALUES ('n')", 'INSERT INTO t (id) VALUES (2)'],
  ['an error that it got', 'INSERT INTO t (id) VALUES (1)', 'DELETE FROM t'],
  ['that there was no error', 'INSERT INTO t (id) VALUES (7)', 'INSERT INTO t (id) VALUES (7)'],
  ['names of columns', 'SELECT * FROM t', 'ALTER TABLE t RENAME COLUMN b TO c'],
  ['that there is a table', 'SELECT count(*) FROM t', 'DROP TABLE t'],
]
for (const [what, mine, others] of CHANGES) {
  test(`others change ${what} while it is idle: a conflict, and nothing of it stays`, () => {
    for (const ending of ['step', 'commit'] as const) {
      using leader = withTable()
      leader.run('INSERT INTO t (id, b) VALUES (1, 1)')
      const talk = new Talk(leader)
      talk.step([mine])
      talk.pause()
      leader.run(others)
      const { length } = leader.entries
      const result = ending === 'step' ? talk.step(['SELECT 1']) : talk.commit()

      assert(result.type === 'failed', ending)
      assert.equal(result.error.code, 'TRANSACTION_CONFLICT')
      assert.equal(leader.entries.length, length)
      // The writer is free for others.
      leader.run('CREATE TABLE later (a)')
    }
  })
}

test('one that only read, or took everything back, leaves no entry', () => {
  using leader = withTable()
  const { length } = leader.entries
  const reader = new Talk(leader)
  reader.rows('SELECT count(*) FROM t')
  assert.equal(reader.last?.isReadOnly, true)
  assert.deepEqual(reader.commit(), { type: 'ok', results: [] })

  const undecided = new Talk(leader)
  undecided.run('SAVEPOINT s')
  undecided.run('INSERT INTO t (b) VALUES (1)')
  assert.equal(undecided.last?.isReadOnly, false)
  undecided.run('ROLLBACK TO s')
  assert.equal(undecided.last?.isReadOnly, true)
  undecided.commit()

  assert.equal(leader.entries.length, length)
  assert.deepEqual(leader.query('SELECT * FROM t'), [])
})

test('savepoints nest, are released and rolled back to by name, as in SQLite', () => {
  using leader = withTable()
  const talk = new Talk(leader)
  const add = (id: number): unknown => talk.run(`INSERT INTO t (id) VALUES (${id})`)
  talk.run('SAVEPOINT outer')
  add(1)
  talk.run('savepoint "In ner";')
  add(2)
  talk.run('SAVEPOINT outer')
  add(3)
  talk.run('ROLLBACK TRANSACTION TO SAVEPOINT Outer')
  add(4)
  talk.run('RELEASE SAVEPOINT "IN NER"')
  assert.equal(talk.fail('ROLLBACK TO "in ner"').code, 'SQL_ERROR')
  assert.deepEqual(talk.rows('SELECT id FROM t ORDER BY id'), [[1n], [2n], [4n]])
  // A pause brings all of it back.
  talk.pause()
  talk.run('ROLLBACK TO outer')
  assert.deepEqual(talk.rows('SELECT id FROM t'), [])
  add(5)
  talk.run('RELEASE outer')
  talk.commit()

  assert.deepEqual(leader.query('SELECT id FROM t'), [[5n]])
  assertFollows(leader)
})

test('a table made after a savepoint is gone after the rollback to it, and can be made again', () => {
  using leader = withTable()
  const talk = new Talk(leader)
  talk.run('SAVEPOINT s')
  talk.run('CREATE TABLE u (a)')
  talk.run('INSERT INTO u VALUES (1)')
  talk.run('ROLLBACK TO s')
  assert.equal(talk.fail('INSERT INTO u VALUES (1)').code, 'UNKNOWN_TABLE')
  talk.run('CREATE TABLE u (a, b)')
  talk.run('INSERT INTO u VALUES (1, 2)')
  talk.commit()

  assert.deepEqual(leader.query('SELECT * FROM u'), [[1n, 2n]])
  assertFollows(leader)
})

test('what can be no step is refused with a sentence, and the transaction stays open', () => {
  using leader = withTable()
  const talk = new Talk(leader)
  const refused: readonly [sql: string, words: RegExp][] = [
    ['BEGIN', /calls of its own/],
    ['/* now */ COMMIT', /calls of its own/],
    ['ROLLBACK', /calls of its own/],
    ['SAVEPOINT a; SAVEPOINT b', /each sent alone/],
    ['PRAGMA foreign_keys = OFF', /rebuild/],
    ['INSERT OR ROLLBACK INTO t (id) VALUES (1)', /ROLLBACK/],
    ['CREATE TABLE f (a REFERENCES t DEFERRABLE INITIALLY DEFERRED)', /deferred/],
    ['ATTACH DATABASE x AS y', /ATTACH/],
  ]
  for (const [sql, words] of refused) {
    const error = talk.fail(sql)
    assert.equal(error.code, 'UNSUPPORTED', sql)
    assert.match(error.message, words)
  }
  assert.equal(talk.step(["INSERT INTO t (a) VALUES ('x')"], true).type, 'failed', 'a query reads')
  assert.equal(talk.fail('SELECT 1', 'SAVEPOINT s').code, 'UNSUPPORTED')
  talk.run('INSERT INTO t (id) VALUES (1)')
  talk.commit()
  assert.deepEqual(leader.query('SELECT id FROM t'), [[1n]])
})

test('a failure that undoes everything ends the transaction, and the next one finds no trace', () => {
  using leader = withTable()
  leader.run('CREATE TABLE last (id INTEGER PRIMARY KEY AUTOINCREMENT)')
  leader.tamper("INSERT INTO sqlite_sequence VALUES ('last', 9223372036854775807)")
  const talk = new Talk(leader)
  talk.run('INSERT INTO t (id) VALUES (1)')
  const error = talk.fail('INSERT INTO last DEFAULT VALUES')
  assert.equal(error.details?.['transaction'], 'over')
  assert.equal(talk.last?.isOver, true)
  assert.deepEqual(leader.query('SELECT * FROM t'), [])
  leader.run('INSERT INTO t (id) VALUES (2)')
})

test('it keeps its moment while others pass it by, and no clock goes back for that', () => {
  using leader = withTable()
  const talk = new Talk(leader)
  const [[moment] = []] = talk.rows("SELECT strftime('%s', 'now') * 1000")
  talk.pause()
  leader.nowMs = NOW_MS + 60_000
  leader.run('CREATE TABLE u AS SELECT unixepoch() AS made')
  talk.run("INSERT INTO t (b) VALUES (strftime('%s', 'now') * 1000)")
  talk.commit()
  assert.deepEqual(leader.query('SELECT b FROM t'), [[moment]])

  leader.nowMs = NOW_MS
  leader.run('CREATE TABLE v AS SELECT unixepoch() AS made')
  assert.deepEqual(
    leader.query('SELECT made FROM v'),
    leader.query('SELECT made FROM u'),
    'the moment of the newest entry still counts',
  )
  assertFollows(leader)
})

test('one that begins takes the moment of the newest entry, if its own clock is behind', () => {
  using leader = withTable()
  leader.nowMs = NOW_MS + 60_000
  leader.run('CREATE TABLE u AS SELECT unixepoch() AS made')
  leader.nowMs = NOW_MS
  const talk = new Talk(leader)
  assert.deepEqual(talk.rows('SELECT made = unixepoch() FROM u'), [[1n]])
  assert.equal(talk.nowMs, NOW_MS + 60_000)
})

test('a transaction on a database that is not there, or not any more, is over', () => {
  using leader = withTable()
  const nowhere = new Talk(leader, { database: 'nowhere' })
  assert.equal(nowhere.fail('SELECT 1').code, 'UNKNOWN_DATABASE')
  assert.equal(nowhere.last?.isOver, true)

  leader.write(createDatabase('e'))
  const talk = new Talk(leader, { database: 'e' })
  talk.run('CREATE TABLE t (a)')
  talk.pause()
  leader.write(dropDatabase('e'))
  const result = talk.commit()
  assert(result.type === 'failed')
  assert.equal(result.error.code, 'UNKNOWN_DATABASE')
})

test('a row with the last rowid is refused at its step', () => {
  using leader = withTable()
  const talk = new Talk(leader)
  const error = talk.fail('INSERT INTO t (id) SELECT 9223372036854775807')
  assert.equal(error.code, 'UNSUPPORTED')
  talk.run('INSERT INTO t DEFAULT VALUES')
  talk.commit()
  assert.deepEqual(leader.query('SELECT id FROM t'), [[1n]])
})

test('after a crash the entry of a transaction is replayed, once', () => {
  using leader = withTable()
  const talk = new Talk(leader)
  talk.run('INSERT INTO t (b) VALUES (random()), (CURRENT_TIMESTAMP)')
  talk.pause()
  talk.run('UPDATE t SET a = b')
  leader.checkpoint()
  talk.commit()
  const expected = leader.digest()
  // Each takes over the files of the one before it.
  const crashed = leader.crash()
  crashed.follow(leader)
  assert.deepEqual(crashed.digest(), expected)
  using cut = crashed.powerCut()
  assert.equal(cut.follow(leader).divergence, undefined)
  assert.deepEqual(cut.digest(), expected)
})

test('a follower that gets something else in one step of a transaction says which, and undoes all', () => {
  using leader = withTable()
  const alterSqlForTests = (sql: string): string => sql.replace("'y'", "'z'")
  using follower = new Replica({ alterSqlForTests })
  follower.follow(leader)
  const talk = new Talk(leader)
  talk.run("INSERT INTO t (id, a) VALUES (1, 'x')")
  talk.run("INSERT INTO t (id, a) SELECT 2, 'y' RETURNING a")
  talk.run("INSERT INTO t (id, a) VALUES (3, 'w')")
  talk.commit()
  const { divergence } = follower.follow(leader)

  assert.equal(divergence?.index, leader.index)
  assert.match(divergence?.sql ?? '', /'y' RETURNING a/)
  assert.deepEqual(follower.query('SELECT id FROM t'), [])
})

test('a step that fails on a follower alone is a divergence, and undoes the steps before it', () => {
  using leader = withTable()
  const alterSqlForTests = (sql: string): string => sql.replace("'y'", "'x'")
  using follower = new Replica({ alterSqlForTests })
  follower.follow(leader)
  const talk = new Talk(leader)
  talk.run("INSERT INTO t (a) VALUES ('x')")
  talk.run("INSERT INTO t (a) VALUES ('y')")
  talk.commit()
  const { divergence } = follower.follow(leader)
  assert.match(divergence?.actual ?? '', /SQL_CONSTRAINT/)

  // Were that agreed on, all of the transaction would count as failed.
  follower.send(
    { type: 'accept', index: leader.index, digest: divergence?.digest ?? '' },
    'accepted',
  )
  follower.index = leader.index - 1
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.query('SELECT * FROM t'), [])
})

test('nobody can ask for the entry of a transaction as a request', () => {
  using leader = withTable()
  const [result] = leader.write({ type: 'transaction', database: 'd', steps: [] })
  assert(result?.type === 'failed')
  assert.equal(result.error.code, 'INVALID_REQUEST')
  const talk = new Talk(leader)
  assert.equal(talk.fail().code, 'INVALID_REQUEST')
  talk.rollback()
  assert.deepEqual(leader.write(on('d', 'SELECT 1'), request('SELECT 1')).length, 2)
})

test('the fate of a commit is answered by its id, on the leader and on who follows it', () => {
  using leader = withTable()
  const [id, ownId, other] = [
    { type: 'session', session: { birth: 1, name: 7 }, sequence: 1 },
    { type: 'key', key: 'transaction 7' },
    { type: 'key', key: 'never' },
  ] as const
  const talk = new Talk(leader)
  talk.run('INSERT INTO t (id) VALUES (1)')
  assert.deepEqual(talk.commit(id, ownId), { type: 'ok', results: [] })
  using follower = new Replica()
  assert.equal(follower.follow(leader).divergence, undefined)

  for (const replica of [leader, follower]) {
    for (const known of [id, ownId]) {
      const [fate] = replica.write({ type: 'cancel', database: 'd', id: known })
      assert.deepEqual(fate, { type: 'ok', results: [], isRepeat: true })
    }
    const [unheard] = replica.write({ type: 'cancel', database: 'd', id: other })
    assert(unheard?.type === 'failed')
    assert.equal(unheard.error.code, 'REQUEST_CANCELLED')
  }
})

test('a commit whose id was cancelled takes no effect, and one whose id is taken is refused', () => {
  using leader = withTable()
  const id = { type: 'key', key: 'once' } as const
  const cancelled = new Talk(leader)
  cancelled.run('INSERT INTO t (id) VALUES (1)')
  cancelled.pause()
  leader.write({ type: 'cancel', database: 'd', id })
  const result = cancelled.commit(id)
  assert(result.type === 'failed')
  assert.equal(result.error.code, 'REQUEST_CANCELLED')
  assert.deepEqual(leader.query('SELECT * FROM t'), [])

  const taken = { type: 'key', key: 'taken' } as const
  leader.write({ ...request('INSERT INTO t (id) VALUES (2)'), id: taken })
  const talk = new Talk(leader)
  talk.run('INSERT INTO t (id) VALUES (3)')
  const refused = talk.commit(taken)
  assert(refused.type === 'failed')
  assert.equal(refused.error.code, 'REQUEST_ID_REUSED')
  const own = new Talk(leader)
  own.run('INSERT INTO t (id) VALUES (4)')
  assert.equal(own.commit({ type: 'key', key: 'fresh' }, id).type, 'failed', 'its own is cancelled')
  assert.deepEqual(leader.query('SELECT id FROM t'), [[2n]])
  assertFollows(leader)
})
