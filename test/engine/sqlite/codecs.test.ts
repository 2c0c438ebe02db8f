/** Messages between the main process and engine processes, both ways through bytes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { WriterMessage, WriterReply } from '../../../src/engine/engine.ts'
import {
  decodeDatabases,
  decodeDigestOutcome,
  decodeJsonOutcome,
  decodeReaderMessage,
  decodeReadOutcome,
  encodeDatabases,
  encodeDigestOutcome,
  encodeJsonOutcome,
  encodeReaderMessage,
  encodeReadOutcome,
  type ReaderMessage,
} from '../../../src/engine/sqlite/reader-codec.ts'
import {
  decodeWriterMessage,
  decodeWriterReply,
  encodeWriterMessage,
  encodeWriterReply,
} from '../../../src/engine/sqlite/writer-codec.ts'

// Made values may have no prototype, which is not part of a message: `structuredClone` gives one.

const number = fc.maxSafeNat()
const bytes = fc.uint8Array({ maxLength: 30 })
const text = fc.string({ unit: 'grapheme' })
const results = fc.array(
  fc.constantFrom(
    { type: 'ok' as const, results: [{ rowsAffected: 2, lastInsertId: -5n }] },
    { type: 'ok' as const, results: [] },
    { type: 'ok' as const, results: [], isRepeat: true as const },
    { type: 'ok' as const, results: [], isRepeat: true as const, rowsDropped: true as const },
    { type: 'failed' as const, error: { code: 'SQL_CONSTRAINT' as const, message: 'taken' } },
  ),
)

const divergence = fc.record({
  index: number,
  database: text,
  sql: text,
  expected: text,
  actual: text,
  digest: text,
})
const accepted = fc.record({ index: number, digest: text })

const start = fc.record({
  database: text,
  nowMs: number,
  seed: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  earlier: fc.array(fc.record({ request: bytes, isQuery: fc.boolean(), proof: bytes })),
})

const messageArbitrary: fc.Arbitrary<WriterMessage> = fc.oneof(
  fc.constant({ type: 'open' as const }),
  fc.record({
    type: fc.constant('execute' as const),
    batch: number,
    nowMs: number,
    seed: fc.uint8Array({ minLength: 16, maxLength: 16 }),
    commitIndex: number,
    requests: fc.array(bytes),
  }),
  fc.record(
    {
      type: fc.constant('step' as const),
      batch: number,
      start,
      request: bytes,
      isQuery: fc.boolean(),
      givesWay: fc.constant(true),
    },
    { requiredKeys: ['type', 'batch', 'request', 'isQuery'] },
  ),
  fc.record(
    {
      type: fc.constant('finish' as const),
      batch: number,
      start,
      id: fc.constant({ type: 'key' as const, key: 'once' }),
      ownId: fc.constant({ type: 'key' as const, key: 'its own' }),
      commitIndex: number,
      others: fc.array(
        fc.record(
          {
            start,
            id: fc.constant({ type: 'key' as const, key: 'another' }),
            ownId: fc.constant({ type: 'key' as const, key: 'its own, too' }),
          },
          { requiredKeys: ['start'] },
        ),
        { minLength: 1 },
      ),
    },
    { requiredKeys: ['type', 'batch', 'commitIndex'] },
  ),
  fc.record({ type: fc.constant('commit' as const), batch: number, index: number }),
  fc.record({ type: fc.constant('rollback' as const), batch: number }),
  fc.record({
    type: fc.constant('apply' as const),
    entries: fc.array(fc.record({ index: number, data: bytes })),
  }),
  fc.record({ type: fc.constant('accept' as const), index: number, digest: text }),
  fc.record({ type: fc.constant('condemn' as const), divergence }),
  fc.constant({ type: 'checkpoint' as const }),
)

const replyArbitrary: fc.Arbitrary<WriterReply> = fc.oneof(
  fc.record({
    type: fc.constant('opened' as const),
    appliedIndex: number,
    durableIndex: number,
    nowMs: number,
    build: text,
    past: fc.record({
      copiedIndex: number,
      accepted: fc.array(accepted),
      condemned: fc.option(divergence, { nil: undefined }),
    }),
  }),
  fc.record({
    type: fc.constant('executed' as const),
    batch: number,
    taken: number,
    entry: fc.option(bytes, { nil: undefined }),
    results,
  }),
  fc.record({
    type: fc.constant('stepped' as const),
    batch: number,
    nowMs: number,
    result: results.map(([first]) => first ?? { type: 'ok' as const, results: [] }),
    proof: bytes,
    isReadOnly: fc.boolean(),
    isOver: fc.boolean(),
  }),
  fc.record({
    type: fc.constant('committed' as const),
    batch: number,
    index: number,
    durableIndex: number,
  }),
  fc.record({ type: fc.constant('rolled-back' as const), batch: number }),
  fc.record(
    {
      type: fc.constant('applied' as const),
      index: number,
      durableIndex: number,
      divergence,
    },
    { requiredKeys: ['type', 'index', 'durableIndex'] },
  ),
  fc.record({ type: fc.constant('accepted' as const), index: number, appliedIndex: number }),
  fc.constant({ type: 'condemned' as const }),
  fc.record({ type: fc.constant('checkpointed' as const), durableIndex: number }),
  fc.constant({
    type: 'fault' as const,
    error: { code: 'DISK_FULL' as const, message: 'the disk is full', details: { errcode: 13 } },
  }),
)

const statement = fc.record({
  sql: text,
  params: fc.oneof(
    fc.array(fc.constantFrom(null, 1n, 1.5, 'x', new Uint8Array(2))),
    fc.dictionary(fc.string({ minLength: 1 }), fc.constantFrom(null, 7n), {
      noNullPrototype: false,
    }),
  ),
})

const readerMessageArbitrary: fc.Arbitrary<ReaderMessage> = fc.oneof(
  fc.record(
    {
      type: fc.constant('query' as const),
      request: fc.record({
        database: text,
        statements: fc.array(statement),
        maxRows: number,
        maxBytes: number,
      }),
      rows: fc.constantFrom('arrays' as const, 'objects' as const),
    },
    { requiredKeys: ['type', 'request'] },
  ),
  fc.record({
    type: fc.constant('digest' as const),
    request: fc.record({ database: text, table: text }, { requiredKeys: ['database'] }),
  }),
  fc.constant({ type: 'databases' as const }),
)

test('every message to the writer is the same on the other side', () => {
  fc.assert(
    fc.property(messageArbitrary, message => {
      assert.deepEqual(decodeWriterMessage(encodeWriterMessage(message)), structuredClone(message))
    }),
    { numRuns: 300 },
  )
})

test('every reply of the writer is the same on the other side', () => {
  fc.assert(
    fc.property(replyArbitrary, reply => {
      assert.deepEqual(decodeWriterReply(encodeWriterReply(reply)), structuredClone(reply))
    }),
    { numRuns: 300 },
  )
})

test('every message to a reader is the same on the other side', () => {
  fc.assert(
    fc.property(readerMessageArbitrary, message => {
      const read = decodeReaderMessage(encodeReaderMessage(message))
      assert.deepEqual(structuredClone(read), structuredClone(message))
    }),
    { numRuns: 300 },
  )
})

test('the replies of a reader are the same on the other side', () => {
  const rows = [[1n, 'a', null]]
  const results = [{ rowsAffected: 0, columns: ['é'], rows }]
  const read = { type: 'ok' as const, appliedIndex: 9, results }
  const digest = { type: 'ok' as const, appliedIndex: 9, rows: 3, digest: 'ab12' }
  const failed = {
    type: 'failed' as const,
    error: { code: 'UNKNOWN_DATABASE' as const, message: 'there is no database x' },
  }

  assert.deepEqual(decodeReadOutcome(encodeReadOutcome(read)), read)
  assert.deepEqual(decodeReadOutcome(encodeReadOutcome(failed)), failed)
  const json = decodeJsonOutcome(encodeJsonOutcome(read, 'arrays'))
  assert(json.type === 'ok')
  const text = '[{"rowsAffected":0,"columns":["é"],"rows":[[1,"a",null]]}]'
  assert.deepEqual([json.appliedIndex, Buffer.from(json.json).toString()], [9, text])
  assert.deepEqual(decodeJsonOutcome(encodeJsonOutcome(failed, 'objects')), failed)
  assert.deepEqual(decodeDigestOutcome(encodeDigestOutcome(digest)), digest)
  assert.deepEqual(decodeDigestOutcome(encodeDigestOutcome(failed)), failed)
  assert.deepEqual(decodeDatabases(encodeDatabases(['a', 'ä'])), ['a', 'ä'])
})

test('an entry is a copy: it stays when the bytes it came in are used again', () => {
  const entry = Uint8Array.of(1, 2, 3)
  const bytes = encodeWriterReply({ type: 'executed', batch: 1, taken: 1, entry, results: [] })

  const reply = decodeWriterReply(bytes)
  bytes.fill(0)

  assert.deepEqual(reply.type === 'executed' && reply.entry, entry)
})

test('a message after a very large one is right too', () => {
  const large: WriterMessage = {
    type: 'apply',
    entries: [{ index: 1, data: new Uint8Array(6_000_000).fill(3) }],
  }

  assert.deepEqual(decodeWriterMessage(encodeWriterMessage(large)), large)
  assert.deepEqual(decodeWriterMessage(encodeWriterMessage({ type: 'open' })), { type: 'open' })
})

test('an unknown type of message is CORRUPT on each side', () => {
  const bytes = Uint8Array.of(99)

  assert.throws(() => decodeWriterMessage(bytes), { code: 'CORRUPT' })
  assert.throws(() => decodeWriterReply(bytes), { code: 'CORRUPT' })
  assert.throws(() => decodeReaderMessage(bytes), { code: 'CORRUPT' })
})
