/**
 * What nodes tell each other in campaigns of how far their logs are committed (`shareCommit`), and
 * the way to be stuck for good that it opens: changes of members are in force from their
 * application on, and not all who voted for one need to hear that it is committed.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeConfChange } from '../../src/raft/conf-change.ts'
import type { Entry, MessageFields } from '../../src/raft/types.ts'
import {
  change,
  Cluster,
  followerIn,
  learnerStep,
  log,
  type Options,
  removeStep,
  storageWith,
  TestNode,
} from './kit.ts'

const OPTIONS: Options = {
  preVote: true,
  checkQuorum: true,
  stepDownOnRemoval: true,
  shareCommit: true,
}

function removal(term: number, index: number, nodeId: number): Entry {
  return { term, index, type: 'config', data: encodeConfChange(change([removeStep(nodeId)])) }
}

/**
 * Leader 1 of two leaves by a change and steps down, with an entry after it that 2 has not; that the
 * change is committed was lost on its way.
 */
function leaderWithLongestLogLeft(options: Options, step = removeStep(1)): Cluster {
  const cluster = Cluster.of(2, options)
  cluster.campaign(1)
  cluster.isLost = ({ to, entries }) => to === 2 && !entries.some(({ type }) => type === 'config')
  cluster.node(1).raw.proposeConfChange(change([step]))
  cluster.propose(1, 'x')
  assert.equal(cluster.node(1).role, 'follower')
  assert.deepEqual(cluster.node(1).status.confState.voters, [2])
  assert.deepEqual(cluster.node(2).status.confState.voters, [1, 2])
  assert(cluster.node(1).raw.log.lastIndex() > cluster.node(2).raw.log.lastIndex())
  cluster.heal()
  return cluster
}

for (const [name, step] of [
  ['was removed', removeStep(1)],
  ['was demoted', learnerStep(1)],
] as const) {
  test(`one that ${name} with the longest log tells who asks for its vote that it needs it no more`, () => {
    const cluster = leaderWithLongestLogLeft(OPTIONS, step)
    cluster.tick(2, 40)
    assert.deepEqual(cluster.leaders, [2])
    assert.equal(cluster.propose(2, 'y').type, 'appended')
    assert.equal(cluster.node(2).status.commit, cluster.node(2).raw.log.lastIndex())
  })
}

test('as in etcd-io/raft, without such news nobody can be elected then', () => {
  const cluster = leaderWithLongestLogLeft({ ...OPTIONS, shareCommit: false })
  cluster.tick(2, 200)
  cluster.tick(1, 200)
  assert.deepEqual(cluster.leaders, [])
})

test('a request tells it, too, and entries of another term are not committed by it', () => {
  const ask: Omit<MessageFields, 'to'> = {
    type: 'pre-vote',
    from: 3,
    term: 3,
    index: 1,
    logTerm: 1,
  }
  const node = followerIn(2, { shareCommit: true }, { entries: log(1, 1, 2) })
  node.receive({ ...ask, commit: 3, commitTerm: 1 })
  assert.equal(node.status.commit, 0, 'there the others have an entry of term 1')
  node.receive({ ...ask, commit: 4, commitTerm: 2 })
  assert.equal(node.status.commit, 0, 'this log ends before')
  node.receive({ ...ask, commit: 2, commitTerm: 1 })
  assert.equal(node.status.commit, 2)
  node.receive({ ...ask, commit: 1, commitTerm: 1 })
  assert.equal(node.status.commit, 2)
})

test('rejections tell it, also of a pre-vote for an earlier term, and only if set up so', () => {
  const ask: Omit<MessageFields, 'to'> = { type: 'pre-vote', from: 3, index: 0, logTerm: 0 }
  const stored = { entries: log(1, 1), hardState: { term: 4, vote: 0, commit: 2 } }
  for (const term of [3, 5]) {
    for (const shareCommit of [true, false]) {
      const node = new TestNode(1, storageWith({ voters: [1, 2, 3], ...stored }), { shareCommit })
      node.receive({ ...ask, term })
      const [{ type, reject, commit, commitTerm } = {}] = node.flush()
      const news = shareCommit ? [2, 1] : [0, 0]
      assert.deepEqual([type, reject, commit, commitTerm], ['pre-vote-response', true, ...news])
    }
  }
})

test('a candidate that learns of a change of members gives up, for it counted by those before', () => {
  for (const isConfig of [true, false]) {
    const entries = [
      ...log(1),
      isConfig ? removal(1, 2, 3) : { ...removal(1, 2, 3), type: 'normal' },
    ]
    const stored = { entries: entries as Entry[], hardState: { term: 1, vote: 0, commit: 1 } }
    const node = new TestNode(1, storageWith({ voters: [1, 2, 3], ...stored }), {
      shareCommit: true,
    })
    node.flush()
    node.raw.campaign()
    node.flush()
    const news = { commit: 2, commitTerm: 1 }
    node.receive({ type: 'vote-response', from: 3, term: 2, reject: true, ...news })
    assert.equal(node.role, isConfig ? 'follower' : 'candidate')
    assert.equal(node.status.commit, 2)
    node.receive({ type: 'vote-response', from: 2, term: 2 })
    assert.equal(node.role, isConfig ? 'follower' : 'leader')
  }
})
