import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError, type ErrorCode } from '../../src/base/errors.ts'
import type { WriteCallback } from '../../src/replica/types.ts'
import { CallRouter } from '../../src/replica/call-router.ts'
import { ManualClock } from './doubles.ts'

class Bench {
  readonly clock = new ManualClock()
  leader: 'self' | number | undefined
  /** What was handed to somebody, in order, without an answer yet. */
  readonly sent: { to: 'self' | number; timeoutMs: number; done: WriteCallback }[] = []
  readonly router = new CallRouter({
    clock: this.clock,
    leader: () => this.leader,
    maxHeld: 2,
    maxHeldBytes: 100,
  })

  call(
    options: { readonly sizeBytes?: number; hasId?: boolean; mayForward?: boolean } = {},
  ): string[] {
    const heard: string[] = []
    const done: WriteCallback = outcome =>
      heard.push(outcome.type === 'ok' ? 'ok' : outcome.error.code)
    const send = (to: 'self' | number, timeoutMs: number, done: WriteCallback): void =>
      void this.sent.push({ to, timeoutMs, done })
    const ways = { here: send.bind(undefined, 'self'), there: send, done }
    const call = { sizeBytes: 10, hasId: false, mayForward: true, ...options, ...ways }
    this.router.route(call, 1000)
    return heard
  }

  lead(leader: 'self' | number | undefined): void {
    this.leader = leader
    this.router.leaderChanged()
  }

  answer(code: ErrorCode | 'ok'): 'self' | number {
    const next = this.sent.shift()
    assert(next !== undefined, 'nothing was sent')
    if (code === 'ok') next.done({ type: 'ok', index: 1, results: [] })
    else next.done({ type: 'failed', error: new DbError(code, code) })
    return next.to
  }
}

test('a write without a leader is held, and goes to the one that is elected', () => {
  const bench = new Bench()
  const heard = bench.call()
  bench.clock.pass(300)
  bench.router.sweep()
  assert.deepEqual([heard, bench.router.heldCount], [[], 1])
  bench.lead(3)
  assert.equal(bench.router.heldCount, 0)
  assert.equal(bench.sent[0]?.timeoutMs, 700)
  assert.equal(bench.answer('ok'), 3)
  assert.deepEqual(heard, ['ok'])
})

test('a write that is held past its deadline was surely not applied', () => {
  const bench = new Bench()
  const heard = bench.call()
  bench.clock.pass(1001)
  bench.router.sweep()
  assert.deepEqual([heard, bench.router.heldCount], [['NO_LEADER'], 0])
  bench.lead('self')
  assert.deepEqual(bench.sent, [])
})

test('what a leader refused goes to the next one at once, however late the refusal comes', () => {
  for (const code of ['NOT_LEADER', 'NO_LEADER', 'SHUTTING_DOWN', 'DIVERGED'] as const) {
    const bench = new Bench()
    bench.lead('self')
    const [first, second] = [bench.call(), bench.call()]
    assert.equal(bench.answer(code), 'self')
    bench.lead(2)
    assert.equal(bench.answer(code), 'self', 'the second was asked before')
    assert.deepEqual([bench.answer('ok'), bench.answer('ok')], [2, 2], code)
    assert.deepEqual([first, second], [['ok'], ['ok']])
  }
})

test('a leader that refuses is asked again after a while, not at once', () => {
  const bench = new Bench()
  bench.lead(2)
  const heard = bench.call()
  bench.answer('NO_LEADER')
  bench.router.sweep()
  assert.deepEqual(bench.sent, [])
  bench.clock.pass(100)
  bench.router.sweep()
  bench.answer('ok')
  assert.deepEqual(heard, ['ok'])
})

test('a write that may have been executed is sent again only if it has an id', () => {
  for (const code of ['LEADERSHIP_LOST', 'CONNECTION_LOST'] as const) {
    const bench = new Bench()
    bench.lead(2)
    const [bare, named] = [bench.call(), bench.call({ hasId: true })]
    bench.answer(code)
    bench.answer(code)
    bench.lead(3)
    assert.deepEqual([bare, named, bench.sent.length], [[code], [], 1])
    assert.equal(bench.answer('ok'), 3)
    assert.deepEqual(named, ['ok'])
  }
})

test('after an unknown fate no later refusal proves that nothing was applied', () => {
  const bench = new Bench()
  bench.lead(2)
  const [refused, late] = [bench.call({ hasId: true }), bench.call({ hasId: true })]
  bench.answer('CONNECTION_LOST')
  bench.answer('LEADERSHIP_LOST')
  bench.lead(3)
  bench.answer('SQL_CONSTRAINT')
  assert.deepEqual(refused, ['CONNECTION_LOST'])
  bench.answer('NOT_LEADER')
  bench.clock.pass(1001)
  bench.router.sweep()
  assert.deepEqual(late, ['LEADERSHIP_LOST'])
})

test('a word about the id itself is final, also after an unknown fate', () => {
  for (const code of ['REQUEST_CANCELLED', 'REQUEST_ID_REUSED'] as const) {
    const bench = new Bench()
    bench.lead(2)
    const heard = bench.call({ hasId: true })
    bench.answer('CONNECTION_LOST')
    bench.lead(3)
    bench.answer(code)
    assert.deepEqual(heard, [code])
  }
})

test('what the SQL or the load is at fault for is answered as it is', () => {
  for (const code of ['SQL_CONSTRAINT', 'OVERLOADED', 'ENGINE_RESTARTED', 'DISK_FULL'] as const) {
    const bench = new Bench()
    bench.lead(2)
    const heard = bench.call({ hasId: true })
    bench.answer(code)
    assert.deepEqual([heard, bench.sent], [[code], []])
  }
})

test('a node that may not forward holds nothing for others', () => {
  const bench = new Bench()
  bench.lead('self')
  const heard = bench.call({ mayForward: false })
  bench.answer('NOT_LEADER')
  assert.deepEqual([heard, bench.router.heldCount], [['NOT_LEADER'], 0])
})

test('what is held is bounded in number and in bytes, and told at once when the node stops', () => {
  const bench = new Bench()
  const heard = [bench.call(), bench.call(), bench.call()]
  assert.deepEqual(heard, [[], [], ['NO_LEADER']])
  const large = new Bench()
  assert.deepEqual(
    [large.call({ sizeBytes: 60 }), large.call({ sizeBytes: 60 })],
    [[], ['NO_LEADER']],
  )

  bench.router.stop(new DbError('SHUTTING_DOWN', 'stopping'))
  assert.deepEqual(heard, [['SHUTTING_DOWN'], ['SHUTTING_DOWN'], ['NO_LEADER']])
  bench.lead(2)
  const after = bench.call()
  bench.answer('NOT_LEADER')
  assert.deepEqual(after, ['NOT_LEADER'])
})
