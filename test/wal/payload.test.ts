import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  HARD_STATE_SIZE_BYTES,
  type LogBase,
  baseSizeBytes,
  readHardState,
  readBase,
  readNumber,
  writeHardState,
  writeBase,
  writeNumber,
} from '../../src/wal/payload.ts'

const number = fc.maxSafeNat()
const ids = fc.array(fc.maxSafeNat(), { maxLength: 9 })
const plain = { noNullPrototype: true } as const
const confState = fc.record(
  { voters: ids, learners: ids, votersOutgoing: ids, learnersNext: ids, autoLeave: fc.boolean() },
  plain,
)
const base: fc.Arbitrary<LogBase> = fc.record(
  { index: number, term: number, confState, book: fc.uint8Array({ maxLength: 40 }) },
  plain,
)

function viewOf(sizeBytes: number): DataView {
  return new DataView(new ArrayBuffer(sizeBytes))
}

test('every whole number up to 2^53 - 1 is read as it was written', () => {
  fc.assert(
    fc.property(number, value => {
      const view = viewOf(16)
      writeNumber(view, 3, value)
      assert.equal(readNumber(view, 3), value)
    }),
    { examples: [[0], [2 ** 32 - 1], [2 ** 32], [Number.MAX_SAFE_INTEGER]] },
  )
})

test('a hard state is read as it was written', () => {
  fc.assert(
    fc.property(fc.record({ term: number, vote: number, commit: number }, plain), hardState => {
      const view = viewOf(HARD_STATE_SIZE_BYTES + 8)
      writeHardState(view, 8, hardState)
      assert.deepEqual(readHardState(view, 8), hardState)
    }),
  )
})

test('a base is read as it was written', () => {
  fc.assert(
    fc.property(base, value => {
      const sizeBytes = baseSizeBytes(value)
      const view = viewOf(sizeBytes + 8)
      writeBase(view, 8, value)
      assert.deepEqual(readBase(view, 8, sizeBytes), value)
    }),
  )
})

test('a base in a wrong size is refused and never read beyond', () => {
  fc.assert(
    fc.property(base, fc.nat(500), (value, sizeBytes) => {
      fc.pre(sizeBytes !== baseSizeBytes(value))
      const view = viewOf(baseSizeBytes(value) + 500)
      writeBase(view, 0, value)
      assert.equal(readBase(view, 0, sizeBytes), undefined)
    }),
  )
})
