import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { EngineEntry } from '../../../src/engine/engine.ts'
import { SqliteWriter } from '../../../src/engine/sqlite/sqlite-writer.ts'
import { Crash, CrashingFiles } from './crashing-files.ts'
import { createDatabase, dropDatabase, newDirectory, on, Replica, request } from './replica.ts'

const TABLE = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)'
const INSERT = 'INSERT INTO t (a) VALUES (hex(randomblob(200)))'

/** A history with databases that come, go, and come back under the same name. */
function history(): Replica {
  const leader = new Replica()
  leader.write(createDatabase('d'), request(TABLE), request(INSERT))
  leader.write(createDatabase('e'), on('e', TABLE), dropDatabase('d'), on('e', INSERT))
  leader.write(createDatabase('d'), request(TABLE), dropDatabase('e'))
  return leader
}

/**
 * Applies entries on crashing files, with checkpoints in between, until the machine stops. Returns
 * the highest durable index that was told.
 */
function runUntilCrash(
  directory: string,
  files: CrashingFiles,
  entries: readonly EngineEntry[],
): number {
  const writer = new SqliteWriter({ directory, fileSystem: files, onFlushed: files.onFlushed })
  let durableIndex = 0
  try {
    assert.equal(writer.handle({ type: 'open' }).type, 'opened')
    for (const entry of entries) {
      assert.equal(writer.handle({ type: 'apply', entries: [entry] }).type, 'applied')
      if (entry.index % 3 > 0) continue
      const reply = writer.handle({ type: 'checkpoint' })
      assert(reply.type === 'checkpointed')
      durableIndex = reply.durableIndex
    }
  } catch (error) {
    if (!(error instanceof Crash)) throw error
  } finally {
    writer.close()
  }
  return durableIndex
}

function assertCatchesUp(directory: string, leader: Replica, durable: number, what: string): void {
  using replica = new Replica({ directory })
  const { durableIndex, appliedIndex } = replica.opened
  assert(durable <= durableIndex && durableIndex <= appliedIndex, what)
  assert.equal(replica.follow(leader).divergence, undefined, what)
  const names = leader.withReader(reader => reader.databases())
  assert.deepEqual(
    replica.withReader(reader => reader.databases()),
    names,
    what,
  )
  for (const name of names) assert.deepEqual(replica.digest(name), leader.digest(name), what)
  // What belongs to no database is gone.
  const files = readdirSync(join(directory, 'gen-1')).filter(file => file.endsWith('.sqlite'))
  assert.equal(files.length, names.length + 1, `${what}: ${files.join(' ')}`)
}

test('stopped at any operation on files, a node opens again and catches up', () => {
  using leader = history()
  const root = newDirectory()
  try {
    const all = new CrashingFiles(join(root, 'all'))
    assert.equal(runUntilCrash(join(root, 'all'), all, leader.entries), 9)
    assert(all.operations > 30, `${all.operations} operations`)

    for (let at = 1; at <= all.operations + 1; at++) {
      const directory = join(root, `${at}`)
      const files = new CrashingFiles(directory, at)
      const durable = runUntilCrash(directory, files, leader.entries)
      const what = `stopped before operation ${at} of ${all.operations}`

      const cut = join(root, `${at}-cut`)
      files.writeDurable(cut)
      assertCatchesUp(cut, leader, durable, `power cut, ${what}`)
      assertCatchesUp(directory, leader, durable, what)
    }
  } finally {
    rmSync(root, { recursive: true })
  }
})

test('a floor that was written but not flushed is not believed before it is', () => {
  using replica = Replica.withDatabase()
  replica.write(createDatabase('e'), request(TABLE), request(INSERT))
  const release = replica.holdCatalogue()
  assert.equal(replica.checkpoint(), 0)
  using killed = replica.copy()
  release()

  // Only the process died: the floor is read back, and flushed before it is told.
  assert.equal(killed.opened.appliedIndex, replica.index)
  using cut = killed.powerCutCopy()
  assert(cut.opened.appliedIndex >= killed.opened.durableIndex)
  assert.deepEqual(
    cut.withReader(reader => reader.databases()),
    ['d', 'e'],
  )
})

test('a WAL that was left beside a file that was not named yet is not replayed into the next', () => {
  using leader = Replica.withDatabase()
  leader.run(TABLE, INSERT)
  using other = new Replica()
  // The wreck of an attempt: the file and WAL of another history under the name of this one.
  mkdirSync(join(other.directory, 'gen-1'), { recursive: true })
  for (const ending of ['', '-wal']) {
    const name = `db-1.sqlite${ending}`
    cpSync(join(leader.directory, 'gen-1', name), join(other.directory, 'gen-1', name))
  }
  other.write(createDatabase('d'))
  assert.deepEqual(other.query("SELECT name FROM sqlite_schema WHERE name = 't'"), [])
})

test('the file of a dropped database goes only once the drop survives', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE)
  replica.checkpoint()
  const path = join(replica.directory, 'gen-1', 'db-1.sqlite')
  const release = replica.holdCatalogue()
  replica.write(dropDatabase('d'))

  // A reader stands in the way of the catalogue's flush: the row could come back, so the file stays.
  assert(existsSync(path))
  using cut = replica.powerCutCopy()
  assert.deepEqual(
    cut.withReader(reader => reader.databases()),
    ['d'],
  )
  using killed = replica.copy()
  assert.deepEqual(
    killed.withReader(reader => reader.databases()),
    [],
  )
  assert(!existsSync(join(killed.directory, 'gen-1', 'db-1.sqlite')))

  release()
  replica.checkpoint()
  assert(!existsSync(path))
})

test('a reader of a dropped database ends what it reads, and then hears that it is gone', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE, INSERT)
  replica.withReader(reader => {
    const read = { database: 'd', statements: [{ sql: 'SELECT count(*) FROM t', params: [] }] }
    const ask = () => reader.handle({ ...read, maxRows: 1, maxBytes: 100 })
    assert.equal(ask().type, 'ok')
    replica.write(dropDatabase('d'))
    const gone = ask()
    assert(gone.type === 'failed')
    assert.equal(gone.error.code, 'UNKNOWN_DATABASE')

    replica.write(createDatabase('d'), request(TABLE))
    const anew = ask()
    assert(anew.type === 'ok')
    assert.deepEqual(anew.results[0]?.rows, [[0n]])
  })
})
