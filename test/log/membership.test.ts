import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DbError } from '../../src/base/errors.ts'
import type { Member, Membership } from '../../src/log/log.ts'
import {
  addressContext,
  confStateOf,
  decodeBook,
  decodePoint,
  encodeBook,
  encodePoint,
  foundingMembership,
  newcomerContext,
  nextMembership,
  storedMembers,
  toSnapshot,
} from '../../src/log/membership.ts'
import type { ConfChange, ConfChangeStep, ConfState } from '../../src/raft/types.ts'

const NOTHING: Uint8Array = new Uint8Array(0)

function member(raftId: number): Member {
  return { raftId, nodeId: `n${raftId}`, address: `host-${raftId}:1`, incarnation: `d${raftId}` }
}

function changeOf(type: ConfChangeStep['type'], nodeId: number, context = NOTHING): ConfChange {
  return { version: 2, transition: 'auto', steps: [{ type, nodeId }], context }
}

function confState(voters: number[], learners: number[] = []): ConfState {
  return { voters, learners, votersOutgoing: [], learnersNext: [], autoLeave: false }
}

/** A group of three that a fourth joined, and the second left. */
function changed(): Membership {
  const founded = foundingMembership([member(3), member(1), member(2)])
  const newcomer = { ...member(4), address: 'far:2' }
  const joined = nextMembership(
    founded,
    7,
    changeOf('add-learner', 4, newcomerContext(newcomer)),
    confState([1, 2, 3], [4]),
  )
  return nextMembership(joined, 9, changeOf('remove', 2), confState([1, 3], [4]))
}

test('a group begins with its founders as voters, in the order of their numbers', () => {
  const founded = foundingMembership([member(3), member(1), member(2)])
  assert.deepEqual(founded.voters, [1, 2, 3])
  assert.deepEqual(founded.members, [member(1), member(2), member(3)])
  assert.equal(founded.nextRaftId, 4)
  const { confState: numbers, book } = storedMembers(founded)
  assert.deepEqual(decodeBook(numbers, book), founded)
})

test('each change makes the next membership, and what is gone is remembered', () => {
  const after = changed()
  assert.equal(after.index, 9)
  assert.deepEqual(after.voters, [1, 3])
  assert.deepEqual(after.learners, [4])
  assert.deepEqual(
    after.members.map(({ nodeId, address }) => [nodeId, address]),
    [
      ['n1', 'host-1:1'],
      ['n3', 'host-3:1'],
      ['n4', 'far:2'],
    ],
  )
  assert.deepEqual(after.removed, [{ raftId: 2, nodeId: 'n2', incarnation: 'd2' }])
  assert.equal(after.nextRaftId, 5)

  // The number of one that was removed is not given again, even if it was the highest.
  const last = nextMembership(after, 10, changeOf('remove', 4), confState([1, 3]))
  assert.equal(last.nextRaftId, 5)
  const moved = nextMembership(
    last,
    11,
    changeOf('update', 3, addressContext(3, 'new:9')),
    confState([1, 3]),
  )
  assert.deepEqual(
    moved.members.map(({ address }) => address),
    ['host-1:1', 'new:9'],
  )
  assert.equal(moved.nextRaftId, 5)
})

test('a voter of the old half is a member until that half is dropped', () => {
  const joint = nextMembership(changed(), 12, changeOf('remove', 3), {
    voters: [1, 4],
    votersOutgoing: [1, 3],
    learners: [],
    learnersNext: [],
    autoLeave: true,
  })
  assert.deepEqual(
    joint.members.map(({ raftId }) => raftId),
    [1, 3, 4],
  )
  assert.equal(confStateOf(joint).autoLeave, true)
  const leave: ConfChange = { version: 2, transition: 'auto', steps: [], context: NOTHING }
  const left = nextMembership(joint, 13, leave, confState([1, 4]))
  assert.deepEqual(
    left.removed.map(({ raftId }) => raftId),
    [2, 3],
  )
  assert.equal(confStateOf(left).autoLeave, false)
})

test('names of the latest members to be removed are kept, not of all', () => {
  let membership = foundingMembership([member(1)])
  for (let raftId = 2; raftId < 302; raftId += 1) {
    const add = changeOf('add-learner', raftId, newcomerContext(member(raftId)))
    membership = nextMembership(membership, 2 * raftId, add, confState([1], [raftId]))
    const remove = changeOf('remove', raftId)
    membership = nextMembership(membership, 2 * raftId + 1, remove, confState([1]))
  }
  assert.equal(membership.removed.length, 256)
  assert.equal(membership.removed.at(-1)?.raftId, 301)
  assert.equal(membership.nextRaftId, 302)
  assert(encodeBook(membership).length < 8192)
})

test('a membership and a point come back from their bytes, and a newer format is refused', () => {
  const membership = changed()
  assert.deepEqual(decodeBook(confStateOf(membership), encodeBook(membership)), membership)
  const joint = { ...membership, votersOutgoing: [1, 2, 3], learnersNext: [2] }
  for (const each of [membership, joint]) {
    const point = { index: 42, term: 5, membership: each }
    assert.deepEqual(decodePoint(encodePoint(point)), point)
    const { metadata, data } = toSnapshot(point)
    assert.deepEqual(decodeBook(metadata.confState, data), each)
  }
  const isRefused = (error: DbError): boolean => error.code === 'WRONG_DATA'
  const newer = encodeBook(membership)
  newer[0] = 2
  assert.throws(() => decodeBook(confStateOf(membership), newer), isRefused)
  const newerPoint = encodePoint({ index: 1, term: 1, membership })
  newerPoint[0] = 2
  assert.throws(() => decodePoint(newerPoint), isRefused)
  assert.throws(
    () => decodeBook(confState([1]), NOTHING),
    (error: DbError) => error.code === 'CORRUPT',
  )
})
