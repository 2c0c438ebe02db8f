import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError, ERRORS, type ErrorCode } from '../../src/base/errors.ts'
import { nextStep, type RequestKind } from '../../src/client/retry.ts'

const CODES = Object.keys(ERRORS) as ErrorCode[]
const step = (code: ErrorCode, kind: RequestKind, attempt = 1, chance = 0.5) =>
  nextStep(new DbError(code, 'x'), kind, attempt, chance)

test('no write without an id is repeated unless its row says that it was not applied', () => {
  for (const code of CODES) {
    if (step(code, 'write').type === 'again') assert.equal(ERRORS[code].fate, 'not-applied', code)
  }
})

test('an error that says never is final, for reads too', () => {
  for (const code of CODES.filter(code => ERRORS[code].retry === 'never')) {
    assert.equal(step(code, 'read').type, 'give-up', code)
    assert.equal(step(code, 'write').type, 'give-up', code)
  }
})

test('a read, and a write with an id, is sent again after any other failure but a bug', () => {
  const isFinal = (code: ErrorCode): boolean => /never|transaction/.test(ERRORS[code].retry)
  for (const code of CODES.filter(code => !isFinal(code))) {
    const expected = code === 'INTERNAL' ? 'give-up' : 'again'
    assert.equal(step(code, 'read').type, expected, code)
    assert.equal(step(code, 'named-write').type, expected, code)
  }
})

test('the wait doubles to a second, and half of it is chance', () => {
  const delay = (attempt: number, chance: number): number => {
    const next = step('OVERLOADED', 'write', attempt, chance)
    return next.type === 'again' ? next.delayMs : NaN
  }

  assert.deepEqual(
    [1, 2, 3, 6, 7, 50].map(attempt => delay(attempt, 1)),
    [20, 40, 80, 640, 1000, 1000],
  )
  assert.deepEqual(
    [1, 2, 50].map(attempt => delay(attempt, 0)),
    [10, 20, 500],
  )
})

test('a named leader is asked without waiting, but only once', () => {
  assert.deepEqual(step('NOT_LEADER', 'write'), { type: 'again', target: 'leader', delayMs: 0 })
  const second = step('NOT_LEADER', 'write', 2)
  assert.ok(second.type === 'again' && second.delayMs > 0)
})
