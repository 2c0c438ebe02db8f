/** The members as a leader sees them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { restoreMembers } from '../../src/raft/membership-change.ts'
import { Tracker } from '../../src/raft/tracker.ts'
import { type ConfState, EMPTY_CONF_STATE } from '../../src/raft/types.ts'

function trackerOf(confState: Partial<ConfState>): Tracker {
  const tracker = new Tracker(10, 100)
  const full = { ...EMPTY_CONF_STATE, ...confState }
  const result = restoreMembers(full, tracker.newcomerOptions(5))
  assert(result.type === 'changed')
  tracker.use(result.members)
  return tracker
}

test('progress is kept ascending by id, whatever order members came in', () => {
  const tracker = trackerOf({ voters: [5, 1, 3], learners: [2], votersOutgoing: [4, 1] })
  assert.deepEqual([...tracker.progress.keys()], [1, 2, 3, 4, 5])
  tracker.resetProgress(1, 9)
  assert.deepEqual([...tracker.progress.keys()], [1, 2, 3, 4, 5])
})

test('a new term knows only the own log', () => {
  const tracker = trackerOf({ voters: [1, 2], learners: [3] })
  tracker.progress.get(2)?.maybeUpdate(4)
  tracker.resetProgress(1, 9)

  const facts = [...tracker.progress.values()].map(one => [one.match, one.next, one.isLearner])
  assert.deepEqual(facts, [
    [9, 10, false],
    [0, 10, false],
    [0, 10, true],
  ])
})

test('learners commit nothing and elect nobody', () => {
  const tracker = trackerOf({ voters: [1, 2, 3], learners: [4, 5] })
  for (const id of [4, 5]) {
    tracker.progress.get(id)?.maybeUpdate(9)
    tracker.recordVote(id, true)
  }
  tracker.recordVote(1, true)
  tracker.progress.get(1)?.maybeUpdate(9)

  assert.equal(tracker.committedIndex(), 0)
  assert.deepEqual(tracker.tally(), { grantedCount: 1, rejectedCount: 0, result: 'pending' })
})

test('the first answer of a node is its vote', () => {
  const tracker = trackerOf({ voters: [1, 2, 3] })
  tracker.recordVote(2, false)
  tracker.recordVote(2, true)
  tracker.recordVote(3, true)
  assert.deepEqual(tracker.tally(), { grantedCount: 1, rejectedCount: 1, result: 'pending' })
  tracker.resetVotes()
  assert.deepEqual(tracker.tally(), { grantedCount: 0, rejectedCount: 0, result: 'pending' })
})

test('a quorum is active if a majority of each half is', () => {
  const tracker = trackerOf({ voters: [1, 2, 3], votersOutgoing: [3, 4, 5], learners: [6] })
  const activate = (...ids: number[]): void => {
    for (const [id, progress] of tracker.progress) progress.isRecentlyActive = ids.includes(id)
  }
  activate(1, 2, 3)
  assert.equal(tracker.isQuorumActive(), false)
  activate(1, 3, 4)
  assert.equal(tracker.isQuorumActive(), true)
  activate(3, 6)
  assert.equal(tracker.isQuorumActive(), false)
})
