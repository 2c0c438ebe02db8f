import assert from 'node:assert/strict'
import { test } from 'node:test'
import { must } from '../../src/base/assert.ts'
import { createMessage } from '../../src/raft/types.ts'
import { ELECTION_MS, ledBench, type LogBench, TICK_MS } from './log-bench.ts'

const HEARTBEAT_MS = 2 * TICK_MS

function leaderOf(bench: LogBench): number | undefined {
  return bench.nodes.find(({ id, log }) => id !== 1 && log.status().role === 'leader')?.id
}

/** How long it takes until another than the first leads. */
function msUntilLed(bench: LogBench): number {
  let passedMs = 0
  for (; leaderOf(bench) === undefined; passedMs += TICK_MS) {
    assert(passedMs < 10 * ELECTION_MS, 'nobody leads')
    bench.pass(TICK_MS)
  }
  return passedMs
}

function absent(bench: LogBench, id: number, peer: number): void {
  must(bench.node(id).transport).onAbsent(peer)
}

test('when the process of the leader has ended, another one leads before an election timeout', () => {
  const bench = ledBench()
  bench.kill(1)
  assert(msUntilLed(bench) <= ELECTION_MS / 2)
})

test('when the machine of the leader says nothing, an election timeout passes first', () => {
  const bench = ledBench()
  bench.isolate(1)
  assert(msUntilLed(bench) >= ELECTION_MS)
})

test('a leader that is heard is not gone, whatever is said of its address', () => {
  const bench = ledBench()
  for (let time = 0; time < 40; time += 1) {
    absent(bench, 2, 1)
    absent(bench, 3, 1)
    bench.pass(TICK_MS)
    assert.equal(leaderOf(bench), undefined)
    for (const { log } of bench.nodes)
      assert.deepEqual([log.status().term, log.status().leader], [1, 1])
  }
})

test('one that alone thinks that the leader is gone disturbs nobody', () => {
  const bench = ledBench()
  // Nothing from the first reaches the second, not even an entry, and only the second is refused.
  bench.isLost = (from, to) => from === 1 && to === 2
  const { log } = bench.node(1)
  log.append(log.status().term, new Uint8Array(10))
  absent(bench, 2, 1)
  for (let passedMs = 0; passedMs < 5 * ELECTION_MS; passedMs += TICK_MS) {
    bench.pass(TICK_MS)
    for (const id of [1, 3]) {
      const { term, leader } = bench.node(id).log.status()
      assert.deepEqual([term, leader], [1, 1])
    }
  }
  assert(bench.node(2).sentOf('pre-vote').length > 2)
  bench.heal()
  bench.pass(HEARTBEAT_MS + TICK_MS)
  assert.deepEqual(bench.node(2).log.status().leader, 1)
})

test('a pre-vote that was lost or ignored is asked for again soon, not after another timeout', () => {
  const bench = ledBench()
  bench.isLost = (from, to, _lane, { type }) => from === 1 || to === 1 || type === 'pre-vote'
  while (bench.node(2).log.status().role !== 'pre-candidate') bench.pass(TICK_MS)
  // The third has no part in what follows but its vote.
  bench.isLost = (from, to, _lane, { type }) =>
    from === 1 || to === 1 || (from === 3 && type === 'pre-vote')
  assert(msUntilLed(bench) <= ELECTION_MS / 2)
})

test('a vote that was split is repeated soon', () => {
  const bench = ledBench()
  bench.kill(1)
  bench.pass(HEARTBEAT_MS + TICK_MS)
  // Both ask before anything arrives, get each other's pre-votes, and vote for themselves.
  bench.clock.pass(ELECTION_MS / 2)
  bench.settle()
  for (const id of [2, 3]) {
    assert.deepEqual(
      bench
        .node(id)
        .sentOf('vote-response')
        .map(({ message }) => message.reject),
      [true],
    )
    assert.equal(bench.node(id).log.status().role, 'candidate')
  }
  assert(msUntilLed(bench) <= ELECTION_MS / 2)
})

test('one whose log is longer campaigns soon after it has refused its vote', () => {
  const bench = ledBench()
  // The third has an entry that the second has not, and would be the last to lose its patience.
  bench.isLost = (from, to) => from === 1 && to === 2
  const { term } = bench.node(1).log.status()
  bench.node(1).log.append(term, new Uint8Array(10))
  bench.settle()
  bench.isolate(1)
  let rejectedMs = 0
  while (!bench.node(3).sent.some(({ message }) => message.type === 'pre-vote-response')) {
    bench.pass(TICK_MS)
    rejectedMs += TICK_MS
    assert(rejectedMs < 3 * ELECTION_MS)
  }
  assert(msUntilLed(bench) <= 3 * TICK_MS)
  assert.equal(leaderOf(bench), 3)
})

test('a candidate without an answer waits for it, for votes may come from slow disks', () => {
  const bench = ledBench()
  bench.kill(1)
  bench.isLost = (from, to, _lane, { type }) => from === 1 || to === 1 || type === 'vote-response'
  while (bench.node(2).log.status().role !== 'candidate') bench.pass(TICK_MS)
  bench.pass(ELECTION_MS - TICK_MS)
  assert.equal(bench.node(2).log.status().role, 'candidate')
  assert.deepEqual(
    bench
      .node(2)
      .sentOf('vote')
      .map(({ to }) => to),
    [1, 3],
  )
})

test('a refusal that was meant for an earlier question ends no patience of a candidate', () => {
  const bench = ledBench()
  bench.isolate(1)
  const { isLost } = bench
  bench.isLost = (...sent) => isLost(...sent) || sent[3].type === 'vote-response'
  while (bench.node(2).log.status().role !== 'candidate') bench.pass(TICK_MS)
  const { term } = bench.node(2).log.status()
  for (const type of ['pre-vote-response', 'vote-response'] as const) {
    bench.say(3, 2, createMessage({ type, from: 3, to: 2, term: term - 1, reject: true }))
  }
  bench.pass(ELECTION_MS - TICK_MS)
  assert.equal(bench.node(2).log.status().role, 'candidate')
  assert.equal(bench.node(2).sentOf('vote').length, 2)
})
