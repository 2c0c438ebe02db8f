/** Generators of what requests are made of, shared by the tests of their codecs. */
import * as fc from 'fast-check'
import type { SqlValue } from '../../src/base/sql.ts'
import type { RequestId, WriteRequest } from '../../src/engine/engine.ts'

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

/** Any id of a request. */
export const requestId: fc.Arbitrary<RequestId> = fc.oneof(
  fc.record(
    {
      type: fc.constant('session' as const),
      session: fc.record({ birth: fc.maxSafeNat(), name: fc.nat({ max: 2 ** 48 - 1 }) }, plain),
      sequence: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    },
    plain,
  ),
  fc.record(
    {
      type: fc.constant('key' as const),
      key: fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 255 }),
      birth: fc.maxSafeNat(),
    },
    { ...plain, requiredKeys: ['type', 'key'] },
  ),
)

/** Any write request. */
export const writeRequest: fc.Arbitrary<WriteRequest> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record(
      {
        type: fc.constant('statements' as const),
        database: name,
        statements: fc.array(statement, { maxLength: 6 }),
        id: requestId,
      },
      { ...plain, requiredKeys: ['type', 'database', 'statements'] },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.record(
      {
        type: fc.constantFrom('create-database' as const, 'drop-database' as const),
        database: name,
        id: requestId,
      },
      { ...plain, requiredKeys: ['type', 'database'] },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.record(
      { type: fc.constant('cancel' as const), database: name, id: requestId },
      plain,
    ),
  },
  {
    weight: 2,
    arbitrary: fc.record(
      {
        type: fc.constant('transaction' as const),
        database: name,
        steps: fc.array(fc.array(statement, { maxLength: 3 }), { maxLength: 4 }),
        id: requestId,
        ownId: requestId,
        moment: fc.record(
          {
            nowMs: fc.nat(253_402_300_799_999),
            seed: fc.uint8Array({ minLength: 16, maxLength: 16 }),
          },
          plain,
        ),
      },
      { ...plain, requiredKeys: ['type', 'database', 'steps'] },
    ),
  },
)
