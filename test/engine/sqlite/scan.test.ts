import assert from 'node:assert/strict'
import { test } from 'node:test'
import { asksForState, isReservedName, scanStatement } from '../../../src/engine/sqlite/scan.ts'

test('parameters are counted as SQLite numbers them', () => {
  const count = (sql: string): number => scanStatement(sql).positionalCount
  assert.equal(count('SELECT ?, ?'), 2)
  assert.equal(count('SELECT ?5, ?'), 6)
  assert.equal(count('SELECT ?2, ?2'), 2)
  assert.equal(count("SELECT '?' -- ?"), 0)
  assert.deepEqual(scanStatement('SELECT :a, @a, :a, $b').parameterNames, [':a', '@a', '$b'])
})

test('the forms that roll back a shared transaction are found wherever they stand', () => {
  const forms = [
    'INSERT OR ROLLBACK INTO t VALUES (1)',
    'insert or /* really */ rollback into t values (1)',
    'UPDATE OR ROLLBACK t SET a = 1',
    'CREATE TABLE t (a UNIQUE ON CONFLICT ROLLBACK)',
    'CREATE TABLE t (a NOT NULL ON CONFLICT\n\tROLLBACK)',
    "CREATE TRIGGER r BEFORE INSERT ON t BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
    "CREATE TRIGGER r BEFORE INSERT ON t BEGIN SELECT raise ( rollback , 'no'); END",
  ]
  for (const sql of forms)
    assert.match(scanStatement(sql).refusal ?? '', /undo other requests/, sql)
})

test('what only looks like such a form is let through', () => {
  const harmless = [
    "INSERT INTO t VALUES ('OR ROLLBACK')",
    'SELECT a OR "rollback" FROM t',
    'SELECT rollback FROM t -- OR ROLLBACK',
    "CREATE TRIGGER r BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, 'rollback'); END",
    'INSERT OR REPLACE INTO t VALUES (1)',
    'INSERT OR FAIL INTO t VALUES (1)',
    'SELECT raise, (rollback) FROM t',
  ]
  for (const sql of harmless) assert.equal(scanStatement(sql).refusal, undefined, sql)
})

test('deferred foreign keys are found where they are made, and nowhere else', () => {
  const made = [
    'CREATE TABLE c (p REFERENCES p DEFERRABLE INITIALLY DEFERRED)',
    'ALTER TABLE c ADD COLUMN q REFERENCES p deferrable initially deferred',
  ]
  for (const sql of made) assert.match(scanStatement(sql).refusal ?? '', /deferred foreign/, sql)
  const harmless = [
    'CREATE TABLE c (p REFERENCES p NOT DEFERRABLE INITIALLY DEFERRED)',
    'CREATE TABLE c (p REFERENCES p DEFERRABLE INITIALLY IMMEDIATE)',
    'CREATE TABLE c (p REFERENCES p DEFERRABLE)',
    'SELECT initially deferred FROM t',
    'CREATE TABLE c (d DEFAULT "INITIALLY DEFERRED")',
  ]
  for (const sql of harmless) assert.equal(scanStatement(sql).refusal, undefined, sql)
})

test("an index over 'now' is found, and 'now' elsewhere is let through", () => {
  for (const sql of [
    "CREATE INDEX i ON t (date('now'))",
    "create unique index if not exists i on t (a) where a > datetime( 'NOW' )",
    "CREATE INDEX i ON t (unixepoch('subsec'))",
  ]) {
    assert.match(scanStatement(sql).refusal ?? '', /changes by itself/, sql)
  }
  for (const sql of [
    "CREATE TABLE t (a DEFAULT (datetime('now')))",
    "CREATE TRIGGER r AFTER INSERT ON t BEGIN UPDATE t SET a = date('now'); END",
    'CREATE INDEX i ON t (now)',
    "SELECT date('now') AS 'index'",
  ]) {
    assert.equal(scanStatement(sql).refusal, undefined, sql)
  }
})

test('VACUUM, transactions and renames to reserved names are found', () => {
  for (const sql of [
    'VACUUM',
    "vacuum into 'x'",
    '/* a */ BEGIN',
    'END',
    'ROLLBACK TO x',
    'Release x',
  ]) {
    assert.notEqual(scanStatement(sql).refusal, undefined, sql)
  }
  for (const name of ['lockstep_x', '"Lockstep_x"', '[LOCKSTEP_x]', "'lockstep_x'"]) {
    assert.match(scanStatement(`ALTER TABLE t RENAME TO ${name}`).refusal ?? '', /kept for/)
  }
  assert.equal(scanStatement("INSERT INTO t VALUES ('lockstep_x')").refusal, undefined)
})

test('reserved names are known in any case', () => {
  assert(isReservedName('lockstep_meta'))
  assert(isReservedName('LockStep_'))
  assert(!isReservedName('lockstep'))
  assert(!isReservedName('my_lockstep_'))
})

test('a text asks for the state of the connection only by a name of it', () => {
  assert(asksForState('SELECT last_insert_rowid()'))
  assert(asksForState('SELECT "Changes"()'))
  assert(!asksForState('SELECT exchanges FROM t'))
  assert(!asksForState("SELECT 'changes' -- last_insert_rowid()"))
})
