import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteReader } from '../../src/base/bytes.ts'
import { DbError } from '../../src/base/errors.ts'
import { decodeRequest } from '../../src/engine/request.ts'
import {
  decodeCall,
  decodeTransactionOutcome,
  encodeCall,
  encodeTransactionOutcome,
  toCall,
  type TransactionCall,
  type TransactionOutcome,
} from '../../src/replica/transaction-call.ts'
import { formatTransactionId, parseTransactionId } from '../../src/replica/transaction-id.ts'

const ID = {
  leader: 2,
  term: 7,
  number: 31,
  birth: 40,
  secret: '0f'.repeat(16),
  database: 'my-shop',
}

test('every call is the same on the other side of the wire', () => {
  const transaction = formatTransactionId(ID)
  const request = new Uint8Array([1, 2, 3])
  const calls: TransactionCall[] = [
    { type: 'begin', database: 'main', maxMs: undefined },
    { type: 'begin', database: 'main', maxMs: 500 },
    { type: 'execute', transaction, request },
    { type: 'query', transaction, request },
    { type: 'commit', transaction, id: undefined },
    { type: 'commit', transaction, id: { type: 'key', key: 'once' } },
    { type: 'rollback', transaction },
  ]
  for (const call of calls) assert.deepEqual(decodeCall(encodeCall(call)), call)
})

test('the statements of a step travel as the request that the engine executes', () => {
  const statements = [{ sql: 'SELECT ?1', params: [1n] }]
  const transaction = formatTransactionId(ID)
  const call = toCall({ type: 'query', transaction, database: 'my-shop', statements })
  assert(call.type === 'query')
  assert.deepEqual(decodeRequest(call.request), {
    type: 'statements',
    database: 'my-shop',
    statements,
  })
})

test('every answer is the same on the other side of the wire', () => {
  const value = { transaction: formatTransactionId(ID), index: 3, results: [{ rowsAffected: 2 }] }
  const outcomes: TransactionOutcome[] = [
    { type: 'ok', value },
    { type: 'ok', value: { ...value, isRepeat: true } },
    { type: 'failed', error: new DbError('TRANSACTION_LOST', 'gone', { details: { a: 1 } }) },
  ]
  for (const outcome of outcomes) {
    const decoded = decodeTransactionOutcome(new ByteReader(encodeTransactionOutcome(outcome)))
    if (outcome.type === 'ok') assert.deepEqual(decoded, outcome)
    else {
      assert(decoded.type === 'failed')
      assert.equal(decoded.error.code, 'TRANSACTION_LOST')
      assert.deepEqual(decoded.error.details, { a: 1 })
    }
  }
})

test('the name of a transaction says who led and for which database, and nothing else is one', () => {
  assert.deepEqual(parseTransactionId(formatTransactionId(ID)), ID)
  for (const text of ['', '1', '1.2.3.4.main', `1.2.3.4.${'0f'.repeat(16)}.1a`, 'x'.repeat(300)]) {
    assert.throws(() => parseTransactionId(text), { code: 'INVALID_REQUEST' })
  }
})
