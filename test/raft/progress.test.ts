/** What a leader makes of a follower's answers. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Inflights } from '../../src/raft/inflights.ts'
import { Progress } from '../../src/raft/progress.ts'
import { NO_LIMIT } from '../../src/raft/types.ts'

function progress(match: number, next: number, window = 256): Progress {
  return new Progress({
    match,
    next,
    isLearner: false,
    isRecentlyActive: true,
    inflights: new Inflights(window, NO_LIMIT),
  })
}

test('a probed follower is paused after a message with entries until it answers', () => {
  const follower = progress(3, 4)

  follower.sentEntries(0, 0)
  assert.equal(follower.isPaused, false)
  follower.sentEntries(2, 20)
  assert.equal(follower.isPaused, true)
  assert.equal(follower.next, 4, 'a probe moves nothing')
  follower.maybeUpdate(5)
  assert.equal(follower.isPaused, false)
})

test('a replicating follower is sent entries optimistically until its window is full', () => {
  const follower = progress(3, 4, 2)
  follower.becomeReplicate()

  follower.sentEntries(2, 20)
  assert.deepEqual([follower.next, follower.isPaused], [6, false])
  follower.sentEntries(1, 10)
  assert.deepEqual([follower.next, follower.isPaused], [7, true])
})

test('a follower that waits for a snapshot is always paused', () => {
  const follower = progress(3, 4)
  follower.becomeSnapshot(10)

  assert.equal(follower.isPaused, true)
  assert.deepEqual([follower.next, follower.pendingSnapshot], [11, 10])
})

test('a probe after a snapshot starts behind it, a probe after anything else behind the match', () => {
  const afterSnapshot = progress(1, 2)
  afterSnapshot.becomeSnapshot(10)
  afterSnapshot.becomeProbe()
  assert.deepEqual([afterSnapshot.match, afterSnapshot.next], [1, 11])
  assert.equal(afterSnapshot.pendingSnapshot, 0)

  const failedSnapshot = progress(1, 2)
  failedSnapshot.becomeSnapshot(10)
  failedSnapshot.pendingSnapshot = 0
  failedSnapshot.becomeProbe()
  assert.deepEqual([failedSnapshot.match, failedSnapshot.next], [1, 2])

  const afterReplicate = progress(3, 4)
  afterReplicate.becomeReplicate()
  afterReplicate.sentEntries(5, 50)
  afterReplicate.becomeProbe()
  assert.deepEqual([afterReplicate.match, afterReplicate.next], [3, 4])
  assert.equal(afterReplicate.inflights.count, 0)
})

test('an acknowledgement moves match and next forward, never back', () => {
  const cases = [
    { index: 2, match: 3, next: 5, isNew: false },
    { index: 3, match: 3, next: 5, isNew: false },
    { index: 4, match: 4, next: 5, isNew: true },
    { index: 5, match: 5, next: 6, isNew: true },
    { index: 9, match: 9, next: 10, isNew: true },
  ]
  for (const { index, match, next, isNew } of cases) {
    const follower = progress(3, 5)
    assert.equal(follower.maybeUpdate(index), isNew, `index ${index}`)
    assert.deepEqual([follower.match, follower.next], [match, next], `index ${index}`)
  }
})

test('a rejection lowers next, unless it is old', () => {
  const cases = [
    // A replicating follower can't reject what it has acknowledged.
    { state: 'replicate', match: 5, next: 10, rejected: 5, hint: 5, isGenuine: false, after: 10 },
    { state: 'replicate', match: 5, next: 10, rejected: 4, hint: 4, isGenuine: false, after: 10 },
    { state: 'replicate', match: 5, next: 10, rejected: 9, hint: 9, isGenuine: true, after: 6 },
    // A probed one can only reject the one message that is under way.
    { state: 'probe', match: 0, next: 0, rejected: 0, hint: 0, isGenuine: false, after: 0 },
    { state: 'probe', match: 0, next: 10, rejected: 5, hint: 5, isGenuine: false, after: 10 },
    { state: 'probe', match: 0, next: 10, rejected: 9, hint: 9, isGenuine: true, after: 9 },
    { state: 'probe', match: 0, next: 10, rejected: 9, hint: 2, isGenuine: true, after: 3 },
    { state: 'probe', match: 0, next: 10, rejected: 9, hint: 0, isGenuine: true, after: 1 },
    { state: 'probe', match: 0, next: 2, rejected: 1, hint: 1, isGenuine: true, after: 1 },
    { state: 'probe', match: 0, next: 1, rejected: 0, hint: 0, isGenuine: true, after: 1 },
    { state: 'probe', match: 4, next: 10, rejected: 9, hint: 2, isGenuine: true, after: 5 },
  ] as const
  for (const { state, match, next, rejected, hint, isGenuine, after } of cases) {
    const follower = progress(match, next)
    if (state === 'replicate') {
      follower.becomeReplicate()
      follower.sentEntries(next - follower.next, 10)
    }
    const name = `${state} match=${match} next=${next} rejected=${rejected} hint=${hint}`
    assert.equal(follower.maybeDecrease(rejected, hint), isGenuine, name)
    assert.equal(follower.next, after, name)
  }
})

test('a genuine rejection lets a probed follower be sent the next probe at once', () => {
  const follower = progress(0, 10)
  follower.sentEntries(1, 1)
  assert.equal(follower.isPaused, true)
  follower.maybeDecrease(9, 4)
  assert.equal(follower.isPaused, false)
})

test('a commit index is worth sending only if the follower can follow it', () => {
  const follower = progress(5, 8)

  assert.equal(follower.canBumpCommit(0), false)
  assert.equal(follower.canBumpCommit(6), true)
  follower.sentCommit(6)
  assert.equal(follower.canBumpCommit(6), false)
  assert.equal(follower.canBumpCommit(7), true)
  follower.sentCommit(7)
  // It has nothing beyond 7 that it could commit.
  assert.equal(follower.canBumpCommit(20), false)
})

test('a commit index that was sent before a rejection counts as lost', () => {
  const follower = progress(3, 10)
  follower.sentCommit(9)
  follower.maybeDecrease(9, 5)
  assert.equal(follower.canBumpCommit(9), false, 'up to next - 1 it is still under way')
  follower.maybeUpdate(8)
  assert.equal(follower.canBumpCommit(9), true)
})

test('a copy can become a learner without the original', () => {
  const follower = progress(3, 4)
  follower.becomeSnapshot(9)
  const copy = follower.clone()
  copy.isLearner = true

  assert.equal(follower.isLearner, false)
  assert.deepEqual(copy.status(), { ...follower.status(), isLearner: true })
})
