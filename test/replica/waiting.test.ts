import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import type { Pending } from '../../src/replica/batch.ts'
import type { ReplicaOptions } from '../../src/replica/types.ts'
import { WaitingWrites } from '../../src/replica/waiting.ts'
import { OPTIONS } from './doubles.ts'

function pending(arrivedMs: number, sizeBytes = 1): Pending {
  const body = new Uint8Array(sizeBytes)
  return { body, arrivedMs, deadlineMs: 60_000, isAlone: false, done: () => {} }
}

/** With one write waiting for each of these times of arrival. */
function waiting(
  arrivals: readonly number[],
  options: Partial<ReplicaOptions> = {},
): WaitingWrites {
  const all = { ...OPTIONS, maxBatchRequests: 2, maxQueuedRequests: 10, maxQueuedMs: 100 }
  const writes = new WaitingWrites({ ...all, ...options })
  for (const arrivedMs of arrivals) assert.equal(writes.add(pending(arrivedMs)), undefined)
  return writes
}

test('a write is refused while the oldest of more than a batch waits too long', () => {
  const writes = waiting([0, 50, 50])
  assert.equal(writes.refusal(100), undefined)
  assert.equal(writes.refusal(101)?.code, 'OVERLOADED')
  assert.deepEqual(writes.add(pending(101))?.details, { maxQueuedMs: 100 })
  assert.equal(writes.count, 3)
})

test('writes are taken again as soon as those that waited too long have the writer', () => {
  const writes = waiting([0, 0, 90, 90, 90])
  assert.equal(writes.refusal(150)?.code, 'OVERLOADED')
  assert.equal(writes.take(150).length, 2)
  assert.equal(writes.refusal(150), undefined)
  assert.equal(writes.add(pending(150)), undefined)
})

test('those who wait behind one slow batch are no overload, however long it takes', () => {
  const writes = waiting([0, 0])
  assert.equal(writes.refusal(10_000), undefined)
  assert.equal(writes.add(pending(10_000)), undefined)
})

test('a burst is taken up to the limits of the queue, whatever came at once', () => {
  const writes = waiting(Array.from({ length: 10 }, () => 5))
  assert.deepEqual(writes.refusal(5)?.details, {
    maxQueuedRequests: 10,
    maxQueuedBytes: OPTIONS.maxQueuedBytes,
  })
  const large = waiting([0], { maxQueuedBytes: 10 })
  assert.equal(large.refusal(0), undefined)
  assert.equal(large.add(pending(0, 10))?.code, 'OVERLOADED')
  assert.equal(large.add(pending(0, 9)), undefined)
  assert.equal(large.refusal(0)?.code, 'OVERLOADED')
})

test('more are wanted up to what keeps the writer busy, and not up to what may wait', () => {
  assert.equal(waiting([0, 0, 0], { maxQueuedRequests: 100 }).wantedCount, 5)
  assert.equal(waiting(Array.from({ length: 9 }, () => 0)).wantedCount, 0)
  // Never more than half of those that may wait: others, who wait for their answers, come between.
  assert.equal(waiting([0, 0, 0]).wantedCount, 2)
  assert.equal(waiting([0], { maxQueuedBytes: 2 }).wantedCount, 0)
})

test('what is put back keeps its age', () => {
  const writes = waiting([0, 0, 0])
  const taken = writes.take(10)
  writes.putBack(taken)
  assert.equal(writes.refusal(101)?.code, 'OVERLOADED')
})

test('a write that waited too long is told what kept it from being executed', () => {
  const heard: string[] = []
  const hear: Pending['done'] = outcome =>
    heard.push(outcome.type === 'failed' ? `${outcome.error.code}: ${outcome.error.message}` : 'ok')
  const writes = waiting([])
  writes.add({ ...pending(0), deadlineMs: 10, done: hear })
  writes.sweep(10, new DbError('SERVER_DOWN', 'the server is away'))
  writes.add({ ...pending(0), deadlineMs: 20, done: hear })
  writes.sweep(20)
  assert.match(heard[0] ?? '', /^SERVER_DOWN: .* was not executed: the server is away$/)
  assert.match(heard[1] ?? '', /^OVERLOADED: .* was not executed$/)
})
