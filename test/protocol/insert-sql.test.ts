import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compileInsert, type CheckedInsert } from '../../src/protocol/insert-sql.ts'

const compile = (command: Omit<CheckedInsert, 'table'>): [string, unknown][] =>
  compileInsert({ table: 't', ...command }, '').map(({ sql, params }) => [sql, params])

function refused(command: Omit<CheckedInsert, 'table'>, problem: RegExp): void {
  assert.throws(() => compile(command), { code: 'INVALID_REQUEST', message: problem })
}

test('one row may be an array or an object', () => {
  assert.deepEqual(compile({ values: [1, 'a'] }), [['INSERT INTO "t" VALUES (?, ?)', [1n, 'a']]])
  assert.deepEqual(compile({ columns: ['x', 'y'], values: [1, 'a'] }), [
    ['INSERT INTO "t" ("x", "y") VALUES (?, ?)', [1n, 'a']],
  ])
  assert.deepEqual(compile({ values: { x: 1, y: null } }), [
    ['INSERT INTO "t" ("x", "y") VALUES (?, ?)', [1n, null]],
  ])
})

test('a tagged value is a value, not a row', () => {
  assert.deepEqual(compile({ values: [{ $blob: 'YQ==' }, { $real: 1 }] }), [
    ['INSERT INTO "t" VALUES (?, ?)', [new Uint8Array([97]), 1]],
  ])
  refused({ values: { $integer: '1' } }, /^values: must be a row/)
})

test('many rows share statements, in their order', () => {
  assert.deepEqual(compile({ values: [[1], [2], [3]] }), [
    ['INSERT INTO "t" VALUES (?), (?), (?)', [1n, 2n, 3n]],
  ])
  assert.deepEqual(compile({ values: [{ a: 1 }, { a: 2 }, { b: 3 }, { a: 4 }] }), [
    ['INSERT INTO "t" ("a") VALUES (?), (?)', [1n, 2n]],
    ['INSERT INTO "t" ("b") VALUES (?)', [3n]],
    ['INSERT INTO "t" ("a") VALUES (?)', [4n]],
  ])
})

test('statements stay short, however many rows and columns there are', () => {
  for (const width of [1, 5, 100, 2000]) {
    const row = Array.from({ length: width }, (_, at) => at)
    const statements = compile({ values: Array.from({ length: 333 }, () => row) })
    const sizes = statements.map(([, params]) => (params as unknown[]).length)

    assert.equal(
      sizes.reduce((sum, size) => sum + size, 0),
      333 * width,
    )
    assert.ok(Math.max(...sizes) <= Math.max(256, width), `${width}: ${Math.max(...sizes)}`)
  }
})

test('an object without columns is a row of defaults', () => {
  assert.deepEqual(compile({ values: [{}, {}] }), [
    ['INSERT INTO "t" DEFAULT VALUES', []],
    ['INSERT INTO "t" DEFAULT VALUES', []],
  ])
})

test('rows that do not fit are refused by their number', () => {
  refused({ values: [] }, /^values: must hold at least one row/)
  refused({}, /^values: must be a row/)
  refused({ values: 5 }, /^values: must be a row/)
  refused({ values: [[1, 2], [1]] }, /^values\[1\]: has 1 values where others have 2/)
  refused({ values: [[1], { a: 1 }] }, /^values\[1\]: all rows must be arrays/)
  refused({ values: [{ a: 1 }, [1]] }, /^values\[1\]: all rows must be arrays/)
  refused({ values: [[1], 2] }, /^values\[1\]: must be a row/)
  refused({ values: [[]] }, /^values\[0\]: must hold at least one value/)
  refused({ columns: ['a'], values: [[1, 2]] }, /^values\[0\]: has 2 values for 1 columns/)
  refused({ columns: ['a'], values: { a: 1 } }, /columns goes with rows that are arrays/)
  refused({ values: [[1], [[]]] }, /^values\[1\]\[0\]: an array is not a SQL value/)
  refused({ values: { 'a\0': 1 } }, /^columns\[0\]: the name holds a character/)
})
