import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DiskCallback } from '../../src/base/ports.ts'
import { attempt, runSteps } from '../../src/wal/disk-steps.ts'

test('a step begins only when the one before is done', () => {
  const seen: string[] = []
  const waiting: DiskCallback[] = []
  const step = (name: string) => (next: DiskCallback) => {
    seen.push(name)
    waiting.push(next)
  }

  runSteps([step('write'), step('flush')], error => seen.push(`done ${error?.message}`))

  assert.deepEqual(seen, ['write'])
  waiting[0]?.(undefined)
  assert.deepEqual(seen, ['write', 'flush'])
  waiting[1]?.(undefined)
  assert.deepEqual(seen, ['write', 'flush', 'done undefined'])
})

test('after an error no step begins any more', () => {
  const seen: string[] = []

  runSteps(
    [
      next => next(new Error('EIO')),
      next => {
        seen.push('flush')
        next(undefined)
      },
    ],
    error => seen.push(`done ${error?.message}`),
  )

  assert.deepEqual(seen, ['done EIO'])
})

test('an error of the system becomes an error of the step, a bug does not', () => {
  const full = Object.assign(new Error('no space'), { code: 'ENOSPC' })

  assert.equal(
    attempt(() => {
      throw full
    }),
    full,
  )
  assert.equal(
    attempt(() => undefined),
    undefined,
  )
  assert.throws(
    () =>
      attempt(() => {
        throw new TypeError('a bug')
      }),
    TypeError,
  )
})
