import assert from 'node:assert/strict'
import { test } from 'node:test'
import { must } from '../../src/base/assert.ts'
import type { SnapshotPoint } from '../../src/log/log.ts'
import type { Message } from '../../src/raft/types.ts'
import { ELECTION_MS, ledBench, type LogBench, type LogNode, TICK_MS } from './log-bench.ts'

const ONE = new Uint8Array([1])
const OFFER_MS = 3000

/** Appends so many entries and has them committed by whoever hears the leader. */
function write(bench: LogBench, count: number, leader = bench.node(1)): number {
  for (let times = 0; times < count; times += 1) leader.log.append(leader.log.status().term, ONE)
  bench.pass(2 * TICK_MS)
  return leader.log.status().commitIndex
}

/** The indexes at which a node was told to need a snapshot. */
function needs(node: LogNode): number[] {
  return node.events.flatMap(event => (event.type === 'snapshot-needed' ? event.index : []))
}

/** The third one was away for so long that the leader's log does not reach back to it. */
function behindBench(): { bench: LogBench; leader: LogNode; behind: LogNode } {
  const bench = ledBench()
  write(bench, 2)
  bench.isolate(3)
  bench.pass(ELECTION_MS)
  const commitIndex = write(bench, 10)
  bench.node(1).log.compact(commitIndex)
  bench.settle()
  bench.heal()
  bench.node(3).events = []
  bench.pass(ELECTION_MS)
  return { bench, leader: bench.node(1), behind: bench.node(3) }
}

function pointOf(node: LogNode, index = node.log.status().commitIndex): SnapshotPoint {
  return must(node.log.point(index), `point ${index}`)
}

/** Installs and tells what was answered, if anything was. */
function install(node: LogNode, point: SnapshotPoint): boolean[] {
  const answers: boolean[] = []
  node.log.install(point, isTaken => answers.push(isTaken))
  return answers
}

function lastTerm(node: LogNode): number | string {
  return node.wal.term(node.wal.lastIndex())
}

test('a follower whose next entry is gone needs a snapshot, and goes on from the log after it', () => {
  const { bench, leader, behind } = behindBench()
  const { commitIndex } = leader.log.status()
  assert.deepEqual(needs(behind), [commitIndex])
  assert(behind.log.status().commitIndex < commitIndex)

  // It goes on while the follower fetches; the copy may be newer than what was offered.
  write(bench, 3)
  const point = pointOf(bench.node(2))
  assert.equal(point.index, commitIndex + 3)
  const answers = install(behind, point)
  assert.deepEqual(answers, [], 'the log on disk does not begin there yet')
  bench.settle()
  assert.deepEqual(answers, [true])
  bench.pass(TICK_MS)
  const last = write(bench, 4)
  assert.equal(behind.log.status().commitIndex, last)
  assert.equal(behind.log.status().firstIndex, point.index + 1)
  assert.equal(behind.log.read(point.index + 1, 1)[0]?.index, point.index + 1)
  assert.deepEqual(leader.log.status().peers[1]?.progress, 'replicate')
})

test('an offer is repeated while it lasts, and a follower that is silent gets none', () => {
  const { bench, behind } = behindBench()
  bench.pass(3 * OFFER_MS)
  const count = needs(behind).length
  assert(count >= 3 && count <= 5, `${count} offers in ten seconds`)
  bench.isolate(3)
  bench.pass(ELECTION_MS)
  bench.node(1).sent = []
  bench.pass(3 * OFFER_MS)
  assert.deepEqual(bench.node(1).sentOf('snapshot'), [])
})

test('a leader knows the oldest snapshot that a follower may take, until the log leads it on', () => {
  const { bench, leader, behind } = behindBench()
  const offeredIndex = (node = leader): number | undefined =>
    node.log.status().peers.find(({ raftId }) => raftId === 3)?.offeredIndex
  const first = leader.log.status().commitIndex
  assert.equal(offeredIndex(), first)
  write(bench, 5)
  bench.pass(2 * OFFER_MS)
  assert(
    needs(behind).some(index => index > first),
    'it was offered a newer one since',
  )
  assert.equal(offeredIndex(), first)
  assert.equal(offeredIndex(bench.node(2)), undefined, 'only a leader offers')

  install(behind, pointOf(leader, first))
  bench.pass(ELECTION_MS)
  assert.equal(behind.log.status().commitIndex, leader.log.status().commitIndex)
  assert.equal(offeredIndex(), undefined)
})

test('an offer that the transport does not take is made again', () => {
  const { bench, behind } = behindBench()
  behind.events = []
  bench.isRefused = (from, to) => from === 1 && to === 3
  bench.pass(2 * OFFER_MS)
  bench.isRefused = () => false
  bench.pass(ELECTION_MS)
  assert(needs(behind).length >= 1)
})

test('an older copy than offered is good enough if the log reaches back to it', () => {
  const { bench, leader, behind } = behindBench()
  const { firstIndex, commitIndex } = leader.log.status()
  write(bench, 5)
  assert.deepEqual(needs(behind), [commitIndex])
  // The oldest that helps: it ends where the leader's log begins.
  const answers = install(behind, pointOf(leader, firstIndex - 1))
  bench.pass(TICK_MS)
  assert.deepEqual(answers, [true])
  assert.equal(behind.log.status().commitIndex, leader.log.status().commitIndex)
})

test('a copy that is too old still is of use, and another one is offered', () => {
  const bench = ledBench()
  write(bench, 2)
  bench.isolate(3)
  bench.pass(ELECTION_MS)
  const [leader, behind] = [bench.node(1), bench.node(3)]
  write(bench, 4)
  const old = pointOf(leader)
  const commitIndex = write(bench, 4)
  leader.log.compact(commitIndex)
  bench.settle()
  bench.heal()
  bench.pass(ELECTION_MS)
  install(behind, old)
  bench.settle()
  behind.events = []
  bench.pass(2 * OFFER_MS)
  assert.equal(behind.log.status().firstIndex, old.index + 1)
  assert(needs(behind).length >= 1)
  install(behind, pointOf(leader))
  bench.pass(TICK_MS)
  assert.equal(behind.log.status().commitIndex, leader.log.status().commitIndex)
})

test('an older copy after a newer one, and a copy of what the log has, change nothing', () => {
  const { bench, leader, behind } = behindBench()
  const older = pointOf(leader)
  write(bench, 3)
  const newer = pointOf(leader)
  install(behind, newer)
  assert.deepEqual(install(behind, older), [false], 'at once: nothing was done')
  bench.settle()
  assert.equal(behind.log.status().firstIndex, newer.index + 1)
  assert.deepEqual(install(behind, older), [false])
  write(bench, 2)
  assert.deepEqual(install(behind, pointOf(behind)), [false], 'a copy for a local repair')
  assert.deepEqual(install(leader, pointOf(leader)), [false], 'a leader has everything')
})

test('two copies in a row are both answered, and the newer one stays', () => {
  const { bench, leader, behind } = behindBench()
  const older = pointOf(leader)
  write(bench, 3)
  const answers = [install(behind, older), install(behind, pointOf(leader))]
  bench.settle()
  assert.deepEqual(answers, [[true], [true]])
  assert.equal(behind.log.status().firstIndex, leader.log.status().commitIndex + 1)
})

test('a copy up to an entry that the log has, uncommitted, commits it and replaces nothing', () => {
  const bench = ledBench()
  // The third has the entries and does not hear that they are committed.
  const { commitIndex } = bench.node(1).log.status()
  bench.isLost = (_from, to, _lane, { commit }) => to === 3 && commit > commitIndex
  write(bench, 3)
  const behind = bench.node(3)
  assert.equal(behind.log.status().commitIndex, commitIndex)
  assert.deepEqual(install(behind, pointOf(bench.node(1), commitIndex + 2)), [false])
  bench.settle()
  assert.equal(behind.log.status().firstIndex, 1)
  assert.equal(behind.log.status().commitIndex, commitIndex + 2)
  assert.equal(behind.log.read(commitIndex + 2, 1)[0]?.index, commitIndex + 2)
})

test('when only the word of it was lost, the leader is told where the log is, and feeds it', () => {
  const { bench, leader, behind } = behindBench()
  bench.isLost = (from, _to, _lane, { type }) => from === 3 && type === 'append-response'
  install(behind, pointOf(leader))
  bench.settle()
  write(bench, 3)
  behind.events = []
  bench.pass(2 * OFFER_MS)
  assert(must(leader.log.status().peers[1]?.matchIndex) < behind.log.status().commitIndex)
  bench.heal()
  bench.pass(2 * OFFER_MS)
  assert.deepEqual(needs(behind), [], 'the leader has all that it lacks')
  assert.equal(behind.log.status().commitIndex, leader.log.status().commitIndex)
})

test('until the snapshot is in the log, the old entries are there; after it they are not read', () => {
  const { leader, behind } = behindBench()
  assert.equal(behind.log.read(1, 1)[0]?.index, 1)
  install(behind, pointOf(leader))
  // The replica may still be on its way through them.
  assert.deepEqual(behind.log.read(1, 1_000_000), [])
  assert.equal(behind.log.point(1), undefined)
})

test('a power cut before the log has it on disk leaves the old log, and it is offered again', () => {
  const { bench, leader, behind } = behindBench()
  const before = behind.log.status()
  install(behind, pointOf(leader))
  behind.restart()
  bench.pass(OFFER_MS + ELECTION_MS)
  assert.equal(behind.log.status().firstIndex, 1)
  assert.equal(behind.log.status().lastIndex, before.lastIndex)
  assert(needs(behind).length >= 1)
})

test('a power cut at every step of an install leaves the old log or the new one', () => {
  let outcomes = ''
  for (let step = 1; step <= 12; step += 1) {
    const { bench, leader, behind } = behindBench()
    const point = pointOf(leader)
    const answers = install(behind, point)
    behind.writeOnly(step)
    const wasAcknowledged = answers.length > 0
    behind.restart()
    const { firstIndex } = behind.log.status()
    outcomes += wasAcknowledged ? 'a' : firstIndex === 1 ? 'o' : 'n'
    assert(firstIndex === 1 || firstIndex === point.index + 1)
    if (wasAcknowledged) assert.equal(firstIndex, point.index + 1)
    bench.pass(2 * ELECTION_MS)
    if (firstIndex === 1) install(behind, pointOf(leader))
    bench.pass(ELECTION_MS)
    assert.equal(behind.log.status().commitIndex, leader.log.status().commitIndex)
    assert.deepEqual(behind.log.status().membership, leader.log.status().membership)
  }
  assert.match(outcomes, /^o+n*a+$/)
})

test('a restart finds the log behind the snapshot, with its members', () => {
  const { bench, leader, behind } = behindBench()
  bench.isolate(3)
  bench.addLearner(1, 4)
  const point = pointOf(leader)
  assert.deepEqual(point.membership.learners, [4])
  install(behind, point)
  bench.settle()
  behind.restart()
  assert.deepEqual(behind.log.status().membership, point.membership)
  assert.deepEqual(behind.log.point(point.index), point)
  assert.deepEqual(behind.memberships, [point.membership])
})

test('over a longer log of a deposed leader nothing of it stays, its members neither', () => {
  const bench = ledBench()
  write(bench, 2)
  // The first one leads on alone and appends what nobody will commit, a change of members last.
  const old = bench.node(1)
  bench.isolate(1)
  for (let times = 0; times < 30; times += 1) old.log.append(old.log.status().term, ONE)
  old.log.changeMembers({ type: 'remove', raftId: 3 }, 100_000, () => {})
  bench.pass(3 * ELECTION_MS)
  const leader = must(bench.nodes.find(({ id, log }) => id > 1 && log.status().role === 'leader'))
  bench.addLearner(leader.id, 4)
  const commitIndex = write(bench, 3, leader)
  assert(old.log.status().lastIndex > commitIndex)
  leader.log.compact(commitIndex)
  bench.settle()
  bench.heal()
  bench.pass(ELECTION_MS)
  assert.equal(needs(old).at(-1), commitIndex)

  install(old, pointOf(leader))
  bench.settle()
  assert.equal(old.log.status().lastIndex, commitIndex)
  assert.equal(lastTerm(old), leader.log.status().term)
  assert.deepEqual(old.log.status().membership, leader.log.status().membership)
  assert.deepEqual(old.log.status().voters, [1, 2, 3])
  write(bench, 2, leader)
  assert.deepEqual(old.own, [
    { proposal: 1, index: 2 },
    { proposal: 2, index: 3 },
  ])
  assert.equal(old.log.status().commitIndex, leader.log.status().commitIndex)
})

test('members that were in force here and not in the snapshot count no more', () => {
  const bench = ledBench([1, 2, 3, 4, 5])
  const [leader, behind] = [bench.node(1), bench.node(5)]
  bench.isolate(5)
  bench.pass(ELECTION_MS)
  for (const raftId of [4, 3]) leader.change({ type: 'remove', raftId })
  const commitIndex = write(bench, 2)
  assert.deepEqual(leader.log.status().voters, [1, 2, 5])
  leader.log.compact(commitIndex)
  bench.settle()
  bench.heal()
  bench.pass(ELECTION_MS)
  install(behind, pointOf(leader))
  bench.settle()
  // Two of three are a majority now; of the five that it knew, they were none.
  bench.isLost = (from, to) => [1, 3, 4].some(id => from === id || to === id)
  bench.pass(6 * ELECTION_MS)
  const roles = [2, 5].map(id => bench.node(id).log.status().role).toSorted()
  assert.deepEqual(roles, ['follower', 'leader'])
})

test('a snapshot of a joint membership is in force as such, and is left as any other', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  const learner = bench.addLearner(1, 4)
  bench.isolate(3)
  bench.pass(ELECTION_MS)
  const { lastIndex } = leader.log.status()
  const isLeaving = (message: Message): boolean =>
    message.entries.some(({ index }) => index > lastIndex + 1)
  bench.isLost = (from, to, _lane, message) =>
    from === 3 || to === 3 || (from === 1 && isLeaving(message))
  leader.log.changeMembers({ type: 'replace', remove: 2, promote: 4 }, 100_000, () => {})
  bench.pass(2 * TICK_MS)
  const point = pointOf(leader)
  assert.deepEqual(point.membership.votersOutgoing, [1, 2, 3])
  assert.deepEqual(point.membership.voters, [1, 3, 4])
  leader.log.compact(point.index)
  bench.settle()
  bench.isLost = (from, _to, _lane, message) => from === 1 && isLeaving(message)
  bench.pass(ELECTION_MS)
  const behind = bench.node(3)
  install(behind, point)
  bench.settle()
  assert.deepEqual(behind.log.status().membership, point.membership)
  assert.deepEqual(behind.wal.base().confState.autoLeave, true)
  behind.restart()
  assert.deepEqual(behind.log.status().membership, point.membership)

  bench.heal()
  bench.pass(6 * ELECTION_MS)
  for (const node of [leader, behind, learner]) {
    const { voters, membership } = node.log.status()
    assert.deepEqual([voters, membership.votersOutgoing], [[1, 3, 4], []], `node ${node.id}`)
  }
})

test('a newcomer without anything is fed from the log if that reaches back, or needs a snapshot', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  const commitIndex = write(bench, 3)
  const early = bench.addLearner(1, 4)
  assert.deepEqual(needs(early), [])
  assert.equal(early.log.status().commitIndex, leader.log.status().commitIndex)

  leader.log.compact(commitIndex)
  bench.settle()
  const late = bench.addLearner(1, 5)
  assert.equal(needs(late)[0], leader.log.status().commitIndex)
  assert.equal(late.log.status().isMember, true)
  assert.equal(late.log.status().commitIndex, 0)
  install(late, pointOf(bench.node(2)))
  bench.pass(ELECTION_MS)
  assert.deepEqual(late.log.status().learners, [4, 5])
  assert.equal(late.log.status().lastIndex, leader.log.status().lastIndex)
})

test('a copy from before the newcomer was added is taken; the log brings the rest', () => {
  const bench = ledBench()
  const leader = bench.node(1)
  const before = pointOf(leader, write(bench, 3))
  leader.log.compact(before.index)
  bench.settle()
  const late = bench.addLearner(1, 4)
  assert.deepEqual(install(late, before), [])
  bench.pass(ELECTION_MS)
  assert.deepEqual(late.log.status().learners, [4])
  assert.equal(late.log.status().lastIndex, leader.log.status().lastIndex)
})

test('a node that campaigns takes a snapshot, and has to be elected by what it has then', () => {
  const { bench, leader, behind } = behindBench()
  const point = pointOf(leader)
  bench.isolate(3)
  bench.pass(3 * ELECTION_MS)
  assert.equal(behind.log.status().role, 'pre-candidate')
  const answers = install(behind, point)
  assert.equal(behind.log.status().role, 'follower')
  bench.settle()
  assert.deepEqual(answers, [true])
  bench.heal()
  bench.pass(2 * ELECTION_MS)
  assert.equal(behind.log.status().commitIndex, leader.log.status().commitIndex)
  assert.deepEqual([leader.log.status().role, leader.log.status().term], ['leader', point.term])
})

test('no vote is asked for while a snapshot is on its way to the disk', () => {
  const { bench, leader, behind } = behindBench()
  behind.isDiskStuck = true
  install(behind, pointOf(leader))
  bench.isolate(3)
  bench.pass(10 * ELECTION_MS)
  assert.equal(behind.log.status().role, 'follower')
  assert.equal(behind.sentOf('pre-vote').length, 0)
})
