import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { decodeToken, encodeToken, isNewerToken, tokenPrefix } from '../../src/protocol/token.ts'

test('a token gives back the history, group and index that it was made of', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.integer({ min: 1, max: 1e6 }), (index, groupId) => {
      const token = encodeToken(tokenPrefix('0af3-X_y', groupId), index)
      assert.deepEqual(decodeToken(token), { historyId: '0af3-X_y', groupId, index })
    }),
  )
})

test('what is no token is refused', () => {
  for (const text of ['', '1', '1.h.1', '2.h.1.5', '1.h.1.zzzzzzzzzzz', '1.h h.1.5', '1.h.1.5 ']) {
    assert.throws(() => decodeToken(text), { code: 'INVALID_REQUEST' }, text)
  }
})

test('a client keeps the newer token, and any of another history', () => {
  const at = (index: number, history = 'h'): string => encodeToken(tokenPrefix(history, 1), index)
  assert.equal(isNewerToken(at(5), undefined), true)
  assert.equal(isNewerToken(at(36), at(35)), true)
  assert.equal(isNewerToken(at(35), at(36)), false)
  assert.equal(isNewerToken(at(36), at(36)), false)
  assert.equal(isNewerToken(at(1, 'restored'), at(36)), true)
  assert.equal(isNewerToken('9.of.a.newer.server', at(36)), true)
})
