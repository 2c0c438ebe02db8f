/** Faults of a node, entries computed otherwise, and what the executor makes of them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError, ERRORS } from '../../src/base/errors.ts'
import { Bench, OK } from './executor-bench.ts'

test('what is wrong with the disk is told to all who wait, as not applied, and another leads', () => {
  for (const code of ['DISK_FULL', 'NODE_FAULT', 'CORRUPT'] as const) {
    const bench = Bench.leader()
    bench.submit(1)
    bench.submit(2)
    bench.engine.reply({ type: 'fault', error: { code, message: 'the disk' } })
    bench.engine.die()

    for (const id of [1, 2]) assert.equal(bench.code(id), code)
    assert.equal(ERRORS[code].fate, 'not-applied')
    assert.equal(bench.log.transfers, 1)
    assert.equal(bench.corrupt.length, code === 'CORRUPT' ? 1 : 0)
    assert.equal(bench.executor.divergence, undefined)
  }
})

test('a fault while a follower applies is no divergence; it applies the entry again', () => {
  for (const code of ['DISK_FULL', 'NODE_FAULT', 'OVERLOADED', 'CORRUPT'] as const) {
    const bench = new Bench()
    bench.engine.open()
    bench.log.become('follower', 2, 2)
    bench.log.commitForeign('data')
    bench.engine.reply({ type: 'fault', error: { code, message: 'the disk' } })
    bench.engine.die()
    bench.clock.pass(5000)
    bench.engine.taken()
    bench.engine.open()

    assert.deepEqual(bench.engine.taken(), ['apply'])
    assert.equal(bench.executor.divergence, undefined)
    assert.deepEqual(bench.diverged, [])
  }
})

test('a change that runs only at its commit is called done by nobody before it was run', () => {
  for (const code of ['DISK_FULL', 'NODE_FAULT', 'SERVER_DOWN'] as const) {
    const bench = Bench.leader()
    bench.submit(1)
    const entry = new Uint8Array([1])
    const [batch, taken, isProvisional] = [1, 1, true]
    bench.engine.reply({ type: 'executed', batch, taken, entry, results: [OK], isProvisional })
    bench.log.commitProposal()
    bench.engine.reply({ type: 'fault', error: { code, message: 'the server' } })
    bench.engine.die()
    assert.equal(bench.code(1), 'COMMIT_TIMEOUT')
    assert.equal(ERRORS.COMMIT_TIMEOUT.fate, 'unknown')
  }
})

test('a write that is committed is answered although the disk is full at its commit here', () => {
  for (const code of ['DISK_FULL', 'NODE_FAULT'] as const) {
    for (const isFaultFirst of [false, true]) {
      const bench = Bench.leader()
      const fault = (): void => {
        bench.engine.reply({ type: 'fault', error: { code, message: 'the disk' } })
        bench.engine.die()
      }
      bench.submit(1)
      bench.submit(2)
      bench.executed(1, [OK])
      if (isFaultFirst) fault()
      assert.equal(bench.code(1), 'nothing', 'it may still be lost')
      const index = bench.log.commitProposal()
      if (!isFaultFirst) fault()

      assert.deepEqual(bench.heard.get(1), { ...OK, index })
      assert.equal(bench.log.transfers, 1)
      assert.equal(bench.code(2), code, 'it was not executed')
      // There is room again: it is applied, and answered once.
      bench.clock.pass(10)
      bench.engine.taken()
      bench.engine.open(1)
      assert.deepEqual(bench.engine.taken(), ['apply'])
      bench.engine.reply({ type: 'applied', index, durableIndex: 0 })
      bench.submit(3)
      bench.executed(2, [OK])
      bench.committed(2, bench.log.commitProposal())
      assert.equal(bench.code(3), 'ok')
    }
  }
})

test('a write that a majority has is not said to lack one when the engine does not come up in time', () => {
  for (const code of ['ENGINE_RESTARTED', 'CORRUPT'] as const) {
    const bench = Bench.leader()
    bench.submit(1, 100)
    bench.executed(1, [OK])
    bench.log.commitProposal()
    bench.engine.reply({ type: 'fault', error: { code, message: 'it died' } })
    bench.engine.die()
    assert.equal(bench.code(1), 'nothing')
    bench.clock.pass(101)
    bench.executor.sweep()

    const outcome = bench.heard.get(1)
    assert(outcome?.type === 'failed')
    assert.deepEqual([outcome.error.code, outcome.error.fate], ['COMMIT_TIMEOUT', 'unknown'])
    assert.match(outcome.error.message, /a majority has stored the write/)
  }
})

test('short memory fails the request that needs it, and its neighbours run again', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.submit(2)
  bench.submit(3)
  bench.engine.reply({ type: 'fault', error: { code: 'OVERLOADED', message: 'no memory' } })
  bench.engine.die()
  bench.clock.pass(100)
  bench.engine.open()

  assert.equal(bench.log.transfers, 0)
  assert.equal(bench.code(1), 'OVERLOADED')
  assert.deepEqual(bench.engine.taken().slice(-1), ['execute'])
  assert.equal(bench.code(2), 'nothing')
})

test('a request that meets a garbled page fails, and the replica is told that its files are', () => {
  const bench = Bench.leader()
  bench.submit(1)
  const error = { code: 'CORRUPT', message: 'malformed' } as const
  const results = [{ type: 'failed', error }] as const
  bench.executed(1, [...results], null)

  assert.deepEqual(bench.corrupt, ['malformed'])
})

test('agreed outcomes take a replica on from where it stopped, said twice or not', () => {
  const bench = new Bench()
  bench.engine.open()
  bench.log.become('follower', 2, 2)
  bench.log.commitForeign('data')
  bench.log.commitForeign('data')
  const facts = { database: 'd', sql: 's', expected: '1', actual: '2' }
  const divergence = { index: 1, ...facts, digest: 'd1' }
  bench.engine.reply({ type: 'applied', index: 0, durableIndex: 0, divergence })
  // What was handed over behind it is answered alike.
  bench.engine.reply({ type: 'applied', index: 0, durableIndex: 0, divergence })
  assert.deepEqual(bench.diverged, [1])
  bench.engine.taken()
  const agreed = { index: 1, digest: 'd1' }
  bench.executor.accept(agreed)
  bench.executor.accept(agreed)
  assert.deepEqual(bench.engine.taken(), ['accept', 'accept'])
  bench.engine.reply({ type: 'accepted', index: 1, appliedIndex: 0 })
  assert.deepEqual(bench.engine.taken(), ['apply'])
  const next = { index: 2, ...facts, digest: 'd2' }
  bench.engine.reply({ type: 'applied', index: 1, durableIndex: 0, divergence: next })
  // The second word on the first entry says nothing of the second one.
  bench.engine.reply({ type: 'accepted', index: 1, appliedIndex: 0 })

  assert.deepEqual(bench.executor.divergence, next)
  assert.deepEqual(bench.executor.past.accepted, [agreed])
  assert.equal(bench.executor.appliedIndex, 1)
})

test('a leader found wrong stops at once: what it executes is not applied, the rest is unknown', () => {
  const divergence = { index: 1, database: 'd', sql: 's', expected: '1', actual: '2', digest: 'x' }
  const executing = Bench.leader()
  executing.submit(1)
  executing.executor.condemn(divergence)
  assert.equal(executing.code(1), 'DIVERGED')
  assert(executing.engine.taken().includes('condemn'))
  assert.equal(executing.code(1), 'DIVERGED')
  executing.submit(2)
  assert.equal(executing.code(2), 'DIVERGED')

  const settling = Bench.leader()
  settling.submit(1)
  settling.executed(1, [OK])
  settling.log.commitProposal()
  settling.executor.condemn(divergence)
  assert.equal(settling.code(1), 'LEADERSHIP_LOST')
  assert.equal(ERRORS.LEADERSHIP_LOST.fate, 'unknown')
})

test('a condemned replica stays so through every new writer, until it has the data of another', () => {
  const divergence = { index: 5, database: 'd', sql: 's', expected: '1', actual: '2', digest: 'x' }
  const bench = new Bench()
  bench.engine.open(3)
  bench.executor.condemn(divergence)
  // It died before it had noted that.
  bench.engine.die()
  bench.clock.pass(100)
  bench.engine.taken()
  bench.engine.open(3)
  assert.deepEqual(bench.engine.taken(), ['condemn'])
  bench.engine.die()
  bench.clock.pass(100)
  bench.engine.past = { condemned: divergence }
  bench.engine.open(3)
  assert(bench.executor.isCondemned)
  bench.engine.die()
  bench.clock.pass(1000)
  bench.engine.past = { copiedIndex: 9 }
  bench.engine.open(9)
  assert.equal(bench.executor.isCondemned, false)
  assert.equal(bench.executor.divergence, undefined)
})

test('while nobody can tell who is right, writes are refused, those that wait as well', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.submit(2)
  bench.refusal = new DbError('DISPUTED', 'ask an operator')
  bench.executor.sweep()
  bench.submit(3)
  assert.deepEqual(
    [2, 3].map(id => bench.code(id)),
    ['DISPUTED', 'DISPUTED'],
  )
})
