import assert from 'node:assert/strict'
import { test } from 'node:test'
import { must } from '../../src/base/assert.ts'
import { type RequestSlot, Sessions } from '../../src/client/sessions.ts'
import { failure } from './failure.ts'

class Bench {
  opened = 0
  readonly sessions: Sessions

  constructor(window: number, maxSessions: number) {
    this.sessions = new Sessions({
      maxSessions,
      open: async () => {
        await Promise.resolve()
        this.opened += 1
        return { session: `s${this.opened}`, window }
      },
    })
  }

  take(timeoutMs = 5000, signal?: AbortSignal): Promise<RequestSlot> {
    return this.sessions.take(performance.now() + timeoutMs, signal)
  }
}

const names = (slots: readonly RequestSlot[]): string[] => slots.map(({ request }) => request)

test('numbers without an answer stay within the window of their session', async () => {
  const bench = new Bench(3, 2)
  const slots = await Promise.all([bench.take(), bench.take(), bench.take(), bench.take()])
  assert.deepEqual(names(slots), ['s1/1', 's1/2', 's1/3', 's2/1'])
  assert.equal(bench.opened, 2)

  // The lowest holds the window: number 4 would push it out.
  slots[1]?.settle()
  assert.equal((await bench.take()).request, 's2/2')
  slots[0]?.settle()
  assert.deepEqual(names([await bench.take(), await bench.take()]), ['s1/4', 's1/5'])
})

test('with all sessions full a write waits for the next answer', async () => {
  const bench = new Bench(1, 2)
  const slots = [await bench.take(), await bench.take()]
  const waiting = [bench.take(), bench.take()]
  slots[1]?.settle()
  assert.equal((await must(waiting[0])).request, 's2/2')
  slots[0]?.settle()
  assert.equal((await must(waiting[1])).request, 's1/2')
  assert.equal(bench.opened, 2)
})

test('who waits for a number gives up at the deadline or when the caller does', async () => {
  const bench = new Bench(1, 1)
  await bench.take()
  const late = await failure(bench.take(20))
  assert.deepEqual([late.code, late.fate], ['NOT_READY', 'not-applied'])
  const abort = new AbortController()
  const waiting = bench.take(5000, abort.signal)
  abort.abort(new Error('enough'))
  await assert.rejects(waiting, /^Error: enough$/)
})

test('a session that is left or forgotten gives no more numbers', async () => {
  for (const way of ['leave', 'forget'] as const) {
    const bench = new Bench(8, 1)
    const [first, second] = [await bench.take(), await bench.take()]
    const waiting = bench.take()
    first[way]()
    assert.equal((await waiting).request, 's1/3', 'it had been given before')
    assert.equal((await bench.take()).request, 's2/1')
    second.settle()
    assert.equal((await bench.take()).request, 's2/2')
  }
})

test('an opening that fails fails those who wait for it, and the next one tries again', async () => {
  let isBroken = true
  const sessions = new Sessions({
    maxSessions: 1,
    open: async () => {
      await Promise.resolve()
      if (isBroken) throw new Error('broken')
      return { session: 's', window: 1 }
    },
  })
  const deadlineMs = performance.now() + 5000
  const both = await Promise.allSettled([1, 2].map(() => sessions.take(deadlineMs, undefined)))
  assert.deepEqual(
    both.map(({ status }) => status),
    ['rejected', 'rejected'],
  )
  isBroken = false
  assert.equal((await sessions.take(deadlineMs, undefined)).request, 's/1')
})
