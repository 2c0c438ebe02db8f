import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ELECTION_MS, ledBench, TICK_MS } from './log-bench.ts'

// Once in an election timeout the core forgets who answered. A hand-over that was asked for before
// the next answer came went to nobody, and held all writes until it was asked for again.
test('leadership goes over at any moment, also when the core has just begun to count anew', () => {
  for (let ticks = 0; ticks < ELECTION_MS / TICK_MS; ticks += 1) {
    const bench = ledBench()
    bench.pass(ticks * TICK_MS)
    bench.clock.pass(TICK_MS)
    bench.node(1).log.transferLeadership()
    bench.settle()
    bench.pass(TICK_MS)
    const { role } = bench.node(1).log.status()
    assert.equal(role, 'follower', `after ${ticks} ticks`)
  }
})
