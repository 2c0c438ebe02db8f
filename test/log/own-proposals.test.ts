/** Own proposals on real logs: when the disk of the leader had them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ledBench } from './log-bench.ts'

const ONE = new Uint8Array([1])

test('an own entry tells when the disk of its leader had kept it, and the log how long that took', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  const { term, flushes } = leader.log.status()
  const { count, sumMs } = flushes
  leader.log.append(term, ONE)
  bench.clock.pass(3)
  assert(leader.write())
  const flushedMs = bench.clock.monotonicMs()
  bench.clock.pass(4)
  assert.equal(leader.ownEntries.length, 0, 'no other disk has it yet')
  bench.settle()

  assert.equal(leader.ownEntries.length, 1)
  assert.equal(leader.ownEntries[0]?.flushedMs, flushedMs)
  assert.deepEqual([flushes.count - count, flushes.sumMs - sumMs], [1, 3])
  assert.equal(bench.node(2).log.status().flushes.count, count + 1)
})

test('an own entry whose leader has the slowest disk waits for that', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  leader.isDiskStuck = true
  leader.log.append(leader.log.status().term, ONE)
  bench.settle()
  bench.clock.pass(6)
  assert.equal(leader.ownEntries.length, 0)
  leader.isDiskStuck = false
  bench.settle()
  assert.equal(leader.ownEntries[0]?.flushedMs, bench.clock.monotonicMs())
})
