import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Clock } from '../../src/base/ports.ts'
import { Peers } from '../../src/log/peers.ts'
import { RaftLog } from '../../src/log/raft-log.ts'
import type { Wal } from '../../src/wal/wal.ts'
import { Machine } from '../wal/kit.ts'
import { Cluster } from './log-cluster.ts'

const MIB = 1024 * 1024
const ALONE = { voters: [2], learners: [], votersOutgoing: [], learnersNext: [], autoLeave: false }

function openWal(machine: Machine): Wal {
  return machine.open({
    initialConfState: ALONE,
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
    members: [{ raftId: 2, nodeId: 'n2', address: '127.0.0.1:1' }],
    wal,
    peers: new Peers({ send: () => false, listen: () => {} }, clock, 1),
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
