import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError, ERRORS } from '../../../src/base/errors.ts'
import { LocalFault } from '../../../src/engine/request-errors.ts'
import { classifyFailure, localFaultOf } from '../../../src/engine/sqlite/sql-errors.ts'
import { Replica } from './replica.ts'

function sqliteError(errcode: number, message = 'as SQLite says'): Error {
  return Object.assign(new Error(message), { code: 'ERR_SQLITE_ERROR', errcode })
}

test('what is wrong with a statement is told by our codes, with the code of SQLite beside them', () => {
  using replica = Replica.withDatabase()
  replica.run(
    'CREATE TABLE p (id INTEGER PRIMARY KEY)',
    'CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE, b NOT NULL, c CHECK (c > 0), p REFERENCES p)',
    'CREATE TABLE s (i INTEGER) STRICT',
    'INSERT INTO t VALUES (1, 1, 1, 1, NULL)',
    'CREATE VIRTUAL TABLE f USING fts5(a, content=t)',
    "CREATE TRIGGER r BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'not this one'); END",
  )
  const cases = [
    ['INSERT INTO t VALUES (1, 2, 2, 2, NULL)', 'SQL_CONSTRAINT', 1555],
    ['INSERT INTO t VALUES (2, 1, 2, 2, NULL)', 'SQL_CONSTRAINT', 2067],
    ['INSERT INTO t VALUES (2, 2, NULL, 2, NULL)', 'SQL_CONSTRAINT', 1299],
    ['INSERT INTO t VALUES (2, 2, 2, 0, NULL)', 'SQL_CONSTRAINT', 275],
    ['INSERT INTO t VALUES (2, 2, 2, 2, 9)', 'SQL_CONSTRAINT', 787],
    ["INSERT INTO s VALUES ('x')", 'SQL_CONSTRAINT', 3091],
    ['DELETE FROM t', 'SQL_CONSTRAINT', 1811],
    ["INSERT INTO p VALUES ('x')", 'SQL_ERROR', 20],
    ['SELECT * FROM missing', 'UNKNOWN_TABLE', 1],
    ['DROP TABLE missing', 'UNKNOWN_TABLE', 1],
    ['SELECT missing FROM t', 'SQL_ERROR', 1],
    ['SELECT FROM t', 'SQL_SYNTAX', 1],
    ["SELECT 'open", 'SQL_SYNTAX', 1],
    ['SELECT (1', 'SQL_SYNTAX', 1],
    ['SELECT zeroblob(100000000)', 'TOO_LARGE', 18],
    ["INSERT INTO f(f, rank) VALUES ('integrity-check', 1)", 'SQL_ERROR', 267],
    ['SELECT abs(-9223372036854775808)', 'SQL_ERROR', 1],
  ] as const
  for (const [sql, code, sqliteCode] of cases) {
    const error = replica.fail(sql)
    assert.equal(error.code, code, `${sql}: ${error.message}`)
    assert.equal(error.details?.['sqliteCode'], sqliteCode, sql)
  }
})

test('what is wrong with this node is told apart from what is wrong with a statement', () => {
  const local = [
    [10, 'NODE_FAULT'],
    [266, 'NODE_FAULT'],
    [778, 'NODE_FAULT'],
    [7, 'OVERLOADED'],
    [3082, 'OVERLOADED'],
    [5, 'NODE_FAULT'],
    [8, 'NODE_FAULT'],
    [21, 'INTERNAL'],
    [14, 'OVERLOADED'],
    [270, 'OVERLOADED'],
    [26, 'CORRUPT'],
  ] as const
  for (const [errcode, code] of local) {
    const failure = classifyFailure(sqliteError(errcode), undefined)
    assert.equal(failure.type, 'local', `${errcode}`)
    assert.equal(failure.error.code, code)
    // Nothing of a batch is logged when its writer ends; only a bug of ours may have any fate.
    assert.equal(ERRORS[code].fate, code === 'INTERNAL' ? 'unknown' : 'not-applied')
  }
  assert.equal(classifyFailure(sqliteError(13), undefined).type, 'full')
  assert.equal(classifyFailure(sqliteError(11), undefined).type, 'corrupt')
})

test("a bug is nobody's fault but ours, and is thrown on", () => {
  const bug = new TypeError('x is not a function')
  assert.throws(() => classifyFailure(bug, undefined), bug)
  assert.equal(localFaultOf(bug), undefined)
  assert.equal(localFaultOf('a string'), undefined)
})

test('what ends a writer says why', () => {
  const error = { code: 'DISK_FULL', message: 'full' } as const
  assert.deepEqual(localFaultOf(new LocalFault(error)), error)
  assert.equal(localFaultOf(new DbError('WRONG_DATA', 'newer'))?.code, 'WRONG_DATA')
  assert.equal(localFaultOf(sqliteError(13))?.code, 'DISK_FULL')
  assert.equal(localFaultOf(sqliteError(11))?.code, 'CORRUPT')
  // A COMMIT must not fail for what was in it.
  assert.equal(localFaultOf(sqliteError(787))?.code, 'INTERNAL')
  const system = (code: string): Error => Object.assign(new Error(code), { code, syscall: 'write' })
  assert.equal(localFaultOf(system('ENOSPC'))?.code, 'DISK_FULL')
  assert.equal(localFaultOf(system('EIO'))?.code, 'NODE_FAULT')
  for (const code of ['EMFILE', 'ENFILE']) {
    assert.equal(localFaultOf(system(code))?.code, 'OVERLOADED', code)
  }
  assert.equal(localFaultOf(sqliteError(14))?.code, 'OVERLOADED')
})
