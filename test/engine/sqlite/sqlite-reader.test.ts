import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SqlParams } from '../../../src/base/sql.ts'
import type { ReadOutcome } from '../../../src/engine/engine.ts'
import { SqliteReader } from '../../../src/engine/sqlite/sqlite-reader.ts'
import { createDatabase, newDirectory, NOW_MS, on, Replica, request } from './replica.ts'

const TABLE = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a)'

function read(
  reader: SqliteReader,
  sql: string | readonly string[],
  params: SqlParams = [],
  maxRows = 1000,
): ReadOutcome {
  const texts = typeof sql === 'string' ? [sql] : sql
  const statements = texts.map(each => ({ sql: each, params }))
  return reader.handle({ database: 'd', statements, maxRows, maxBytes: 100_000 })
}

function rows(outcome: ReadOutcome, index = 0): unknown {
  assert(outcome.type === 'ok', outcome.type === 'failed' ? outcome.error.message : '')
  return outcome.results[index]?.rows
}

test('an answer carries the applied index of the database as of its own transaction', () => {
  using replica = Replica.withDatabase()
  replica.write(createDatabase('e'))
  replica.run(TABLE)
  replica.withReader(reader => {
    const index = (): unknown => {
      const outcome = read(reader, 'SELECT count(*) FROM t')
      return outcome.type === 'ok' && outcome.appliedIndex
    }
    assert.equal(index(), 3)
    replica.write(on('e', 'CREATE TABLE other (a)'))
    assert.equal(index(), 3)
    const open = replica.execute(request('INSERT INTO t (a) VALUES (1)'))
    assert.equal(index(), 3)
    replica.commit(open)
    assert.equal(index(), 5)
  })
})

test('all statements of a query see one moment, also a script', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE, 'INSERT INTO t (a) VALUES (1), (2)')
  replica.withReader(reader => {
    const outcome = read(reader, [
      'SELECT count(*) FROM t; SELECT sum(a) FROM t',
      'SELECT max(a) FROM t',
    ])
    assert.deepEqual(rows(outcome, 0), [[2n]])
    assert.deepEqual(rows(outcome, 1), [[3n]])
    assert.deepEqual(rows(outcome, 2), [[2n]])
  })
})

test('reads of one batch see one state of each database, whatever is written meanwhile', () => {
  using replica = Replica.withDatabase()
  replica.write(createDatabase('e'))
  replica.run(TABLE)
  replica.write(on('e', 'CREATE TABLE t (a)'))
  replica.withReader(reader => {
    const count = (database: string, sql = 'SELECT count(*) FROM t'): unknown => {
      const limits = { maxRows: 10, maxBytes: 1000 }
      const outcome = reader.read({ database, statements: [{ sql, params: [] }], ...limits })
      if (outcome.type === 'failed') return outcome.error.code
      return [outcome.appliedIndex, outcome.results[0]?.rows?.[0]?.[0]]
    }
    const [first] = count('d') as readonly [number]
    replica.run('INSERT INTO t (a) VALUES (1)')
    replica.write(on('e', 'INSERT INTO t (a) VALUES (1)'))
    assert.deepEqual(count('d'), [first, 0n])
    // Nothing of this one was seen before.
    assert.deepEqual(count('e'), [replica.index, 1n])

    reader.endBatch()
    const second = replica.index - 1
    assert.deepEqual(count('d'), [second, 1n])
    replica.run('INSERT INTO t (a) VALUES (2)', 'ALTER TABLE t RENAME COLUMN a TO b')
    assert.deepEqual(count('d', 'SELECT count(a) FROM t'), [second, 1n])
    // After a failure nothing is shared.
    assert.equal(count('d', 'SELECT b FROM t'), 'SQL_ERROR')
    assert.deepEqual(count('d', 'SELECT count(b) FROM t'), [replica.index, 2n])
    replica.write(on('e', 'INSERT INTO t (a) VALUES (2)'))
    assert.deepEqual(count('f'), 'UNKNOWN_DATABASE')
    replica.write(createDatabase('f'))
    assert.deepEqual(count('f', 'SELECT 7'), [replica.index, 7n])

    reader.endBatch()
    assert.equal(replica.checkpoint(), replica.index)
  })
})

test('a query is not held up by a writer in the middle of a batch', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE)
  replica.execute(request('INSERT INTO t (a) VALUES (1)'))
  replica.withReader(reader => {
    assert.deepEqual(rows(read(reader, 'SELECT count(*) FROM t')), [[0n]])
  })
})

test('columns are those of now, also of a statement that was prepared before a change', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE)
  replica.withReader(reader => {
    const columns = (): unknown => {
      const outcome = read(reader, 'SELECT * FROM t')
      return outcome.type === 'ok' && outcome.results[0]?.columns
    }
    assert.deepEqual(columns(), ['id', 'a'])
    replica.run('ALTER TABLE t RENAME COLUMN a TO b')
    assert.deepEqual(columns(), ['id', 'b'])
    replica.run('ALTER TABLE t ADD COLUMN c')
    assert.deepEqual(columns(), ['id', 'b', 'c'])
    replica.run('DROP TABLE t', 'CREATE TABLE t (z)')
    assert.deepEqual(columns(), ['z'])
  })
})

test('columns of one name are all there', () => {
  using replica = Replica.withDatabase()
  replica.withReader(reader => {
    const outcome = read(reader, 'SELECT 1 AS x, 2 AS x')
    assert(outcome.type === 'ok')
    assert.deepEqual(outcome.results[0]?.columns, ['x', 'x'])
    assert.deepEqual(outcome.results[0]?.rows, [[1n, 2n]])
  })
})

test('a result over the limit is refused, and holds nothing open', () => {
  using replica = Replica.withDatabase()
  replica.run(TABLE, 'INSERT INTO t (a) VALUES (1), (2), (3), (zeroblob(200000))')
  replica.withReader(reader => {
    const code = (outcome: ReadOutcome): unknown => outcome.type === 'failed' && outcome.error.code
    assert.equal(code(read(reader, 'SELECT * FROM t', [], 2)), 'TOO_LARGE')
    assert.equal(code(read(reader, ['SELECT 1', 'SELECT 2', 'SELECT 3'], [], 2)), 'TOO_LARGE')
    assert.equal(code(read(reader, 'SELECT a FROM t WHERE id = 4')), 'TOO_LARGE')
    assert.deepEqual(rows(read(reader, 'SELECT id FROM t WHERE id < 3', [], 2)), [[1n], [2n]])

    replica.run('DROP TABLE t')
    assert.equal(replica.checkpoint(), replica.index)
  })
})

test("'now' and chance are the reader's own, and differ from query to query", () => {
  using replica = Replica.withDatabase()
  const reader = new SqliteReader({ directory: replica.directory, nowMs: () => NOW_MS })
  try {
    assert.deepEqual(rows(read(reader, "SELECT datetime('now'), CURRENT_DATE")), [
      ['2026-11-20 12:34:56', '2026-11-20'],
    ])
    const dice = (): unknown => JSON.stringify(rows(read(reader, 'SELECT hex(randomblob(16))')))
    assert.notEqual(dice(), dice())
  } finally {
    reader.close()
  }
})

test('an error says which statement it was', () => {
  using replica = Replica.withDatabase()
  replica.withReader(reader => {
    const cases = [
      [['SELECT 1', 'SELECT * FROM missing'], 'UNKNOWN_TABLE', 1],
      [['SELEC'], 'SQL_SYNTAX', 0],
      [['SELECT 1', 'SELECT 2', 'DELETE FROM t'], 'UNKNOWN_TABLE', 2],
      [["SELECT json('{')"], 'SQL_ERROR', 0],
    ] as const
    for (const [sql, code, statement] of cases) {
      const outcome = read(reader, sql)
      assert(outcome.type === 'failed')
      assert.equal(outcome.error.code, code)
      assert.equal(outcome.error.details?.['statement'], statement)
    }
    // And the connection is as good as before.
    assert.deepEqual(rows(read(reader, 'SELECT 1')), [[1n]])
  })
})

test('before the writer has made its files, a reader is not ready, and then it is', () => {
  const directory = newDirectory()
  const reader = new SqliteReader({ directory })
  const early = read(reader, 'SELECT 1')
  assert(early.type === 'failed')
  assert.equal(early.error.code, 'NOT_READY')
  assert.deepEqual(reader.databases(), [])
  const digest = reader.digest({ database: 'd' })
  assert(digest.type === 'failed')

  using replica = new Replica({ directory })
  replica.write(createDatabase('d'))
  assert.deepEqual(reader.databases(), ['d'])
  assert.deepEqual(rows(read(reader, 'SELECT 1')), [[1n]])
  reader.close()
})

test('databases that come while a reader lives are seen', () => {
  using replica = Replica.withDatabase()
  replica.withReader(reader => {
    assert.deepEqual(reader.databases(), ['d'])
    replica.write(createDatabase('b'))
    assert.deepEqual(reader.databases(), ['b', 'd'])
  })
})
