import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nameOf, nextToken } from '../../../src/engine/mysql/tokens.ts'

/** All tokens of a text, each as its type and its text. */
function tokensOf(sql: string): string[] {
  const tokens: string[] = []
  for (let token = nextToken(sql); token !== undefined; token = nextToken(sql, token)) {
    const isOpen = token.end > sql.length
    tokens.push(`${token.type} ${sql.slice(token.start, token.end)}${isOpen ? ' OPEN' : ''}`)
  }
  return tokens
}

test('strings of every kind end where MySQL ends them', () => {
  assert.deepEqual(tokensOf(String.raw`'a\'b' "c""d" 'e''f' N'g' x'4A' _utf8mb4'h'`), [
    String.raw`string 'a\'b'`,
    'string "c""d"',
    "string 'e''f'",
    "string N'g'",
    "string x'4A'",
    'word _utf8mb4',
    "string 'h'",
  ])
})

test('a quote that is not closed is known as open', () => {
  assert.deepEqual(tokensOf(`SELECT 'a`), ['word SELECT', "string 'a OPEN"])
  assert.deepEqual(tokensOf(String.raw`'a\'`), [String.raw`string 'a\' OPEN`])
  assert.deepEqual(tokensOf('`a``'), ['quoted `a`` OPEN'])
})

test('comments are passed over, but not what the server executes in them', () => {
  assert.deepEqual(tokensOf('a -- b\nc # d\ne /* f */ g --h'), [
    'word a',
    'word c',
    'word e',
    'word g',
    'symbol -',
    'symbol -',
    'word h',
  ])
  assert.deepEqual(tokensOf('/*!50100 a */ /*M!100100 b */ /*! c */'), [
    'word a',
    'word b',
    'word c',
  ])
  assert.deepEqual(tokensOf('a --\u007f b\nc'), ['word a', 'word c'])
})

test('a star before a comment is a star, and does not end one', () => {
  assert.deepEqual(tokensOf('4*/* -1 */+2'), ['number 4', 'symbol *', 'symbol +', 'number 2'])
  assert.deepEqual(tokensOf('/*!50100 a */*/* b */c*/d'), [
    'word a',
    'symbol *',
    'word c',
    'symbol *',
    'symbol /',
    'word d',
  ])
})

test('parameters, variables, numbers and names are told apart', () => {
  assert.deepEqual(tokensOf('? :name @v @@global.x @`y` 1.5e-3 0xAF .5 2nd $a :='), [
    'parameter ?',
    'parameter :name',
    'variable @v',
    'variable @@global.x',
    'variable @`y`',
    'number 1.5e-3',
    'number 0xAF',
    'number .5',
    'word 2nd',
    'word $a',
    'symbol :',
    'symbol =',
  ])
})

test('a quoted name stands for what is in its quotes', () => {
  const sql = '`a``b`'
  const token = nextToken(sql) ?? assert.fail()
  assert.equal(nameOf(sql, token), 'a`b')
})
