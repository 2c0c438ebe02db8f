import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { fromBase64, toBase64 } from '../../src/base/base64.ts'

test('bytes survive the way through text, with the built-in methods and without', () => {
  const check = (): void =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 50 }), bytes => {
        assert.equal(toBase64(bytes), Buffer.from(bytes).toString('base64'))
        assert.deepEqual(fromBase64(toBase64(bytes)), Uint8Array.from(bytes))
      }),
    )
  check()
  withoutBuiltIn(check)
})

test('text that is not padded standard base64 is refused', () => {
  const check = (): void => {
    for (const text of ['a', 'YQ', 'YQ=', 'YQ===', 'Y Q=', 'YQ==\n', '_-==', 'é===', '====']) {
      assert.equal(fromBase64(text), undefined, text)
    }
  }
  check()
  withoutBuiltIn(check)
})

test('bytes of many megabytes come back', () => {
  const bytes = new Uint8Array(12_000_001).fill(171)
  assert.deepEqual(fromBase64(toBase64(bytes)), bytes)
  assert.equal(fromBase64(`${'A'.repeat(16_000_000)}A-==`), undefined)
})

/** As in a runtime of 2024. */
function withoutBuiltIn(check: () => void): void {
  const prototype = Object.getOwnPropertyDescriptor(Uint8Array.prototype, 'toBase64')
  const constructor = Object.getOwnPropertyDescriptor(Uint8Array, 'fromBase64')
  assert(prototype && constructor)
  Reflect.deleteProperty(Uint8Array.prototype, 'toBase64')
  Reflect.deleteProperty(Uint8Array, 'fromBase64')
  try {
    check()
  } finally {
    Reflect.defineProperty(Uint8Array.prototype, 'toBase64', prototype)
    Reflect.defineProperty(Uint8Array, 'fromBase64', constructor)
  }
}
