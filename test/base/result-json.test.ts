import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { resultsJson, valueJson } from '../../src/base/result-json.ts'
import type { StatementResult } from '../../src/base/sql.ts'
import { sqlValue } from '../protocol/arbitraries.ts'

test('rows are the same as arrays and as objects, value by value', () => {
  const row = fc.array(sqlValue, { minLength: 3, maxLength: 3 })
  const columns = ['a', 'a', '"b"\n']
  fc.assert(
    fc.property(fc.array(row), rows => {
      const result: StatementResult = { rowsAffected: 0, columns, rows }
      const values = rows.map(each => each.map(value => JSON.parse(valueJson(value)) as unknown))
      const head = { rowsAffected: 0, columns }
      assert.deepEqual(JSON.parse(resultsJson([result], 'arrays')), [{ ...head, rows: values }])
      const objects = values.map(([a, second, b]) => ({ a, a_2: second, '"b"\n': b }))
      assert.deepEqual(JSON.parse(resultsJson([result], 'objects')), [{ ...head, rows: objects }])
    }),
  )
})

test('a result says what it affected, and has rows only where there are columns', () => {
  const results = [
    { rowsAffected: 2, lastInsertId: 2n ** 60n },
    { rowsAffected: 0, columns: [] },
  ]
  assert.equal(
    resultsJson(results, 'objects'),
    `[{"rowsAffected":2,"lastInsertId":{"$integer":"${2n ** 60n}"}},` +
      '{"rowsAffected":0,"columns":[],"rows":[]}]',
  )
  assert.equal(resultsJson([], 'arrays'), '[]')
})
