import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { refuseRequestId } from '../../src/engine/request-id.ts'
import { SESSION_WINDOW as REMEMBERED } from '../../src/engine/limits.ts'
import {
  decodeKey,
  decodeRequest,
  encodeSession,
  SESSION_WINDOW,
} from '../../src/protocol/request-id.ts'

const HISTORY = '0af3-X_y77aa00'

test('a session and a sequence are read as what they were made of, and the engine takes them', () => {
  const name = fc.integer({ min: 0, max: 2 ** 48 - 1 })
  const sequence = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })
  fc.assert(
    fc.property(fc.maxSafeNat(), name, sequence, (birth, name, sequence) => {
      const session = { birth, name }
      const id = decodeRequest(`${encodeSession(HISTORY, session)}/${sequence}`, HISTORY)
      assert.deepEqual(id, { type: 'session', session, sequence })
      assert.equal(refuseRequestId(id), undefined)
    }),
  )
})

test('what is no session and sequence is refused', () => {
  const session = encodeSession(HISTORY, { birth: 5, name: 255 })
  assert.equal(session, '0af3-X_y-5-ff')
  const wrong = ['', session, `${session}/0`, `${session}/-1`, `${session}/1.5`, `${session}/1 `]
  const tooLarge = [`${session}/9007199254740993`, '0af3-X_y-9007199254740993-ff/1']
  for (const text of [...wrong, ...tooLarge, `${session}0000000000000/1`, `x${session}/1`]) {
    assert.throws(() => decodeRequest(text, HISTORY), { code: 'INVALID_REQUEST' }, text)
  }
})

test('a session of another history is refused as that, and its write not said to be not applied', () => {
  const text = `${encodeSession('restored', { birth: 5, name: 255 })}/1`
  assert.throws(() => decodeRequest(text, HISTORY), { code: 'WRONG_HISTORY', fate: 'unknown' })
})

test('a key is taken bare or in quotes, which mean the same', () => {
  const key = (text: string): unknown => decodeKey(text)
  assert.deepEqual(key('order 7'), { type: 'key', key: 'order 7' })
  assert.deepEqual(key('"order 7"'), key('order 7'))
  assert.deepEqual(key(String.raw`"a\"b\\c"`), { type: 'key', key: String.raw`a"b\c` })
  assert.deepEqual(key('"'), { type: 'key', key: '"' })
  assert.deepEqual(key('x'.repeat(255)), { type: 'key', key: 'x'.repeat(255) })
})

test('a key that is empty, too long or not printable is refused', () => {
  for (const text of ['', '""', 'x'.repeat(256), 'tab\there', 'ümlaut']) {
    assert.throws(() => decodeKey(text), { code: 'INVALID_REQUEST' }, text)
  }
})

test('the window that clients are told is the one that the engine remembers', () => {
  assert.equal(SESSION_WINDOW, REMEMBERED)
})
