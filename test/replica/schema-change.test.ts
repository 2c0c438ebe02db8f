import assert from 'node:assert/strict'
import { test } from 'node:test'
import { changesSchema } from '../../src/replica/schema-change.ts'

function changes(...texts: readonly string[]): boolean {
  const statements = texts.map(sql => ({ sql, params: [] }))
  return changesSchema({ type: 'statements', database: 'd', statements })
}

test('a schema verb at the beginning of any statement of a request is found', () => {
  const found = [
    'CREATE TABLE t (a)',
    '  -- why\n /* and */ ; drop table t',
    'SELECT 1;ALTER TABLE t ADD COLUMN b',
    'SELECT 1; /* hidden */ DROP TABLE t',
    'SELECT 1; -- hidden\n CREATE INDEX i ON t (a)',
    'SELECT 1;;\n;reindex t',
    '\u{feff}CREATE TABLE t (a)',
  ]
  for (const sql of found) {
    assert(changes(sql), sql)
    assert(changes('SELECT 1', sql), sql)
  }
  assert(changesSchema({ type: 'drop-database', database: 'd' }))
})

test('data that only speaks of schema verbs is let through', () => {
  const data = [
    "INSERT INTO t VALUES ('create')",
    'UPDATE drops SET creator = 1',
    'SELECT 1 -- drop',
  ]
  for (const sql of data) assert(!changes(sql), sql)
})
