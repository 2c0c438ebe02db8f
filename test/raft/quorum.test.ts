/** Majorities: against a naive count for every small case, and the rules of joint ones. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  committedIndex,
  majorityCommittedIndex,
  majorityCount,
  majorityVoteResult,
  voteResult,
} from '../../src/raft/quorum.ts'
import type { RaftId } from '../../src/raft/types.ts'

const NOBODY: ReadonlySet<RaftId> = new Set()

function voters(...ids: RaftId[]): ReadonlySet<RaftId> {
  return new Set(ids)
}

function votes(granted: RaftId[], rejected: RaftId[]): Map<RaftId, boolean> {
  const all = new Map<RaftId, boolean>()
  for (const id of granted) all.set(id, true)
  for (const id of rejected) all.set(id, false)
  return all
}

/** Voters 1 to n, each with an index it has acknowledged or none. */
const acknowledgements = fc
  .array(fc.option(fc.integer({ min: 1, max: 20 }), { nil: undefined }), {
    minLength: 1,
    maxLength: 9,
  })
  .map(indexes => new Map(indexes.map((index, position) => [position + 1, index] as const)))

test('a majority is more than half, so half of an even group is not enough', () => {
  assert.deepEqual([1, 2, 3, 4, 5, 6, 7].map(majorityCount), [1, 2, 2, 3, 3, 4, 4])
})

test('the committed index is the highest one that more than half have reached', () => {
  fc.assert(
    fc.property(acknowledgements, acked => {
      const group = new Set(acked.keys())
      const index = majorityCommittedIndex(group, id => acked.get(id))
      const reachedBy = (wanted: number): number =>
        [...acked.values()].filter(own => (own ?? 0) >= wanted).length
      assert(index === 0 || reachedBy(index) * 2 > group.size)
      assert(reachedBy(index + 1) * 2 <= group.size)
    }),
  )
})

test('no voters agree to everything, so that an empty half of a joint group decides nothing', () => {
  assert.equal(
    majorityCommittedIndex(NOBODY, () => undefined),
    Number.POSITIVE_INFINITY,
  )
  assert.equal(majorityVoteResult(NOBODY, new Map()), 'won')
})

test('a vote is won by more than half, lost when that is out of reach, pending in between', () => {
  const group = voters(1, 2, 3, 4)

  assert.equal(majorityVoteResult(group, votes([1, 2], [])), 'pending')
  assert.equal(majorityVoteResult(group, votes([1, 2], [3])), 'pending')
  assert.equal(majorityVoteResult(group, votes([1, 2, 3], [])), 'won')
  assert.equal(majorityVoteResult(group, votes([1, 2], [3, 4])), 'lost')
  assert.equal(majorityVoteResult(group, votes([], [3, 4])), 'lost')
})

test('votes of nodes that are no voters count for nothing', () => {
  assert.equal(majorityVoteResult(voters(1, 2, 3), votes([1, 7, 8, 9], [])), 'pending')
})

test('a joint group commits only what both halves have committed', () => {
  const group = { voters: voters(1, 2, 3), outgoing: voters(3, 4, 5) }
  const acked = new Map([
    [1, 10],
    [2, 10],
    [3, 10],
    [4, 6],
    [5, 4],
  ])

  assert.equal(
    committedIndex(group, id => acked.get(id)),
    6,
  )
  assert.equal(
    committedIndex({ ...group, voters: NOBODY }, id => acked.get(id)),
    6,
  )
  assert.equal(
    committedIndex({ ...group, outgoing: NOBODY }, id => acked.get(id)),
    10,
  )
})

test('a joint group elects only whom both halves elect, and rejects whom either half rejects', () => {
  const group = { voters: voters(1, 2, 3), outgoing: voters(4, 5, 6) }

  assert.equal(voteResult(group, votes([1, 2, 3], [])), 'pending')
  assert.equal(voteResult(group, votes([4, 5, 6], [])), 'pending')
  assert.equal(voteResult(group, votes([1, 2, 4, 5], [])), 'won')
  assert.equal(voteResult(group, votes([1, 2, 3], [4, 5])), 'lost')
  assert.equal(voteResult(group, votes([4, 5, 6], [1, 2])), 'lost')
})

test('any two majorities of the two halves of a joint group overlap with each half', () => {
  const half = fc.uniqueArray(fc.integer({ min: 1, max: 6 }), { minLength: 1 })
  const granted = fc.uniqueArray(fc.integer({ min: 1, max: 6 }))
  fc.assert(
    fc.property(half, half, granted, (incoming, outgoing, yes) => {
      const group = { voters: new Set(incoming), outgoing: new Set(outgoing) }
      const others = [1, 2, 3, 4, 5, 6].filter(id => !yes.includes(id))
      const first = voteResult(group, votes(yes, others))
      const second = voteResult(group, votes(others, yes))
      assert(!(first === 'won' && second === 'won'), 'two disjoint sets were majorities')
    }),
  )
})
