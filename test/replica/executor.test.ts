import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import type { RequestResult } from '../../src/engine/engine.ts'
import { encodeRequest } from '../../src/engine/request.ts'
import { Bench, ENTRY, OK } from './executor-bench.ts'

const DUPLICATE: RequestResult = {
  type: 'failed',
  error: { code: 'SQL_CONSTRAINT', message: 'UNIQUE constraint failed: t.a' },
}

test('a write is answered after its entry is committed and the engine has ended its transaction', () => {
  const bench = Bench.leader()

  bench.submit(1)
  assert.deepEqual(bench.engine.taken(), ['execute'])
  bench.executed(1, [OK])
  assert.equal(bench.code(1), 'nothing')
  bench.log.commitProposal()
  assert.equal(bench.code(1), 'nothing')
  assert.deepEqual(bench.engine.taken(), ['commit'])
  bench.committed(1, 2)

  assert.equal(bench.code(1), 'ok')
  assert.equal(bench.executor.appliedIndex, 2)
})

test('while one batch is on its way the next one gathers, up to the limit', () => {
  const bench = Bench.leader()
  for (let number = 1; number <= 6; number += 1) bench.submit(number)
  assert.equal(bench.engine.sent.length, 1)

  bench.executed(1, [OK])
  bench.committed(1, bench.log.commitProposal())

  const [, commit, second] = bench.engine.sent
  assert.equal(commit?.type, 'commit')
  assert(second?.type === 'execute')
  assert.equal(second.requests.length, 4)
})

test('the next batch waits for those who were just answered, for as long as theirs took at most', () => {
  const bench = Bench.leader({ maxBatchRequests: 100 })
  for (let number = 1; number <= 4; number += 1) bench.submit(number)
  bench.executed(1, [OK])
  bench.clock.pass(4)
  // 2, 3 and 4 wait already; 1 is to come again.
  bench.committed(1, bench.log.commitProposal())
  assert.equal(bench.code(1), 'ok')
  assert.deepEqual(bench.engine.taken(), ['execute', 'commit'])
  bench.submit(5)
  assert.deepEqual(bench.engine.taken(), ['execute'])

  bench.submit(6)
  bench.executed(2, [OK, OK, OK, OK])
  bench.clock.pass(3)
  bench.committed(2, bench.log.commitProposal())
  bench.submit(7)
  bench.clock.pass(2.5)
  assert.deepEqual(bench.engine.taken(), ['commit'])
  bench.clock.pass(1)
  assert.deepEqual(bench.engine.taken(), ['execute'])
})

test('a full batch waits for nobody: it goes to the engine right behind the commit before it', () => {
  const bench = Bench.leader({ maxBatchRequests: 100, maxQueuedRequests: 100 })
  bench.submit(1)
  for (let number = 2; number <= 65; number += 1) bench.submit(number)
  bench.executed(1, [OK])
  bench.clock.pass(4)
  bench.log.commitProposal()
  assert.deepEqual(bench.engine.taken(), ['execute', 'commit', 'execute'])
})

test('a transaction does not wait until writes have gathered', () => {
  const bench = Bench.leader()
  let transaction = ''
  bench.executor.transact({ type: 'begin', database: 'd', maxMs: undefined }, 5000, outcome => {
    assert(outcome.type === 'ok')
    transaction = outcome.value.transaction
  })
  bench.submit(1)
  bench.submit(2)
  const request = encodeRequest({ type: 'statements', database: 'd', statements: [] })
  bench.executor.transact({ type: 'execute', transaction, request }, 5000, () => {})
  bench.executed(1, [OK])
  bench.clock.pass(4)
  bench.log.commitProposal()
  assert.deepEqual(bench.engine.taken(), ['execute', 'commit', 'step'])
})

// The first stale answer: "duplicate key" may rest on a row of a neighbour in the same batch.
test('a failed request waits for the entry of its neighbours, whose rows it may have seen', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.executed(1, [OK])
  bench.submit(2)
  bench.submit(3)
  bench.log.commitProposal()
  bench.committed(1, 2)

  bench.executed(2, [OK, DUPLICATE])
  assert.equal(bench.code(3), 'nothing')
  bench.log.commitProposal()
  assert.equal(bench.code(3), 'nothing')
  bench.committed(2, 3)

  assert.equal(bench.code(2), 'ok')
  assert.equal(bench.code(3), 'SQL_CONSTRAINT')
})

test('a failed request is not told of its neighbour when that neighbour is lost', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.executed(1, [OK])
  bench.submit(2)
  bench.submit(3)
  bench.log.commitProposal()
  bench.committed(1, 2)
  bench.executed(2, [OK, DUPLICATE])

  bench.log.become('follower', 3, 2)

  assert.equal(bench.code(2), 'LEADERSHIP_LOST')
  assert.equal(bench.code(3), 'LEADERSHIP_LOST')
})

// The second stale answer: a deposed leader that does not know it yet says what its old state says.
test('when nothing of a batch is logged, its answers wait for a proof of leadership begun later', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.executed(1, [DUPLICATE], null)
  assert.equal(bench.code(1), 'nothing')
  assert.equal(bench.log.rounds.length, 1)

  bench.log.answerRound(1)

  assert.equal(bench.code(1), 'SQL_CONSTRAINT')
})

test('a read index that another leader confirms does not vouch for what this one executed', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.executed(1, [DUPLICATE], null)

  bench.log.become('follower', 3, 2)
  bench.log.answerRound(9)

  assert.equal(bench.code(1), 'NOT_LEADER')
})

test('who waits for that proof past the deadline is told, also beside one with more time', () => {
  const bench = Bench.leader()
  bench.submit(1, 10_000)
  bench.executed(1, [OK])
  bench.submit(2, 10_000)
  bench.submit(3, 300)
  bench.log.commitProposal()
  bench.committed(1, 2)
  bench.executed(2, [DUPLICATE, DUPLICATE], null)

  bench.clock.pass(301)
  bench.executor.sweep()

  assert.equal(bench.code(2), 'nothing')
  assert.equal(bench.code(3), 'NO_LEADER')
  bench.log.answerRound(2)
  assert.equal(bench.code(2), 'SQL_CONSTRAINT')
})

test('who waits for that proof is told at once when leadership is lost', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.executed(1, [DUPLICATE], null)

  bench.log.become('follower', 3, 2)

  assert.equal(bench.code(1), 'NOT_LEADER')
})

test('a leader executes nothing before it has applied everything up to its own term', () => {
  const bench = new Bench()
  bench.engine.open()
  bench.log.become('follower', 1, 2)
  bench.log.commitForeign('data')
  bench.engine.taken()
  bench.log.become('leader', 2, 1)
  bench.submit(1)
  assert.deepEqual(bench.engine.taken(), [])

  bench.log.commitForeign('noop')
  assert.deepEqual(bench.engine.taken(), [])
  bench.engine.reply({ type: 'applied', index: 1, durableIndex: 0 })

  assert.deepEqual(bench.engine.taken(), ['execute'])
})

test('leadership lost while the entry is on its way rolls back and says unknown', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.submit(2)
  bench.executed(1, [OK])
  bench.engine.taken()

  bench.log.become('follower', 3, 2)

  assert.deepEqual(bench.engine.taken(), ['rollback'])
  assert.equal(bench.code(1), 'LEADERSHIP_LOST')
  assert.equal(bench.code(2), 'NOT_LEADER')
  // The entry may be committed all the same; then it is applied like any other.
  bench.log.commitProposal(false)
  assert.deepEqual(bench.engine.taken(), ['apply'])
})

test('leadership lost while a batch executes rolls back and says not applied', () => {
  const bench = Bench.leader()
  bench.submit(1)

  bench.log.become('follower', 3, 2)
  assert.equal(bench.code(1), 'NOT_LEADER')
  bench.executed(1, [OK])

  assert.deepEqual(bench.log.proposed, [])
  assert.deepEqual(bench.engine.taken(), ['execute', 'rollback'])
})

test('a log that does not take the entry any more means not applied', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.log.role = 'follower'

  bench.executed(1, [OK])

  assert.equal(bench.code(1), 'NOT_LEADER')
  assert.deepEqual(bench.engine.taken(), ['execute', 'rollback'])
})

test('requests that must run alone come back and lead the next batch', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.submit(2)
  bench.submit(3)
  bench.executed(1, [OK])
  bench.committed(1, bench.log.commitProposal())
  const second = bench.engine.sent.at(-1)
  assert(second?.type === 'execute')
  assert.deepEqual([...(second.requests[0] ?? [])], [2])

  bench.engine.reply({ type: 'executed', batch: 2, taken: 1, entry: ENTRY, results: [OK] })
  bench.committed(2, bench.log.commitProposal())

  const third = bench.engine.sent.at(-1)
  assert(third?.type === 'execute')
  assert.deepEqual([...(third.requests[0] ?? [])], [3])
})

test('an entry too large for a frame between nodes is not logged; its requests are tried one by one', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.executed(1, [OK], new Uint8Array(32 * 1024 * 1024))
  assert.equal(bench.code(1), 'TOO_LARGE')
  assert.deepEqual(bench.log.proposed, [])

  bench.executor.submit(new Uint8Array([2]), 5000, () => {})
  bench.submit(3)
  bench.submit(4)
  bench.executed(2, [OK], null)
  bench.engine.taken()
  bench.executed(3, [OK, OK], new Uint8Array(32 * 1024 * 1024))
  assert.deepEqual(bench.engine.taken(), ['rollback', 'execute'])
  bench.executed(4, [OK])
  bench.committed(4, bench.log.commitProposal())
  assert.equal(bench.code(3), 'ok')
  assert.equal(bench.code(4), 'nothing')
})

test('a writer that dies while executing has logged nothing: one request is told, several are tried one by one', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.engine.die()
  assert.equal(bench.code(1), 'ENGINE_RESTARTED')

  bench.clock.pass(100)
  bench.engine.open(1)
  bench.engine.taken()
  // Applying the no-op again makes the leader ready.
  bench.log.commitForeign('noop')
  bench.submit(2)
  bench.submit(3)
  bench.submit(4)
  bench.executed(2, [OK])
  bench.committed(2, bench.log.commitProposal())
  bench.engine.taken()
  bench.engine.die()
  bench.clock.pass(200)
  bench.engine.open(3)
  bench.log.commitForeign('noop')

  const again = bench.engine.sent.at(-1)
  assert(again?.type === 'execute')
  assert.equal(again.requests.length, 1)
})

test('a writer that dies after its entry was sent out is caught up by the log, and the answer holds', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.executed(1, [OK])
  bench.engine.die()
  assert.equal(bench.code(1), 'nothing')
  bench.clock.pass(100)
  bench.engine.open(1)
  bench.engine.taken()
  bench.submit(2)
  assert.deepEqual(bench.engine.taken(), [], 'nothing runs before the open entry is decided')

  bench.log.commitProposal()
  assert.deepEqual(bench.engine.taken(), ['apply'])
  bench.engine.reply({ type: 'applied', index: 2, durableIndex: 0 })

  assert.equal(bench.code(1), 'ok')
  assert.deepEqual(bench.engine.taken(), ['execute'])
})

test('a writer that dies between commit and its answer is caught up by the log too', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.executed(1, [OK])
  bench.log.commitProposal()
  bench.engine.die()
  bench.clock.pass(100)
  bench.engine.taken()
  bench.engine.open(1)

  assert.deepEqual(bench.engine.taken(), ['apply'])
  bench.engine.reply({ type: 'applied', index: 2, durableIndex: 0 })

  assert.equal(bench.code(1), 'ok')
})

test('a writer whose files have a batch that it never confirmed answers it when it opens', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.executed(1, [OK])
  bench.log.commitProposal()
  bench.engine.die()
  bench.clock.pass(100)
  bench.engine.taken()
  bench.engine.open(2)
  assert.equal(bench.code(1), 'ok')

  bench.submit(2)
  assert.deepEqual(bench.engine.taken(), ['execute'])
  bench.executed(2, [OK])
  bench.committed(2, bench.log.commitProposal())
  assert.equal(bench.code(2), 'ok')
})

test('a batch that executes too long ends the writer; alone, its request is told so', () => {
  const bench = Bench.leader()
  bench.submit(1, 60_000)
  bench.clock.pass(1001)
  bench.executor.sweep()
  assert.equal(bench.engine.isKilled, true)

  bench.engine.die()

  assert.equal(bench.code(1), 'STATEMENT_TIMEOUT')
})

test('a batch that nobody waits for any more is stopped', () => {
  const bench = Bench.leader()
  bench.submit(1, 300)
  bench.clock.pass(301)
  bench.executor.sweep()
  assert.equal(bench.engine.isKilled, true)

  bench.engine.die()

  assert.equal(bench.code(1), 'STATEMENT_TIMEOUT')
})

test('an engine that dies again and again without applying anything ends the node', () => {
  const bench = new Bench()
  for (let times = 0; times < 8; times += 1) {
    bench.engine.open()
    bench.engine.die()
    bench.clock.pass(5000)
  }
  assert.equal(bench.fatal.length, 1)
})

test('an engine that is ahead of the log ends the node', () => {
  const bench = new Bench()
  bench.engine.open(2_000_000)
  assert.match(bench.fatal[0] ?? '', /the log ends at/)
})

test('a queue that is full refuses with OVERLOADED and loses nothing', () => {
  const bench = Bench.leader()
  for (let number = 1; number <= 10; number += 1) bench.submit(number)

  assert.equal(bench.code(10), 'OVERLOADED')
  assert.equal(bench.code(9), 'nothing')
})

test('a write whose deadline passes in the queue is not executed', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.submit(2, 100)
  bench.clock.pass(101)
  bench.executor.sweep()

  assert.equal(bench.code(2), 'OVERLOADED')
})

test('a write whose deadline passes behind one with more time is told so, and is not executed', () => {
  const bench = Bench.leader()
  bench.isPaused = true
  bench.submit(1, 60_000)
  bench.submit(2, 100)
  bench.clock.pass(101)
  bench.executor.sweep()
  assert.equal(bench.code(2), 'OVERLOADED')
  assert.equal(bench.code(1), 'nothing')

  bench.isPaused = false
  bench.executor.sweep()
  assert(bench.engine.sent[0]?.type === 'execute')
  assert.deepEqual(bench.engine.sent[0].requests, [new Uint8Array([1])])
})

test('a write whose deadline passes while it replicates has an unknown fate', () => {
  const bench = Bench.leader()
  bench.submit(1, 100)
  bench.executed(1, [OK])
  bench.clock.pass(101)
  bench.executor.sweep()
  assert.equal(bench.code(1), 'COMMIT_TIMEOUT')
  const heard = bench.heard.get(1)
  assert(heard?.type === 'failed')
  assert.match(heard.error.message, /^no majority .*; it may still take effect: ask .*, or look/)

  bench.log.commitProposal()
  bench.committed(1, 2)
  assert.equal(bench.executor.appliedIndex, 2)
})

test('no batch begins while a quorum of replicas lags too far behind', () => {
  const bench = Bench.leader()
  bench.isPaused = true
  bench.submit(1)
  assert.deepEqual(bench.engine.taken(), [])

  bench.isPaused = false
  bench.executor.sweep()

  assert.deepEqual(bench.engine.taken(), ['execute'])
})

test('a replica that computed something else stops applying and refuses writes', () => {
  const bench = new Bench()
  bench.engine.open()
  bench.log.become('follower', 1, 2)
  bench.log.commitForeign('data')
  const divergence = { index: 1, database: 'd', sql: 's', expected: '1', actual: '2', digest: 'd' }
  bench.engine.reply({ type: 'applied', index: 0, durableIndex: 0, divergence })
  bench.engine.taken()

  bench.log.commitForeign('data')
  bench.log.become('leader', 2, 1)
  bench.submit(1)

  assert.deepEqual(bench.diverged, [1])
  assert.deepEqual(bench.engine.taken(), [])
  assert.equal(bench.code(1), 'DIVERGED')
})

test('a proposal that the log rejects surely is not applied', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.executed(1, [OK])

  bench.executor.onLogEvent({ type: 'rejected', proposal: 1 })

  assert.equal(bench.code(1), 'NOT_LEADER')
  assert.equal(bench.heard.get(1)?.type, 'failed')
  assert(new DbError('NOT_LEADER', '').fate === 'not-applied')
})

test('who waits for a proof of leadership is answered at their own deadline', () => {
  const bench = Bench.leader()
  bench.submit(9)
  bench.submit(1, 100)
  bench.submit(2, 5000)
  bench.executed(1, [OK])
  bench.log.commitProposal()
  bench.committed(1, 2)
  bench.executed(2, [DUPLICATE, DUPLICATE], null)

  bench.clock.pass(101)
  bench.executor.sweep()

  assert.equal(bench.code(1), 'NO_LEADER')
  assert.equal(bench.code(2), 'nothing')
  bench.log.answerRound(2)
  assert.equal(bench.code(2), 'SQL_CONSTRAINT')
})

test('a leader whose writes wait too long says so before it is asked', () => {
  const bench = Bench.leader({ maxQueuedRequests: 100, maxQueuedMs: 200 })
  for (let number = 1; number <= 6; number += 1) bench.submit(number)
  bench.clock.pass(201)
  assert.equal(bench.executor.overload?.code, 'OVERLOADED')
  bench.submit(7)
  assert.equal(bench.code(7), 'OVERLOADED')

  // The first is being executed; the batch behind it leaves one.
  bench.executed(1, [OK])
  bench.committed(1, bench.log.commitProposal())
  bench.clock.pass(4)
  assert.equal(bench.code(1), 'ok')
  assert.equal(bench.executor.queuedRequests, 1)
  assert.equal(bench.executor.overload, undefined)
})
