/** Entries that count otherwise than they say, and files that were found wrong. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import type { Divergence, RequestId, WriteRequest } from '../../../src/engine/engine.ts'
import { Verdicts } from '../../../src/engine/sqlite/verdicts.ts'
import { createDatabase, dropDatabase, on, Replica, request } from './replica.ts'

const TABLE = 'CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER UNIQUE)'
const ODD: Divergence = {
  index: 9,
  database: 'd',
  sql: 'X',
  expected: '1',
  actual: '2',
  digest: 'ab',
}

/** A leader that computes something else wherever it meets an odd number of 2. */
function wrongLeader(): Replica {
  return Replica.withDatabase({
    alterSqlForTests: sql => sql.replace('+ 1 WHERE', '+ 2 WHERE'),
  })
}

test('replicas that agree against an entry have one digest of it, and apply it with their outcomes', () => {
  using leader = wrongLeader()
  leader.run(TABLE, 'INSERT INTO t VALUES (1, 1), (2, 20)')
  leader.write(
    request('UPDATE t SET n = n + 1 WHERE id = 1 RETURNING n'),
    request('INSERT INTO t VALUES (3, 30)'),
  )
  leader.run('INSERT INTO t VALUES (4, random()) RETURNING n')
  using one = new Replica()
  using other = new Replica()
  const [first, second] = [one.follow(leader), other.follow(leader)]
  assert(first.divergence !== undefined && second.divergence !== undefined)
  assert.equal(first.divergence.digest, second.divergence.digest)
  assert.match(first.divergence.digest, /^[0-9a-f]{16}$/)

  const { index, digest } = first.divergence
  for (const replica of [one, other]) {
    const accepted: { appliedIndex: number } = replica.send(
      { type: 'accept', index, digest },
      'accepted',
    )
    assert.equal(accepted.appliedIndex, index - 1)
    const { divergence } = replica.apply(...leader.entries.filter(entry => entry.index >= index))
    assert.equal(divergence, undefined)
    const rows = replica.query('SELECT id, n FROM t WHERE id < 4 ORDER BY id')
    assert.deepEqual(rows, [
      [1n, 2n],
      [2n, 20n],
      [3n, 30n],
    ])
  }
  assert.deepEqual(one.digest(), other.digest())
  assert.notDeepEqual(one.digest(), leader.digest())
})

test('a request that fails here is left out, and its neighbours of the entry take effect', () => {
  using leader = Replica.withDatabase({
    alterSqlForTests: sql => sql.replace('VALUES (1, 7)', 'VALUES (1, 8)'),
  })
  leader.run(TABLE)
  leader.run('INSERT INTO t VALUES (1, 7)')
  leader.write(
    request('INSERT INTO t VALUES (5, 50)'),
    request('INSERT INTO t (n) VALUES (7)'),
    request('INSERT INTO t VALUES (9, 90)'),
  )
  using follower = new Replica()
  const { divergence } = follower.follow(leader)
  assert(divergence !== undefined)
  assert.match(divergence.actual, /SQL_CONSTRAINT/)

  follower.send({ type: 'accept', ...divergence }, 'accepted')
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.query('SELECT n FROM t ORDER BY n'), [[7n], [50n], [90n]])
})

test('the id of a request that fails under an accepted entry is free: it may run again, everywhere', () => {
  const ids: readonly RequestId[] = [
    { type: 'session', session: { birth: 1, name: 7 }, sequence: 2 },
    { type: 'key', key: 'once' },
  ]
  for (const id of ids) {
    using leader = Replica.withDatabase({
      alterSqlForTests: sql => sql.replace('VALUES (1, 7)', 'VALUES (1, 8)'),
    })
    leader.run(TABLE)
    leader.run('INSERT INTO t VALUES (1, 7)')
    const beside: RequestId = { type: 'key', key: 'beside' }
    const failing = { ...request('INSERT INTO t (n) VALUES (7)'), id }
    leader.write(failing, { ...request('INSERT INTO t VALUES (9, 90)'), id: beside })
    using next = new Replica()
    using other = new Replica()
    for (const replica of [next, other]) {
      const { divergence } = replica.follow(leader)
      assert(divergence !== undefined)
      replica.send({ type: 'accept', ...divergence }, 'accepted')
      replica.index = divergence.index - 1
      assert.equal(replica.follow(leader).divergence, undefined)
    }
    const codes = (replica: Replica, ...requests: readonly WriteRequest[]): string[] =>
      replica
        .write(...requests)
        .map(result =>
          result.type === 'failed' ? result.error.code : `ok ${result.isRepeat === true}`,
        )
    // One of those who agreed leads now, and the other follows it.
    assert.deepEqual(codes(next, failing), ['SQL_CONSTRAINT'], 'as everybody but the leader found')
    const again = { ...request('INSERT INTO t VALUES (9, 90)'), id: beside }
    assert.deepEqual(codes(next, again), ['ok true'], 'its neighbour took effect')
    next.run('DELETE FROM t WHERE n = 7')
    assert.deepEqual(codes(next, failing, failing), ['ok false', 'ok true'])
    const reused = { ...request('DELETE FROM t'), id }
    assert.deepEqual(codes(next, reused), ['REQUEST_ID_REUSED'])
    assert.equal(other.follow(next).divergence, undefined)
    assert.deepEqual(other.digest(), next.digest())
    assert.deepEqual(codes(other, failing), ['ok true'], 'whoever leads after it')
    using killed = other.crash()
    killed.follow(leader)
    killed.follow(next)
    assert.deepEqual(killed.digest(), next.digest())
  }
})

test('what failed under an accepted entry can be said never to take effect', () => {
  using leader = Replica.withDatabase({
    alterSqlForTests: sql => sql.replace('VALUES (1, 7)', 'VALUES (1, 8)'),
  })
  leader.run(TABLE)
  leader.run('INSERT INTO t VALUES (1, 7)')
  const id: RequestId = { type: 'key', key: 'once' }
  const failing = { ...request('INSERT INTO t (n) VALUES (7)'), id }
  leader.write(failing)
  using next = new Replica()
  const { divergence } = next.follow(leader)
  assert(divergence !== undefined)
  next.send({ type: 'accept', ...divergence }, 'accepted')
  next.index = divergence.index - 1
  next.follow(leader)
  for (const asked of [{ type: 'cancel', database: 'd', id } as const, failing]) {
    const [result] = next.write(asked)
    assert(result?.type === 'failed')
    assert.equal(result.error.code, 'REQUEST_CANCELLED')
  }
})

test('another digest than was agreed on is a divergence again, and changes nothing', () => {
  using leader = wrongLeader()
  leader.run(TABLE, 'INSERT INTO t VALUES (1, 1)')
  leader.run('UPDATE t SET n = n + 1 WHERE id = 1 RETURNING n')
  using follower = new Replica()
  const { divergence } = follower.follow(leader)
  assert(divergence !== undefined)
  const agreed = { type: 'accept', index: divergence.index, digest: '0123456789abcdef' } as const
  follower.send(agreed, 'accepted')
  const again = follower.follow(leader)
  assert.equal(again.divergence?.digest, divergence.digest)
  assert.deepEqual(follower.query('SELECT n FROM t'), [[1n]])

  // Who computes just what the entry says is wrong as well, if the others agreed on something else.
  using same = new Replica({ alterSqlForTests: sql => sql.replace('+ 1 WHERE', '+ 2 WHERE') })
  same.send(agreed, 'accepted')
  const { divergence: own } = same.follow(leader)
  assert(own !== undefined)
  assert.equal(own.index, divergence.index)
  assert.notEqual(own.digest, divergence.digest)
})

test('what was accepted is replayed so after a kill and after a power cut, without asking again', () => {
  using leader = wrongLeader()
  leader.run(TABLE, 'INSERT INTO t VALUES (1, 1)')
  leader.run('UPDATE t SET n = n + 1 WHERE id = 1 RETURNING n')
  leader.run('INSERT INTO t VALUES (2, 2000)')
  const follower = new Replica()
  const { divergence } = follower.follow(leader)
  assert(divergence !== undefined)
  follower.send({ type: 'accept', ...divergence }, 'accepted')
  follower.follow(leader)
  const digest = follower.digest()

  using cut = follower.powerCutCopy()
  using killed = follower.crash()
  const agreed = [{ index: divergence.index, digest: divergence.digest }]
  for (const again of [cut, killed]) {
    assert(again.opened.appliedIndex < divergence.index)
    assert.deepEqual(again.opened.past.accepted, agreed)
    assert.equal(again.follow(leader).divergence, undefined)
    assert.deepEqual(again.digest(), digest)
  }
})

test('after a crash between two files of an accepted entry the other one still takes it', () => {
  using leader = Replica.withDatabase({
    alterSqlForTests: sql => sql.replace('VALUES (1)', 'VALUES (1), (2)'),
  })
  leader.write(createDatabase('e'), on('d', 'CREATE TABLE t (a)'), on('e', 'CREATE TABLE t (a)'))
  leader.write(on('d', 'INSERT INTO t VALUES (1)'), on('e', 'INSERT INTO t VALUES (1)'))
  using follower = new Replica()
  const { divergence } = follower.follow(leader)
  assert(divergence !== undefined)
  const old = follower.flushedNow('db-1.sqlite')
  follower.send({ type: 'accept', ...divergence }, 'accepted')
  follower.follow(leader)
  using mixed = follower.crashWith('db-1.sqlite', old)
  assert.equal(mixed.follow(leader).divergence, undefined)
  for (const name of ['d', 'e']) assert.deepEqual(mixed.query('SELECT a FROM t', name), [[1n]])
})

test('a database that only the leader had, or only this replica, is left as it is when that is agreed', () => {
  using leader = Replica.withDatabase()
  leader.write(createDatabase('e'))
  leader.write(on('e', TABLE))
  leader.write(dropDatabase('e'))
  const [, created, table, dropped] = leader.entries
  assert(created !== undefined && table !== undefined && dropped !== undefined)
  // This one never made it: as if its entry had failed here.
  using follower = new Replica()
  follower.apply(...leader.entries.slice(0, 1))
  for (const entry of [table, dropped]) {
    const { divergence } = follower.apply(entry)
    assert.match(divergence?.actual ?? '', /no such database/)
    assert(divergence !== undefined)
    follower.send({ type: 'accept', ...divergence }, 'accepted')
    assert.equal(follower.apply(entry).divergence, undefined)
  }
  assert.equal(follower.index, dropped.index)
})

test('condemned files stay so through every restart, and take nothing', () => {
  using leader = Replica.withDatabase()
  leader.run(TABLE)
  const wrong = new Replica()
  wrong.follow(leader)
  wrong.execute(request('INSERT INTO t VALUES (1, 1)'))
  wrong.send({ type: 'condemn', divergence: ODD }, 'condemned')
  assert.deepEqual(wrong.query('SELECT * FROM t'), [])
  leader.run('INSERT INTO t VALUES (5, 5)')
  using cut = wrong.powerCutCopy()
  using killed = wrong.crash()
  for (const again of [cut, killed]) {
    assert.deepEqual(again.opened.past.condemned, ODD)
    assert.deepEqual(again.follow(leader).divergence, ODD)
    // Not even an agreement on that entry brings them back.
    again.send({ type: 'accept', index: ODD.index, digest: ODD.digest }, 'accepted')
    assert.deepEqual(again.follow(leader).divergence, ODD)
    const [result] = again.execute(request('DELETE FROM t')).results
    assert(result?.type === 'failed' && result.error.code === 'DIVERGED')
  }
})

test('files that came from another replica say from which entry on they are computed here', () => {
  using source = Replica.withDatabase()
  source.send({ type: 'accept', index: 5, digest: 'cd' }, 'accepted')
  source.send({ type: 'condemn', divergence: ODD }, 'condemned')
  using copy = source.copy()
  copy.writer.close()
  const catalogue = new DatabaseSync(join(copy.directory, 'gen-1', 'system.sqlite'), {
    readBigInts: true,
    returnArrays: true,
  })
  new Verdicts(catalogue).copied(77)
  catalogue.close()
  using reopened = copy.crash()
  assert.deepEqual(reopened.opened.past, {
    copiedIndex: 77,
    accepted: [{ index: 5, digest: 'cd' }],
    condemned: undefined,
  })
})

test('a catalogue of a release that knew no verdicts is opened, and notes them from then on', () => {
  using old = Replica.withDatabase()
  old.checkpoint()
  old.writer.close()
  const path = join(old.directory, 'gen-1', 'system.sqlite')
  const catalogue = new DatabaseSync(path)
  catalogue.exec('DROP TABLE lockstep_accepted; DROP TABLE lockstep_note')
  catalogue.close()
  using now = old.crash()
  assert.deepEqual(now.opened.past, { copiedIndex: 0, accepted: [], condemned: undefined })
  now.send({ type: 'accept', index: 3, digest: 'ef' }, 'accepted')
  using next = now.crash()
  assert.deepEqual(next.opened.past.accepted, [{ index: 3, digest: 'ef' }])
})
