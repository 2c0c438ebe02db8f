import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestResult } from '../../src/engine/engine.ts'
import { WRITE_STAGES, type WriteStage } from '../../src/replica/write-stages.ts'
import { Bench, OK } from './executor-bench.ts'

const DUPLICATE: RequestResult = {
  type: 'failed',
  error: { code: 'SQL_CONSTRAINT', message: 'UNIQUE constraint failed: t.a' },
}

/** How often each stage was gone through and how long that took in all, but for those never seen. */
function seen(bench: Bench): Record<string, [count: number, sumMs: number]> {
  const { histograms } = bench.stages
  const stages = Object.keys(WRITE_STAGES) as WriteStage[]
  return Object.fromEntries(
    stages
      .filter(stage => histograms[stage].count > 0)
      .map(stage => [stage, [histograms[stage].count, histograms[stage].sumMs]]),
  )
}

test('the stages of a batch follow each other without a gap, counted for each write', () => {
  const bench = Bench.leader()
  const startMs = bench.clock.nowMs
  bench.submit(9)
  bench.clock.pass(1)
  bench.submit(1)
  bench.clock.pass(2)
  bench.submit(2)
  bench.executed(1, [OK], null)
  // The next batch begins now, 2 ms after the first request in it came.
  bench.clock.pass(10)
  bench.executed(2, [OK, DUPLICATE])
  bench.clock.pass(20)
  bench.log.flushedMs = bench.clock.nowMs
  bench.clock.pass(30)
  bench.log.commitProposal()
  bench.clock.pass(40)
  assert.deepEqual(seen(bench), {}, 'nothing is told before all of it is')
  bench.committed(2, 2)

  assert.deepEqual(seen(bench), {
    wait: [2, 2],
    execute: [2, 20],
    append: [2, 0],
    flush: [2, 40],
    quorum: [2, 60],
    commit: [2, 80],
    answer: [2, 0],
  })
  const sumMs = Object.values(seen(bench)).reduce((sum, [, ms]) => sum + ms, 0)
  const wholeMs = bench.clock.nowMs - startMs - 1 + (bench.clock.nowMs - startMs - 3)
  assert.equal(sumMs, wholeMs)
})

test('a disk that is not heard of before the commit took all the time until then', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.executed(1, [OK])
  bench.clock.pass(7)
  bench.log.flushedMs = bench.clock.nowMs + 100
  bench.log.commitProposal()
  bench.committed(1, 2)
  const stages = seen(bench)
  assert.deepEqual(
    [stages['flush'], stages['quorum']],
    [
      [1, 7],
      [1, 0],
    ],
  )
})

test('of a batch of which nothing is logged, or that is lost, no stage is counted', () => {
  const bench = Bench.leader()
  bench.submit(1)
  bench.executed(1, [DUPLICATE], null)
  bench.log.answerRound(1)
  bench.submit(2)
  bench.executed(2, [OK])
  bench.log.become('follower', 3, 2)
  assert.deepEqual([bench.code(1), bench.code(2)], ['SQL_CONSTRAINT', 'LEADERSHIP_LOST'])
  assert.deepEqual(seen(bench), {})
})

test('an answer that takes its time delays those behind it in its batch', () => {
  const bench = Bench.leader()
  bench.submit(9)
  bench.executor.submit(new Uint8Array([1]), 5000, () => bench.clock.pass(3))
  bench.executor.submit(new Uint8Array([2]), 5000, () => bench.clock.pass(4))
  bench.executed(1, [OK], null)
  bench.executed(2, [OK, OK])
  bench.log.commitProposal()
  bench.committed(2, 2)
  assert.deepEqual(seen(bench)['answer'], [2, 3 + 7])
})
