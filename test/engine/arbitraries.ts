/** Generators of what requests are made of, shared by the tests of their codecs. */
import * as fc from 'fast-check'
import type { SqlValue } from '../../src/base/sql.ts'
import type { WriteRequest } from '../../src/engine/engine.ts'

/** Any value that SQL has. */
export const sqlValue: fc.Arbitrary<SqlValue> = fc.oneof(
  fc.constant(null),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.double({ noNaN: true }),
  fc.string({ unit: 'grapheme', maxLength: 80 }),
  fc.uint8Array({ maxLength: 80 }),
)

const params = fc.oneof(
  fc.array(sqlValue, { maxLength: 8 }),
  fc.dictionary(fc.oneof(fc.string({ maxLength: 8 }), fc.constant('__proto__')), sqlValue, {
    noNullPrototype: false,
  }),
)
const name = fc.string({ unit: 'grapheme', maxLength: 20 })

const plain = { noNullPrototype: true }
const statement = fc.record({ sql: fc.string({ unit: 'grapheme', maxLength: 200 }), params }, plain)

/** Any write request. */
export const writeRequest: fc.Arbitrary<WriteRequest> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record(
      {
        type: fc.constant('statements' as const),
        database: name,
        statements: fc.array(statement, { maxLength: 6 }),
      },
      plain,
    ),
  },
  {
    weight: 1,
    arbitrary: fc.record(
      {
        type: fc.constantFrom('create-database' as const, 'drop-database' as const),
        database: name,
      },
      plain,
    ),
  },
)
