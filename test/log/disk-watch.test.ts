import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DiskWatch } from '../../src/log/disk-watch.ts'
import type { RawNode } from '../../src/raft/raw-node.ts'
import { ELECTION_MS, ledBench, type LogBench, TICK_MS } from './log-bench.ts'

const ONE = new Uint8Array([1])

function leaderIds(bench: LogBench): number[] {
  return bench.nodes.filter(({ log }) => log.status().role === 'leader').map(({ id }) => id)
}

test('a leader whose disk does nothing hands over after an election timeout, not before', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  const { term } = leader.log.status()
  leader.isDiskStuck = true
  leader.log.append(term, ONE)
  bench.pass(ELECTION_MS)
  assert.deepEqual(leaderIds(bench), [1])
  // The others commit it meanwhile, and one of them is told to lead: nobody has to wait.
  assert.equal(bench.node(2).log.status().commitIndex, bench.node(2).log.status().lastIndex)
  bench.pass(2 * TICK_MS)
  const [next] = leaderIds(bench)
  assert(next === 2 || next === 3, `${next} leads`)
  assert.equal(bench.node(next).log.status().term, term + 1)

  // With its disk as it is the old one can't come back.
  bench.pass(10 * ELECTION_MS)
  assert.deepEqual(leaderIds(bench), [next])
  leader.isDiskStuck = false
  bench.pass(ELECTION_MS)
  assert.equal(leader.log.status().leader, next)
})

test('a leader that can hand over to nobody steps down after another election timeout', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  leader.isDiskStuck = true
  leader.log.append(leader.log.status().term, ONE)
  bench.isLost = (from, _to, _lane, { type }) => from === 1 && type === 'timeout-now'
  bench.pass(ELECTION_MS + 2 * TICK_MS)
  assert.deepEqual(leaderIds(bench), [1])
  bench.pass(ELECTION_MS + 2 * TICK_MS)
  assert.notEqual(leader.log.status().role, 'leader')
  bench.pass(4 * ELECTION_MS)
  assert.equal(leaderIds(bench).length, 1)
  assert.notEqual(leaderIds(bench)[0], 1)
})

test('when all disks are equally slow, leadership stays where it is', () => {
  const bench = ledBench()
  for (const node of bench.nodes) node.isDiskStuck = true
  const leader = bench.node(1)
  leader.log.append(leader.log.status().term, ONE)
  bench.pass(10 * ELECTION_MS)
  assert.deepEqual(leaderIds(bench), [1])
})

test('a lone leader with a slow disk goes on', () => {
  const bench = ledBench([1])
  const leader = bench.node(1)
  leader.isDiskStuck = true
  leader.log.append(leader.log.status().term, ONE)
  bench.pass(10 * ELECTION_MS)
  assert.equal(leader.log.status().role, 'leader')
  leader.isDiskStuck = false
  bench.pass(TICK_MS)
  assert.equal(leader.log.status().commitIndex, leader.log.status().lastIndex)
})

test('a leader that stood still hears of its successor before it does anything else', () => {
  const bench = ledBench()
  const old = bench.node(1)
  old.stall()
  bench.pass(4 * ELECTION_MS)
  const [next] = leaderIds(bench).filter(id => id !== 1)
  assert(next !== undefined)
  old.sent = []
  old.events = []
  old.resume()
  bench.clock.pass(0)
  assert.equal(old.log.status().leader, next)
  assert.deepEqual(
    old.sent.filter(({ message }) => message.type === 'heartbeat' || message.type === 'append'),
    [],
    'it never speaks as a leader again',
  )
})

test('a leader that stood still must be heard anew within an election timeout', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  // Nothing that it sends arrives, and what the others sent before waits in its sockets.
  leader.stall()
  bench.isLost = (from, to) => from !== 1 && to !== 1
  bench.pass(ELECTION_MS + 2 * TICK_MS)
  bench.isolate(1)
  leader.resume()
  bench.pass(TICK_MS)
  assert.equal(leader.log.status().role, 'leader', 'nobody has told it otherwise')
  bench.pass(ELECTION_MS)
  assert.notEqual(leader.log.status().role, 'leader')
})

test('a leader that stood still for less than others wait goes on as it was', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  leader.stall()
  bench.pass(ELECTION_MS - 2 * TICK_MS)
  leader.resume()
  bench.pass(4 * ELECTION_MS)
  assert.deepEqual(leaderIds(bench), [1])
  assert.equal(leader.log.status().term, 1)
})

test('a read that waits while the leader stands still is answered by nobody, or by a proof', () => {
  const bench = ledBench()
  const old = bench.node(1)
  bench.isLost = (_from, to, _lane, { type }) => to === 1 && type === 'heartbeat-response'
  const answers: unknown[] = []
  old.log.readIndex(10_000, outcome => answers.push(outcome))
  bench.settle()
  old.stall()
  bench.pass(4 * ELECTION_MS)
  const next = bench.nodes.find(({ id, log }) => id !== 1 && log.status().role === 'leader')
  assert(next !== undefined)
  next.log.append(next.log.status().term, ONE)
  bench.pass(TICK_MS)
  const { commitIndex } = next.log.status()
  bench.heal()
  old.resume()
  bench.pass(2 * ELECTION_MS)
  assert.deepEqual(answers, [commitIndex], 'it comes from the new leader')
})

test('after a stall of its own process a leader does not blame its disk for it', () => {
  const progress = new Map([
    [1, { match: 5, isLearner: false }],
    [2, { match: 6, isLearner: false }],
  ])
  const node = { role: 'leader', status: () => ({ id: 1, progress }) } as unknown as RawNode
  const watch = new DiskWatch(node, ELECTION_MS)
  for (const doneInTime of [true, false]) {
    const stallMs = 2 * ELECTION_MS
    const fromMs = doneInTime ? 0 : 10 * ELECTION_MS
    assert.equal(watch.verdict(fromMs), 'fine')
    watch.asked(fromMs)
    // What the disk has done meanwhile is told only after the tick that was late.
    assert.equal(watch.verdict(fromMs + stallMs), 'fine')
    if (doneInTime) watch.done()
    const verdict = watch.verdict(fromMs + stallMs + TICK_MS)
    assert.equal(verdict, doneInTime ? 'fine' : 'hand-over')
  }
})
