import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { nextToken, skipToStatement, unquote } from '../../../src/engine/sqlite/tokens.ts'

function tokens(sql: string): string[] {
  const found: string[] = []
  for (let token = nextToken(sql, 0); token !== undefined; token = nextToken(sql, token.end)) {
    found.push(`${token.type} ${sql.slice(token.start, token.end)}`)
  }
  return found
}

test('words, names, strings, numbers, parameters and symbols are told apart', () => {
  assert.deepEqual(tokens(`SELECT "a""b", [c d], \`e\`, 'it''s', x'00', 1.5e3, .5 FROM t;`), [
    'word SELECT',
    'quoted "a""b"',
    'symbol ,',
    'quoted [c d]',
    'symbol ,',
    'quoted `e`',
    'symbol ,',
    `string 'it''s'`,
    'symbol ,',
    `string x'00'`,
    'symbol ,',
    'number 1.5e3',
    'symbol ,',
    'number .5',
    'word FROM',
    'word t',
    'symbol ;',
  ])
  assert.deepEqual(tokens('? ?12 :a @b $c $d::e(f) #1 :'), [
    'parameter ?',
    'parameter ?12',
    'parameter :a',
    'parameter @b',
    'parameter $c',
    'parameter $d::e(f)',
    'parameter #1',
    'symbol :',
  ])
})

test('comments and space are nothing, and an unfinished string or comment reaches to the end', () => {
  assert.deepEqual(tokens('-- a ? \n/* :b */ c/**/d'), ['word c', 'word d'])
  assert.deepEqual(tokens("'open"), ["string 'open"])
  assert.deepEqual(tokens('/* open'), [])
  assert.deepEqual(tokens('a -- open'), ['word a'])
  assert.deepEqual(tokens('/*'), ['symbol /', 'symbol *'])
})

test('a name is known without its quotes', () => {
  for (const sql of ['"a""b"', '[a"b]', '`a"b`', `'a"b'`]) {
    const token = nextToken(sql, 0)
    assert(token !== undefined)
    assert.equal(unquote(sql, token), 'a"b')
  }
})

const piece = fc.constantFrom(
  'SELECT 1',
  `SELECT ';' AS [a;b], 2 AS ";", 3 AS \`;\``,
  'SELECT 2 -- one; two\n',
  'SELECT /* ; */ 3',
  "SELECT 'it''s; so'",
  'SELECT ?1, :a, $b::c(d)',
  '',
  ' ',
  '-- nothing\n',
  '/* nothing */',
)

test('a script falls into the statements that SQLite itself finds', () => {
  const database = new DatabaseSync(':memory:')
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), pieces => {
      const script = pieces.join(';')
      const expected = pieces.filter(sql => /SELECT/.test(sql)).length
      let count = 0
      let at = skipToStatement(script, 0)
      while (at < script.length) {
        const { sourceSQL } = database.prepare(script.slice(at))
        at = skipToStatement(script, at + sourceSQL.length)
        count++
      }
      assert.equal(count, expected)
    }),
  )
})

test('the parameters found are those that SQLite finds', () => {
  const database = new DatabaseSync(':memory:', {
    returnArrays: true,
    allowBareNamedParameters: false,
  })
  const part = fc.constantFrom(
    '?',
    ':a',
    '@a',
    '$b',
    ':c1',
    '?',
    '$d::e',
    '$f(g)',
    "'?'",
    '"a"',
    '1',
  )
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 10 }), parts => {
      const sql = `SELECT ${parts.map(each => (each === '"a"' ? "x'00'" : each)).join(', ')}`
      const names = new Set<string>()
      let anonymous = 0
      for (let token = nextToken(sql, 0); token !== undefined; token = nextToken(sql, token.end)) {
        if (token.type !== 'parameter') continue
        const text = sql.slice(token.start, token.end)
        if (text === '?') anonymous++
        else names.add(text)
      }
      // SQLite takes exactly these: one fewer or one more name is an error of the driver.
      const named = Object.fromEntries([...names].map(name => [name, 'n']))
      const values = Array.from({ length: anonymous }, () => 'p')
      const statement = database.prepare(sql)
      const row = statement.get(named, ...values) as unknown as unknown[]
      const bound = row.filter(value => value === 'n' || value === 'p').length
      assert.equal(bound, parts.filter(each => /^[?:@$]/.test(each)).length)
    }),
  )
})
