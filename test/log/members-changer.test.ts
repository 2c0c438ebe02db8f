import assert from 'node:assert/strict'
import { test } from 'node:test'
import { must } from '../../src/base/assert.ts'
import { DbError } from '../../src/base/errors.ts'
import type { Membership, MembersChange } from '../../src/log/log.ts'
import {
  ELECTION_MS,
  ledBench,
  type LogBench,
  type LogNode,
  memberOf,
  TICK_MS,
} from './log-bench.ts'

const ONE = new Uint8Array([1])

/** The code of a refusal, or 'ok'. */
function codeOf(outcome: Membership | DbError): string {
  return outcome instanceof DbError ? outcome.code : 'ok'
}

function membershipOf(outcome: Membership | DbError): Membership {
  if (outcome instanceof DbError) throw outcome
  return outcome
}

/** Asks and does not wait. */
function ask(node: LogNode, change: MembersChange, timeoutMs = 10_000): (Membership | DbError)[] {
  const outcomes: (Membership | DbError)[] = []
  node.log.changeMembers(change, timeoutMs, outcome => outcomes.push(outcome))
  return outcomes
}

function newcomer(id: number): MembersChange {
  const { raftId: _, ...node } = memberOf(id)
  return { type: 'add-learner', node }
}

function leaderOf(bench: LogBench): LogNode {
  const leaders = bench.nodes.filter(({ log }) => log.status().role === 'leader')
  return must(
    leaders.toSorted((left, right) => right.log.status().term - left.log.status().term)[0],
  )
}

/** Waits for a leader that may change members. */
function untilLed(bench: LogBench, isIt: (leader: LogNode) => boolean = () => true): LogNode {
  for (let ticks = 0; ticks < 400; ticks += 1) {
    const leader = bench.nodes.find(({ log }) => {
      const { role, isCommitCurrent } = log.status()
      return role === 'leader' && isCommitCurrent
    })
    if (leader !== undefined && isIt(leader)) return leader
    bench.pass(TICK_MS)
  }
  throw new Error('nobody leads')
}

test('a second member joins a group of one, and its vote counts once it is promoted', () => {
  const bench = ledBench([1])
  const leader = bench.node(1)
  leader.log.append(leader.log.status().term, ONE)
  const added = membershipOf(leader.change(newcomer(2)))
  assert.deepEqual([added.voters, added.learners, added.nextRaftId], [[1], [2], 3])
  const joined = bench.join(2)
  bench.pass(2 * ELECTION_MS)
  assert.equal(joined.log.status().commitIndex, leader.log.status().commitIndex)
  assert.deepEqual(joined.log.status().learners, [2])

  // A learner's silence stops nothing, a voter's does.
  bench.isolate(2)
  leader.log.append(leader.log.status().term, ONE)
  bench.pass(TICK_MS)
  assert.equal(leader.log.status().commitIndex, leader.log.status().lastIndex)
  bench.heal()
  bench.pass(2 * ELECTION_MS)
  assert.deepEqual(membershipOf(leader.change({ type: 'promote', raftId: 2 })).voters, [1, 2])
  bench.isolate(2)
  leader.log.append(leader.log.status().term, ONE)
  bench.pass(TICK_MS)
  assert.equal(leader.log.status().commitIndex, leader.log.status().lastIndex - 1)
})

test('a group shrinks from three to one, and the last one goes on alone', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  assert.deepEqual(membershipOf(leader.change({ type: 'remove', raftId: 3 })).voters, [1, 2])
  bench.isolate(3)
  bench.pass(ELECTION_MS)
  assert.deepEqual(membershipOf(leader.change({ type: 'remove', raftId: 2 })).voters, [1])
  bench.isLost = () => true
  leader.log.append(leader.log.status().term, ONE)
  bench.pass(4 * ELECTION_MS)
  const { role, commitIndex, lastIndex } = leader.log.status()
  assert.deepEqual([role, commitIndex], ['leader', lastIndex])
  assert.equal(codeOf(leader.change({ type: 'remove', raftId: 1 })), 'MEMBERS_REFUSED')
  assert.equal(codeOf(leader.change({ type: 'demote', raftId: 1 })), 'MEMBERS_REFUSED')
})

test('a dead voter is replaced through a joint membership, which the leader leaves by itself', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  bench.isLost = (from, to) => from === 3 || to === 3
  bench.pass(3 * ELECTION_MS)
  bench.addLearner(1, 4)
  leader.events = []
  const replaced = membershipOf(leader.change({ type: 'replace', remove: 3, promote: 4 }))
  assert.deepEqual(
    [replaced.voters, replaced.votersOutgoing, replaced.learners],
    [[1, 2, 4], [], []],
  )
  assert.deepEqual(
    replaced.members.map(({ nodeId }) => nodeId),
    ['n1', 'n2', 'n4'],
  )
  assert.deepEqual(
    leader.memberships.map(({ voters, votersOutgoing }) => [voters, votersOutgoing]),
    [
      [
        [1, 2, 4],
        [1, 2, 3],
      ],
      [[1, 2, 4], []],
    ],
  )
  bench.pass(ELECTION_MS)
  for (const id of [1, 2, 4]) {
    assert.deepEqual(bench.node(id).log.status().membership, replaced, `node ${id}`)
  }
})

test('members are told in the order of the entries, and connections with them', () => {
  const bench = ledBench()
  const follower = bench.node(2)
  follower.events = []
  follower.lists = []
  bench.addLearner(1, 4)
  const told = follower.events.findIndex(event => event.type === 'membership')
  const membership = must(follower.memberships[0])
  const before = follower.events.slice(0, told).findLast(event => event.type === 'committed')
  assert.equal(before?.commitIndex, membership.index)
  assert.deepEqual(follower.lists, [membership])
  assert.equal(follower.log.status().peers.find(({ raftId }) => raftId === 4)?.address, 'n4:1')
  const [entry] = follower.log.read(membership.index, 1)
  assert.equal(entry?.type, 'config')
})

test('one change at a time: another one is refused until the first is in force', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  const first = ask(leader, newcomer(4))
  assert.deepEqual(ask(leader, newcomer(5)).map(codeOf), ['MEMBERS_BUSY'])
  assert.deepEqual(first, [])
  bench.pass(TICK_MS)
  assert.deepEqual(first.map(codeOf), ['ok'])
  assert.equal(codeOf(leader.change(newcomer(5))), 'ok')
})

test('while a joint membership is in force no other change begins', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  bench.addLearner(1, 4)
  // The entry that enters it is committed; the one that leaves it gets no further than the leader.
  const { lastIndex } = leader.log.status()
  bench.isLost = (from, _to, _lane, message) =>
    from === 1 && message.entries.some(({ index }) => index > lastIndex + 1)
  const replaced = ask(leader, { type: 'replace', remove: 3, promote: 4 }, 100_000)
  bench.pass(2 * TICK_MS)
  assert.deepEqual(leader.log.status().membership.votersOutgoing, [1, 2, 3])
  assert.deepEqual(ask(leader, newcomer(5)).map(codeOf), ['MEMBERS_BUSY'])
  assert.deepEqual(replaced, [])
  bench.heal()
  bench.pass(ELECTION_MS)
  assert.deepEqual(replaced.map(codeOf), ['ok'])
})

test('a new leader in a joint membership changes nothing before it is left', () => {
  const bench = ledBench()
  bench.addLearner(1, 4)
  const { lastIndex } = bench.node(1).log.status()
  // Nobody gets the entry that leaves it.
  bench.isLost = (_from, _to, _lane, message) =>
    message.entries.some(({ type, index }) => type === 'config' && index > lastIndex + 1)
  ask(bench.node(1), { type: 'replace', remove: 3, promote: 4 }, 100_000)
  bench.pass(2 * TICK_MS)
  bench.isLost = (from, to, _lane, message) =>
    from === 1 ||
    to === 1 ||
    message.entries.some(({ type, index }) => type === 'config' && index > lastIndex + 1)
  const next = untilLed(bench, ({ id }) => id !== 1)
  assert.deepEqual(next.log.status().membership.votersOutgoing, [1, 2, 3])
  assert.deepEqual(ask(next, newcomer(5)).map(codeOf), ['MEMBERS_BUSY'])
})

test('a change that was given up waiting for still keeps others from beginning', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  bench.isLost = (_from, to, _lane, { type }) => to === 1 && type === 'append-response'
  const outcomes = ask(leader, newcomer(4), TICK_MS)
  bench.pass(2 * TICK_MS)
  assert.deepEqual(outcomes.map(codeOf), ['COMMIT_TIMEOUT'])
  assert.deepEqual(ask(leader, newcomer(5)).map(codeOf), ['MEMBERS_BUSY'])
})

test('leadership goes to a voter that stays one, not to one that has more and is going', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  bench.addLearner(1, 4)
  const { lastIndex } = leader.log.status()
  bench.isLost = (from, _to, _lane, message) =>
    from === 1 && message.entries.some(({ index }) => index > lastIndex + 1)
  ask(leader, { type: 'replace', remove: 3, promote: 4 }, 100_000)
  bench.pass(2 * TICK_MS)
  assert.deepEqual(leader.log.status().membership.votersOutgoing, [1, 2, 3])
  // The second and the new one lack an entry that the third has.
  bench.isLost = (from, to, lane) => from === 1 && to !== 3 && lane === 'data'
  bench.pass(2 * TICK_MS)
  leader.log.transferLeadership()
  bench.heal()
  bench.pass(ELECTION_MS)
  assert([2, 4].includes(must(leader.log.status().leader)))
})

test('no member changes before the leader has committed an entry of its term', () => {
  const bench = ledBench()
  // Entries of the next leader are lost, so that it leads and commits nothing.
  bench.isLost = (from, _to, _lane, message) =>
    from === 2 && message.type === 'append' && message.entries.length > 0
  bench.node(1).log.transferLeadership(undefined, 2)
  bench.settle()
  const leader = bench.node(2)
  assert.deepEqual(
    [leader.log.status().role, leader.log.status().isCommitCurrent],
    ['leader', false],
  )
  assert.deepEqual(ask(leader, newcomer(4)).map(codeOf), ['MEMBERS_BUSY'])
  bench.heal()
  bench.pass(ELECTION_MS)
  assert.equal(codeOf(leader.change(newcomer(4))), 'ok')
})

test('only the leader changes members, and a deposed one tells that it does not know the fate', () => {
  const bench = ledBench()
  assert.equal(codeOf(bench.node(2).change(newcomer(4))), 'NOT_LEADER')
  bench.isolate(1)
  const outcomes = ask(bench.node(1), newcomer(4), 100_000)
  bench.pass(3 * ELECTION_MS)
  assert.deepEqual(outcomes.map(codeOf), ['LEADERSHIP_LOST'])
  bench.heal()
  bench.pass(2 * ELECTION_MS)
  for (const { log } of bench.nodes) assert.deepEqual(log.status().membership.learners, [])
})

test('a change that no quorum confirms ends at its deadline, and may still take effect', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  bench.isLost = (_from, to) => to === 1
  const outcomes = ask(leader, newcomer(4), 2 * TICK_MS)
  bench.pass(2 * TICK_MS)
  assert.deepEqual(outcomes.map(codeOf), ['COMMIT_TIMEOUT'])
  bench.heal()
  bench.pass(3 * ELECTION_MS)
  assert.deepEqual(leader.log.status().membership.learners, [4])
})

test('changes that make no sense are refused with a sentence, and nothing is appended', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  bench.addLearner(1, 4)
  const { raftId: _, ...node } = memberOf(5)
  const { lastIndex } = leader.log.status()
  const cases: [MembersChange, string, RegExp][] = [
    [{ type: 'promote', raftId: 9 }, 'UNKNOWN_NODE', /no member/],
    [{ type: 'remove', raftId: 9 }, 'UNKNOWN_NODE', /no member/],
    [{ type: 'set-address', raftId: 9, address: 'x:1' }, 'UNKNOWN_NODE', /no member/],
    [{ type: 'promote', raftId: 2 }, 'MEMBERS_REFUSED', /n2 is a voter already/],
    [{ type: 'demote', raftId: 4 }, 'MEMBERS_REFUSED', /n4 is a learner/],
    [{ type: 'remove', raftId: 1 }, 'MEMBERS_REFUSED', /n1 leads/],
    [{ type: 'demote', raftId: 1 }, 'MEMBERS_REFUSED', /n1 leads/],
    [{ type: 'replace', remove: 1, promote: 4 }, 'MEMBERS_REFUSED', /n1 leads/],
    [{ type: 'add-learner', node: { ...node, nodeId: 'n2' } }, 'MEMBERS_REFUSED', /n2 is a member/],
    [
      { type: 'add-learner', node: { ...node, incarnation: 'disk-3' } },
      'MEMBERS_REFUSED',
      /belongs to another member/,
    ],
    [{ type: 'add-learner', node: { ...node, address: 'n3:1' } }, 'MEMBERS_REFUSED', /n3 has the/],
    [{ type: 'set-address', raftId: 2, address: 'n3:1' }, 'MEMBERS_REFUSED', /n3 has the address/],
  ]
  for (const [change, code, text] of cases) {
    const [outcome] = ask(leader, change)
    assert(outcome instanceof DbError, JSON.stringify(change))
    assert.deepEqual([outcome.code, text.test(outcome.message)], [code, true], outcome.message)
  }
  assert.equal(leader.log.status().lastIndex, lastIndex)
})

test('there are seven voters at most', () => {
  const bench = ledBench([1, 2, 3, 4, 5, 6, 7])
  bench.addLearner(1, 8)
  const [outcome] = ask(bench.node(1), { type: 'promote', raftId: 8 })
  assert(outcome instanceof DbError && /7 voters/.test(outcome.message))
})

test('a change that would leave too few voters that are there is refused', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  bench.isLost = (from, to) => from === 3 || to === 3
  bench.pass(3 * ELECTION_MS)
  assert.equal(codeOf(leader.change({ type: 'remove', raftId: 2 })), 'MEMBERS_REFUSED')
  assert.equal(codeOf(leader.change({ type: 'demote', raftId: 2 })), 'MEMBERS_REFUSED')
  assert.deepEqual(membershipOf(leader.change({ type: 'remove', raftId: 3 })).voters, [1, 2])
})

test('a learner is promoted when it has caught up, not before', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  bench.addLearner(1, 4)
  bench.isLost = (_from, to) => to === 4
  leader.log.append(leader.log.status().term, ONE)
  bench.pass(3 * ELECTION_MS)
  assert.deepEqual(ask(leader, { type: 'promote', raftId: 4 }).map(codeOf), ['MEMBERS_BUSY'])
  bench.heal()
  bench.pass(ELECTION_MS)
  assert.equal(codeOf(leader.change({ type: 'promote', raftId: 4 })), 'ok')
})

test('a learner is given no leadership and takes none', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  const learner = bench.addLearner(1, 4)
  const { term } = leader.log.status()
  leader.log.transferLeadership(undefined, 4)
  bench.pass(ELECTION_MS)
  assert.deepEqual([leader.log.status().role, leader.log.status().term], ['leader', term])
  bench.isolate(4)
  bench.pass(10 * ELECTION_MS)
  assert.deepEqual([learner.log.status().role, learner.log.status().term], ['follower', term])
})

test('a promoted learner that does not know it yet gives the vote that is needed', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  bench.addLearner(1, 4)
  const { lastIndex } = leader.log.status()
  // The fourth gets the entry and never hears that it is committed.
  bench.isLost = (_from, to, _lane, message) => to === 4 && message.commit > lastIndex
  assert.equal(codeOf(leader.change({ type: 'promote', raftId: 4 })), 'ok')
  bench.isLost = (from, to, _lane, { commit, type }) =>
    from === 1 || to === 1 || (to === 4 && commit > lastIndex && type !== 'append')
  assert.deepEqual(bench.node(4).log.status().learners, [4])
  // Of four voters three are needed: with the first one gone, the fourth must vote.
  const next = untilLed(bench, ({ id }) => id !== 1)
  assert.deepEqual(next.log.status().voters, [1, 2, 3, 4])
})

test('a leader that comes to be removed steps down when that is in force, and others lead', () => {
  const bench = ledBench()
  const { lastIndex } = bench.node(1).log.status()
  // Everybody has the removal of the second, nobody hears that it is committed.
  bench.isLost = (_from, to, _lane, message) => to === 1 && message.index > lastIndex
  const outcomes = ask(bench.node(1), { type: 'remove', raftId: 2 })
  bench.settle()
  assert.deepEqual(outcomes, [])
  bench.isLost = (from, to) => from === 1 || to === 1
  const removed = bench.node(2)
  removed.events = []
  for (let ticks = 0; removed.log.status().isMember && ticks < 100; ticks += 1) bench.pass(TICK_MS)
  assert.equal(removed.log.status().isMember, false)
  const roles = removed.events.flatMap(event => (event.type === 'role' ? event.role : []))
  assert.deepEqual(roles.slice(-2), ['leader', 'follower'])
  bench.heal()
  const leader = untilLed(bench, ({ id, log }) => id !== 2 && log.status().voters.length === 2)
  assert.deepEqual(leader.log.status().voters, [1, 3])
  bench.pass(10 * ELECTION_MS)
  assert.equal(removed.log.status().role, 'follower')
  assert.equal(leaderOf(bench).log.status().term, leader.log.status().term)
})

test('a removed node that did not hear of it unseats nobody', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  bench.isolate(3)
  bench.pass(ELECTION_MS)
  assert.equal(codeOf(leader.change({ type: 'remove', raftId: 3 })), 'ok')
  const { term } = leader.log.status()
  bench.heal()
  bench.pass(20 * ELECTION_MS)
  assert.equal(bench.node(3).log.status().isMember, true, 'nobody told it')
  assert.deepEqual([leader.log.status().role, leader.log.status().term], ['leader', term])
  assert.equal(bench.node(3).log.status().term, term)
})

test('a removed node that hears of it knows it, and a restart does not make it forget', () => {
  const bench = ledBench()
  assert.equal(codeOf(bench.node(1).change({ type: 'remove', raftId: 3 })), 'ok')
  const removed = bench.node(3)
  bench.pass(2 * TICK_MS)
  assert.equal(removed.log.status().isMember, false)
  removed.restart()
  bench.settle()
  bench.pass(10 * ELECTION_MS)
  assert.equal(removed.log.status().isMember, false)
  assert.equal(removed.log.status().role, 'follower')
})

test('names and disks of removed members are spent', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  bench.addLearner(1, 4)
  assert.equal(codeOf(leader.change({ type: 'remove', raftId: 4 })), 'ok')
  assert.equal(codeOf(leader.change(newcomer(4))), 'MEMBERS_REFUSED')
  const { raftId: _, ...node } = memberOf(5)
  const again: MembersChange = { type: 'add-learner', node: { ...node, incarnation: 'disk-4' } }
  assert.equal(codeOf(leader.change(again)), 'MEMBERS_REFUSED')
  const added = membershipOf(leader.change(newcomer(5)))
  assert.deepEqual(added.learners, [5], 'its number is not given again')
})

test('an address changes through the log, and everybody connects to the new one', () => {
  const bench = ledBench()
  const change: MembersChange = { type: 'set-address', raftId: 3, address: 'moved:9' }
  assert.equal(codeOf(bench.node(1).change(change)), 'ok')
  bench.pass(ELECTION_MS)
  for (const { log, lists } of bench.nodes) {
    assert.equal(log.status().membership.members[2]?.address, 'moved:9')
    assert.equal(lists.at(-1)?.members[2]?.address, 'moved:9')
  }
})

test('the members survive compaction and a restart, joint ones too', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  bench.addLearner(1, 4)
  const { lastIndex } = leader.log.status()
  bench.isLost = (from, _to, _lane, message) =>
    from === 1 && message.entries.some(({ index }) => index > lastIndex + 1)
  ask(leader, { type: 'replace', remove: 3, promote: 4 })
  bench.pass(2 * TICK_MS)
  const joint = leader.log.status().membership
  assert.deepEqual(joint.votersOutgoing, [1, 2, 3])

  leader.log.compact(leader.log.status().commitIndex)
  bench.settle()
  assert.equal(leader.log.status().firstIndex, lastIndex + 2)
  leader.restart()
  assert.deepEqual(leader.log.status().membership, joint)
  bench.heal()
  const next = untilLed(bench)
  bench.pass(ELECTION_MS)
  assert.deepEqual(next.log.status().voters, [1, 2, 4])
  assert.deepEqual(next.log.status().membership.votersOutgoing, [])
})

test('compaction keeps the members as of its index, not the newest', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  leader.log.append(leader.log.status().term, ONE)
  bench.pass(TICK_MS)
  const before = leader.log.status()
  bench.addLearner(1, 4)
  leader.log.compact(before.commitIndex)
  bench.settle()
  assert.deepEqual(leader.wal.base().confState.learners, [])
  assert.deepEqual(leader.log.point(before.commitIndex)?.membership, before.membership)
  leader.restart()
  assert.deepEqual(leader.log.status().membership, before.membership)
  // What is told again from there on changes them again.
  bench.pass(3 * ELECTION_MS)
  assert.deepEqual(leader.log.status().learners, [4])
  assert.deepEqual(leader.log.status().membership, leaderOf(bench).log.status().membership)
})
