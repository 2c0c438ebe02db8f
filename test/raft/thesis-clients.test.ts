/**
 * What clients rely on: linearizable reads without log entries (thesis 6.4), forwarding (6.2), and
 * leadership transfer (3.10). Each test quotes the sentence it checks.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Message, createMessage } from '../../src/raft/types.ts'
import {
  Cluster,
  TestNode,
  acknowledge,
  bytes,
  change,
  elect,
  entry,
  followerIn,
  leaderOf,
  learnerStep,
  log,
  outline,
  removeStep,
  storageWith,
  text,
} from './kit.ts'

/** A leader of three whose first entry is committed. */
function readyLeader(options = {}): TestNode {
  const leader = leaderOf(3, options)
  acknowledge(leader, leader.flush())
  leader.flush()
  return leader
}

function reads(node: TestNode): [string, number][] {
  return node.readStates.map((state): [string, number] => [text(state.context), state.index])
}

function answer(node: TestNode, heartbeat: Message | undefined): void {
  assert(heartbeat?.type === 'heartbeat')
  const { to, term, context } = heartbeat
  node.receive({ type: 'heartbeat-response', from: to, term, context })
}

// 6.4: "If the leader has not yet marked an entry from its current term committed, it waits until it
// has done so."
test('a read on a leader that has committed nothing in its term waits for that', () => {
  const hardState = { term: 1, vote: 0, commit: 1 }
  const leader = leaderOf(3, {}, { entries: log(1, 1), hardState })
  leader.raw.readIndex(bytes('r'))
  const sent = leader.flush()
  assert.equal(
    sent.some(message => message.context.length > 0),
    false,
  )

  // An answer to any heartbeat now must not confirm it: entry 2 may be committed and isn't known to be.
  leader.receive({ type: 'heartbeat-response', from: 2, term: 2 })
  leader.flush()
  assert.deepEqual(reads(leader), [])

  leader.receive({ type: 'append-response', from: 2, term: 2, index: 3 })
  const round = leader.flush().filter(message => message.type === 'heartbeat')
  answer(leader, round[0])
  leader.flush()
  assert.deepEqual(reads(leader), [['r', 3]])
})

test('a lone voter, too, waits: what it has stored as committed may be old', () => {
  const hardState = { term: 1, vote: 1, commit: 1 }
  const entries = [entry(1, 1), entry(1, 2, 'acknowledged before the restart')]
  const node = new TestNode(1, storageWith({ voters: [1], entries, hardState }))
  node.raw.campaign()
  node.handleReady()
  assert.equal(node.role, 'leader')
  node.raw.readIndex(bytes('r'))
  node.flush()

  assert.deepEqual(reads(node), [['r', 3]])
})

// 6.4: "It issues a new round of heartbeats and waits for their acknowledgments from a majority of the
// cluster."
test('a read is confirmed by a majority that answers a heartbeat sent after it', () => {
  const leader = readyLeader()
  leader.ticks(1)
  const [before] = leader.flush()
  leader.raw.readIndex(bytes('r'))
  const [to2, to3] = leader.flush()
  assert.deepEqual(outline([to2, to3].filter(one => one !== undefined)), [
    'heartbeat->2',
    'heartbeat->3',
  ])

  answer(leader, before)
  leader.flush()
  assert.deepEqual(reads(leader), [], 'that heartbeat was sent before the read')
  answer(leader, to3)
  leader.flush()
  assert.deepEqual(reads(leader), [['r', 1]])
})

// 6.4: "The leader saves its current commit index in a local variable readIndex."
test('a read gets the commit index as of its request, not of its confirmation', () => {
  const leader = readyLeader()
  leader.raw.readIndex(bytes('r'))
  const round = leader.flush()
  leader.raw.propose(bytes('x'))
  acknowledge(leader, leader.flush())
  leader.flush()
  assert.equal(leader.status.commit, 2)

  answer(leader, round[0])
  leader.flush()
  assert.deepEqual(reads(leader), [['r', 1]])
})

test('two reads with equal contexts are told apart, and each gets an index that is new enough', () => {
  const leader = readyLeader()
  leader.raw.readIndex(bytes('same'))
  leader.flush()
  leader.raw.propose(bytes('x'))
  acknowledge(leader, leader.flush())
  leader.flush()
  leader.raw.readIndex(bytes('same'))
  const round = leader.flush()

  answer(leader, round.at(-1))
  leader.flush()
  assert.deepEqual(reads(leader), [
    ['same', 1],
    ['same', 2],
  ])
})

// 6.4: "it can use a single round of heartbeats for any number of read-only queries that it has
// accumulated."
test('one round confirms all reads before it', () => {
  const leader = readyLeader()
  for (const context of ['a', 'b', 'c']) leader.raw.readIndex(bytes(context))
  const round = leader.flush()
  answer(leader, round.at(-1))
  leader.flush()
  assert.deepEqual(
    reads(leader).map(([context]) => context),
    ['a', 'b', 'c'],
  )
})

test('a lost round is made up for by the next heartbeat', () => {
  const leader = readyLeader()
  leader.raw.readIndex(bytes('r'))
  leader.flush()
  leader.ticks(1)
  answer(leader, leader.flush()[0])
  leader.flush()
  assert.deepEqual(reads(leader), [['r', 1]])
})

test('a follower asks its leader and hands out the answer', () => {
  const cluster = Cluster.of(3)
  cluster.campaign(1)
  cluster.propose(1, 'x')
  cluster.node(2).raw.readIndex(bytes('r'))
  cluster.settle()
  assert.deepEqual(reads(cluster.node(2)), [['r', 2]])
  assert.deepEqual(reads(cluster.node(1)), [])
})

test('a deposed leader that is cut off confirms no read', () => {
  const cluster = Cluster.of(3)
  cluster.campaign(1)
  cluster.isolate(1)
  cluster.campaign(2)
  cluster.propose(2, 'new')
  cluster.node(1).raw.readIndex(bytes('stale'))
  cluster.tick(1, 5)
  assert.deepEqual(reads(cluster.node(1)), [])

  cluster.heal()
  cluster.tick(1, 2)
  cluster.tick(2, 2)
  assert.deepEqual(reads(cluster.node(1)), [], 'the read is lost with the leadership')
})

test('answers to an earlier leadership’s rounds confirm nothing', () => {
  const leader = readyLeader()
  leader.raw.readIndex(bytes('old'))
  const [oldRound] = leader.flush()
  leader.receive({ type: 'heartbeat', from: 2, term: 2 })
  leader.flush()
  elect(leader)
  acknowledge(leader, leader.flush())
  leader.flush()
  leader.raw.readIndex(bytes('new'))
  leader.flush()

  answer(leader, oldRound)
  leader.flush()
  assert.deepEqual(reads(leader), [])

  leader.ticks(1)
  answer(leader, leader.flush()[0])
  leader.flush()
  assert.deepEqual(
    reads(leader).map(([context]) => context),
    ['new'],
    'the old read is gone',
  )
})

test('a read that waited for the first commit of a leadership is gone with it', () => {
  const leader = leaderOf(3)
  leader.raw.readIndex(bytes('early'))
  leader.flush()
  leader.receive({ type: 'heartbeat', from: 2, term: 2 })
  leader.flush()
  elect(leader)
  acknowledge(leader, leader.flush())
  const round = leader.flush()
  assert.equal(
    round.some(message => message.type === 'heartbeat'),
    false,
  )
})

test('a node without a leader drops reads', () => {
  const node = new TestNode(1, storageWith({ voters: [1, 2, 3] }))
  node.raw.readIndex(bytes('r'))
  assert.deepEqual(node.flush(), [])
  node.raw.campaign()
  node.flush()
  node.raw.readIndex(bytes('r'))
  assert.deepEqual(node.flush(), [])
})

test('a learner’s answers confirm no read', () => {
  const leader = new TestNode(1, storageWith({ voters: [1, 2], learners: [3] }))
  elect(leader)
  acknowledge(leader, leader.flush())
  leader.flush()
  leader.raw.readIndex(bytes('r'))
  const round = leader.flush()
  answer(
    leader,
    round.find(message => message.to === 3),
  )
  leader.flush()
  assert.deepEqual(reads(leader), [])
})

test('a leader that became a learner beside a lone voter needs that voter’s word', () => {
  const leader = new TestNode(1, storageWith({ voters: [1, 2] }))
  elect(leader)
  acknowledge(leader, leader.flush())
  leader.raw.proposeConfChange(change([learnerStep(1)]))
  acknowledge(leader, leader.flush())
  leader.flush()
  assert.deepEqual(leader.status.confState.voters, [2])
  leader.raw.readIndex(bytes('r'))
  const round = leader.flush().filter(message => message.context.length > 0)
  assert.deepEqual(reads(leader), [])
  answer(leader, round[0])
  leader.flush()
  assert.deepEqual(
    reads(leader).map(([context]) => context),
    ['r'],
  )
})

// 6.4.1: "the normal heartbeat mechanism would provide a form of lease".
test('with leases a read is answered at once, by a leader that has committed in its term', () => {
  const leader = leaderOf(3, { readOnly: 'lease', checkQuorum: true })
  leader.raw.readIndex(bytes('early'))
  const messages = leader.flush()
  assert.deepEqual(reads(leader), [])
  acknowledge(leader, messages)
  leader.flush()
  leader.raw.readIndex(bytes('r'))
  leader.flush()
  assert.deepEqual(reads(leader), [
    ['early', 1],
    ['r', 1],
  ])
})

test('a leader that told another to campaign has no lease any more', () => {
  const leader = readyLeader({ readOnly: 'lease', checkQuorum: true })
  leader.raw.transferLeader(2)
  leader.raw.readIndex(bytes('r'))
  const messages = leader.flush()
  assert.deepEqual(reads(leader), [])
  leader.ticks(10)
  assert.equal(leader.status.leadTransferee, 0)
  leader.raw.readIndex(bytes('later'))
  leader.flush()
  assert.deepEqual(reads(leader), [], 'the other may still campaign')

  answer(
    leader,
    messages.find(message => message.type === 'heartbeat'),
  )
  leader.flush()
  assert.deepEqual(reads(leader), [['r', 1]])
})

test('leases need check quorum', () => {
  assert.throws(() => leaderOf(3, { readOnly: 'lease' }), /needs checkQuorum/)
})

test('a follower that rests on leases does not forget its leader; any other does', () => {
  const bound = followerIn(1, { readOnly: 'lease', checkQuorum: true })
  bound.raw.forgetLeader()
  assert.equal(bound.status.lead, 2)

  const free = followerIn(1, { checkQuorum: true })
  free.raw.forgetLeader()
  assert.deepEqual([free.status.lead, free.role, free.status.term], [0, 'follower', 1])
  free.receive({ type: 'vote', from: 3, term: 2 })
  assert.deepEqual(
    free.flush().map(message => message.reject),
    [false],
  )
})

// 3.10: "1. The prior leader stops accepting new client requests."
test('while leadership is handed over, proposals are dropped', () => {
  const leader = readyLeader()
  leader.raw.propose(bytes('x'))
  leader.flush()
  leader.raw.transferLeader(2)
  assert.deepEqual(leader.raw.propose(bytes('y')), { type: 'dropped', reason: 'transferring' })
})

// 3.10: "2. The prior leader fully updates the target server's log to match its own [...] 3. The prior
// leader sends a TimeoutNow request to the target server."
test('leadership goes to a target that has everything, at once', () => {
  const leader = readyLeader()
  leader.raw.transferLeader(3)
  assert.deepEqual(outline(leader.flush()), ['timeout-now->3'])
})

test('a target that lags is brought up to date before it is told to campaign', () => {
  const leader = readyLeader()
  leader.raw.propose(bytes('x'))
  leader.flush()
  leader.raw.transferLeader(3)
  assert.equal(
    leader.flush().some(message => message.type === 'timeout-now'),
    false,
  )
  leader.receive({ type: 'append-response', from: 3, term: 1, index: 2 })
  assert.equal(outline(leader.flush()).includes('timeout-now->3'), true)
})

test('a group hands over in one round, without waiting for any timeout', () => {
  const options = { preVote: true, checkQuorum: true }
  const cluster = Cluster.of(3, options)
  cluster.campaign(1)
  cluster.isolate(2)
  cluster.propose(1, 'x')
  cluster.heal()
  cluster.node(1).raw.transferLeader(2)
  cluster.settle()
  cluster.tick(1, 1)

  assert.deepEqual(cluster.leaders, [2])
  assert.equal(cluster.node(2).status.term, 2)
  assert.equal(cluster.propose(2, 'y').type, 'appended')
})

test('a follower that is asked to hand over passes that on to the leader', () => {
  const cluster = Cluster.of(3)
  cluster.campaign(1)
  cluster.node(2).raw.transferLeader(3)
  cluster.settle()
  assert.deepEqual(cluster.leaders, [3])
})

// 3.10: "If leadership transfer does not complete after about an election timeout, the prior leader
// aborts the transfer and resumes accepting client requests."
test('a transfer that takes an election timeout is given up', () => {
  const leader = readyLeader()
  leader.raw.transferLeader(2)
  leader.ticks(9)
  assert.equal(leader.raw.propose(bytes('x')).type, 'dropped')
  leader.ticks(1)
  assert.equal(leader.raw.propose(bytes('x')).type, 'appended')
})

test('a second target replaces the first; the same one, the leader, learners and strangers do not', () => {
  const leader = new TestNode(1, storageWith({ voters: [1, 2, 3], learners: [4] }))
  elect(leader)
  for (const to of [1, 4, 9]) {
    leader.raw.transferLeader(to)
    assert.equal(leader.status.leadTransferee, 0, `target ${to}`)
  }
  leader.raw.transferLeader(2)
  leader.ticks(5)
  leader.raw.transferLeader(2)
  leader.ticks(5)
  assert.equal(leader.status.leadTransferee, 0, 'asking again gives no more time')
  leader.raw.transferLeader(2)
  leader.raw.transferLeader(3)
  assert.equal(leader.status.leadTransferee, 3)
})

test('a target that is removed ends the transfer', () => {
  const leader = readyLeader()
  leader.raw.proposeConfChange(change([removeStep(3)]))
  const messages = leader.flush()
  leader.raw.transferLeader(3)
  acknowledge(
    leader,
    messages.filter(message => message.to === 2),
  )
  leader.flush()
  assert.equal(leader.status.leadTransferee, 0)
})

test('whoever steps down hands nothing over any more', () => {
  const leader = readyLeader()
  leader.raw.transferLeader(2)
  leader.receive({ type: 'heartbeat', from: 3, term: 4 })
  assert.equal(leader.status.leadTransferee, 0)
})

// 4.2.3, of transfers: "RequestVote messages should be processed by other servers even when they believe a
// current cluster leader exists."
test('a campaign of a transfer needs no silence of the leader, and asks nobody first', () => {
  const target = followerIn(1, { preVote: true, checkQuorum: true })
  target.receive({ type: 'timeout-now', from: 2, term: 1 })
  const [vote] = target.flush()
  assert.deepEqual([vote?.type, target.status.term], ['vote', 2])

  const voter = followerIn(1, { preVote: true, checkQuorum: true })
  voter.raw.step({ ...createMessage({ type: 'vote', to: 1 }), ...vote, from: 3 })
  assert.deepEqual(
    voter.flush().map(message => message.reject),
    [false],
  )
})

// 6.2 leaves it open whether a server that does not lead rejects a request or passes it on.
test('a follower passes proposals on, unless it must not or knows no leader', () => {
  const follower = followerIn(1)
  assert.deepEqual(follower.raw.propose(bytes('x')), { type: 'forwarded', to: 2 })
  const [message] = follower.flush()
  assert.deepEqual([message?.type, message?.to, message?.term], ['propose', 2, 0])

  const closed = followerIn(1, { disableProposalForwarding: true })
  assert.deepEqual(closed.raw.propose(bytes('x')), { type: 'dropped', reason: 'not-forwarding' })
  const alone = new TestNode(1, storageWith({ voters: [1, 2, 3] }))
  assert.deepEqual(alone.raw.propose(bytes('x')), { type: 'dropped', reason: 'no-leader' })
  alone.raw.campaign()
  assert.deepEqual(alone.raw.propose(bytes('x')), { type: 'dropped', reason: 'no-leader' })
})
