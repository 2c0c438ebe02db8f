import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { uniqueNames } from '../../src/base/column-names.ts'

test('columns of one name are numbered, and no other name is taken from its column', () => {
  assert.deepEqual(uniqueNames(['id', 'name']), ['id', 'name'])
  assert.deepEqual(uniqueNames(['id', 'id', 'id']), ['id', 'id_2', 'id_3'])
  assert.deepEqual(uniqueNames(['id', 'id', 'id_2']), ['id', 'id_3', 'id_2'])
})

test('every column gets a name of its own, and keeps its own if it is the first with it', () => {
  const names = fc.array(fc.constantFrom('a', 'a_2', 'a_3', 'b', '', 'a_2_2'))
  fc.assert(
    fc.property(names, columns => {
      const unique = uniqueNames(columns)
      assert.equal(new Set(unique).size, columns.length)
      for (const [at, column] of columns.entries()) {
        if (columns.indexOf(column) === at) assert.equal(unique[at], column)
      }
    }),
  )
})
