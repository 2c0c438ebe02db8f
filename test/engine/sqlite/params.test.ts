import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bindParams } from '../../../src/engine/sqlite/params.ts'
import { scanStatement } from '../../../src/engine/sqlite/scan.ts'
import { Replica } from './replica.ts'

test('every parameter has its value, and every value its parameter', () => {
  const wrong = [
    ['SELECT ?, ?', [1n]],
    ['SELECT ?', [1n, 2n]],
    ['SELECT 1', [1n]],
    ['SELECT ?2', [1n]],
    ['SELECT ?', { a: 1n }],
    ['SELECT :a', [1n]],
    ['SELECT :a', {}],
    ['SELECT :a', { a: 1n, b: 2n }],
    ['SELECT :a', { ':a': 1n }],
    ['SELECT 1', { a: 1n }],
    ['SELECT :a, ?', [1n]],
    ['SELECT :toString', {}],
  ] as const
  for (const [sql, params] of wrong) {
    assert.throws(() => bindParams(scanStatement(sql), params), { code: 'INVALID_REQUEST' }, sql)
  }
})

test('values reach the parameters they are meant for', () => {
  using replica = Replica.withDatabase()
  const cases = [
    [
      ['SELECT ?, ?', [1n, 'a']],
      [1n, 'a'],
    ],
    [
      ['SELECT ?2, ?1, ?2', [1n, 2n]],
      [2n, 1n, 2n],
    ],
    [
      ['SELECT :a, @a, $b, :a', { a: 1n, b: 2n }],
      [1n, 1n, 2n, 1n],
    ],
    [['SELECT $c::d(e)', { 'c::d(e)': 5n }], [5n]],
    [['SELECT :__proto__', JSON.parse('{"__proto__": "p"}') as Record<string, string>], ['p']],
    [['SELECT 1', {}], [1n]],
  ] as const
  for (const [sql, row] of cases) {
    assert.deepEqual(replica.run(sql)[0]?.rows?.[0], row, sql[0])
    assert.deepEqual(replica.query(sql)[0], row, sql[0])
  }
})

test('values keep their types on the way in and out, in untyped and in typed columns', () => {
  using replica = Replica.withDatabase()
  replica.run('CREATE TABLE t (i INTEGER, r REAL, s TEXT, b BLOB, x)')
  const rows = [
    [1n, 1, '1', new Uint8Array([1]), 1n],
    [-(2n ** 63n), 0.1, '', new Uint8Array(0), 1],
    [2n ** 63n - 1n, -1e300, 'a\0b', new Uint8Array([0, 255]), '1'],
    [null, null, null, null, null],
    [2n ** 53n + 1n, Infinity, '\ufeffü🧭', new Uint8Array(300), 2n ** 62n],
  ]
  for (const row of rows) replica.run(['INSERT INTO t VALUES (?, ?, ?, ?, ?)', row])

  assert.deepEqual(replica.query('SELECT * FROM t'), rows)
  assert.deepEqual(replica.query('SELECT typeof(x) FROM t'), [
    ['integer'],
    ['real'],
    ['text'],
    ['null'],
    ['integer'],
  ])
})

test('32,766 parameters are taken, and one more is too large', () => {
  using replica = Replica.withDatabase()
  replica.run('CREATE TABLE t (a, b)')
  const insert = (pairs: number): [string, bigint[]] => [
    `INSERT INTO t VALUES ${Array.from({ length: pairs }, () => '(?,?)').join(',')}`,
    Array.from({ length: pairs * 2 }, (_, i) => BigInt(i)),
  ]
  assert.equal(replica.run(insert(16_383))[0]?.rowsAffected, 16_383)

  assert.equal(replica.fail(insert(16_384)).code, 'TOO_LARGE')
})
