import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { DbError } from '../../src/base/errors.ts'
import { valueJson } from '../../src/base/result-json.ts'
import { parseJson } from '../../src/protocol/json.ts'
import {
  decodeParams,
  decodeValue,
  fromJsonValue,
  toJsonValue,
  type InputValue,
  type JsonValue,
} from '../../src/protocol/values.ts'
import { integer, real, sqlValue, text } from './arbitraries.ts'

const refused = (json: unknown): string => {
  try {
    decodeValue(json, 'params[0]')
  } catch (error) {
    assert(error instanceof DbError && error.code === 'INVALID_REQUEST', String(error))
    return error.message
  }
  return assert.fail(`${JSON.stringify(json)} was taken`)
}

test('every SQL value survives the way through JSON text with its type', () => {
  fc.assert(
    fc.property(sqlValue, value => {
      assert.deepEqual(decodeValue(parseJson(valueJson(value)), 'v'), value)
    }),
    { numRuns: 3000 },
  )
})

test('what a client sends arrives as the value that it meant', () => {
  const whole = fc.maxSafeInteger()
  fc.assert(
    fc.property(fc.oneof(integer, text, fc.uint8Array()), value => {
      const sent = JSON.stringify(toJsonValue(value, 'v'))
      assert.deepEqual(decodeValue(parseJson(sent), 'v'), value)
    }),
  )
  fc.assert(
    fc.property(whole, value => {
      const sent = JSON.stringify(toJsonValue(value, 'v'))
      assert.equal(decodeValue(parseJson(sent), 'v'), BigInt(value))
    }),
  )
  fc.assert(
    fc.property(
      real.filter(value => !Number.isSafeInteger(value)),
      value => {
        const sent = JSON.stringify(toJsonValue(value, 'v'))
        assert.deepEqual(decodeValue(parseJson(sent), 'v'), value)
      },
    ),
  )
})

test('a client sees exact integers: numbers up to 2^53, bigints beyond', () => {
  fc.assert(
    fc.property(integer, value => {
      const seen = fromJsonValue(JSON.parse(valueJson(value)) as JsonValue)
      assert.equal(BigInt(seen as number | bigint), value)
      assert.equal(typeof seen === 'number', Number.isSafeInteger(Number(value)))
    }),
  )
})

test('a whole REAL keeps its point on the wire', () => {
  assert.equal(valueJson(1), '1.0')
  assert.equal(valueJson(-0), '-0.0')
  assert.equal(valueJson(1e21), '1e+21')
  assert.equal(valueJson(1n), '1')
  assert.equal(valueJson(Infinity), '{"$real":"Infinity"}')
})

test('booleans are taken as 1 and 0', () => {
  assert.equal(decodeValue(true, 'v'), 1n)
  assert.equal(decodeValue(false, 'v'), 0n)
})

test('what no SQL value is, is refused with the place where it stands', () => {
  assert.match(refused([1]), /^params\[0\]: an array is not a SQL value/)
  assert.match(refused({}), /^params\[0\]: an object must be/)
  assert.match(refused({ $integer: '1', $real: 1 }), /must be/)
  assert.match(refused({ $integer: '9223372036854775808' }), /64 bits/)
  assert.match(refused({ $integer: '-9223372036854775809' }), /64 bits/)
  assert.match(refused({ $integer: '9'.repeat(1_000_000) }), /^.{0,60} does not fit into 64 bits/)
  assert.match(refused({ $integer: '1.5' }), /whole number/)
  assert.match(refused({ $integer: 1e300 }), /whole number/)
  assert.match(refused({ $real: 'NaN' }), /\$real takes/)
  assert.match(refused({ $real: { $real: { $real: 1 } } }), /\$real takes/)
  assert.match(refused({ $real: { $integer: 'x' } }), /\$real takes/)
  assert.match(refused({ $real: { $integer: '9'.repeat(400) } }), /\$real takes/)
  assert.match(refused({ $blob: 'a' }), /base64/)
  assert.match(refused({ $blob: 'YQ' }), /base64/)
  assert.match(refused({ $blob: 7 }), /base64/)
  assert.match(refused(undefined), /missing/)
  assert.match(refused(2 ** 60), /not exact/)
  assert.match(refused('\ud800'), /surrogate/)
})

test('a client refuses what SQL does not know before it sends it', () => {
  const date = new Date(0) as unknown as InputValue
  const nothing = undefined as unknown as InputValue
  assert.throws(() => toJsonValue(date, 'params[1]'), /params\[1\]: Date is no SQL value/)
  assert.throws(() => toJsonValue(nothing, 'params[1]'), /Undefined is no SQL value/)
  assert.equal(toJsonValue(NaN, 'v'), null)
  assert.deepEqual(toJsonValue({ $real: 1 }, 'v'), { $real: 1 })
})

test('parameters come by position or by name', () => {
  assert.deepEqual(decodeParams([1, 'a'], 'params'), [1n, 'a'])
  assert.deepEqual(decodeParams({ id: 1, größe: 2.5 }, 'params'), { id: 1n, größe: 2.5 })
  assert.deepEqual(decodeParams(undefined, 'params'), [])
  assert.throws(() => decodeParams({ ':id': 1 }, 'params'), /without :, @ or \$/)
  assert.throws(() => decodeParams({ $blob: 'YQ==' }, 'params'), /without :, @ or \$/)
  assert.throws(() => decodeParams('x', 'params'), /must be an array/)
  assert.throws(() => decodeParams([1, []], 'params'), /params\[1\]/)
})
