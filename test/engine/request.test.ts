import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { SqlParams, SqlValue, Statement } from '../../src/base/sql.ts'
import type { RequestId, WriteRequest } from '../../src/engine/engine.ts'
import { decodeRequest, encodeRequest } from '../../src/engine/request.ts'
import { writeRequest } from './arbitraries.ts'

/** Named parameters come back without a prototype, which is no difference here. */
function plain(request: WriteRequest): unknown {
  const flat = (params: SqlParams): unknown =>
    Array.isArray(params) ? params : Object.entries(params).toSorted(([a], [b]) => (a < b ? -1 : 1))
  const all = (statements: readonly Statement[]): unknown =>
    statements.map(({ sql, params }) => ({ sql, params: flat(params) }))
  if (request.type === 'statements') return { ...request, statements: all(request.statements) }
  if (request.type !== 'transaction') return request
  return { ...request, steps: request.steps.map(all) }
}

function withParam(value: unknown): WriteRequest {
  const statement = { sql: 'SELECT ?', params: [value as SqlValue] }
  return { type: 'statements', database: 'd', statements: [statement] }
}

test('a request survives its way through bytes', () => {
  fc.assert(
    fc.property(writeRequest, request => {
      assert.deepEqual(plain(decodeRequest(encodeRequest(request))), plain(request))
    }),
  )
})

test('a request that was cut or has a tail is corrupt', () => {
  const bytes = encodeRequest(withParam('text'))

  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decodeRequest(bytes.subarray(0, length)), { code: 'CORRUPT' })
  }
  assert.throws(() => decodeRequest(new Uint8Array([...bytes, 0])), { code: 'CORRUPT' })
})

test('a request of a newer version or with an id of another kind is refused, not misread', () => {
  const newer = encodeRequest(withParam(1n))
  newer[0] = 2
  assert.throws(() => decodeRequest(newer), { code: 'WRONG_DATA', message: /newer release/ })

  const identified = encodeRequest(withParam(1n))
  identified[2] = 4
  assert.throws(() => decodeRequest(identified), { code: 'CORRUPT', message: /kind 4/ })
})

test('an id that no client may have is refused', () => {
  const session = { birth: 5, name: 7 }
  const refused: RequestId[] = [
    { type: 'key', key: '' },
    { type: 'key', key: 'k'.repeat(256) },
    { type: 'key', key: 'naïve' },
    { type: 'key', key: 'a\nb' },
    { type: 'session', session, sequence: 0 },
    { type: 'session', session, sequence: 1.5 },
    { type: 'session', session: { birth: -1, name: 7 }, sequence: 1 },
    { type: 'session', session: { birth: 5, name: 2 ** 48 }, sequence: 1 },
  ]
  for (const id of refused) {
    const request: WriteRequest = { type: 'cancel', database: 'd', id }
    assert.throws(() => encodeRequest(request), { code: 'INVALID_REQUEST' }, JSON.stringify(id))
  }
})

test('what is not a SQL value is refused and never becomes NULL', () => {
  for (const value of [true, undefined, new Date(0), {}, Number.NaN, 2n ** 63n, Symbol('s')]) {
    assert.throws(() => encodeRequest(withParam(value)), { code: 'INVALID_REQUEST' })
  }
})

test('minus zero, infinities and the outermost integers are kept', () => {
  for (const value of [-0, Infinity, -Infinity, -(2n ** 63n), 2n ** 63n - 1n, '', '\0']) {
    const request = decodeRequest(encodeRequest(withParam(value)))
    assert(request.type === 'statements')
    assert.deepEqual(request.statements[0]?.params, [value])
  }
})
