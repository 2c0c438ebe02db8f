/** More databases than may be open: the writer and the readers close the longest unused. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import type { ReadOutcome } from '../../../src/engine/engine.ts'
import { encodeRequest } from '../../../src/engine/request.ts'
import type { FileSystem } from '../../../src/engine/sqlite/file-system.ts'
import { nodeFileSystem } from '../../../src/engine/sqlite/file-system.ts'
import { DATABASES_MAX, ENTRY_DATABASES_MAX } from '../../../src/engine/limits.ts'
import { SqliteReader } from '../../../src/engine/sqlite/sqlite-reader.ts'
import { FuzzRandom } from './fuzz-statements.ts'
import {
  createDatabase,
  dropDatabase,
  failure,
  on,
  Replica,
  request,
  success,
  tamperFile,
} from './replica.ts'
import { temporaryDirectory } from './support.ts'

// Thousands of files are flushed here, and what a flush costs is not the question.
if (existsSync('/dev/shm')) process.env['TMPDIR'] = '/dev/shm'

const TABLE = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)'
const INSERT = 'INSERT INTO t (a) VALUES (hex(randomblob(20)))'
const COUNT = 'SELECT count(*) FROM t'

/** A replica with databases `n0`, `n1` and so on, each with a table. */
function withDatabases(count: number, openFilesMax: number): Replica {
  const replica = new Replica({ openFilesMax })
  for (let i = 0; i < count; i++) {
    success(replica.write(createDatabase(`n${i}`))[0])
    success(replica.write(on(`n${i}`, TABLE))[0])
    assert(replica.writer.openFiles <= openFilesMax)
  }
  return replica
}

function ask(reader: SqliteReader, database: string): ReadOutcome {
  const statements = [{ sql: COUNT, params: [] }]
  return reader.handle({ database, statements, maxRows: 1, maxBytes: 100 })
}

function assertSame(replica: Replica, leader: Replica, names: readonly string[], what: string) {
  replica.withReader(own => {
    leader.withReader(theirs => {
      for (const database of names) {
        assert.deepEqual(own.digest({ database }), theirs.digest({ database }), what)
      }
    })
  })
}

test('hundreds of databases are written and read in turn with two of them open', () => {
  using leader = withDatabases(200, 2)
  using follower = new Replica({ openFilesMax: 1 })
  const reader = new SqliteReader({ directory: leader.directory, connectionsMax: 2 })
  try {
    for (let round = 1; round <= 2; round++) {
      for (let i = 0; i < 200; i++) {
        success(leader.write(on(`n${i}`, INSERT))[0])
        assert(leader.writer.openFiles <= 2)
        const outcome = ask(reader, `n${i}`)
        assert(outcome.type === 'ok', inspect(outcome))
        assert.deepEqual(outcome.results[0]?.rows, [[BigInt(round)]])
        assert(reader.connections <= 2)
      }
    }
    assert.equal(follower.follow(leader).divergence, undefined)
    assert(follower.writer.openFiles <= 1)
    assert.equal(leader.checkpoint(), leader.index)
    using reopened = leader.powerCutCopy()
    // Nothing has to be opened to open: each file is looked at and no more.
    assert.equal(reopened.writer.openFiles, 0)
    const names = leader.withReader(all => all.databases())
    assert.equal(names.length, 200)
    assertSame(follower, leader, names, 'the follower')
    assertSame(reopened, leader, names, 'after a power cut')
  } finally {
    reader.close()
  }
})

/** Random writes, reads, checkpoints, kills and power cuts with so many files open. */
function runRandomly(seed: number, openFilesMax: number): void {
  const random = new FuzzRandom(seed)
  const count = 40
  using leader = withDatabases(count, 3)
  let follower = new Replica({ openFilesMax, walPagesMax: 60 })
  const readers = new Map<string, SqliteReader>()
  const names = Array.from({ length: count }, (_, i) => `n${i}`)
  const holds: (() => void)[] = []
  const lettingGo = () => {
    for (const release of holds.splice(0)) release()
    for (const reader of readers.values()) reader.close()
    readers.clear()
  }
  try {
    for (let step = 0; step < 160; step++) {
      const requests = Array.from({ length: 1 + random.below(6) }, () =>
        on(random.pick(names), random.below(9) === 0 ? 'DELETE FROM t WHERE id % 2' : INSERT),
      )
      for (const result of leader.write(...requests)) success(result)
      for (const entry of leader.entries.slice(follower.index)) follower.apply(entry)

      const { directory } = follower
      const reader = readers.get(directory) ?? new SqliteReader({ directory, connectionsMax: 2 })
      readers.set(directory, reader)
      assert.equal(ask(reader, random.pick(names)).type, 'ok')
      assert(reader.connections <= 2)
      if (random.below(25) === 0)
        holds.push(follower.holdReadTransaction(1 + 2 * random.below(count)))
      if (random.below(30) === 0) lettingGo()
      if (random.below(20) === 0) leader.checkpoint()
      if (random.below(12) === 0) follower.checkpoint()
      const { durableIndex } = follower.apply()
      if (random.below(12) === 0) {
        using cut = follower.powerCutCopy(bound => random.below(bound))
        assert(cut.opened.appliedIndex >= durableIndex, `seed ${seed}, step ${step}`)
        assert.equal(cut.follow(leader).divergence, undefined, `seed ${seed}, step ${step}`)
        assertSame(cut, leader, names, `seed ${seed}, step ${step}`)
      }
      if (random.below(40) === 0) {
        lettingGo()
        follower = random.below(2) === 0 ? follower.crash() : follower.powerCut()
        assert(follower.opened.durableIndex >= durableIndex, `seed ${seed}, step ${step}`)
        assert.equal(follower.follow(leader).divergence, undefined, `seed ${seed}, step ${step}`)
      }
    }
    lettingGo()
    assertSame(follower, leader, names, `seed ${seed}`)
    // With nobody in the way, the next file that is opened makes room for itself.
    leader.write(on('n0', INSERT), on('n1', INSERT), on('n2', INSERT))
    leader.write(on('n3', INSERT))
    follower.follow(leader)
    assert(follower.writer.openFiles <= openFilesMax)
  } finally {
    lettingGo()
    follower[Symbol.dispose]()
  }
}

const seedCount = Number(process.env['LOCKSTEP_FUZZ_SEEDS'] ?? 2)
for (let seed = 1; seed <= seedCount; seed++) {
  test(`few open files survive kills and power cuts, seed ${seed}`, () => runRandomly(seed, 2))
  test(`many open files survive kills and power cuts, seed ${seed}`, () => runRandomly(seed, 50))
}

test('while all databases are written, the longest dirty are flushed, a few at a time', () => {
  const count = 40
  let flushed = 0
  const onFlushed = (path: string): void => {
    if (!path.endsWith('system.sqlite')) flushed++
  }
  using leader = withDatabases(count, count)
  using follower = new Replica({ openFilesMax: count, walPagesMax: 120, onFlushed })
  const flushesOfEntry: number[] = []
  const behind: number[] = []
  for (let i = 0; i < 20 * count; i++) {
    success(leader.write(on(`n${i % count}`, INSERT))[0])
    const before = flushed
    follower.follow(leader)
    follower.writer.maintain()
    flushesOfEntry.push(flushed - before)
    const { durableIndex } = follower.apply()
    // The databases and their tables are made by twice as many entries.
    if (i >= 4 * count) behind.push(follower.index - durableIndex)
    if (i % 199 !== 198) continue
    using cut = follower.powerCutCopy()
    assert(cut.opened.appliedIndex >= durableIndex)
    assert.equal(cut.follow(leader).divergence, undefined)
    assertSame(cut, leader, ['n0', 'n1', `n${count - 1}`], 'after a power cut')
  }
  // Never all of them at once, but in turn, so that what would be lost does not grow.
  const most = Math.max(...flushesOfEntry.slice(4 * count))
  assert(most > 0 && most < count / 2, `${most} files were flushed at once`)
  assert(Math.max(...behind) < 4 * count, `${Math.max(...behind)} entries behind`)
  assert(Math.min(...behind) > 0, 'never all files are clean at once')
})

test('a node with one database less used than others may forget its log all the same', () => {
  using replica = withDatabases(2, 2)
  replica.checkpoint()
  success(replica.write(on('n0', INSERT))[0])
  const written = replica.index
  let durableIndex = 0
  for (let i = 0; i < 12_000 && durableIndex <= written; i++) {
    success(replica.write(on('n1', INSERT))[0])
    durableIndex = replica.apply().durableIndex
  }
  assert(durableIndex > written, 'the file that is not written any more was not flushed')
})

test('a file that is closed is flushed before, and told so', () => {
  using replica = Replica.withDatabase({ openFilesMax: 1 })
  replica.run(TABLE)
  const durable = replica.checkpoint()
  replica.run(INSERT)
  replica.write(createDatabase('e'), on('e', TABLE))
  assert.equal(replica.writer.openFiles, 1)
  // No checkpoint was asked for, and yet it survives: nobody could flush it later.
  using cut = replica.powerCutCopy()
  assert.equal(cut.opened.durableIndex, durable)
  assert.deepEqual(cut.query(COUNT), [[1n]])
})

test('a file that a reader keeps from being flushed stays open, and another one goes', () => {
  using replica = Replica.withDatabase({ openFilesMax: 2 })
  replica.run(TABLE)
  replica.write(createDatabase('e'), on('e', TABLE), createDatabase('f'), on('f', TABLE))
  const before = replica.checkpoint()
  replica.run(INSERT)
  const release = replica.holdReadTransaction()
  replica.run(INSERT)
  for (const database of ['e', 'f', 'e']) replica.write(on(database, INSERT))
  assert.equal(replica.writer.openFiles, 2)

  // What is held back holds the floor back, whoever was closed meanwhile.
  assert.equal(replica.checkpoint(), before)
  using cut = replica.powerCutCopy()
  assert.equal(cut.opened.durableIndex, before)
  assert.equal(cut.follow(replica).divergence, undefined)
  assertSame(cut, replica, ['d', 'e', 'f'], 'after a power cut')

  release()
  for (const database of ['f', 'e']) replica.write(on(database, INSERT))
  assert.equal(replica.checkpoint(), replica.index)
  assert.equal(replica.writer.openFiles, 2)
})

test('all files of a batch stay open until it ends, and a batch of many is cut', () => {
  const count = ENTRY_DATABASES_MAX + 8
  using leader = withDatabases(count, 3)
  using follower = new Replica({ openFilesMax: 1 })
  const inserts = Array.from({ length: count }, (_, i) => on(`n${i}`, INSERT))
  // What names a database again, or one that isn't there, opens no other file.
  const head = [...inserts.slice(0, ENTRY_DATABASES_MAX), on('n0', INSERT), on('missing', INSERT)]
  const executed = leader.execute(...head, ...inserts.slice(ENTRY_DATABASES_MAX))
  assert.equal(executed.taken, head.length)
  assert.equal(leader.writer.openFiles, ENTRY_DATABASES_MAX)
  leader.rollback()

  const results = leader.write(...head, ...inserts.slice(ENTRY_DATABASES_MAX))
  assert.equal(results.length, count + 2)
  assert.equal(results.filter(({ type }) => type === 'ok').length, count + 1)
  success(leader.write(on('n9', INSERT))[0])
  assert(leader.writer.openFiles <= 3)
  assert.equal(follower.follow(leader).divergence, undefined)
  assertSame(follower, leader, ['n0', 'n9', `n${count - 1}`], 'the follower')
})

test('a cluster has a limit of databases, and who is over it hears which', () => {
  const head = new TextEncoder().encode('SQLite format 3\0')
  const fileSystem: FileSystem = { ...nodeFileSystem, head: () => head }
  using first = Replica.withDatabase({ fileSystem })
  first.checkpoint()
  first.writer.close()
  tamperFile(
    join(first.directory, 'gen-1', 'system.sqlite'),
    `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${DATABASES_MAX - 2})
     INSERT INTO lockstep_database SELECT 'n' || i, 1000000 + i FROM n`,
  )
  using full = first.crash()
  success(full.write(createDatabase('last'))[0])
  const executed = full.execute(createDatabase('over'))
  assert.equal(executed.entry, undefined)
  const error = failure(executed.results[0])
  assert.equal(error.code, 'TOO_LARGE')
  assert.equal(error.details?.['limit'], DATABASES_MAX)
  assert.match(error.message, /at most 10000 databases/)
  assert.equal(failure(full.write(createDatabase('last'))[0]).code, 'DATABASE_EXISTS')
  success(full.write(dropDatabase('n5'))[0])
  success(full.write(createDatabase('over'))[0])
})

test('a file that can not be opened is a fault of this node, and nothing is logged', () => {
  const breakFile = (replica: Replica) => {
    const path = join(replica.directory, 'gen-1', 'db-1.sqlite')
    rmSync(path)
    symlinkSync(path, path)
  }
  using leader = Replica.withDatabase({ openFilesMax: 1 })
  leader.run(TABLE)
  using follower = leader.copy()
  leader.write(createDatabase('e'), on('e', TABLE))
  follower.follow(leader)
  leader.run(INSERT)
  leader.write(on('e', INSERT))
  breakFile(leader)
  const read = leader.read(COUNT)
  assert(read.type === 'failed')
  assert.equal(read.error.code, 'OVERLOADED')

  const requests = [encodeRequest(request(INSERT))]
  const seed = new Uint8Array(16)
  const reply = leader.writer.handle({
    type: 'execute',
    batch: 99,
    nowMs: 1,
    seed,
    commitIndex: 0,
    requests,
  })
  assert(reply.type === 'fault', reply.type)
  assert.equal(reply.error.code, 'OVERLOADED')

  using late = new Replica({ openFilesMax: 1 })
  late.apply(...leader.entries.filter(({ index }) => index <= follower.index))
  breakFile(late)
  const entries = leader.entries.filter(({ index }) => index > late.index)
  const applied = late.writer.handle({ type: 'apply', entries })
  assert(applied.type === 'fault', JSON.stringify(applied))
  assert.equal(applied.error.code, 'OVERLOADED')
})

test('a node with few descriptors serves more databases than it could hold open', () => {
  using directory = temporaryDirectory()
  const main = new URL('../../fixtures/many-databases-main.ts', import.meta.url).pathname
  // 120 databases are 360 descriptors in the writer alone, and 64 of them are 192.
  const limited = ['-c', 'ulimit -n 256 && exec "$0" "$@"', process.execPath]
  const run = spawnSync('sh', [...limited, main, directory.path, '120'], {
    encoding: 'utf8',
    timeout: 60_000,
  })
  assert.equal(run.status, 0, run.stderr)
})
