import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Cluster } from './log-cluster.ts'

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
