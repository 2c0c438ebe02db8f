import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { sql } from '../../src/client/sql.ts'
import { name, text } from '../protocol/arbitraries.ts'

test('values are bound, texts are joined, names are quoted', () => {
  const where = sql`WHERE id IN (${sql.list([1, 2])}) AND name = ${'x'}`
  const query = sql`SELECT ${sql.identifier('a"b')} FROM t ${where} LIMIT ${3}`

  assert.equal(query.sql, 'SELECT "a""b" FROM t WHERE id IN (?, ?) AND name = ? LIMIT ?')
  assert.deepEqual(query.params, [1, 2, 'x', 3])
})

test('whatever a value or a name holds, it stays one', () => {
  using database = new DatabaseSync(':memory:')
  fc.assert(
    fc.property(text, name, (value, column) => {
      const query = sql`SELECT ${value} AS ${sql.identifier(column)}`
      const row = database.prepare(query.sql).get(...(query.params as string[]))
      assert.deepEqual({ ...row }, { [column]: value })
    }),
  )
})
