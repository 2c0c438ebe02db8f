/** Interactive transactions that are committed in one entry. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestResult } from '../../../src/engine/engine.ts'
import { decodeEntry } from '../../../src/engine/entry.ts'
import { Replica, request } from './replica.ts'
import { Talk } from './talk.ts'

function withTable(): Replica {
  const replica = Replica.withDatabase()
  replica.run('CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE, b)')
  return replica
}

/** What became of each: `ok`, `repeat`, or the code of its error. */
function fates(results: readonly RequestResult[]): readonly string[] {
  return results.map(result => {
    if (result.type === 'failed') return result.error.code
    return result.isRepeat === true ? 'repeat' : 'ok'
  })
}

/** One that inserts a row with its own time and chance, and gave way. */
function inserting(leader: Replica, id: number): Talk {
  leader.nowMs += 1000
  const talk = new Talk(leader, { seed: id })
  talk.run(['INSERT INTO t VALUES (?, random(), CURRENT_TIMESTAMP)', [BigInt(id)]])
  talk.run('SELECT 1')
  talk.run(['UPDATE t SET a = a || hex(randomblob(4)) WHERE id = ?', [BigInt(id)]])
  talk.pause()
  return talk
}

test('several are one entry, and each keeps its own moment and chance, here and elsewhere', () => {
  using leader = withTable()
  const seen = [1, 2, 3].map(id => {
    const talk = inserting(leader, id)
    const row = talk.rows(['SELECT a, b FROM t WHERE id = ?', [BigInt(id)]])[0]
    talk.pause()
    return { talk, row }
  })
  const [first, ...others] = seen.map(({ talk }) => talk)
  const before = leader.index
  const asking = others.map((talk, at) => talk.asking({ type: 'key', key: `of ${at}`, birth: 0 }))
  assert.deepEqual(fates(first?.commitWith(...asking) ?? []), ['ok', 'ok', 'ok'])
  assert.equal(leader.index, before + 1)
  const rows = leader.query('SELECT a, b FROM t ORDER BY id')
  assert.deepEqual(
    rows,
    seen.map(({ row }) => row),
  )
  using follower = new Replica()
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.query('SELECT a, b FROM t ORDER BY id'), rows)
  assert.deepEqual(follower.digest(), leader.digest())
  using crashed = follower.crash()
  crashed.follow(leader)
  assert.deepEqual(crashed.digest(), leader.digest())
})

test('the entry is of the newest of their moments, and no clock goes back behind it', () => {
  using leader = withTable()
  const [old, young] = [inserting(leader, 1), inserting(leader, 2)]
  young.commitWith(old.asking())
  const { nowMs } = decodeEntry(leader.entries.at(-1)?.data ?? new Uint8Array())
  assert.equal(nowMs, young.nowMs)
  const next = new Talk(leader)
  next.run('SELECT 1')
  assert(next.nowMs >= young.nowMs)
})

test('one that conflicts with those before it is left out, and the ones behind it are not', () => {
  using leader = withTable()
  leader.write(request('INSERT INTO t VALUES (1, 0, 0), (2, 0.5, 0)'))
  const bump = (id: number): Talk => {
    const talk = new Talk(leader, { seed: id })
    talk.run([`UPDATE t SET b = b + 1 WHERE id = ? RETURNING b`, [BigInt(id)]])
    talk.pause()
    return talk
  }
  const results = bump(1).commitWith(bump(1).asking(), bump(2).asking(), bump(2).asking())
  const conflict = 'TRANSACTION_CONFLICT'
  assert.deepEqual(fates(results), ['ok', conflict, 'ok', conflict])
  assert.deepEqual(leader.query('SELECT b FROM t'), [[1n], [1n]])
  using follower = new Replica()
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.digest(), leader.digest())
})

test('one that takes all with it is not taken, and what the ones before it did is still there', () => {
  using leader = withTable()
  leader.run('CREATE TABLE last (id INTEGER PRIMARY KEY AUTOINCREMENT)')
  const first = inserting(leader, 1)
  const second = inserting(leader, 2)
  const third = inserting(leader, 3)
  const destroyer = new Talk(leader)
  destroyer.run('INSERT INTO last DEFAULT VALUES')
  destroyer.pause()
  // A table that is full undoes the whole transaction of SQLite.
  leader.tamper("INSERT INTO sqlite_sequence VALUES ('last', 9223372036854775807)")
  const results = first.commitWith(second.asking(), destroyer.asking(), third.asking())
  assert.deepEqual(fates(results), ['ok', 'ok'])
  assert.deepEqual(fates([destroyer.commit(), third.commit()]), ['TRANSACTION_CONFLICT', 'ok'])
  const rows = leader.query('SELECT * FROM t')
  assert.equal(rows.length, 3)
  using follower = new Replica()
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.query('SELECT * FROM t'), rows)
})

test('the same id twice takes effect once, also within one entry, and is known afterwards', () => {
  using leader = withTable()
  const id = { type: 'key', key: 'k', birth: 0 } as const
  const [first, second, third] = [1, 2, 3].map(each => inserting(leader, each))
  assert(first !== undefined && second !== undefined && third !== undefined)
  const results = first.commitWith(second.asking(id), third.asking(id))
  assert.deepEqual(fates(results), ['ok', 'ok', 'REQUEST_ID_REUSED'])
  assert.deepEqual(leader.query('SELECT id FROM t'), [[1n], [2n]])
  const late = inserting(leader, 4)
  assert.deepEqual(fates([late.commit(id)]), ['REQUEST_ID_REUSED'])
})

test('one that only read, or whose savepoints are still open, is among the others', () => {
  using leader = withTable()
  const reading = new Talk(leader)
  reading.rows('SELECT * FROM t')
  reading.pause()
  const saved = [1, 2].map(id => {
    const talk = new Talk(leader, { seed: id })
    talk.run('SAVEPOINT here')
    talk.run([`INSERT INTO t VALUES (?, 'undone', 0)`, [BigInt(10 * id)]])
    talk.run('ROLLBACK TO here')
    talk.run([`INSERT INTO t VALUES (?, ?, 0)`, [BigInt(id), `kept ${id}`]])
    talk.pause()
    return talk.asking()
  })
  assert.deepEqual(fates(reading.commitWith(...saved)), ['ok', 'ok', 'ok'])
  assert.deepEqual(leader.query('SELECT a FROM t'), [['kept 1'], ['kept 2']])
})

test('those of another database are not taken', () => {
  using leader = withTable()
  leader.write({ type: 'create-database', database: 'e' })
  const other = new Talk(leader, { database: 'e' })
  other.run('CREATE TABLE u (id)')
  other.pause()
  assert.deepEqual(fates(inserting(leader, 1).commitWith(other.asking())), ['ok'])
  assert.deepEqual(fates([other.commit()]), ['ok'])
})

test('a step that gives way leaves the writer free for the next one', () => {
  using leader = withTable()
  const start = { database: 'd', nowMs: leader.nowMs, seed: new Uint8Array(16), earlier: [] }
  const { bytes } = { bytes: inserting(leader, 1).earlier[0]?.request ?? new Uint8Array() }
  for (const batch of [50, 51]) {
    const step = { type: 'step', batch, start, request: bytes, isQuery: false } as const
    const { result } = leader.send({ ...step, givesWay: true }, 'stepped')
    assert.equal(result.type, 'ok')
  }
  assert.deepEqual(leader.query('SELECT * FROM t'), [])
  leader.write(request('INSERT INTO t VALUES (1, 1, 1)'))
})
