import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeMessage, encodeMessage } from '../../src/log/peer-codec.ts'
import type { Message } from '../../src/raft/types.ts'
import { createMessage } from '../../src/raft/types.ts'

const number = fc.nat({ max: Number.MAX_SAFE_INTEGER - 1000 })
const bytes = fc.uint8Array({ maxLength: 40 })

const append: fc.Arbitrary<Message> = fc
  .record({
    index: number,
    term: number,
    logTerm: number,
    commit: number,
    entries: fc.array(
      fc.record({ term: number, type: fc.constantFrom('normal', 'config'), data: bytes }),
      { maxLength: 5 },
    ),
  })
  .map(({ index, entries, ...rest }) =>
    createMessage({
      type: 'append',
      from: 1,
      to: 2,
      index,
      entries: entries.map((entry, at) => ({ ...entry, index: index + 1 + at }) as const),
      ...rest,
    }),
  )

const other: fc.Arbitrary<Message> = fc
  .record({
    type: fc.constantFrom(
      'append-response',
      'vote',
      'vote-response',
      'pre-vote',
      'pre-vote-response',
      'heartbeat',
      'heartbeat-response',
      'transfer-leader',
      'timeout-now',
      'read-index-response',
    ),
    from: number,
    to: number,
    term: number,
    logTerm: number,
    index: number,
    commit: number,
    commitTerm: number,
    reject: fc.boolean(),
    rejectHint: number,
    context: bytes,
  })
  .map(fields => createMessage(fields as Message))

const ids = fc.array(number, { maxLength: 7 })
const snapshot: fc.Arbitrary<Message> = fc
  .record({
    index: number,
    term: number,
    voters: ids,
    learners: ids,
    votersOutgoing: ids,
    learnersNext: ids,
    autoLeave: fc.boolean(),
    book: bytes,
    baseIndex: number,
  })
  .map(({ index, term, book, baseIndex, ...confState }) =>
    createMessage({
      type: 'snapshot',
      from: 1,
      to: 2,
      term,
      index: baseIndex,
      snapshot: { metadata: { index, term, confState }, data: book },
    }),
  )

test('every message between nodes comes out as it went in', () => {
  fc.assert(
    fc.property(fc.oneof(append, other, snapshot), message => {
      assert.deepEqual(decodeMessage(encodeMessage(message)), message)
    }),
  )
})

test('a message that is cut anywhere is refused, never read as another', () => {
  fc.assert(
    fc.property(fc.oneof(append, other, snapshot), fc.nat(), (message, at) => {
      const whole = encodeMessage(message)
      const cut = whole.subarray(0, at % whole.byteLength)
      assert.throws(() => decodeMessage(cut), { code: 'CORRUPT' })
    }),
  )
})

test('a read request keeps the data of its one entry', () => {
  const data = new Uint8Array([1, 2, 3])
  const message = createMessage({ type: 'read-index', from: 2, to: 1, context: data })
  assert.deepEqual(decodeMessage(encodeMessage(message)), message)
})

test('messages of a node to its own storage never travel', () => {
  assert.throws(() => encodeMessage(createMessage({ type: 'storage-append', to: -1 })), {
    name: 'AssertionError',
  })
})

test('a message of another format or of an unknown type is refused with a sentence', () => {
  const bytes = encodeMessage(createMessage({ type: 'heartbeat', from: 1, to: 2, term: 3 }))
  const newer = bytes.slice()
  newer[0] = 2
  assert.throws(() => decodeMessage(newer), {
    code: 'WRONG_DATA',
    message: 'a message of Raft in format 2; this program speaks 1',
  })
  const unknown = bytes.slice()
  unknown[1] = 200
  assert.throws(() => decodeMessage(unknown), {
    code: 'WRONG_DATA',
    message: 'a message of Raft of the unknown type 200',
  })
})
