import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ByteReader, ByteWriter } from '../../src/base/bytes.ts'
import { ERRORS, type ErrorCode } from '../../src/base/errors.ts'
import type { SqlValue, StatementResult } from '../../src/base/sql.ts'
import type { RequestError, RequestResult } from '../../src/engine/engine.ts'
import {
  decodeRequestError,
  decodeRequestResult,
  encodeRequestError,
  encodeRequestResult,
  encodeStatementResult,
} from '../../src/engine/result-codec.ts'

const valueArbitrary: fc.Arbitrary<SqlValue> = fc.oneof(
  fc.constant(null),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.double({ noNaN: true }),
  fc.string({ unit: 'grapheme', maxLength: 80 }),
  fc.uint8Array({ maxLength: 20 }),
)

const rowsArbitrary = fc
  .nat({ max: 4 })
  .chain(width => fc.array(fc.array(valueArbitrary, { minLength: width, maxLength: width })))

const statementResultArbitrary: fc.Arbitrary<StatementResult> = fc.record(
  {
    rowsAffected: fc.nat(),
    lastInsertId: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    columns: fc.array(fc.string(), { maxLength: 4 }),
    rows: rowsArbitrary,
  },
  { requiredKeys: ['rowsAffected'] },
)

const errorArbitrary: fc.Arbitrary<RequestError> = fc.record(
  {
    code: fc.constantFrom(...(Object.keys(ERRORS) as ErrorCode[])),
    message: fc.string({ unit: 'grapheme' }),
    details: fc.constantFrom({}, { statement: 3, words: ['a', null] }, { nested: { on: true } }),
  },
  { requiredKeys: ['code', 'message'] },
)

const requestResultArbitrary: fc.Arbitrary<RequestResult> = fc.oneof(
  fc.record(
    {
      type: fc.constant('ok' as const),
      results: fc.array(statementResultArbitrary),
      isRepeat: fc.constant(true as const),
      rowsDropped: fc.constant(true as const),
    },
    { requiredKeys: ['type', 'results'] },
  ),
  fc.record({ type: fc.constant('failed' as const), error: errorArbitrary }),
)

test('every result of a request is the same after the way through bytes', () => {
  fc.assert(
    fc.property(requestResultArbitrary, result => {
      const writer = new ByteWriter()
      encodeRequestResult(writer, result)
      const reader = new ByteReader(writer.finish())
      // Made values may have no prototype, which is not part of a result.
      assert.deepEqual(decodeRequestResult(reader), structuredClone(result))
      reader.expectEnd()
    }),
    { numRuns: 300 },
  )
})

test('a result that is cut off anywhere is CORRUPT, never something shorter', () => {
  const writer = new ByteWriter()
  const rows = [['text', 5n, 1.5, null, new Uint8Array(3)]]
  const result: StatementResult = { rowsAffected: 1, lastInsertId: 7n, columns: ['a'], rows }
  encodeRequestResult(writer, { type: 'ok', results: [result] })
  const bytes = writer.finish()

  for (let length = 0; length < bytes.length; length++) {
    const reader = new ByteReader(bytes.subarray(0, length))
    assert.throws(() => decodeRequestResult(reader), { code: 'CORRUPT' })
  }
})

test('a row of another width is a broken invariant', () => {
  const rows = [[1n, 2n], [3n]]

  assert.throws(
    () => encodeStatementResult(new ByteWriter(), { rowsAffected: 0, rows }),
    /row of 1/,
  )
})

test('64-bit numbers among the details of an error become texts', () => {
  const writer = new ByteWriter()
  encodeRequestError(writer, { code: 'SQL_ERROR', message: 'm', details: { rowid: 2n ** 62n } })

  const error = decodeRequestError(new ByteReader(writer.finish()))

  assert.deepEqual(error.details, { rowid: '4611686018427387904' })
})

test('a code that is not in the table of errors is CORRUPT', () => {
  const writer = new ByteWriter()
  for (const text of ['toString', 'words', '']) writer.utf8(text)

  assert.throws(() => decodeRequestError(new ByteReader(writer.finish())), { code: 'CORRUPT' })
})
