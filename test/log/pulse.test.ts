/** What a node makes of time when its calls come late. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Pulse } from '../../src/log/pulse.ts'
import { ManualClock } from '../replica/doubles.ts'
import { ELECTION_MS, ledBench, type LogBench, TICK_MS } from './log-bench.ts'

/** All processes stand still for so long, and then get one turn, again and again. */
function starve(bench: LogBench, stallMs: number, turns: number): void {
  for (let turn = 0; turn < turns; turn += 1) {
    for (const node of bench.nodes) node.stall()
    bench.pass(stallMs)
    for (const node of bench.nodes) node.resume()
    bench.clock.pass(0)
    bench.settle()
  }
}

function leaders(bench: LogBench): number[] {
  return bench.nodes.filter(({ log }) => log.status().role === 'leader').map(({ id }) => id)
}

test('a tick that comes late is one tick; one later than the patience is told first', () => {
  const clock = new ManualClock()
  const seen: string[] = []
  let delayMs = 0
  const late = {
    wallMs: () => clock.wallMs(),
    monotonicMs: () => clock.monotonicMs(),
    setTimer: (ms: number, callback: () => void) => clock.setTimer(ms + delayMs, callback),
  }
  const pulse = new Pulse({
    clock: late,
    tickMs: 50,
    patienceMs: 500,
    onTick: () => seen.push('tick'),
    onStall: lateMs => seen.push(`late by ${lateMs}`),
  })
  delayMs = 450
  pulse.start()
  delayMs = 0
  clock.pass(500)
  assert.deepEqual(seen.splice(0), ['tick'])
  clock.pass(49)
  assert.deepEqual(seen.splice(0), [], 'the next one is not hurried')
  delayMs = 501
  clock.pass(1)
  assert.deepEqual(seen.splice(0), ['tick'])
  delayMs = 0
  clock.pass(551)
  assert.deepEqual(seen.splice(0), ['late by 501', 'tick'])
  pulse.stop()
  clock.pass(10_000)
  assert.deepEqual(seen, [])
})

test('where all processes get a turn only now and then, a lost heartbeat makes nobody campaign', () => {
  const bench = ledBench()
  const { term } = bench.node(1).log.status()
  // Counted by the clock, two turns without a heartbeat are more than an election timeout.
  const stallMs = ELECTION_MS - 2 * TICK_MS
  for (let times = 0; times < 10; times += 1) {
    starve(bench, stallMs, 3)
    bench.isolate(1)
    starve(bench, stallMs, 2)
    bench.heal()
  }
  starve(bench, stallMs, 3)
  assert.deepEqual(leaders(bench), [1])
  assert.equal(bench.node(1).log.status().term, term)
})

test('a follower that stood still for long gives its leader a whole timeout before it campaigns', () => {
  const bench = ledBench()
  const follower = bench.node(2)
  follower.stall()
  bench.isLost = (_from, to) => to === 2
  bench.pass(20 * ELECTION_MS)
  follower.resume()
  follower.sent = []
  bench.pass(ELECTION_MS - 2 * TICK_MS)
  assert.deepEqual(follower.sentOf('pre-vote'), [])
  // Nothing comes, though its time has passed: so it asks.
  bench.pass(3 * ELECTION_MS)
  assert(follower.sentOf('pre-vote').length > 0)
  assert.deepEqual(leaders(bench), [1])
})
