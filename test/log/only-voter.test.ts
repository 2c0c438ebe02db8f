import assert from 'node:assert/strict'
import { test } from 'node:test'
import { must } from '../../src/base/assert.ts'
import type { Clock } from '../../src/base/ports.ts'
import { foundingMembership, newcomerContext, storedMembers } from '../../src/log/membership.ts'
import { makeOnlyVoter, type OnlyVoter } from '../../src/log/only-voter.ts'
import { Peers } from '../../src/log/peers.ts'
import { RaftLog } from '../../src/log/raft-log.ts'
import { encodeConfChange } from '../../src/raft/conf-change.ts'
import { type ConfChangeStep, EMPTY_BYTES, type Entry } from '../../src/raft/types.ts'
import type { Wal } from '../../src/wal/wal.ts'
import { Machine } from '../wal/kit.ts'
import { memberOf } from './log-bench.ts'

const MEMBERS = storedMembers(foundingMembership([1, 2, 3].map(memberOf)))
const DATA = new Uint8Array([7])

function entry(index: number, term: number, data: Uint8Array = DATA): Entry {
  return { index, term, type: 'normal', data }
}

function change(index: number, term: number, context: Uint8Array, ...steps: ConfChangeStep[]) {
  const data = encodeConfChange({ version: 2, transition: 'auto', steps, context })
  return { index, term, type: 'config', data } satisfies Entry
}

/** A log of member 2 with these entries, of which the first `commit` are known to be committed. */
function openLog(machine: Machine, entries: readonly Entry[], commit: number): Wal {
  const wal = machine.openFlushed({ initialMembers: MEMBERS })
  const term = entries.at(-1)?.term ?? 1
  const hardState = { term: term + 3, vote: 3, commit }
  machine.complete(done => wal.append({ entries, hardState }, done))
  return wal
}

function alone(machine: Machine, wal: Wal, raftId = 2): OnlyVoter {
  let result: OnlyVoter | undefined
  machine.complete(done =>
    makeOnlyVoter(wal, raftId, outcome => {
      result = outcome
      done()
    }),
  )
  return must(result)
}

test('all entries count as committed, and only this member is left', () => {
  const machine = new Machine(1)
  const wal = openLog(machine, [entry(1, 1), entry(2, 1), entry(3, 4)], 1)

  const result = alone(machine, wal)

  assert.deepEqual([result.lastIndex, result.lastTerm, result.commitIndex], [3, 4, 1])
  assert.deepEqual([result.after.voters, result.after.learners], [[2], []])
  assert.deepEqual(
    result.after.removed.map(({ nodeId }) => nodeId),
    [memberOf(1).nodeId, memberOf(3).nodeId],
  )
  assert.equal(result.after.nextRaftId, 4, 'no number is given twice')
  machine.disk.powerCut('nothing')
  const again = machine.openFlushed({ mustExist: true })
  const { hardState } = again.initialState()
  assert.deepEqual(hardState, { term: 8, vote: 0, commit: 5 })
  const kept = again.entries(1, 4, 1000)
  assert(typeof kept !== 'string')
  assert.deepEqual(
    kept.map(({ index, data }) => [index, [...data]]),
    [
      [1, [7]],
      [2, [7]],
      [3, [7]],
    ],
  )
})

test('a member between two memberships, and a learner, become the only voter too', () => {
  const joint = new Machine(2)
  const enter = change(
    2,
    1,
    EMPTY_BYTES,
    { type: 'remove', nodeId: 1 },
    { type: 'add-voter', nodeId: 4 },
  )
  const newcomer = change(1, 1, newcomerContext(memberOf(4)), { type: 'add-learner', nodeId: 4 })
  const result = alone(joint, openLog(joint, [newcomer, enter], 0))
  assert.deepEqual(result.before.votersOutgoing, [1, 2, 3])
  assert.deepEqual([result.after.voters, result.after.votersOutgoing], [[2], []])

  const learner = new Machine(3)
  const demoted = change(1, 1, EMPTY_BYTES, { type: 'add-learner', nodeId: 2 })
  const promoted = alone(learner, openLog(learner, [demoted], 1))
  assert.deepEqual(promoted.before.learners, [2])
  assert.deepEqual([promoted.after.voters, promoted.after.learners], [[2], []])
})

test('repeated, it changes no member and keeps what was there', () => {
  const machine = new Machine(4)
  const wal = openLog(machine, [entry(1, 1)], 1)
  const first = alone(machine, wal)
  const second = alone(machine, wal)

  assert.equal(second.lastIndex, first.after.index)
  assert.deepEqual(second.after, first.after)
})

test('a log made so leads alone when it is opened again', () => {
  const machine = new Machine(5)
  const wal = openLog(machine, [entry(1, 1), entry(2, 2)], 1)
  alone(machine, wal)
  machine.complete(done => wal.close(done))
  const { scheduler } = machine
  const clock: Clock = {
    wallMs: () => scheduler.nowMs,
    monotonicMs: () => scheduler.nowMs,
    setTimer: (delayMs, callback) => scheduler.after(delayMs, callback),
  }
  const log = new RaftLog({
    raftId: 2,
    wal: machine.open({ mustExist: true }),
    peers: new Peers({ send: () => false, listen: () => {}, setMembers: () => {} }, clock, 1),
    clock,
    random: { below: () => 0, bytes: count => new Uint8Array(count) },
    options: {
      tickMs: 50,
      electionTicks: 10,
      heartbeatTicks: 2,
      maxSizePerMessageBytes: 1 << 20,
      maxInflightMessages: 16,
      maxInflightBytes: 1 << 24,
    },
    logger: { debug() {}, info() {}, warn() {}, error() {} },
  })
  log.start(() => {})

  const isLeading = (): boolean => log.status().role === 'leader'
  assert(scheduler.runUntil(scheduler.nowMs + 10_000, isLeading), 'it leads')
  assert(scheduler.runUntil(scheduler.nowMs + 10_000, () => log.status().isCommitCurrent))
  assert.deepEqual(log.status().membership.voters, [2])
})
