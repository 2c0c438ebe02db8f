import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WriterReply } from '../../../src/engine/engine.ts'
import { encodeRequest } from '../../../src/engine/request.ts'
import { nodeFileSystem } from '../../../src/engine/sqlite/file-system.ts'
import {
  createDatabase,
  dropDatabase,
  NOW_MS,
  on,
  Replica,
  request,
  tamperFile,
} from './replica.ts'

const TABLE = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)'
const INSERT = request('INSERT INTO t (a) VALUES (hex(randomblob(20)))')

function count(replica: Replica): unknown {
  return replica.query('SELECT count(*) FROM t')[0]?.[0]
}

test('messages out of turn are broken invariants, not answers', () => {
  using replica = Replica.withDatabase()
  const { writer } = replica
  const seed = new Uint8Array(16)
  const requests = [encodeRequest(request(TABLE))]
  const execute = (batch: number): WriterReply =>
    writer.handle({ type: 'execute', batch, nowMs: 1, seed, commitIndex: 0, requests })
  const broken = { name: 'AssertionError' }

  assert.throws(() => writer.handle({ type: 'open' }), broken)
  assert.throws(() => writer.handle({ type: 'commit', batch: 7, index: 5 }), broken)
  execute(7)
  assert.throws(() => execute(8), broken)
  assert.throws(() => writer.handle({ type: 'commit', batch: 8, index: 5 }), broken)
  assert.throws(() => writer.handle({ type: 'commit', batch: 7, index: 1 }), broken)
  assert.throws(() => writer.handle({ type: 'apply', entries: [] }), broken)
})

test('a rollback without a batch does nothing', () => {
  using replica = Replica.withDatabase()
  replica.send({ type: 'rollback', batch: 12 }, 'rolled-back')
  replica.run(TABLE)
})

test('a file moves from entry to entry by compare-and-set', () => {
  for (const elsewhere of [1, 50]) {
    using replica = Replica.withDatabase()
    replica.run(TABLE)
    // As if another writer had been at the file, or somebody had put an older one in its place.
    replica.tamper(`UPDATE lockstep_meta SET applied = ${elsewhere}`)

    const executed = replica.execute(INSERT)
    assert.throws(() => replica.commit(executed), { name: 'AssertionError', message: /elsewhere/ })
  }
})

test('a writer that dies leaves what it committed, and nothing else', () => {
  using leader = Replica.withDatabase()
  leader.run(TABLE)
  leader.write(INSERT)
  leader.execute(INSERT, INSERT)

  using open = leader.crash()
  assert.equal(count(open), 1n)
  // It doesn't know how far it was, but each of its files does.
  assert.equal(open.opened.appliedIndex, 0)
  assert.equal(open.apply(...leader.entries).divergence, undefined)
  assert.equal(count(open), 1n)
})

test('wherever a writer dies between messages, replay brings it to where it was', () => {
  using leader = new Replica()
  const steps = [
    () => leader.write(createDatabase('d')),
    () => leader.write(request(TABLE)),
    () => leader.write(INSERT, INSERT, request('nonsense'), INSERT),
    () => leader.execute(INSERT, INSERT),
    () => leader.rollback(),
    () => leader.checkpoint(),
    () => leader.write(createDatabase('e'), on('e', TABLE)),
    () => leader.write(on('e', "INSERT INTO t VALUES (1, 'e')"), INSERT),
    () => leader.execute(dropDatabase('e')),
    () => leader.rollback(),
    () => leader.write(dropDatabase('e')),
    () => leader.checkpoint(),
    () => leader.write(createDatabase('e')),
    () => leader.write(INSERT, on('e', TABLE)),
  ]
  for (const step of steps) {
    step()
    const killed = leader.copy()
    const cut = leader.powerCutCopy()
    for (const replica of [killed, cut]) {
      assert(replica.opened.durableIndex <= replica.opened.appliedIndex)
      assert(replica.opened.appliedIndex <= leader.index)
      assert.equal(replica.follow(leader).divergence, undefined)
      const names = leader.withReader(reader => reader.databases())
      assert.deepEqual(
        replica.withReader(reader => reader.databases()),
        names,
      )
      for (const name of names) assert.deepEqual(replica.digest(name), leader.digest(name))
      replica[Symbol.dispose]()
    }
  }
})

test('the durable index rises with a checkpoint, and what it says survives a power cut', () => {
  using leader = Replica.withDatabase()
  leader.run(TABLE)
  leader.write(INSERT)
  assert.equal(leader.apply().durableIndex, 0)
  assert.equal(leader.checkpoint(), 3)
  leader.write(INSERT)
  assert.equal(leader.apply().durableIndex, 3)

  using after = leader.powerCut()
  assert.equal(after.opened.appliedIndex, 3)
  assert.equal(after.opened.durableIndex, 3)
  assert.equal(count(after), 1n)
  after.apply(...leader.entries.slice(3))
  assert.equal(count(after), 2n)
})

test('a checkpoint comes by itself when the WALs have grown, and not before', () => {
  using replica = Replica.withDatabase({ walPagesMax: 60 })
  replica.run(TABLE)
  const seen = new Set<number>()
  for (let i = 0; i < 100; i++) {
    replica.write(INSERT)
    seen.add(replica.apply().durableIndex)
  }
  // Every entry writes about two pages.
  assert(seen.size > 2 && seen.size < 15, `${seen.size} checkpoints`)
  assert(replica.walBytes() < 60 * 4096 * 3)
})

test('a reader that stays in its transaction holds the durable index back, but not the writer', () => {
  using replica = Replica.withDatabase({ walPagesMax: 20 })
  replica.run(TABLE)
  replica.write(INSERT)
  replica.checkpoint()
  const before = replica.apply().durableIndex
  const release = replica.holdReadTransaction()
  for (let i = 0; i < 60; i++) replica.write(INSERT)

  assert.equal(replica.checkpoint(), before)
  using cut = replica.powerCutCopy()
  assert.equal(cut.opened.durableIndex, before)

  release()
  assert.equal(replica.checkpoint(), replica.index)
})

test('with one database held back, the durable index stays for all', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE)
  replica.write(createDatabase('e'), on('e', TABLE))
  replica.checkpoint()
  const before = replica.apply().durableIndex
  const release = replica.holdReadTransaction()
  replica.write(INSERT, on('e', 'DELETE FROM t'))
  assert.equal(replica.checkpoint(), before)
  release()
  assert.equal(replica.checkpoint(), replica.index)
})

test('a checkpoint asked for in the middle of a batch changes nothing', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE)
  const executed = replica.execute(INSERT)
  assert.equal(replica.checkpoint(), 0)
  replica.commit(executed)
  assert.equal(replica.checkpoint(), replica.index)
})

test('the newest moment of any entry is known after a restart', () => {
  using leader = Replica.withDatabase()
  leader.write(createDatabase('e'), request(TABLE), on('e', TABLE))
  leader.nowMs = NOW_MS + 7000
  leader.write(INSERT)
  leader.nowMs = NOW_MS + 3000
  leader.write(on('e', 'DELETE FROM t'))

  // The floor tells of what is below it, the replay of what is above.
  using killed = leader.copy()
  assert.equal(killed.opened.appliedIndex, 0)
  killed.follow(leader)
  leader.checkpoint()
  using reopened = leader.crash()
  assert.equal(reopened.opened.nowMs, NOW_MS + 7000)
  for (const replica of [killed, reopened]) {
    const moment = replica.execute(request("SELECT unixepoch('subsec') * 1000")).results[0]
    assert(moment?.type === 'ok')
    assert.deepEqual(moment.results[0]?.rows, [[NOW_MS + 7000]])
  }
})

test('an error of the disk while a checkpoint is due is a fault, told with the next reply', () => {
  let isBroken = false
  using replica = Replica.withDatabase({
    walPagesMax: 5,
    onFlushed: () => {
      if (isBroken)
        throw Object.assign(new Error('input/output'), { code: 'EIO', syscall: 'fsync' })
    },
  })
  replica.run(TABLE)
  isBroken = true
  for (let i = 0; i < 3; i++) replica.writer.handle({ type: 'apply', entries: [] })
  let reply: WriterReply = { type: 'rolled-back', batch: 0 }
  for (let i = 0; i < 10 && reply.type !== 'fault'; i++) {
    const seed = new Uint8Array(16)
    const requests = [encodeRequest(INSERT)]
    reply = replica.writer.handle({
      type: 'execute',
      batch: 100 + i,
      nowMs: 1,
      seed,
      commitIndex: 0,
      requests,
    })
    if (reply.type === 'executed') {
      reply = replica.writer.handle({ type: 'commit', batch: 100 + i, index: 100 + i })
    }
  }
  assert(reply.type === 'fault')
  assert.equal(reply.error.details?.['systemCode'], 'EIO')
})

test('a file that is missing, and a newer format, are told at open and nothing is touched', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE)
  using missing = replica.copyWith(directory =>
    nodeFileSystem.remove(`${directory}/gen-1/db-1.sqlite`),
  )
  assert(missing.reply.type === 'fault')
  assert.equal(missing.reply.error.code, 'CORRUPT')

  using garbled = replica.copyWith(directory => {
    nodeFileSystem.write(`${directory}/gen-1/db-1.sqlite`, new Uint8Array(8192).fill(9))
    nodeFileSystem.remove(`${directory}/gen-1/db-1.sqlite-wal`)
  })
  assert(garbled.reply.type === 'fault')
  assert.equal(garbled.reply.error.code, 'CORRUPT')

  using newer = replica.copyWith(directory => {
    tamperFile(`${directory}/gen-1/system.sqlite`, 'UPDATE lockstep_state SET format = 4')
  })
  assert(newer.reply.type === 'fault')
  assert.equal(newer.reply.error.code, 'WRONG_DATA')
})

test("a leader whose clock is behind the last leader's goes on from that one's newest moment", () => {
  const clock = "SELECT strftime('%Y', 'now')"
  using first = Replica.withDatabase()
  using second = new Replica()
  first.nowMs = Date.UTC(2031, 0)
  first.run(TABLE, `INSERT INTO t (a) ${clock}`)
  second.follow(first)

  second.nowMs = Date.UTC(2030, 0)
  second.run(`INSERT INTO t (a) ${clock}`)
  second.nowMs = Date.UTC(2032, 0)
  second.run(`INSERT INTO t (a) ${clock}`)
  second.nowMs = Date.UTC(2029, 0)
  second.run(`INSERT INTO t (a) ${clock}`)

  const years = [['2031'], ['2031'], ['2032'], ['2032']]
  assert.deepEqual(second.query('SELECT a FROM t ORDER BY id'), years)
  first.apply(...second.entries)
  assert.deepEqual(first.query('SELECT a FROM t ORDER BY id'), years)
})
