/** Snapshots: when a leader sends one, when a follower takes it, and how feeding goes on (thesis 5). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryStorage } from '../../src/raft/memory-storage.ts'
import {
  Cluster,
  TestNode,
  acknowledge,
  bytes,
  change,
  elect,
  followerIn,
  leaderOf,
  log,
  outline,
  removeStep,
  snapshotAt,
  storageWith,
} from './kit.ts'

/** A leader of nodes 1 and 2 in term 2 whose log begins after a snapshot at 11. */
function leaderWithSnapshot(): TestNode {
  const storage = new MemoryStorage()
  storage.applySnapshot(snapshotAt(11, 1, [1, 2]))
  storage.setHardState({ term: 1, vote: 0, commit: 11 })
  const node = new TestNode(1, storage, { appliedIndex: 11 })
  elect(node)
  node.flush()
  return node
}

/** The same, after node 2 said that it has nothing. */
function leaderSendingSnapshot(): TestNode {
  const leader = leaderWithSnapshot()
  leader.receive({ type: 'heartbeat-response', from: 2, term: 2 })
  leader.flush()
  leader.receive({ type: 'append-response', from: 2, term: 2, index: 11, reject: true })
  return leader
}

function progressOf2(leader: TestNode): unknown {
  const progress = leader.status.progress.get(2)
  return [progress?.state, progress?.match, progress?.next, progress?.pendingSnapshot]
}

test('a follower that needs what was compacted away is sent a snapshot', () => {
  const leader = leaderSendingSnapshot()
  const [message] = leader.flush()
  assert.equal(message?.type, 'snapshot')
  assert.equal(message?.snapshot?.metadata.index, 11)
  assert.deepEqual(progressOf2(leader), ['snapshot', 0, 12, 11])
})

test('while a snapshot is on its way nothing else is sent but heartbeats', () => {
  const leader = leaderSendingSnapshot()
  leader.flush()
  leader.raw.propose(bytes('x'))
  leader.receive({ type: 'heartbeat-response', from: 2, term: 2 })
  leader.ticks(1)
  assert.deepEqual(outline(leader.flush()), ['heartbeat->2'])
})

test('a node that was not heard of lately is sent no snapshot', () => {
  const leader = leaderOf(3, { checkQuorum: true })
  acknowledge(leader, leader.flush())
  leader.flush()
  // Node 3 falls silent; an election timeout later it counts as inactive.
  for (let round = 0; round < 20; round++) {
    leader.ticks(1)
    leader.receive({ type: 'heartbeat-response', from: 2, term: 1 })
  }
  leader.raw.propose(bytes('x'))
  acknowledge(
    leader,
    leader.flush().filter(message => message.to === 2),
  )
  leader.flush()
  leader.storage.createSnapshot(2, leader.status.confState, bytes('two'))
  leader.storage.compact(2)
  leader.raw.reportUnreachable(3)
  leader.raw.propose(bytes('y'))
  assert.deepEqual(outline(leader.flush()), ['append->2'])

  leader.receive({ type: 'heartbeat-response', from: 3, term: 1 })
  assert.deepEqual(outline(leader.flush()), ['snapshot->3'])
})

test('a snapshot that arrived is followed by a probe behind it', () => {
  const leader = leaderSendingSnapshot()
  leader.flush()
  leader.raw.reportSnapshot(2, true)
  assert.deepEqual(progressOf2(leader), ['probe', 0, 12, 0])
  assert.equal(leader.status.progress.get(2)?.isPaused, true)
})

test('a snapshot that failed is followed by a probe where it was, after the next heartbeat', () => {
  const leader = leaderSendingSnapshot()
  leader.flush()
  leader.raw.reportSnapshot(2, false)
  assert.deepEqual(progressOf2(leader), ['probe', 0, 1, 0])
  assert.deepEqual(leader.flush(), [])
  leader.receive({ type: 'heartbeat-response', from: 2, term: 2 })
  assert.deepEqual(outline(leader.flush()), ['snapshot->2'])
})

test('the follower’s own answer ends the snapshot, even at another index than the one sent', () => {
  for (const index of [11, 12]) {
    const leader = leaderSendingSnapshot()
    leader.flush()
    leader.receive({ type: 'append-response', from: 2, term: 2, index })
    assert.equal(leader.status.progress.get(2)?.state, 'replicate', `index ${index}`)
    leader.flush()
    assert.equal(leader.status.progress.get(2)?.next, 13)
  }
})

test('an answer that the log can not go on from does not end the snapshot', () => {
  const leader = leaderSendingSnapshot()
  leader.flush()
  leader.receive({ type: 'append-response', from: 2, term: 2, index: 5 })
  assert.deepEqual(progressOf2(leader), ['snapshot', 5, 12, 11])
  assert.deepEqual(leader.flush(), [], 'and no other snapshot is sent')
})

test('a follower takes a snapshot: log, commit index and membership', () => {
  const follower = followerIn(3, {}, { entries: log(1, 1, 2) })
  const snapshot = snapshotAt(11, 3, [1, 2, 3, 4], [5])
  follower.receive({ type: 'snapshot', from: 2, term: 3, snapshot })
  const [answer] = follower.flush()

  assert.deepEqual([answer?.type, answer?.index, answer?.reject], ['append-response', 11, false])
  assert.deepEqual([follower.status.commit, follower.status.applied], [11, 11])
  assert.deepEqual([follower.raw.log.firstIndex(), follower.raw.log.lastIndex()], [12, 11])
  assert.deepEqual(follower.status.confState, snapshot.metadata.confState)
  assert.deepEqual(follower.applied, [], 'what the snapshot covers is not applied again')
})

test('a snapshot takes the place of a longer log that conflicts, and of the membership in it', () => {
  // A log of a deposed leader, longer than the snapshot, with another entry at its index.
  const follower = followerIn(5, {}, { entries: log(1, 1, 2, 2, 2, 2) })
  follower.receive({ type: 'snapshot', from: 2, term: 5, snapshot: snapshotAt(4, 4, [1, 2, 3]) })
  follower.flush()

  assert.equal(follower.raw.log.lastIndex(), 4, 'no entry of the old log is left')
  assert.equal(follower.raw.log.term(4), 4)
})

test('a membership change that a snapshot replaces is not in force any more', () => {
  const cluster = Cluster.of(4)
  cluster.campaign(1)
  cluster.proposeChange(1, change([removeStep(4)]))
  const node = cluster.node(3)
  assert.deepEqual(node.status.confState.voters, [1, 2, 3])
  const { term } = node.status
  node.receive({ type: 'snapshot', from: 1, term, snapshot: snapshotAt(20, 1, [1, 3, 5, 6]) })
  node.flush()
  assert.deepEqual(node.status.confState.voters, [1, 3, 5, 6])
  node.raw.campaign()
  assert.deepEqual(outline(node.flush()), ['vote->1', 'vote->5', 'vote->6'])
})

test('a snapshot older than the commit index is refused, and the commit index is the answer', () => {
  for (const index of [2, 3]) {
    const hardState = { term: 3, vote: 0, commit: 3 }
    const follower = followerIn(3, {}, { entries: log(1, 1, 2, 2), hardState })
    const snapshot = snapshotAt(index, 9, [1, 7, 8])
    follower.receive({ type: 'snapshot', from: 2, term: 3, snapshot })
    const [answer] = follower.flush()

    assert.deepEqual([answer?.index, answer?.reject], [3, false])
    assert.deepEqual(follower.terms, [1, 1, 2, 2])
    assert.deepEqual(follower.status.confState.voters, [1, 2, 3])
  }
})

// 5.1: "entries following the snapshot are still valid and must be retained".
test('a snapshot older than one that is still being installed is refused', () => {
  const follower = followerIn(1, {}, { entries: log(1) })
  follower.receive({ type: 'snapshot', from: 2, term: 1, snapshot: snapshotAt(25, 1, [1, 2]) })
  // Nothing says that the first is installed: applied is behind both, and the log begins after 25.
  follower.receive({ type: 'snapshot', from: 2, term: 1, snapshot: snapshotAt(23, 1, [1, 2]) })

  assert.equal(follower.status.commit, 25)
})

test('a snapshot of a prefix of the log only moves the commit index', () => {
  const follower = followerIn(3, {}, { entries: log(1, 1, 2, 2, 2) })
  follower.receive({ type: 'snapshot', from: 2, term: 3, snapshot: snapshotAt(3, 2, [1, 2, 3]) })
  const [answer] = follower.flush()

  assert.equal(answer?.index, 3)
  assert.deepEqual([follower.status.commit, follower.raw.log.lastIndex()], [3, 5])
  assert.equal(follower.applied.length, 3)
})

test('a snapshot in which the node is no member is refused', () => {
  const follower = followerIn(3)
  follower.receive({ type: 'snapshot', from: 2, term: 3, snapshot: snapshotAt(11, 3, [2, 3]) })
  const [answer] = follower.flush()
  assert.equal(answer?.index, 0)
  assert.deepEqual(follower.status.confState.voters, [1, 2, 3])
})

test('a snapshot makes a node what it says: voter, learner, or voter on its way out', () => {
  const learner = followerIn(3)
  learner.receive({ type: 'snapshot', from: 2, term: 3, snapshot: snapshotAt(9, 3, [2, 3], [1]) })
  learner.flush()
  learner.ticks(60)
  assert.equal(learner.role, 'follower')

  const confState = { voters: [2], votersOutgoing: [1, 2, 3], learners: [], learnersNext: [1] }
  const leaving = followerIn(3)
  leaving.receive({
    type: 'snapshot',
    from: 2,
    term: 3,
    snapshot: {
      metadata: { index: 9, term: 3, confState: { ...confState, autoLeave: true } },
      data: bytes('s'),
    },
  })
  leaving.flush()
  assert.equal(leaving.status.confState.autoLeave, true)
  leaving.ticks(10)
  assert.equal(leaving.role, 'candidate', 'its vote still counts')
})

test('a node that is installing a snapshot does not campaign', () => {
  const follower = followerIn(3)
  follower.receive({ type: 'snapshot', from: 2, term: 3, snapshot: snapshotAt(9, 3, [1, 2, 3]) })
  const ready = follower.raw.ready()
  assert.equal(ready.snapshot?.metadata.index, 9)
  assert.deepEqual(ready.committedEntries, [])
  follower.raw.campaign()
  follower.ticks(30)
  assert.equal(follower.role, 'follower')

  follower.store(ready)
  follower.raw.advance()
  follower.raw.campaign()
  assert.equal(follower.role, 'candidate')
})

test('a follower far behind is caught up by snapshot and log together', () => {
  const cluster = Cluster.of(3)
  cluster.campaign(1)
  cluster.isolate(3)
  for (const data of ['a', 'b', 'c']) cluster.propose(1, data)
  const { storage } = cluster.node(1)
  const confState = cluster.node(1).status.confState
  storage.createSnapshot(3, confState, bytes('state at 3'))
  storage.compact(3)
  cluster.heal()
  for (let round = 0; round < 3; round++) cluster.tick(1)

  assert.equal(cluster.node(3).status.commit, 4)
  assert.equal(cluster.node(3).storage.snapshot().metadata.index, 3)
  assert.deepEqual(
    cluster.node(3).applied.map(one => one.index),
    [1, 4],
  )
  assert.equal(cluster.node(1).status.progress.get(3)?.state, 'replicate')
})

test('while no snapshot can be had, none is sent and none is waited for', () => {
  class Busy extends MemoryStorage {
    isBusy = true
    override snapshot(): ReturnType<MemoryStorage['snapshot']> {
      // The interface allows a storage to say so; the memory storage itself never does.
      return this.isBusy ? ('unavailable' as never) : super.snapshot()
    }
  }
  const storage = new Busy()
  storage.applySnapshot(snapshotAt(11, 1, [1, 2]))
  storage.setHardState({ term: 1, vote: 0, commit: 11 })
  const leader = new TestNode(1, storage, { appliedIndex: 11 })
  elect(leader)
  leader.flush()
  leader.receive({ type: 'append-response', from: 2, term: 2, index: 11, reject: true })
  assert.deepEqual(leader.flush(), [])
  assert.equal(leader.status.progress.get(2)?.state, 'probe')

  storage.isBusy = false
  leader.receive({ type: 'heartbeat-response', from: 2, term: 2 })
  assert.deepEqual(outline(leader.flush()), ['snapshot->2'])
})

test('reports about snapshots nobody waits for change nothing', () => {
  const leader = leaderWithSnapshot()
  const before = progressOf2(leader)
  leader.raw.reportSnapshot(2, true)
  leader.raw.reportSnapshot(9, false)
  assert.deepEqual(progressOf2(leader), before)
  const follower = new TestNode(1, storageWith({ voters: [1, 2] }))
  follower.raw.reportSnapshot(2, true)
  assert.equal(follower.role, 'follower')
})
