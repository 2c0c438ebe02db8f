import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SystemClock } from '../../src/platform/clock.ts'

test('a timer fires once, later, and not before its time', async () => {
  const clock = new SystemClock()
  const startMs = clock.monotonicMs()
  let fired = 0

  await new Promise<void>(resolve => {
    clock.setTimer(20, () => {
      fired += 1
      resolve()
    })
    assert.equal(fired, 0)
  })

  assert.equal(fired, 1)
  // Timers count in whole milliseconds of the event loop's own clock.
  assert(clock.monotonicMs() - startMs >= 18)
})

test('a timer that was cancelled never fires', async () => {
  const clock = new SystemClock()
  let hasFired = false
  const timer = clock.setTimer(1, () => (hasFired = true))

  timer.cancel()
  await new Promise<void>(resolve => clock.setTimer(10, resolve))

  assert.equal(hasFired, false)
})

test('wall time is the time of the machine', () => {
  assert(Math.abs(new SystemClock().wallMs() - Date.now()) < 1000)
})
