import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SqlParams } from '../../../src/base/sql.ts'
import { parseText } from '../../../src/engine/mysql/parsed-text.ts'
import { literal, quoteName, render } from '../../../src/engine/mysql/render.ts'

function rendered(sql: string, params: SqlParams): string {
  return render(parseText(sql)[0] ?? assert.fail(), params, 'a')
}

test('values are literals of their own types', () => {
  assert.equal(literal(null), 'NULL')
  assert.equal(literal(-5n), ' -5')
  assert.equal(literal(0.1), '1e-1')
  assert.equal(literal(-2), ' -2e+0')
  assert.equal(literal(new Uint8Array([0, 255])), "x'00ff'")
  assert.equal(literal(new Uint8Array(0)), "x''")
  assert.throws(() => literal(Infinity), { code: 'INVALID_REQUEST' })
})

test('no text gets out of its quotes', () => {
  assert.equal(literal(String.raw`a'b\'c"` + '\0'), String.raw`'a''b\\''c"\0'`)
  assert.equal(quoteName('a`b'), '`a``b`')
})

test('values stand where parameters stood, and nowhere else', () => {
  assert.equal(
    rendered("SELECT ?, '?', 3-?, `?` FROM t /* ? */", ['x', -1n]),
    "SELECT 'x', '?', 3- -1, `?` FROM t",
  )
  assert.equal(rendered('SELECT :a + :b + :a', { a: 1n, b: 2n }), 'SELECT 1 + 2 + 1')
})

test('a value too many, too few or of another name is refused', () => {
  for (const [sql, params] of [
    ['SELECT ?', []],
    ['SELECT ?', [1n, 2n]],
    ['SELECT ?', { a: 1n }],
    ['SELECT :a', [1n]],
    ['SELECT :a', {}],
    ['SELECT :a', { a: 1n, b: 2n }],
    ['SELECT :a, ?', { a: 1n }],
    ['SELECT 1', [1n]],
  ] as const) {
    assert.throws(() => rendered(sql, params), { code: 'INVALID_REQUEST' }, sql)
  }
})
