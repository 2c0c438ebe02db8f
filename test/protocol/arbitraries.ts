/** Random SQL values and names, the nasty ones more often than chance would have it. */
import * as fc from 'fast-check'
import type { SqlValue } from '../../src/base/sql.ts'

const INJECTIONS = [
  '"; DROP TABLE victim; --',
  "'; DROP TABLE victim; --",
  "x' OR '1'='1",
  'a"b',
  "a'b",
  'a""b',
  '?',
  '?1',
  ':name',
  '--',
  '/*',
  '',
  ' ',
  '\\',
  '%',
  '_',
  'NULL',
  'select',
  'é',
  '💥',
  '{"$integer":"1"}',
  '\n',
]

/** Text as UTF-8 can store it. */
export const text = fc.oneof(
  fc.constantFrom(...INJECTIONS),
  fc.string({ unit: 'grapheme', maxLength: 12 }),
)

/** A name of a table or column. */
export const name = fc
  .oneof(
    fc.constantFrom(...INJECTIONS.filter(name => name !== '')),
    fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }),
  )
  .filter(name => !name.includes('\0') && name.isWellFormed())

export const integer = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.bigInt({ min: -20n, max: 20n }),
  fc.constantFrom(2n ** 53n, 2n ** 53n - 1n, -(2n ** 53n), -(2n ** 63n), 2n ** 63n - 1n),
)

/** SQLite has no NaN: it stores NULL. */
export const real = fc.oneof(
  fc.double({ noNaN: true }),
  fc.integer({ min: -1000, max: 1000 }).map(whole => whole / 4),
  fc.constantFrom(1, 0, -0, 1e300, 2 ** 53, 2 ** 63, Infinity, -Infinity, 5e-324),
)

export const sqlValue: fc.Arbitrary<SqlValue> = fc.oneof(
  fc.constant(null),
  integer,
  real,
  text,
  fc.uint8Array({ maxLength: 20 }),
)
