import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient } from '../../src/client/index.ts'
import { RetryBudget } from '../../src/client/retry-budget.ts'
import { errorAnswer, okAnswer, ScriptedNode } from './scripted-node.ts'

/** How many attempts are granted one after the other. */
function taken(budget: RetryBudget, nowMs: number): number {
  let count = 0
  while (budget.take(nowMs)) count += 1
  return count
}

test('there are a few attempts at first, then one a second', () => {
  const budget = new RetryBudget()
  assert.equal(taken(budget, 1000), 10)
  assert.equal(taken(budget, 1999), 0)
  assert.equal(taken(budget, 2000), 1)
  assert.equal(taken(budget, 5000), 3)
  assert.equal(taken(budget, 1_000_000), 10)
})

test('ten requests that succeed are worth one attempt, and no more than a few are saved up', () => {
  const budget = new RetryBudget()
  taken(budget, 0)
  for (let count = 0; count < 25; count += 1) budget.succeeded()
  assert.equal(taken(budget, 0), 2)
  for (let count = 0; count < 10_000; count += 1) budget.succeeded()
  assert.equal(taken(budget, 0), 10)
})

test('a client whose requests are all refused for want of room does not send them again and again', async () => {
  await using node = await ScriptedNode.start()
  node.script = [errorAnswer('OVERLOADED')]
  const db = createClient({ nodes: [node.address], database: 'd', discover: false })
  const beganMs = performance.now()
  const ended = await Promise.allSettled(
    Array.from({ length: 40 }, () => db.query('SELECT 1', [], { timeoutMs: 5000 })),
  )
  const seconds = Math.ceil((performance.now() - beganMs) / 1000)
  const codes = ended.map(one => (one.status === 'rejected' ? (one.reason as Error).name : 'ok'))
  assert.deepEqual(new Set(codes), new Set(['DbError']))
  // Each once, ten more, and one a second; without a limit it would be about 1,000.
  const { length } = node.seen
  assert(length >= 50 && length <= 50 + seconds, `${length} requests in ${seconds} s`)
})

test('a request that was refused for want of room is sent again when there is some', async () => {
  await using node = await ScriptedNode.start()
  node.script = [...Array.from({ length: 12 }, () => errorAnswer('OVERLOADED')), okAnswer()]
  const db = createClient({ nodes: [node.address], database: 'd', discover: false })
  await Promise.all(Array.from({ length: 6 }, () => db.query('SELECT 1')))
  assert.equal(node.seen.length, 18)
})
