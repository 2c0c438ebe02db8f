import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Watched } from '../../src/client/watched.ts'

test('it is heard once somebody awaits it or gives it a handler, however that is done', async () => {
  const never = new Promise(() => {})
  const ways: ((promise: Promise<number>) => unknown)[] = [
    async promise => await promise,
    promise => promise.then(value => value),
    promise => promise.catch(() => {}),
    promise => promise.finally(() => {}),
    promise => Promise.all([promise, promise]),
    promise => Promise.allSettled([promise]),
    promise => Promise.race([promise, never]),
    promise => (async () => promise)(),
  ]
  for (const way of ways) {
    const promise = Watched.of(Promise.resolve(7))
    promise.watch(
      () => {},
      () => {},
    )
    assert.equal(promise.isHeard, false)
    await way(promise)
    assert.equal(promise.isHeard, true, String(way))
    assert.equal(await promise, 7)
  }
})

test('one that is watched ends no program when it is rejected, and is not heard by that', async () => {
  const errors: unknown[] = []
  const promise = Watched.of(Promise.reject(new Error('mine')))
  promise.watch(
    () => {},
    error => errors.push(error),
  )
  await new Promise(setImmediate)
  assert.equal(String(errors), 'Error: mine')
  assert.equal(promise.isHeard, false)
  const derived = promise.catch(() => 7)
  assert(!(derived instanceof Watched))
  assert.equal(await derived, 7)
})
