import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseJson } from '../../src/protocol/json.ts'

test('numbers that JSON.parse would change arrive exactly, as tagged values', () => {
  assert.deepEqual(parseJson('[9223372036854775807, -9007199254740993]'), [
    { $integer: '9223372036854775807' },
    { $integer: '-9007199254740993' },
  ])
  assert.deepEqual(parseJson('{"a": [1.0, 1e3, -0.0, 2E+2]}'), {
    a: [{ $real: 1 }, { $real: 1000 }, { $real: -0 }, { $real: 200 }],
  })
})

test('all other numbers stay what they are', () => {
  assert.deepEqual(
    parseJson('[1, 1.5, 9007199254740991, 1.05, 10.005]'),
    [1, 1.5, 9007199254740991, 1.05, 10.005],
  )
  // The reviver runs over all of a text in which one number needs it.
  assert.deepEqual(parseJson('[1.0, 1, 1.5, "1.0"]'), [{ $real: 1 }, 1, 1.5, '1.0'])
})

test('any JSON without delicate numbers is what JSON.parse gives', () => {
  const isDelicate = (value: unknown): boolean => {
    if (typeof value === 'number') return !Number.isSafeInteger(value) && Number.isInteger(value)
    if (typeof value !== 'object' || value === null) return false
    return Object.values(value).some(isDelicate)
  }
  fc.assert(
    fc.property(
      fc.jsonValue().filter(value => !isDelicate(value)),
      value => {
        const text = JSON.stringify(value)
        assert.deepEqual(parseJson(text), JSON.parse(text))
      },
    ),
  )
})

test('a whole number written with a point or an exponent is found wherever it stands', () => {
  const spelling = fc.constantFrom('.0', '.00', 'e0', 'E0', 'e+0', 'e-0')
  const around = fc.constantFrom('[1,', '[', '{"a":{"b":[1.5,"x",', '["1.0e",')
  fc.assert(
    fc.property(fc.integer(), spelling, around, (whole, ending, head) => {
      const tail = head.startsWith('{') ? ']}}' : ']'
      const parsed = JSON.stringify(parseJson(`${head}${whole}${ending}${tail}`))
      assert.ok(parsed.includes(`{"$real":${whole}}`), parsed)
    }),
  )
})
