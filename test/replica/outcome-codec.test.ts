import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ByteReader, ByteWriter } from '../../src/base/bytes.ts'
import { DbError, type ErrorCode, ERRORS } from '../../src/base/errors.ts'
import type { StatementResult } from '../../src/base/sql.ts'
import { decodeOutcome, encodeOutcome } from '../../src/replica/outcome-codec.ts'
import type { WriteOutcome } from '../../src/replica/types.ts'
import { sqlValue } from '../engine/arbitraries.ts'

const plain = { noNullPrototype: true }
const lastInsertId = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
const table = fc.nat({ max: 4 }).chain(width =>
  fc.record(
    {
      columns: fc.array(fc.string({ unit: 'grapheme' }), { minLength: width, maxLength: width }),
      rows: fc.array(fc.array(sqlValue, { minLength: width, maxLength: width }), { maxLength: 4 }),
    },
    plain,
  ),
)
const result: fc.Arbitrary<StatementResult> = fc
  .tuple(fc.nat(), fc.option(lastInsertId), fc.option(table))
  .map(([rowsAffected, id, returned]) => ({
    rowsAffected,
    ...(id !== null && { lastInsertId: id }),
    ...returned,
  }))
const ok: fc.Arbitrary<WriteOutcome> = fc.record(
  {
    type: fc.constant('ok' as const),
    index: fc.maxSafeNat(),
    results: fc.array(result, { maxLength: 5 }),
    isRepeat: fc.constant(true as const),
    rowsDropped: fc.constant(true as const),
  },
  { ...plain, requiredKeys: ['type', 'index', 'results'] },
)

function encode(outcome: WriteOutcome): Uint8Array {
  const writer = new ByteWriter()
  encodeOutcome(writer, outcome)
  return writer.finish()
}

test('every answer to a write comes out as it went in, and takes all of its bytes', () => {
  fc.assert(
    fc.property(ok, outcome => {
      const reader = new ByteReader(encode(outcome))
      assert.deepEqual(decodeOutcome(reader), outcome)
      reader.expectEnd()
    }),
  )
})

test('an answer that is cut anywhere is refused', () => {
  fc.assert(
    fc.property(ok, fc.nat(), (outcome, at) => {
      const whole = encode(outcome)
      const cut = whole.subarray(0, at % whole.byteLength)
      assert.throws(() => decodeOutcome(new ByteReader(cut)), { code: 'CORRUPT' })
    }),
  )
})

test('every error keeps its code, fate, message and details', () => {
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    const details = { statement: 2, leader: { id: 'n1' }, words: ['ü', null] }
    const error = new DbError(code, `it is ${code} – „so“`, { details })
    const back = decodeOutcome(new ByteReader(encode({ type: 'failed', error })))
    assert(back.type === 'failed')
    assert.deepEqual(
      [back.error.code, back.error.fate, back.error.message, back.error.details],
      [code, ERRORS[code].fate, error.message, details],
    )
  }
})

test('a code of a newer version is read with care: the fate of the write is unknown', () => {
  // A name that every object has is no known code either.
  for (const code of ['FROM_THE_FUTURE', 'constructor']) {
    const writer = new ByteWriter()
    writer.u8(1)
    for (const text of [code, 'something new', '{"a":1}']) writer.utf8(text)
    const back = decodeOutcome(new ByteReader(writer.finish()))
    assert(back.type === 'failed')
    assert.deepEqual(
      [back.error.code, back.error.fate, back.error.message, back.error.details],
      ['INTERNAL', 'unknown', 'something new', { a: 1 }],
    )
  }
})
