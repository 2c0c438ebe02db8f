import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { SqlValue } from '../../src/base/sql.ts'
import { compileCondition, type Condition } from '../../src/protocol/conditions.ts'
import { parseJson } from '../../src/protocol/json.ts'
import { valueJson } from '../../src/base/result-json.ts'
import { toJsonValue } from '../../src/protocol/values.ts'
import { name, sqlValue } from './arbitraries.ts'
import { matches } from './naive-filter.ts'

const COLUMNS = ['a', 'b"c', '; DROP TABLE victim --'] as const

/** Values from a small world, so that conditions are true now and then. */
const common = fc.constantFrom<SqlValue>(
  1n,
  2n,
  2,
  1.5,
  'a',
  'A',
  'ab',
  "'",
  '%',
  new Uint8Array([1]),
)
const known = fc.oneof(
  { weight: 3, arbitrary: common },
  { weight: 1, arbitrary: sqlValue.filter(value => value !== null) },
)
const cell = fc.oneof({ weight: 5, arbitrary: known }, { weight: 1, arbitrary: fc.constant(null) })
const row = fc.tuple(cell, cell, cell)

const column = fc.constantFrom(...COLUMNS)
const pattern = fc.string({ unit: fc.constantFrom('a', 'A', 'b', '%', '_', "'"), maxLength: 4 })

const comparison = fc.oneof(
  fc.record({
    column,
    operator: fc.constantFrom('=', '!=', '<', '<=', '>', '>=') as fc.Arbitrary<'='>,
    value: known,
  }),
  fc.record({
    column,
    operator: fc.constantFrom('like', 'not_like') as fc.Arbitrary<'like'>,
    value: pattern,
  }),
  fc.record({
    column,
    operator: fc.constantFrom('in', 'not_in') as fc.Arbitrary<'in'>,
    value: fc.array(known, { maxLength: 4 }),
  }),
  fc.record({
    column,
    operator: fc.constantFrom('between', 'not_between') as fc.Arbitrary<'between'>,
    value: fc.tuple(known, known),
  }),
  fc.record({
    column,
    operator: fc.constantFrom('is_null', 'is_not_null') as fc.Arbitrary<'is_null'>,
  }),
)

const { condition } = fc.letrec<{ condition: Condition }>(tie => ({
  condition: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    comparison as fc.Arbitrary<Condition>,
    fc.record({ and: fc.array(tie('condition'), { maxLength: 3 }) }),
    fc.record({ or: fc.array(tie('condition'), { maxLength: 3 }) }),
    fc.record({ not: tie('condition') }),
  ),
}))

const toJson = (part: unknown): unknown => {
  if (Array.isArray(part)) return part.map(toJson)
  if (part instanceof Uint8Array || typeof part !== 'object' || part === null) {
    // By way of the text, so that a REAL without fraction stays one.
    return JSON.parse(JSON.stringify(parseJson(valueJson(part as SqlValue))))
  }
  return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, toJson(value)]))
}

test('a condition finds exactly the rows that a naive filter finds', () => {
  using database = new DatabaseSync(':memory:')
  const names = COLUMNS.map(column => `"${column.replaceAll('"', '""')}"`).join(', ')
  database.exec(`CREATE TABLE "t""1" (${names}); CREATE TABLE victim (x)`)
  const insert = database.prepare('INSERT INTO "t""1" VALUES (?, ?, ?)')
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 12 }), condition, (rows, wanted) => {
      database.exec('DELETE FROM "t""1"')
      for (const values of rows) insert.run(...values)
      const part = compileCondition(toJson(wanted), 't"1', 'where')
      const select = database.prepare(`SELECT rowid FROM "t""1" WHERE ${part.sql} ORDER BY rowid`)
      const first = Number(
        database.prepare('SELECT min(rowid) AS low FROM "t""1"').get()?.['low'] ?? 0,
      )
      const found = select.all(...part.values).map(found => Number(found['rowid']) - first)
      const expected = rows.flatMap((values, at) => {
        const record = new Map(
          COLUMNS.map((column, index) => [column as string, values[index] ?? null]),
        )
        return matches(wanted, record) === true ? [at] : []
      })
      assert.deepEqual(found, expected)
    }),
    { numRuns: 1500 },
  )
  assert.equal(database.prepare('SELECT count(*) AS n FROM victim').get()?.['n'], 0)
})

test('whatever is written as a column, it is a column that is not there', () => {
  using database = new DatabaseSync(':memory:')
  database.exec('CREATE TABLE t (a); INSERT INTO t VALUES (1); CREATE TABLE victim (x)')
  fc.assert(
    fc.property(
      name.filter(name => !/^(?:a|rowid|oid|_rowid_)$/i.test(name)),
      sqlValue.filter(value => value !== null),
      (column, value) => {
        const json = { column, operator: '=', value: toJsonValue(value, 'v') }
        const { sql, values } = compileCondition(json, 't', 'where')
        assert.throws(() => database.prepare(`SELECT * FROM t WHERE ${sql}`), /no such column/)
        assert.equal(values.length, 1)
      },
    ),
  )
  assert.equal(database.prepare('SELECT count(*) AS n FROM victim').get()?.['n'], 0)
})

test('a condition that is none is refused with the place of its fault', () => {
  const refused = (json: unknown, problem: RegExp): void =>
    assert.throws(() => compileCondition(json, 't', 'where'), {
      code: 'INVALID_REQUEST',
      message: problem,
    })
  refused('a = 1', /^where: must be an object/)
  refused([], /^where: must be an object/)
  refused({ column: 'a', operator: '= 1 OR 1', value: 1 }, /^where.operator: must be one of/)
  refused({ column: 'a', operator: 'constructor', value: 1 }, /^where.operator: must be one of/)
  refused({ column: 'a', operator: '=', value: null }, /is_null/)
  refused({ column: 'a', operator: '=' }, /^where.value: a value is missing/)
  refused({ column: 'a', operator: 'is_null', value: 1 }, /takes no value/)
  refused({ column: 'a', operator: 'in', value: 1 }, /^where.value: must be an array/)
  refused({ column: 'a', operator: 'in', value: [1, null] }, /^where.value\[1\]/)
  refused({ column: 'a', operator: 'between', value: [1] }, /lowest, highest/)
  refused({ column: '', operator: '=', value: 1 }, /^where.column/)
  refused({ column: 'a\0b', operator: '=', value: 1 }, /^where.column/)
  refused({ operator: '=', value: 1 }, /^where.column/)
  refused({ column: 'a', operator: '=', value: 1, or: [] }, /unknown field "column"/)
  refused({ and: [{}] }, /^where.and\[0\].column/)
  refused({ and: {} }, /^where.and: must be an array/)
  refused({ not: { or: [1] } }, /^where.not.or\[0\]/)
  refused({ colum: 'a' }, /unknown field "colum"/)
})

test('a condition nested without end is refused, however deep', () => {
  let json: unknown = { column: 'a', operator: 'is_null' }
  for (let depth = 0; depth < 100_000; depth += 1) json = { not: json }

  assert.throws(() => compileCondition(json, 't', 'where'), /nested deeper than 50/)
  const wide = { and: Array.from({ length: 501 }, () => ({ and: [] })) }
  assert.throws(() => compileCondition(wide, 't', 'where'), /more than 500/)
})

test('the widest and deepest condition that is taken runs in the engine', () => {
  using database = new DatabaseSync(':memory:')
  database.exec('CREATE TABLE t (a)')
  const leaf = { column: 'a', operator: '=', value: 1 }
  let json: unknown = { and: Array.from({ length: 500 }, () => leaf) }
  for (let depth = 0; depth < 48; depth += 1) json = { not: json }
  const { sql, values } = compileCondition(json, 't', 'where')

  assert.deepEqual(database.prepare(`SELECT * FROM t WHERE ${sql}`).all(...values), [])
})
