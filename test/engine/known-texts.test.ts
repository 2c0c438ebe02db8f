import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteReader, ByteWriter } from '../../src/base/bytes.ts'
import { DbError } from '../../src/base/errors.ts'
import { KnownTexts } from '../../src/engine/known-texts.ts'

function bytesOf(...texts: readonly string[]): Uint8Array {
  const writer = new ByteWriter()
  for (const text of texts) writer.utf8(text)
  return writer.finish()
}

test('texts are read as they were written, the first time and whenever they come again', () => {
  const texts = Array.from({ length: 700 }, (_, n) => {
    const tail = ['', 'ä', '€', '\u{1f600}', '\0'][n % 5] ?? ''
    return `${'SELECT '.repeat(n % 97)}${n % 13}${tail}`
  })
  const known = new KnownTexts()
  for (let round = 0; round < 3; round++) {
    const reader = new ByteReader(bytesOf(...texts))
    for (const text of texts) assert.equal(known.read(reader), text)
    reader.expectEnd()
  }
})

test('what is known of a text does not change with the bytes that it was read from', () => {
  const known = new KnownTexts()
  const bytes = bytesOf('INSERT INTO t VALUES (1)')
  known.read(new ByteReader(bytes))
  bytes[bytes.length - 2] = '2'.charCodeAt(0)
  assert.equal(known.read(new ByteReader(bytes)), 'INSERT INTO t VALUES (2)')
  assert.equal(
    known.read(new ByteReader(bytesOf('INSERT INTO t VALUES (1)'))),
    'INSERT INTO t VALUES (1)',
  )
})

test('a text that is cut short is damage, also if it is known', () => {
  const known = new KnownTexts()
  const bytes = bytesOf('SELECT 1')
  known.read(new ByteReader(bytes))
  const cut = new ByteReader(bytes.subarray(0, bytes.length - 1))
  assert.throws(
    () => known.read(cut),
    (error: unknown) => {
      return error instanceof DbError && error.code === 'CORRUPT'
    },
  )
})
