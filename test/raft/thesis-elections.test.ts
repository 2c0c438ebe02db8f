/**
 * Terms and elections, as the Raft thesis has them ("Consensus: Bridging Theory and Practice", 2014).
 * Each test quotes the sentence it checks and names its section.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { MessageType, Role } from '../../src/raft/types.ts'
import {
  Cluster,
  type Options,
  TestNode,
  elect,
  followerIn,
  leaderOf,
  log,
  outline,
  storageWith,
} from './kit.ts'

function candidateOf(count: number, options: Options = {}): TestNode {
  const voters = Array.from({ length: count }, (_, position) => position + 1)
  const node = new TestNode(1, storageWith({ voters }), options)
  node.raw.campaign()
  node.flush()
  return node
}

function nodeInRole(role: Role): TestNode {
  if (role === 'leader') return leaderOf(3)
  if (role === 'candidate') return candidateOf(3)
  if (role === 'pre-candidate') return candidateOf(3, { preVote: true })
  return followerIn(1)
}

const ROLES: readonly Role[] = ['follower', 'pre-candidate', 'candidate', 'leader']

// 3.3: "if one server's current term is smaller than the other's, then it updates its current term to
// the larger value. If a candidate or leader discovers that its term is out of date, it immediately
// reverts to follower state."
test('whoever hears of a later term enters it as follower', () => {
  const types: readonly MessageType[] = [
    'append',
    'append-response',
    'heartbeat',
    'heartbeat-response',
    'vote',
    'vote-response',
    'timeout-now',
  ]
  for (const role of ROLES) {
    for (const type of types) {
      const node = nodeInRole(role)
      node.receive({ type, from: 2, term: 7 })
      const isTimeoutNow = type === 'timeout-now'
      assert.equal(node.status.term, isTimeoutNow ? 8 : 7, `${role} got ${type}`)
      assert.equal(node.role, isTimeoutNow ? 'candidate' : 'follower', `${role} got ${type}`)
      const isLeader = type === 'append' || type === 'heartbeat'
      assert.equal(node.status.lead, isLeader ? 2 : 0, `${role} got ${type}`)
    }
  }
})

// 3.3: "If a server receives a request with a stale term number, it rejects the request."
test('a message of an earlier term changes nothing', () => {
  const types: readonly MessageType[] = ['append', 'heartbeat', 'vote', 'vote-response', 'snapshot']
  for (const type of types) {
    const node = followerIn(5, {}, { entries: log(1, 1) })
    const before = node.status
    node.receive({ type, from: 3, term: 4, index: 2, logTerm: 1, commit: 2 })

    assert.deepEqual(node.status, before, type)
    assert.deepEqual(outline(node.flush()), [], type)
  }
})

// 3.4: "When servers start up, they begin as followers."
test('a node starts as follower, in the term and with the vote it had', () => {
  const hardState = { term: 4, vote: 3, commit: 1 }
  const stored = { voters: [1, 2, 3], entries: log(1, 2), hardState }
  const node = new TestNode(1, storageWith(stored))

  assert.equal(node.role, 'follower')
  assert.deepEqual([node.status.term, node.status.vote, node.status.commit], [4, 3, 1])
  assert.equal(node.status.lead, 0)
  assert.equal(node.raw.hasReady(), true, 'the committed entry is to be applied')
})

// 3.4: "Leaders send periodic heartbeats [...] to all followers in order to maintain their authority."
test('a leader sends a heartbeat to every follower at every interval', () => {
  const leader = leaderOf(3, { heartbeatTicks: 2 })
  leader.flush()

  leader.ticks(1)
  assert.deepEqual(outline(leader.flush()), [])
  leader.ticks(1)
  assert.deepEqual(outline(leader.flush()), ['heartbeat->2', 'heartbeat->3'])
})

// 3.4: "If a follower receives no communication over a period of time called the election timeout,
// then it assumes there is no viable leader and begins an election to choose a new leader."
test('a follower that hears nothing for an election timeout campaigns in the next term', () => {
  const follower = followerIn(2)

  follower.ticks(9)
  assert.equal(follower.role, 'follower')
  follower.ticks(1)

  assert.equal(follower.role, 'candidate')
  assert.deepEqual([follower.status.term, follower.status.vote], [3, 1])
  assert.deepEqual(outline(follower.flush()), ['vote->2', 'vote->3'])
})

test('every word of the leader starts the waiting anew', () => {
  for (const type of ['append', 'heartbeat', 'snapshot'] as const) {
    const follower = followerIn(2)
    for (let round = 0; round < 5; round++) {
      follower.ticks(9)
      follower.receive({ type, from: 2, term: 2 })
    }
    assert.equal(follower.role, 'follower', type)
  }
})

// 3.4: "each candidate will time out and start a new election by incrementing its term and initiating
// another round of RequestVote RPCs."
test('a candidate without a result campaigns again in the next term', () => {
  const candidate = candidateOf(5)
  candidate.receive({ type: 'vote-response', from: 2, term: 1 })
  candidate.ticks(10)

  assert.equal(candidate.role, 'candidate')
  assert.equal(candidate.status.term, 2)
  assert.equal(outline(candidate.flush()).length, 4)
  // The vote of term 1 doesn't count in term 2.
  candidate.receive({ type: 'vote-response', from: 3, term: 2 })
  assert.equal(candidate.role, 'candidate')
})

// 3.4: "A candidate wins an election if it receives votes from a majority of the servers in the full
// cluster for the same term."
test('a candidate leads with a majority, follows without hope of one, and waits in between', () => {
  const cases = [
    { count: 1, granted: [], rejected: [], role: 'leader' },
    { count: 2, granted: [], rejected: [], role: 'candidate' },
    { count: 2, granted: [2], rejected: [], role: 'leader' },
    { count: 3, granted: [2], rejected: [], role: 'leader' },
    { count: 3, granted: [2], rejected: [3], role: 'leader' },
    { count: 3, granted: [], rejected: [2], role: 'candidate' },
    { count: 3, granted: [], rejected: [2, 3], role: 'follower' },
    { count: 4, granted: [2], rejected: [], role: 'candidate' },
    { count: 4, granted: [2, 3], rejected: [], role: 'leader' },
    { count: 4, granted: [2], rejected: [3, 4], role: 'follower' },
    { count: 5, granted: [2, 3], rejected: [4, 5], role: 'leader' },
    { count: 5, granted: [2], rejected: [3, 4, 5], role: 'follower' },
  ]
  for (const { count, granted, rejected, role } of cases) {
    const node = candidateOf(count)
    for (const from of granted) node.receive({ type: 'vote-response', from, term: 1 })
    for (const from of rejected) {
      node.receive({ type: 'vote-response', from, term: 1, reject: true })
    }
    assert.equal(
      node.role,
      role,
      `${count} nodes, ${granted.join()} for it, ${rejected.join()} against`,
    )
    assert.equal(node.status.term, 1)
  }
})

test('the same vote twice is one vote', () => {
  const candidate = candidateOf(5)
  candidate.receive({ type: 'vote-response', from: 2, term: 1 })
  candidate.receive({ type: 'vote-response', from: 2, term: 1 })
  assert.equal(candidate.role, 'candidate')
})

// 3.4: "Each server will vote for at most one candidate in a given term, on a first-come-first-served
// basis".
test('a node votes once in a term, and repeats that vote to the same candidate only', () => {
  const node = new TestNode(1, storageWith({ voters: [1, 2, 3] }))
  const ask = (from: number, term: number): boolean => {
    node.receive({ type: 'vote', from, term })
    const [answer] = node.flush()
    assert.equal(answer?.type, 'vote-response')
    return answer !== undefined && !answer.reject
  }
  assert.equal(ask(2, 1), true)
  assert.equal(ask(3, 1), false)
  assert.equal(ask(2, 1), true)
  assert.equal(ask(3, 2), true)
  assert.equal(ask(2, 2), false)
})

test('a vote is kept over a restart, so that nobody votes twice in a term', () => {
  const storage = storageWith({ voters: [1, 2, 3] })
  const before = new TestNode(1, storage)
  before.receive({ type: 'vote', from: 2, term: 1 })
  before.flush()

  const after = new TestNode(1, storage)
  after.receive({ type: 'vote', from: 3, term: 1 })
  assert.deepEqual(
    after.flush().map(message => message.reject),
    [true],
  )
})

test('who voted for itself votes for nobody else, and who knows the leader of a term neither', () => {
  const candidate = candidateOf(3)
  candidate.receive({ type: 'vote', from: 2, term: 1 })
  assert.deepEqual(
    candidate.flush().map(message => message.reject),
    [true],
  )

  const follower = followerIn(1)
  follower.receive({ type: 'vote', from: 3, term: 1 })
  assert.deepEqual(
    follower.flush().map(message => message.reject),
    [true],
  )
})

test('a vote given starts the waiting anew, a vote refused does not', () => {
  const giver = followerIn(1)
  giver.raw.forgetLeader()
  giver.ticks(9)
  giver.receive({ type: 'vote', from: 2, term: 1 })
  giver.ticks(9)
  assert.equal(giver.role, 'follower')

  const refuser = new TestNode(1, storageWith({ voters: [1, 2, 3], entries: log(1, 1) }))
  refuser.receive({ type: 'vote', from: 2, term: 1, index: 1, logTerm: 1 })
  refuser.ticks(10)
  assert.equal(refuser.role, 'candidate')
})

// 3.4: "If the leader's term [...] is at least as large as the candidate's current term, then the
// candidate recognizes the leader as legitimate and returns to follower state."
test('a candidate that hears the leader of its term follows it', () => {
  for (const type of ['append', 'heartbeat', 'snapshot'] as const) {
    const candidate = candidateOf(3)
    candidate.receive({ type, from: 2, term: 1 })
    assert.deepEqual([candidate.role, candidate.status.lead], ['follower', 2], type)
    assert.equal(candidate.status.vote, 1, 'the vote of this term stays given')
  }
})

// 3.4: "Raft uses randomized election timeouts to ensure that split votes are rare and that they are
// resolved quickly."
test('the election timeout is drawn between once and twice the configured one, at every change', () => {
  const draws: number[] = []
  const chances = [0, 9, 4, 7]
  const randomTicks = (bound: number): number => {
    draws.push(bound)
    return chances[(draws.length - 1) % chances.length] ?? 0
  }
  const follower = new TestNode(1, storageWith({ voters: [1, 2, 3] }), { randomTicks })
  assert.deepEqual(draws, [10])
  follower.receive({ type: 'heartbeat', from: 2, term: 1 })
  follower.ticks(18)
  assert.equal(follower.role, 'follower')
  follower.ticks(1)
  assert.equal(follower.role, 'candidate')
  follower.ticks(13)
  assert.equal(follower.status.term, 2)
  follower.ticks(1)
  assert.equal(follower.status.term, 3)
})

// 3.6.1: "If the logs have last entries with different terms, then the log with the later term is more
// up-to-date. If the logs end with the same term, then whichever log is longer is more up-to-date."
test('a node votes only for a candidate whose log is at least as up-to-date as its own', () => {
  const cases = [
    { own: [1], index: 1, term: 1, isGranted: true },
    { own: [1], index: 1, term: 2, isGranted: true },
    { own: [1, 1], index: 1, term: 2, isGranted: true },
    { own: [1], index: 2, term: 1, isGranted: true },
    { own: [1], index: 0, term: 0, isGranted: false },
    { own: [1, 1], index: 1, term: 1, isGranted: false },
    { own: [2], index: 1, term: 1, isGranted: false },
    { own: [2], index: 9, term: 1, isGranted: false },
    { own: [1, 2], index: 1, term: 1, isGranted: false },
  ]
  for (const { own, index, term, isGranted } of cases) {
    for (const type of ['vote', 'pre-vote'] as const) {
      const node = new TestNode(1, storageWith({ voters: [1, 2, 3], entries: log(...own) }))
      node.receive({ type, from: 2, term: 3, index, logTerm: term })
      const [answer] = node.flush()
      assert.equal(answer?.reject, !isGranted, `${type}: own ${own.join()}, other ${term}/${index}`)
    }
  }
})

test('only a node with all committed entries is elected', () => {
  const cluster = Cluster.of(3)
  cluster.campaign(1)
  cluster.isolate(3)
  cluster.propose(1, 'a')
  cluster.heal()
  cluster.isolate(1)

  cluster.campaign(3)
  assert.deepEqual(cluster.leaders, [1])
  cluster.campaign(2)
  assert.deepEqual(cluster.leaders, [1, 2])
  assert.equal(cluster.node(3).status.commit, cluster.node(2).status.commit)
})

// 4.2.3: "if a server receives a RequestVote request within the minimum election timeout of hearing
// from a current leader, it does not update its term or grant its vote."
test('with check quorum, a node that hears a leader ignores campaigns', () => {
  for (const type of ['vote', 'pre-vote'] as const) {
    const follower = followerIn(1, { checkQuorum: true })
    follower.ticks(9)
    follower.receive({ type, from: 3, term: 2, index: 9, logTerm: 1 })
    assert.deepEqual([follower.status.term, follower.flush().length], [1, 0], type)

    const later = followerIn(1, { checkQuorum: true, randomTicks: () => 9 })
    later.ticks(10)
    later.receive({ type, from: 3, term: 2, index: 9, logTerm: 1 })
    assert.deepEqual(
      later.flush().map(message => message.reject),
      [false],
      type,
    )
  }
})

// 6.2: "a leader in Raft steps down if an election timeout elapses without a successful round of
// heartbeats to a majority of its cluster".
test('with check quorum, a leader that hears no quorum for an election timeout steps down', () => {
  const leader = leaderOf(3, { checkQuorum: true })
  leader.flush()
  // The vote was a sign of life in the first interval only for whoever answered since.
  leader.receive({ type: 'heartbeat-response', from: 2, term: 1 })
  leader.ticks(10)
  assert.equal(leader.role, 'leader')
  leader.receive({ type: 'heartbeat-response', from: 3, term: 1 })
  leader.ticks(10)
  assert.equal(leader.role, 'leader')
  leader.ticks(10)

  assert.equal(leader.role, 'follower')
  assert.deepEqual([leader.status.term, leader.status.lead], [1, 0])
})

test('a learner’s answers keep no leader in office', () => {
  const stored = { voters: [1, 2], learners: [3] }
  const leader = new TestNode(1, storageWith(stored), { checkQuorum: true })
  elect(leader)
  leader.receive({ type: 'heartbeat-response', from: 3, term: 1 })
  leader.ticks(10)
  assert.equal(leader.role, 'follower')
})

// 9.6: "a candidate only increments its term if it first learns from a majority of the cluster that
// they would be willing to grant the candidate their votes".
test('with pre-vote, a node asks before it raises its term', () => {
  const node = candidateOf(3, { preVote: true })
  assert.deepEqual([node.role, node.status.term, node.status.vote], ['pre-candidate', 0, 0])

  node.ticks(50)
  assert.equal(node.status.term, 0, 'a node that is cut off stays in its term')
  node.flush()
  node.receive({ type: 'pre-vote-response', from: 2, term: 1 })

  assert.deepEqual([node.role, node.status.term, node.status.vote], ['candidate', 1, 1])
  assert.deepEqual(outline(node.flush()), ['vote->2', 'vote->3'])
})

test('a pre-vote binds nobody: any number of them is granted, and no term or vote changes', () => {
  const node = followerIn(1)
  for (const from of [2, 3]) {
    node.receive({ type: 'pre-vote', from, term: 2 })
    const [answer] = node.flush()
    assert.deepEqual([answer?.reject, answer?.term], [false, 2])
  }
  assert.deepEqual([node.status.term, node.status.vote, node.role], [1, 0, 'follower'])
})

test('answers to a pre-vote count for no vote', () => {
  const node = candidateOf(5, { preVote: true })
  for (const from of [2, 3]) node.receive({ type: 'pre-vote-response', from, term: 1 })
  assert.equal(node.role, 'candidate')
  node.flush()
  for (const from of [4, 5]) node.receive({ type: 'pre-vote-response', from, term: 1 })
  assert.equal(node.role, 'candidate')
  for (const from of [2, 3]) node.receive({ type: 'vote-response', from, term: 1 })
  assert.equal(node.role, 'leader')
})

test('a node that comes back from a partition does not disturb the leader', () => {
  const cluster = Cluster.of(3, { preVote: true, checkQuorum: true })
  cluster.campaign(1)
  cluster.isolate(3)
  cluster.tick(3, 40)
  cluster.heal()
  cluster.tick(1, 2)
  cluster.tick(3, 5)

  assert.deepEqual(cluster.leaders, [1])
  assert.equal(cluster.node(1).status.term, 1)
  assert.equal(cluster.node(3).status.lead, 1)
})

test('an earlier term’s leader is told of the later term, so that nobody is stuck in it', () => {
  for (const options of [{ preVote: true }, { checkQuorum: true }]) {
    for (const type of ['heartbeat', 'append'] as const) {
      const node = followerIn(5, options)
      node.receive({ type, from: 3, term: 4 })
      const [answer] = node.flush()
      assert.deepEqual([answer?.type, answer?.to, answer?.term], ['append-response', 3, 5])
    }
  }
})

test('a pre-vote for an earlier term is answered with the later one, a vote is not answered', () => {
  const node = followerIn(5)
  node.receive({ type: 'pre-vote', from: 3, term: 4, index: 9, logTerm: 4 })
  const [answer] = node.flush()
  assert.deepEqual([answer?.type, answer?.reject, answer?.term], ['pre-vote-response', true, 5])
  node.receive({ type: 'vote', from: 3, term: 4, index: 9, logTerm: 4 })
  assert.deepEqual(node.flush(), [])
})

test('a pre-candidate that is rejected from a later term enters it', () => {
  const node = candidateOf(3, { preVote: true })
  node.receive({ type: 'pre-vote-response', from: 2, term: 5, reject: true })
  assert.deepEqual([node.role, node.status.term], ['follower', 5])
})
