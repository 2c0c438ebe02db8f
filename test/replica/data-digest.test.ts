/** Who is right when members have different data: every combination that must lead to something. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { dataOpinion, type DataVerdict, judgeData } from '../../src/replica/data-digest.ts'
import { type Opinion, PENDING, SILENT } from '../../src/replica/divergence.ts'

/** Letters are digests, `?` has not said anything yet, `-` never will; members count from 1. */
function verdictOf(raftId: number, said: string, outgoing: readonly number[] = []): DataVerdict {
  const opinions = [...said].map((letter): Opinion => {
    if (letter === '?') return PENDING
    return letter === '-' ? SILENT : { type: 'value', value: letter }
  })
  const all = opinions.map((_, at) => at + 1)
  const voters = outgoing.length === 0 ? all : all.filter(each => !outgoing.includes(each))
  return judgeData({ voters, votersOutgoing: outgoing }, raftId, each => {
    return opinions[each - 1] ?? SILENT
  })
}

test('members with equal data are verified', () => {
  for (const raftId of [1, 2, 3]) {
    assert.deepEqual(verdictOf(raftId, 'aaa'), { type: 'verified', value: 'a' })
  }
})

test('a lone follower with other data is wrong, and the others are not', () => {
  assert.deepEqual(verdictOf(3, 'aab'), { type: 'wrong', value: 'a' })
  assert.deepEqual(verdictOf(1, 'aab'), { type: 'verified', value: 'a' })
})

test('whoever stands alone is wrong, whatever its place: leaders are no exception', () => {
  assert.deepEqual(verdictOf(1, 'baa'), { type: 'wrong', value: 'a' })
  assert.deepEqual(verdictOf(1, 'ba?aa'), { type: 'wrong', value: 'a' })
})

test('members that split without a majority are in a tie', () => {
  assert.deepEqual(verdictOf(1, 'ab'), { type: 'tie' })
  assert.deepEqual(verdictOf(1, 'abc'), { type: 'tie' })
  assert.deepEqual(verdictOf(1, 'ab-'), { type: 'tie' })
})

test('who has not spoken yet may still decide, so nobody is wrong before', () => {
  assert.deepEqual(verdictOf(1, 'ab?'), { type: 'open' })
  assert.deepEqual(verdictOf(1, 'a??'), { type: 'wait' })
})

test('a voter alone proves nothing, and is not proved wrong', () => {
  assert.deepEqual(verdictOf(1, 'a'), { type: 'wait' })
})

test('a majority needs no word of members that are away', () => {
  assert.deepEqual(verdictOf(1, 'aa?'), { type: 'verified', value: 'a' })
})

test('silence is no disagreement: too few digests that agree are no tie', () => {
  assert.deepEqual(verdictOf(1, 'a--'), { type: 'wait' })
  assert.deepEqual(verdictOf(1, '---'), { type: 'wait' })
})

test('a member that is silent is never wrong', () => {
  assert.deepEqual(verdictOf(3, 'aa-'), { type: 'verified', value: 'a' })
})

test('while members change, both sets must agree', () => {
  // Voters 1 and 2 agree, the outgoing 3 says something else: nobody is right.
  assert.deepEqual(verdictOf(1, 'aab', [3]), { type: 'tie' })
  assert.deepEqual(verdictOf(1, 'aaa', [3]), { type: 'verified', value: 'a' })
})

test('a member says nothing about data that it copied at that entry or later', () => {
  const taken: Opinion = { type: 'value', value: 'a' }
  assert.deepEqual(dataOpinion(10, 10, taken), SILENT)
  assert.deepEqual(dataOpinion(9, 10, taken), SILENT)
  assert.deepEqual(dataOpinion(11, 10, taken), taken)
})
