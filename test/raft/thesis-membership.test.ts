/**
 * Changes of membership (chapter 4 of the Raft thesis, and the bug of 2015 in its single-server
 * changes). A change is in force here when it is applied, not when it is appended.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeConfChange } from '../../src/raft/conf-change.ts'
import { type ConfChange, EMPTY_BYTES, type Entry, type Message } from '../../src/raft/types.ts'
import {
  Cluster,
  TestNode,
  acknowledge,
  change,
  entry,
  leaderOf,
  learnerStep,
  log,
  outline,
  removeStep,
  storageWith,
  voterStep,
} from './kit.ts'

function configEntry(term: number, index: number, one: ConfChange): Entry {
  return { term, index, type: 'config', data: encodeConfChange(one) }
}

/**
 * A group of `count` with a leader that has committed, plus nodes that are not in it yet. They know the
 * first members, as everybody does: those are in no log.
 */
function groupOf(count: number, newcomers: number, options = {}): Cluster {
  const cluster = Cluster.of(count, options)
  for (let id = count + 1; id <= count + newcomers; id++) {
    const voters = Array.from({ length: count }, (_, position) => position + 1)
    cluster.add(new TestNode(id, storageWith({ voters }), options))
  }
  cluster.campaign(1)
  return cluster
}

test('a voter that is added catches up and counts', () => {
  const cluster = groupOf(1, 1)
  cluster.proposeChange(1, change([voterStep(2)]))

  assert.deepEqual(cluster.node(1).status.confState.voters, [1, 2])
  assert.deepEqual(cluster.node(2).status.confState.voters, [1, 2])
  cluster.isolate(2)
  const before = cluster.node(1).status.commit
  cluster.propose(1, 'x')
  assert.equal(cluster.node(1).status.commit, before, 'one of two is no majority')
})

// 4.1: "Raft restricts the types of changes that are allowed: only one server can be added or removed from
// the cluster at a time."
test('only one change waits at a time: a second one becomes an empty entry', () => {
  const leader = leaderOf(3)
  acknowledge(leader, leader.flush())
  leader.flush()

  leader.raw.proposeConfChange(change([voterStep(4)]))
  leader.raw.proposeConfChange(change([voterStep(5)]))

  const added = leader.entries.slice(1)
  assert.deepEqual(
    added.map(one => one.type),
    ['config', 'normal'],
  )
  assert.equal(added[1]?.data.length, 0)
})

test('a change that is committed but not applied still waits', () => {
  const leader = leaderOf(1)
  leader.flush()
  leader.raw.proposeConfChange(change([learnerStep(2)]))
  const stored = leader.raw.ready()
  leader.store(stored)
  leader.raw.advance()
  assert.equal(leader.status.commit, 2)
  assert.equal(leader.status.applied, 1)

  leader.raw.proposeConfChange(change([learnerStep(3)]))
  assert.equal(leader.entries.at(-1)?.type, 'normal')

  leader.flush()
  leader.raw.proposeConfChange(change([learnerStep(3)]))
  assert.equal(leader.entries.at(-1)?.type, 'config')
})

// The correction of 2015: "a leader may not append a new configuration entry until it has committed an
// entry from its current term."
test('a new leader changes nothing before its own first entry is applied', () => {
  const leader = leaderOf(3)
  leader.flush()
  leader.raw.proposeConfChange(change([voterStep(4)]))
  // Its first entry is not committed: nobody has answered.
  assert.equal(
    leader.entries.at(-1)?.type,
    'config',
    'an empty log holds no change that could wait',
  )

  const later = leaderOf(3, {}, { entries: log(1), hardState: { term: 1, vote: 0, commit: 0 } })
  later.raw.proposeConfChange(change([voterStep(4)]))
  assert.equal(later.entries.at(-1)?.type, 'normal')
  acknowledge(later, later.flush())
  later.flush()
  later.raw.proposeConfChange(change([voterStep(4)]))
  assert.equal(later.entries.at(-1)?.type, 'config')
})

// What the two rules above prevent. Nodes 4 and 5 are added by two changes that are both in the log
// before either is in force; both are committed by a majority of the three old nodes. Were both allowed,
// then the nodes that have applied them (five voters) and those that have not (three) could each find a
// majority among themselves.
test('two changes that wait at a time can not lead to two leaders in a term', () => {
  const cluster = groupOf(3, 2)
  cluster.isLost = message => message.to === 3 || (message.to === 2 && message.commit > 1)
  cluster.node(1).raw.proposeConfChange(change([voterStep(4)]))
  cluster.node(1).raw.proposeConfChange(change([voterStep(5)]))
  cluster.settle()
  cluster.tick(1, 2)
  assert.equal(cluster.node(1).status.confState.voters.includes(4), true)

  cluster.isLost = message => [2, 3].includes(message.to) !== [2, 3].includes(message.from)
  cluster.campaign(2)
  assert.equal(cluster.node(2).role, 'leader')
  cluster.campaign(4)

  assert.notEqual(cluster.node(4).role, 'leader')
})

test('a change that a new leader found in its log and one of its own can not, either', () => {
  const cluster = groupOf(3, 2)
  cluster.isLost = message => message.to === 3
  cluster.node(1).raw.proposeConfChange(change([voterStep(4)]))
  cluster.node(2).raw.step({ ...lastAppend(cluster.node(1), 2) })
  cluster.node(2).flush()
  // Node 2 is elected, and proposes before it has heard from anybody what they have.
  cluster.isLost = message => [message.to, message.from].includes(1) || message.type === 'append'
  cluster.campaign(2)
  assert.equal(cluster.node(2).role, 'leader')
  cluster.node(2).raw.proposeConfChange(change([voterStep(5)]))
  cluster.isLost = message =>
    [message.to, message.from].includes(1) || (message.to === 3 && message.commit > 1)
  cluster.tick(2, 2)
  assert.equal(cluster.node(2).status.confState.voters.includes(4), true)

  cluster.isLost = message => [1, 3].includes(message.to) !== [1, 3].includes(message.from)
  cluster.campaign(3)
  assert.equal(cluster.node(3).role, 'leader')
  cluster.campaign(4)

  assert.notEqual(cluster.node(4).role, 'leader')
})

/** The last append message that a node has for another; nothing else of it is delivered. */
function lastAppend(node: TestNode, to: number): Message {
  const message = node.flush().findLast(one => one.type === 'append' && one.to === to)
  assert(message !== undefined)
  return message
}

test('a node with a committed change that it has not applied does not campaign', () => {
  const entries = [entry(1, 1), configEntry(1, 2, change([voterStep(4)]))]
  const hardState = { term: 1, vote: 0, commit: 2 }
  const node = new TestNode(1, storageWith({ voters: [1, 2, 3], entries, hardState }))

  node.raw.campaign()
  assert.equal(node.role, 'follower')
  node.ticks(20)
  assert.equal(node.role, 'follower')
  node.receive({ type: 'timeout-now', from: 2, term: 1 })
  assert.equal(node.role, 'follower', 'not even if the leader tells it to')

  node.flush()
  node.raw.campaign()
  assert.equal(node.role, 'candidate')
  assert.deepEqual(outline(node.flush()), ['vote->2', 'vote->3', 'vote->4'])
})

test('a change that is not committed keeps nobody from campaigning', () => {
  const entries = [entry(1, 1), configEntry(1, 2, change([voterStep(4)]))]
  const hardState = { term: 1, vote: 0, commit: 1 }
  const node = new TestNode(1, storageWith({ voters: [1, 2, 3], entries, hardState }))
  node.raw.campaign()
  assert.equal(node.role, 'candidate')
})

// 4.2.1: "a new server joins the cluster as a non-voting member. The leader replicates log entries to
// it, but it is not yet counted towards majorities for voting or commitment purposes."
test('a learner receives everything, commits nothing and elects nobody', () => {
  const cluster = groupOf(2, 1)
  cluster.proposeChange(1, change([learnerStep(3)]))
  cluster.propose(1, 'a')
  assert.deepEqual(cluster.node(3).entries, cluster.node(1).entries)
  assert.equal(cluster.node(3).applied.length, cluster.node(1).applied.length)

  cluster.isolate(2)
  const before = cluster.node(1).status.commit
  cluster.propose(1, 'b')
  assert.equal(cluster.node(1).status.commit, before)
  cluster.campaign(1)
  assert.deepEqual(cluster.leaders, [1])
})

test('a learner never campaigns', () => {
  const learner = new TestNode(3, storageWith({ voters: [1, 2], learners: [3] }))
  learner.ticks(50)
  assert.equal(learner.role, 'follower')
  learner.raw.campaign()
  learner.receive({ type: 'timeout-now', from: 1, term: 1 })
  assert.equal(learner.role, 'follower')
})

test('a node that is no member never campaigns', () => {
  const stranger = new TestNode(9, storageWith({ voters: [1, 2, 3] }))
  stranger.ticks(50)
  stranger.raw.campaign()
  assert.equal(stranger.role, 'follower')
})

test('a learner votes when it is asked: it may be a voter and not know it', () => {
  const learner = new TestNode(3, storageWith({ voters: [1, 2], learners: [3] }))
  learner.receive({ type: 'vote', from: 2, term: 2, index: 5, logTerm: 1 })
  assert.deepEqual(
    learner.flush().map(message => message.reject),
    [false],
  )
})

test('a learner that was promoted campaigns', () => {
  const cluster = groupOf(2, 1)
  cluster.proposeChange(1, change([learnerStep(3)]))
  cluster.proposeChange(1, change([voterStep(3)]))
  cluster.campaign(3)
  assert.equal(cluster.node(3).role, 'leader')
})

test('a member that is removed is fed no more and its answers count no more', () => {
  const cluster = groupOf(3, 0)
  cluster.proposeChange(1, change([removeStep(3)]))
  cluster.propose(1, 'x')

  assert.deepEqual([...cluster.node(1).status.progress.keys()], [1, 2])
  assert(cluster.node(3).entries.length < cluster.node(1).entries.length)
  cluster.node(3).ticks(50)
  assert.equal(cluster.node(1).role, 'leader')
})

test('removing a member may commit what was waiting for it', () => {
  const cluster = groupOf(4, 0)
  cluster.isolate(3, 4)
  cluster.propose(1, 'x')
  const waiting = cluster.node(1).raw.log.lastIndex()
  assert(cluster.node(1).status.commit < waiting)
  cluster.isLost = message => [message.to, message.from].includes(4)
  cluster.proposeChange(1, change([removeStep(4)]))
  cluster.tick(1, 2)
  assert.equal(cluster.node(1).status.commit, waiting + 1)
})

// 4.2.2: "a leader that is removed from the configuration steps down once the Cnew entry is committed."
test('a leader that is removed steps down when that is applied', () => {
  const cluster = groupOf(3, 0, { stepDownOnRemoval: true })
  cluster.proposeChange(1, change([removeStep(1)]))

  assert.equal(cluster.node(1).role, 'follower')
  assert.deepEqual(cluster.node(2).status.confState.voters, [2, 3])
  cluster.campaign(2)
  assert.deepEqual(cluster.leaders, [2])
})

test('a leader that becomes a learner steps down, too', () => {
  const cluster = groupOf(3, 0, { stepDownOnRemoval: true })
  cluster.proposeChange(1, change([learnerStep(1)]))
  assert.equal(cluster.node(1).role, 'follower')
})

test('without stepping down, a leader that was removed neither counts itself nor takes proposals', () => {
  const leader = leaderOf(3)
  acknowledge(leader, leader.flush())
  leader.flush()
  leader.raw.proposeConfChange(change([removeStep(1)]))
  leader.raw.propose(EMPTY_BYTES)
  leader.flush()
  leader.receive({ type: 'append-response', from: 2, term: 1, index: 2 })
  leader.flush()
  assert.deepEqual(leader.status.confState.voters, [2, 3])

  leader.receive({ type: 'append-response', from: 2, term: 1, index: 3 })
  assert.equal(leader.status.commit, 2, 'itself and node 2 are no longer a majority')
  leader.receive({ type: 'append-response', from: 3, term: 1, index: 3 })
  assert.equal(leader.status.commit, 3)
  assert.deepEqual(leader.raw.propose(EMPTY_BYTES), { type: 'dropped', reason: 'not-a-member' })
})

// 4.3: "Agreement" in a joint membership needs "majorities from both the old and new configurations".
test('a joint membership commits with both majorities only', () => {
  const cluster = groupOf(3, 3)
  const steps = [4, 5, 6].map(voterStep).concat([1, 2, 3].map(removeStep))
  cluster.proposeChange(1, change(steps, { transition: 'explicit' }))
  const { confState } = cluster.node(1).status
  assert.deepEqual(
    [confState.voters, confState.votersOutgoing],
    [
      [4, 5, 6],
      [1, 2, 3],
    ],
  )
  const waits = (lost: number[]): boolean => {
    const before = cluster.node(1).status.commit
    cluster.isLost = message => lost.includes(message.to) || lost.includes(message.from)
    cluster.propose(1, 'x')
    const isWaiting = cluster.node(1).status.commit === before
    cluster.heal()
    cluster.tick(1, 2)
    return isWaiting
  }
  assert.equal(waits([]), false)
  assert.equal(waits([3, 6]), false)
  assert.equal(waits([5, 6]), true, 'no majority of the new half')
  assert.equal(waits([2, 3]), true, 'no majority of the old half')
})

test('a joint membership elects with both majorities only', () => {
  const confState = { voters: [1, 5, 6], votersOutgoing: [1, 2, 3], learners: [], learnersNext: [] }
  const cases = [
    { granted: [5, 6], isElected: false },
    { granted: [2, 3], isElected: false },
    { granted: [2, 5], isElected: true },
  ]
  for (const { granted, isElected } of cases) {
    const storage = storageWith({})
    storage.applySnapshot({
      metadata: { index: 4, term: 1, confState: { ...confState, autoLeave: false } },
      data: EMPTY_BYTES,
    })
    const node = new TestNode(1, storage)
    node.raw.campaign()
    node.flush()
    for (const from of granted) node.receive({ type: 'vote-response', from, term: 1 })
    assert.equal(node.role, isElected ? 'leader' : 'candidate', granted.join())
  }
})

test('a joint membership that is to be left automatically is left once it is applied', () => {
  const cluster = groupOf(3, 1)
  cluster.proposeChange(1, change([voterStep(4), removeStep(3)]))

  for (const id of [1, 2, 4]) {
    const { confState } = cluster.node(id).status
    assert.deepEqual([confState.voters, confState.votersOutgoing], [[1, 2, 4], []], `node ${id}`)
  }
  const configs = cluster.node(1).applied.filter(one => one.type === 'config')
  assert.equal(configs.length, 2, 'entered once and left once')
})

test('a new leader leaves a joint membership that the last one entered', () => {
  const cluster = groupOf(3, 1)
  // The leader is cut off as soon as the joint membership is in force.
  cluster.isLost = message =>
    message.from === 1 && cluster.node(1).status.confState.votersOutgoing.length > 0
  cluster.node(1).raw.proposeConfChange(change([voterStep(4), removeStep(3)]))
  cluster.settle()
  cluster.isLost = message => message.from === 1 || message.to === 1
  cluster.campaign(2)
  cluster.campaign(2)
  cluster.heal()
  for (const id of cluster.leaders) cluster.tick(id, 3)

  const leader = cluster.leaders.find(id => id !== 1) ?? 1
  assert.deepEqual(cluster.node(leader).status.confState.votersOutgoing, [])
})

test('a joint membership entered explicitly is left by an empty change only', () => {
  const cluster = groupOf(3, 1)
  const joint = change([voterStep(4)], { transition: 'explicit' })
  cluster.proposeChange(1, joint)
  assert.deepEqual(cluster.node(1).status.confState.votersOutgoing, [1, 2, 3])

  cluster.proposeChange(1, change([voterStep(5)]))
  assert.deepEqual(cluster.node(1).status.confState.voters, [1, 2, 3, 4])
  cluster.proposeChange(1, change([]))
  assert.deepEqual(cluster.node(1).status.confState.votersOutgoing, [])
  cluster.proposeChange(1, change([]))
  const last = cluster.node(1).entries.at(-1)
  assert.deepEqual([last?.type, last?.data.length], ['normal', 0], 'there is nothing to leave')
})

test('a joint membership is left once, though entries are applied while the leaving waits', () => {
  const leader = leaderOf(1, { maxCommittedSizePerReadyBytes: 1 })
  leader.flush()
  leader.raw.proposeConfChange(change([learnerStep(2), learnerStep(3)]))
  leader.raw.proposeBatch([EMPTY_BYTES, EMPTY_BYTES])
  leader.flush()

  const types = leader.entries.map(one => one.type)
  assert.deepEqual(types, ['normal', 'config', 'normal', 'normal', 'config'])
  assert.deepEqual(leader.status.confState.learners, [2, 3])
})

test('automatic leaving waits for a transfer and is tried again', () => {
  const leader = leaderOf(2)
  acknowledge(leader, leader.flush())
  leader.flush()
  leader.raw.proposeConfChange(change([voterStep(3), voterStep(4)]))
  acknowledge(leader, leader.flush())
  leader.raw.transferLeader(2)
  leader.flush()
  const { confState } = leader.status
  assert.deepEqual([confState.votersOutgoing, confState.autoLeave], [[1, 2], true])
  const joinedAt = leader.raw.log.lastIndex()

  leader.ticks(10)
  assert.equal(leader.status.leadTransferee, 0)
  leader.raw.propose(EMPTY_BYTES)
  const messages = leader.flush()
  acknowledge(leader, messages)
  leader.receive({ type: 'append-response', from: 3, term: 1, index: joinedAt + 1 })
  leader.flush()
  assert.equal(leader.entries.filter(one => one.type === 'config').length, 2)
})

test('a leader demoted in a joint membership and then removed does not fail', () => {
  const cluster = groupOf(3, 1)
  cluster.proposeChange(1, change([learnerStep(1), voterStep(4)]))
  cluster.proposeChange(1, change([removeStep(1)]))
  cluster.tick(1, 3)
  cluster.campaign(2)
  cluster.proposeChange(2, change([removeStep(1)]))
  assert.equal(cluster.node(2).status.confState.learners.includes(1), false)
})

// 4.2.3: "Without additional mechanism, servers not in Cnew can disrupt the cluster."
test('a removed node that does not know it can not disturb the leader', () => {
  const cluster = groupOf(3, 0, { preVote: true, checkQuorum: true })
  cluster.isolate(3)
  cluster.proposeChange(1, change([removeStep(3)]))
  cluster.heal()
  const { term } = cluster.node(1).status
  cluster.tick(1, 1)
  cluster.tick(3, 60)

  assert.deepEqual(cluster.leaders, [1])
  assert.equal(cluster.node(1).status.term, term)
})
