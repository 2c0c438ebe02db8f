import assert from 'node:assert/strict'
import { test } from 'node:test'
import { must } from '../../src/base/assert.ts'
import type { DbError } from '../../src/base/errors.ts'
import type { Clock } from '../../src/base/ports.ts'
import { foundingMembership, storedMembers } from '../../src/log/membership.ts'
import { Peers } from '../../src/log/peers.ts'
import { RaftLog } from '../../src/log/raft-log.ts'
import { createMessage } from '../../src/raft/types.ts'
import type { Wal } from '../../src/wal/wal.ts'
import { Machine } from '../wal/kit.ts'
import { ELECTION_MS, ledBench, LogBench, memberOf, type Sent, TICK_MS } from './log-bench.ts'
import { Cluster } from './log-cluster.ts'

const MIB = 1024 * 1024
const ONE = new Uint8Array([1])

function openWal(machine: Machine): Wal {
  return machine.open({
    initialMembers: storedMembers(foundingMembership([memberOf(2)])),
    options: {
      segmentSizeBytes: 16 * MIB,
      cacheSizeBytes: MIB,
      batchSizeBytesMax: 4 * MIB,
      fillSizeBytes: 0,
    },
  })
}

function clockOf({ scheduler }: Machine): Clock {
  return {
    wallMs: () => scheduler.nowMs,
    monotonicMs: () => scheduler.nowMs,
    setTimer: (delayMs, callback) => scheduler.after(delayMs, callback),
  }
}

function startLog(machine: Machine, wal: Wal, onCommitted: (index: number) => void): RaftLog {
  const clock = clockOf(machine)
  const log = new RaftLog({
    raftId: 2,
    wal,
    peers: new Peers({ send: () => false, listen: () => {}, setMembers: () => {} }, clock, 1),
    clock,
    random: { below: () => 0, bytes: count => new Uint8Array(count) },
    options: {
      tickMs: 50,
      electionTicks: 10,
      heartbeatTicks: 2,
      maxSizePerMessageBytes: MIB,
      maxInflightMessages: 16,
      maxInflightBytes: 16 * MIB,
    },
    logger: { debug() {}, info() {}, warn() {}, error() {} },
  })
  log.start(event => {
    if (event.type === 'committed') onCommitted(event.commitIndex)
  })
  return log
}

/** Runs until `isDone`, at most for a simulated minute. */
function runUntil(machine: Machine, isDone: () => boolean): void {
  const { scheduler } = machine
  while (!isDone() && scheduler.nowMs < 60_000 && scheduler.runNext()) {
    // Each event plans the next ones.
  }
  assert(isDone(), 'it did not happen within a minute')
}

/** An append that only tells how far is committed. */
function isNotice({ message }: Sent): boolean {
  return message.entries.length === 0
}

function codes(outcomes: readonly (number | DbError)[]): string[] {
  return outcomes.map(outcome => (typeof outcome === 'number' ? 'ok' : outcome.code))
}

test('a log larger than the memory is handed over in pages, and others get turns between them', () => {
  const machine = new Machine(1)
  const wal = openWal(machine)
  const entries = Array.from({ length: 24 }, (_, at) => ({
    term: 1,
    index: at + 1,
    type: 'normal' as const,
    data: new Uint8Array(MIB),
  }))
  let isStored = false
  wal.append({ entries, hardState: { term: 1, vote: 2, commit: 24 } }, () => {
    isStored = true
  })
  runUntil(machine, () => isStored)

  const handed: number[] = []
  let turns = 0
  const log = startLog(machine, openWal(machine), index => {
    if (handed.length === 0) machine.scheduler.after(0, () => turns++)
    handed.push(index)
    if (index < 24) assert.equal(turns, handed.length === 1 ? 0 : 1, `turns at entry ${index}`)
  })
  runUntil(machine, () => handed.at(-1) === 24)

  handed.forEach((index, at) => {
    assert(index - (handed[at - 1] ?? 0) <= 4, `${handed.join()} are larger pages than 4 MiB`)
  })

  // The node goes on to lead, and commits what is new.
  runUntil(machine, () => log.status().role === 'leader' && log.status().commitIndex === 25)
  assert.equal(log.append(log.status().term, new Uint8Array([7])), 1)
  runUntil(machine, () => handed.at(-1) === 26)
  assert.deepEqual(log.read(26, MIB)[0]?.data, new Uint8Array([7]))
})

test('over a slow data lane each entry goes once, although commit indexes take a faster one', () => {
  const cluster = new Cluster({ slowBytesPerMs: 3000 })
  const { scheduler } = cluster
  scheduler.runUntil(4000, () => false)
  assert(cluster.log(1).status().lastIndex > 500, 'two of three go on at their pace')
  assert(
    cluster.log(3).status().lastIndex < cluster.log(1).status().lastIndex,
    'the lane is slower than the writing',
  )

  cluster.isWriting = false
  const hasAll = (): boolean =>
    cluster.log(3).status().lastIndex === cluster.log(1).status().lastIndex
  assert(scheduler.runUntil(scheduler.nowMs + 10_000, hasAll), 'the third one never catches up')

  const sentTimes = cluster.slowLaneBytes / cluster.appendedBytes
  assert(sentTimes < 1.1, `every entry went ${sentTimes.toFixed(1)} times`)
})

test('a leader whose disk is slow knows as committed what the others may read already', () => {
  const cluster = new Cluster({ leaderDiskMs: 20 })
  const leader = cluster.log(1)
  const follower = cluster.log(2)
  let wasAhead = false
  for (let step = 0; step < 20_000 && cluster.scheduler.runNext(); step += 1) {
    const { commitIndex, role } = leader.status()
    if (role !== 'leader' || commitIndex === 0) continue
    for (let index = commitIndex + 1; index < commitIndex + 3; index += 1) {
      assert.equal(follower.read(index, 1).length, 0, `entry ${index} is read, not committed`)
    }
    if (leader.read(commitIndex, 1).length === 0 && follower.read(commitIndex, 1).length > 0) {
      wasAhead = true
    }
  }
  assert(wasAhead, 'a follower could never read what the leader could not')
})

test('a group elects whose patience ends first, and a leader that is heard stays it', () => {
  const bench = new LogBench()
  bench.settle()
  bench.pass(ELECTION_MS - TICK_MS)
  for (const { log } of bench.nodes) assert.equal(log.status().term, 0)

  bench.pass(TICK_MS)
  for (const { events } of bench.nodes) {
    const last = events.findLast(event => event.type === 'role')
    assert.deepEqual([last?.leader, last?.term], [1, 1])
  }
  assert.deepEqual(
    bench.nodes.map(({ log }) => log.status().role),
    ['leader', 'follower', 'follower'],
  )

  bench.pass(20 * ELECTION_MS)
  for (const { log } of bench.nodes) assert.equal(log.status().term, 1)
})

test('when the leader falls silent another leads, in a later term, and the old one steps down', () => {
  const bench = ledBench()
  bench.isolate(1)
  bench.pass(3 * ELECTION_MS)
  const { leader, term } = bench.node(2).log.status()
  assert(leader !== undefined && leader !== 1 && term > 1, `${leader} leads in term ${term}`)
  assert.notEqual(bench.node(1).log.status().role, 'leader', 'a leader that no quorum answers')

  bench.heal()
  bench.pass(ELECTION_MS)
  assert.deepEqual(
    [bench.node(1).log.status().leader, bench.node(1).log.status().term],
    [leader, term],
  )
})

test('only the leader appends, and only in the term that the caller believes in', () => {
  const bench = ledBench()
  const leader = bench.node(1).log
  const before = leader.status()
  assert.equal(leader.append(before.term - 1, ONE), undefined)
  assert.equal(leader.append(before.term + 1, ONE), undefined)
  assert.equal(bench.node(2).log.append(before.term, ONE), undefined)
  assert.equal(leader.status().lastIndex, before.lastIndex)

  assert.equal(leader.nextProposal, 1)
  assert.equal(leader.append(before.term, ONE), 1)
  assert.equal(leader.nextProposal, 2)
  leader.stop(() => {})
  assert.equal(leader.append(before.term, ONE), undefined)
})

test('own proposals are told with their indexes, in order, and to nobody else', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  const { term, lastIndex } = leader.log.status()
  for (const byte of [1, 2, 3]) leader.log.append(term, new Uint8Array([byte]))
  assert.deepEqual(leader.own, [], 'nothing is committed before a majority has it')
  bench.pass(2 * TICK_MS)

  assert.deepEqual(
    leader.own,
    [1, 2, 3].map(proposal => ({ proposal, index: lastIndex + proposal })),
  )
  for (const { log, events, own, id } of bench.nodes) {
    if (id !== 1) assert.deepEqual(own, [])
    const bytes = log.read(lastIndex + 1, MIB).map(({ data }) => data[0])
    assert.deepEqual(bytes, [1, 2, 3])
    const told = events.flatMap(event => (event.type === 'committed' ? event.commitIndex : []))
    assert.deepEqual(
      told,
      told.toSorted((left, right) => left - right),
    )
    assert.equal(told.at(-1), lastIndex + 3)
  }
})

test('a proposal of a term that is over is never told as own, whatever stands at its index', () => {
  const bench = ledBench()
  const old = bench.node(1)
  const { term, lastIndex } = old.log.status()
  bench.isolate(1)
  old.log.append(term, ONE)
  old.log.append(term, ONE)
  bench.pass(3 * ELECTION_MS)
  const next = bench.node(must(bench.node(2).log.status().leader))
  next.log.append(next.log.status().term, new Uint8Array([7]))
  bench.pass(TICK_MS)
  bench.heal()
  bench.pass(2 * ELECTION_MS)

  assert.equal(old.log.status().commitIndex, lastIndex + 2)
  assert.deepEqual(
    old.log.read(lastIndex + 1, MIB).map(({ type, data }) => [type, ...data]),
    [['noop'], ['data', 7]],
  )
  assert.deepEqual(old.own, [])
})

test('a node says and hears nothing before what it has read is on disk', () => {
  const bench = new LogBench()
  const late = bench.node(3)
  // Disks of the first two write; that of the third does nothing yet.
  for (const id of [1, 2]) bench.node(id).write()
  bench.clock.pass(ELECTION_MS)
  for (let times = 0; times < 6; times += 1) {
    bench.deliver()
    for (const id of [1, 2]) bench.node(id).write()
  }
  assert.equal(bench.node(1).log.status().role, 'leader')
  bench.clock.pass(10 * ELECTION_MS)
  bench.deliver()
  assert.deepEqual(late.sent, [])
  assert.equal(late.log.status().term, 0)

  late.write()
  bench.pass(2 * ELECTION_MS)
  assert.equal(late.log.status().commitIndex, bench.node(1).log.status().commitIndex)
})

test('a read that waits for a node whose disk keeps it from starting ends at its deadline', () => {
  const bench = new LogBench()
  const answers: (number | DbError)[] = []
  bench.node(1).log.readIndex(200, outcome => answers.push(outcome))
  bench.clock.pass(150)
  assert.deepEqual(answers, [])
  bench.clock.pass(100)
  assert.deepEqual(codes(answers), ['NO_LEADER'])
})

test('a candidate asks for votes, and a voter gives its own, once that is on disk', () => {
  const bench = new LogBench()
  bench.settle()
  const [candidate, voter] = [bench.node(1), bench.node(2)]
  bench.clock.pass(ELECTION_MS)
  assert.equal(candidate.sentOf('pre-vote').length, 2, 'asking who would vote promises nothing')
  bench.deliver()
  for (const node of [candidate, voter]) node.write()
  bench.deliver()
  assert.equal(candidate.log.status().role, 'candidate')
  assert.deepEqual(candidate.sentOf('vote'), [])
  candidate.write()
  assert.equal(candidate.sentOf('vote').length, 2)

  bench.deliver()
  assert.deepEqual(voter.sentOf('vote-response'), [])
  voter.write()
  assert.deepEqual(
    voter.sentOf('vote-response').map(({ to, message }) => [to, message.reject]),
    [[1, false]],
  )

  // Its vote survives: after a power cut it gives no other one in that term.
  voter.restart()
  bench.settle()
  assert.deepEqual(voter.wal.initialState().hardState, { term: 1, vote: 1, commit: 0 })
})

test('a follower acknowledges entries once they are on disk', () => {
  const bench = ledBench()
  const [leader, follower] = [bench.node(1), bench.node(2)]
  const { term, lastIndex } = leader.log.status()
  bench.isLost = (_from, to) => to === 3
  leader.log.append(term, ONE)
  leader.write()
  bench.deliver()
  assert.equal(follower.log.status().lastIndex, lastIndex + 1)
  assert.deepEqual(follower.sentOf('append-response'), [])
  assert.deepEqual(leader.own, [])
  follower.write()
  assert.equal(follower.sentOf('append-response').at(-1)?.message.index, lastIndex + 1)
  bench.deliver()
  assert.deepEqual(leader.own, [{ proposal: 1, index: lastIndex + 1 }])
})

test('a message in the name of another node is ignored', () => {
  const bench = ledBench()
  const { term } = bench.node(2).log.status()
  const forged = createMessage({ type: 'heartbeat', from: 3, to: 2, term: term + 5 })
  bench.say(1, 2, forged)
  bench.settle()
  assert.equal(bench.node(2).log.status().term, term)

  const misdirected = createMessage({ type: 'heartbeat', from: 1, to: 3, term: term + 5 })
  bench.say(1, 2, misdirected)
  bench.settle()
  assert.equal(bench.node(2).log.status().term, term)
})

test('followers hear of a commit after a moment, if no entries follow', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  const { term, lastIndex } = leader.log.status()
  leader.log.append(term, ONE)
  bench.settle()
  assert.equal(leader.log.status().commitIndex, lastIndex + 1)
  assert.equal(leader.sentOf('append').filter(isNotice).length, 0)
  assert.equal(bench.node(2).log.status().commitIndex, lastIndex)

  bench.clock.pass(2)
  bench.settle()
  const notices = leader.sentOf('append').filter(isNotice)
  assert.deepEqual(
    notices.map(({ to, lane, message }) => [to, lane, message.commit]),
    [
      [2, 'control', lastIndex + 1],
      [3, 'control', lastIndex + 1],
    ],
  )
  for (const id of [2, 3]) assert.equal(bench.node(id).log.status().commitIndex, lastIndex + 1)
})

test('a commit is not told by itself when entries that follow tell it', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  const { term, lastIndex } = leader.log.status()
  leader.log.append(term, ONE)
  bench.settle()
  leader.log.append(term, ONE)
  // The second entry reaches nobody yet: were it acknowledged, there were another commit to tell.
  leader.write()
  const overtaking = leader.sentOf('append').slice(-2)
  assert.deepEqual(
    overtaking.map(({ to, message }) => [to, message.entries.length, message.commit]),
    [
      [2, 1, lastIndex + 1],
      [3, 1, lastIndex + 1],
    ],
  )
  bench.clock.pass(2)
  assert.equal(leader.sentOf('append').filter(isNotice).length, 0)
})

test('a probe of a follower that was not reached is never held back', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  leader.log.append(leader.log.status().term, ONE)
  bench.settle()
  // The notice of the commit can't leave, so that the leader knows no more what the follower has.
  bench.isRefused = (from, to) => from === 1 && to === 3
  bench.clock.pass(2)
  bench.isRefused = () => false
  const peer = leader.log.status().peers.find(({ raftId }) => raftId === 3)
  assert.equal(peer?.progress, 'probe')

  leader.sent = []
  for (let ticks = 0; leader.sentOf('heartbeat').length === 0; ticks += 1) {
    assert(ticks < 4, 'no heartbeat is sent')
    bench.clock.pass(TICK_MS)
  }
  bench.settle()
  const probes = leader.sentOf('append').filter(({ to }) => to === 3)
  assert.deepEqual(
    probes.map(({ message }) => message.entries.length),
    [0],
  )
})

test('a read gives what is committed, up to its size, and nothing that is only appended', () => {
  const bench = ledBench()
  const { log } = bench.node(1)
  const { term, commitIndex } = log.status()
  bench.isolate(1)
  for (const byte of [1, 2, 3]) log.append(term, new Uint8Array([byte]))
  bench.settle()
  assert.equal(log.status().lastIndex, commitIndex + 3)
  assert.deepEqual(log.read(commitIndex + 1, MIB), [])
  assert.equal(log.read(1, MIB).at(-1)?.index, commitIndex)

  bench.heal()
  bench.pass(4 * TICK_MS)
  assert.deepEqual(
    log.read(commitIndex + 1, MIB).map(({ index, type, data }) => [index, type, data[0]]),
    [1, 2, 3].map(byte => [commitIndex + byte, 'data', byte]),
  )
  assert.equal(log.read(commitIndex + 1, 1).length, 1, 'one entry comes however large it is')
  assert.equal(log.read(1, MIB)[0]?.type, 'noop')
})

test('leader and followers give a read index that covers what was committed before', () => {
  const bench = ledBench()
  const leader = bench.node(1).log
  leader.append(leader.status().term, ONE)
  bench.settle()
  const { commitIndex } = leader.status()
  const answers: (number | DbError)[] = []
  for (const { log } of bench.nodes) log.readIndex(1000, outcome => answers.push(outcome))
  assert.deepEqual(answers, [], 'a majority has not confirmed the leader yet')
  bench.settle()
  assert.deepEqual(answers, [commitIndex, commitIndex, commitIndex])
})

test('a read index asked of a leader that was replaced never comes', () => {
  const bench = ledBench()
  const old = bench.node(1).log
  bench.isolate(1)
  const answers: (number | DbError)[] = []
  old.readIndex(200, outcome => answers.push(outcome))
  bench.pass(200)
  assert.deepEqual(codes(answers), ['NO_LEADER'])
})

test('without a leader a read index fails in time, or comes from the next one', () => {
  const bench = ledBench()
  const follower = bench.node(2).log
  bench.isolate(1)
  bench.pass(ELECTION_MS)
  const [short, long]: (number | DbError)[][] = [[], []]
  follower.readIndex(100, outcome => short?.push(outcome))
  follower.readIndex(5000, outcome => long?.push(outcome))
  bench.pass(100)
  assert.deepEqual(codes(short ?? []), ['NO_LEADER'])
  assert.deepEqual(long, [])
  for (let ticks = 0; follower.status().leader !== 2; ticks += 1) {
    assert(ticks < 20, 'nobody is elected')
    bench.pass(TICK_MS)
  }
  // Long before the first round would have been asked again.
  bench.pass(TICK_MS)
  assert.equal(long?.length, 1)
  assert.equal(long[0], follower.status().commitIndex)
})

test('leadership goes to the voter that has most', () => {
  for (const ahead of [2, 3]) {
    const bench = ledBench()
    const leader = bench.node(1).log
    bench.isLost = (_from, to, lane) => to === 5 - ahead && lane === 'data'
    leader.append(leader.status().term, ONE)
    bench.pass(3 * ELECTION_MS)
    bench.heal()
    leader.transferLeadership()
    bench.settle()
    assert.equal(bench.node(ahead).log.status().role, 'leader', `${ahead} has most`)
  }
})

test('leadership goes to none that is silent or may not lead, and else stays', () => {
  const bench = ledBench()
  const leader = bench.node(1).log
  const { term } = leader.status()
  // The third lacks an entry that the second has; then the second is gone.
  bench.isLost = (_from, to, lane) => to === 3 && lane === 'data'
  leader.append(term, ONE)
  bench.settle()
  bench.isLost = (from, to, lane) => to === 2 || from === 2 || (to === 3 && lane === 'data')
  bench.pass(3 * ELECTION_MS)
  bench.isLost = (from, to) => to === 2 || from === 2

  leader.transferLeadership(raftId => raftId === 2)
  bench.pass(ELECTION_MS)
  assert.deepEqual([leader.status().role, leader.status().term], ['leader', term])

  leader.transferLeadership()
  bench.pass(ELECTION_MS)
  assert.equal(bench.node(3).log.status().role, 'leader')
})

test('compaction never goes beyond what is handed over, and what is behind it is gone', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  const { term } = leader.log.status()
  for (let times = 0; times < 5; times += 1) leader.log.append(term, ONE)
  bench.pass(2 * TICK_MS)
  const { commitIndex } = leader.log.status()
  bench.isolate(1)
  leader.log.append(term, ONE)
  bench.settle()

  leader.log.compact(3)
  assert.equal(leader.log.status().firstIndex, 4)
  leader.log.compact(1_000_000)
  bench.settle()
  assert.equal(leader.log.status().firstIndex, commitIndex + 1)
  leader.log.compact(2)
  assert.equal(leader.log.status().firstIndex, commitIndex + 1)

  bench.heal()
  bench.pass(ELECTION_MS)
  assert.deepEqual(leader.own.at(-1), { proposal: 6, index: commitIndex + 1 })

  // The next process begins behind it.
  leader.restart()
  bench.settle()
  bench.pass(2 * ELECTION_MS)
  const told = leader.events.flatMap(event => (event.type === 'committed' ? [event] : []))
  assert(told.length > 0 && leader.log.status().firstIndex === commitIndex + 1)
  assert.equal(leader.log.read(commitIndex + 1, MIB)[0]?.index, commitIndex + 1)
})

test('a log that starts again tells once more what is committed, from its first entry', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  leader.log.append(leader.log.status().term, ONE)
  bench.pass(2 * TICK_MS)
  const follower = bench.node(2)
  const before = follower.log.read(1, MIB)
  assert.equal(before.length, 2)
  follower.restart()
  assert.deepEqual(follower.log.read(1, MIB), [])
  bench.pass(2 * ELECTION_MS)
  assert.deepEqual(follower.log.read(1, MIB), before)
  assert.equal(follower.log.status().term, leader.log.status().term)
})

test('a log that stops fails its waiters, closes its disk, and says no more', () => {
  const bench = ledBench()
  const { log, sent, events } = bench.node(1)
  bench.isolate(1)
  const answers: (number | DbError)[] = []
  log.readIndex(10_000, outcome => answers.push(outcome))
  const [sentCount, eventCount] = [sent.length, events.length]
  let isClosed = false
  log.stop(() => {
    isClosed = true
  })
  assert.deepEqual(codes(answers), ['SHUTTING_DOWN'])
  assert(!isClosed, 'the disk has not written yet')
  bench.heal()
  bench.pass(2 * ELECTION_MS)
  assert(isClosed)
  log.readIndex(10_000, outcome => answers.push(outcome))
  assert.deepEqual(codes(answers), ['SHUTTING_DOWN', 'SHUTTING_DOWN'])
  assert.deepEqual([sent.length, events.length], [sentCount, eventCount])
})
