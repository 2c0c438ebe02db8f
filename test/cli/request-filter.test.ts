import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RequestFilter } from '../../src/cli/request-filter.ts'
import { ManualClock } from './founding-kit.ts'

const MINUTE_MS = 60_000

test('a request passes once', () => {
  const clock = new ManualClock()
  const filter = new RequestFilter(clock)
  const request = { nodeId: 'n2', sentAtMs: clock.nowMs, nonce: 'a' }

  filter.check(request)
  filter.check({ ...request, nonce: 'b' })

  assert.throws(() => filter.check(request), { code: 'UNAUTHENTICATED', message: /came twice/ })
})

test('a request from a clock more than five minutes away is refused with the difference', () => {
  const clock = new ManualClock()
  const filter = new RequestFilter(clock)

  filter.check({ nodeId: 'n2', sentAtMs: clock.nowMs - 5 * MINUTE_MS, nonce: 'a' })
  filter.check({ nodeId: 'n2', sentAtMs: clock.nowMs + 5 * MINUTE_MS, nonce: 'b' })
  for (const differenceMs of [-5 * MINUTE_MS - 1, 5 * MINUTE_MS + 1]) {
    assert.throws(
      () => filter.check({ nodeId: 'n2', sentAtMs: clock.nowMs + differenceMs, nonce: 'c' }),
      { code: 'UNAUTHENTICATED', message: /n2 and the founder differ by 300 s; set them right/ },
    )
  }
})

test('a copy is refused at any later time, also if it was sent by a clock ahead', () => {
  const clock = new ManualClock()
  const filter = new RequestFilter(clock)
  const request = { nodeId: 'n2', sentAtMs: clock.nowMs + 4 * MINUTE_MS, nonce: 'a' }
  filter.check(request)

  for (let minute = 0; minute < 30; minute++) {
    clock.nowMs += MINUTE_MS
    filter.check({ nodeId: 'n3', sentAtMs: clock.nowMs, nonce: `other ${minute}` })

    assert.throws(() => filter.check(request), { code: 'UNAUTHENTICATED' }, `minute ${minute}`)
  }
})
