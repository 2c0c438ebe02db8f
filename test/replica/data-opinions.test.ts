/** What members do about digests of all their data that differ. */
import type { DataDigest } from '../../src/engine/snapshot.ts'
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PENDING, SILENT } from '../../src/replica/divergence.ts'
import { decodeTestimony, encodeTestimony } from '../../src/replica/testimony.ts'
import { Court, type Member } from './disputes-kit.ts'

const INDEX = 5

/** Digests by letter: of the catalogue and two databases, of which the second makes the letter. */
function digestOf(letter: string): DataDigest {
  const parts = [
    { name: '', digest: '00000001ffffffff' },
    { name: 'app', digest: '00000002ffffffff' },
    { name: 'books', digest: `0000000${letter}ffffffff` },
  ]
  return { digest: letter, parts }
}

/** Members that have applied ten entries, and what each took at one: `-` nothing, `?` not yet. */
function courtOf(said: string, learners = 0): Court {
  const court = new Court(said.length - learners, learners)
  court.lead(1, 10)
  court.settle()
  take(court, said)
  return court
}

function take(court: Court, said: string, index = INDEX): void {
  for (const [at, letter] of [...said].entries()) {
    const { taken } = court.member(at + 1)
    if (letter === '?') taken.set(index, { opinion: PENDING, digest: undefined })
    else if (letter === '-') taken.set(index, { opinion: SILENT, digest: undefined })
    else {
      const opinion = { type: 'value', value: letter } as const
      taken.set(index, { opinion, digest: digestOf(letter) })
    }
  }
}

function condemned(court: Court): number[] {
  return court.members.filter(({ isCondemned }) => isCondemned).map(({ raftId }) => raftId)
}

function disputeAt(member: Member): string {
  const { dispute } = member.disputes
  if (dispute === undefined) return 'none'
  return `${dispute.subject}: ${dispute.isTie ? 'tie' : 'open'} at ${dispute.index}`
}

test('members with the same data are verified, and nothing else comes of it', () => {
  const court = courtOf('aaa')
  court.settle()
  assert.deepEqual(condemned(court), [])
  for (const { disputes } of court.members) assert.equal(disputes.data.verifiedIndex, INDEX)
})

test('a lone follower is condemned, is told which database it is, and takes the data of another', () => {
  const court = courtOf('aab')
  court.settle()
  assert.deepEqual(condemned(court), [3])
  const odd = court.member(3)
  assert.deepEqual(odd.divergence, {
    index: INDEX,
    database: 'books',
    sql: '',
    expected: 'data of digest a',
    actual: 'data of digest b',
    digest: 'b',
  })
  assert.equal(disputeAt(court.member(1)), 'none')
  assert(court.member(1).disputes.isSuspect(3))
  assert(!odd.disputes.isSuspect(1))

  assert(odd.heal())
  court.settle()
  assert.deepEqual(condemned(court), [])
  assert(!court.member(1).disputes.isSuspect(3))
  assert.equal(odd.disputes.data.verifiedIndex, 0, 'copied data prove nothing')
  assert.deepEqual(odd.condemnations, [INDEX])
})

test('a leader against a majority is condemned like anybody else, of three and of five', () => {
  for (const said of ['baa', 'baaaa', 'bacaa']) {
    const court = courtOf(said)
    court.settle()
    assert(court.member(1).isCondemned, said)
    assert(!court.member(2).isCondemned && !court.member(said.length).isCondemned, said)
  }
})

test('two that differ are in a tie until an operator decides, and only the other one heals', () => {
  for (const right of [1, 2]) {
    const court = courtOf('ab')
    court.settle()
    assert.deepEqual(condemned(court), [])
    for (const member of court.members) {
      assert.equal(disputeAt(member), `data: tie at ${INDEX}`)
      assert(member.disputes.isSuspect(1) && member.disputes.isSuspect(2))
    }
    assert.equal(court.member(1).disputes.trust(`n${right}`), undefined)
    court.settle()
    assert.deepEqual(condemned(court), [3 - right])
    assert.equal(disputeAt(court.member(right)), 'none')
  }
})

test('while a third member has not said anything it is open, and its word decides', () => {
  const court = courtOf('ab?')
  court.settle()
  assert.deepEqual(condemned(court), [])
  assert.equal(disputeAt(court.member(1)), `data: open at ${INDEX}`)
  take(court, 'aba')
  court.settle()
  assert.deepEqual(condemned(court), [2])
  assert.equal(disputeAt(court.member(1)), 'none')
})

test('a tie because one took no digest is to be settled by another, which decides', () => {
  const court = courtOf('ab-')
  court.settle()
  assert.equal(disputeAt(court.member(1)), `data: tie at ${INDEX}`)
  assert(court.member(1).disputes.data.wantsAnother)
  take(court, 'bab', 9)
  court.settle()
  assert.deepEqual(condemned(court), [2])
  assert.equal(disputeAt(court.member(1)), 'none')
})

test('a difference that is gone when all who differed are heard again ends with the next digest', () => {
  const court = courtOf('ab-')
  court.settle()
  assert.equal(disputeAt(court.member(1)), `data: tie at ${INDEX}`)
  // That the others agree says nothing of the one that is silent now.
  take(court, 'c-c', 7)
  court.settle()
  for (const member of court.members) assert.equal(disputeAt(member), `data: tie at ${INDEX}`)
  assert(court.member(1).disputes.isSuspect(2))

  take(court, 'ddd', 9)
  court.settle()
  for (const member of court.members) assert.equal(disputeAt(member), 'none')
  assert.deepEqual(condemned(court), [])
  assert(!court.member(1).disputes.isSuspect(2))
  assert(!court.member(1).disputes.data.wantsAnother)
  // What is in dispute after that still is.
  take(court, 'ef-', 10)
  court.settle()
  assert.equal(disputeAt(court.member(3)), 'data: tie at 10')
})

test('digests of another build of SQLite prove nothing, as while nodes are upgraded in turn', () => {
  const court = courtOf('aab')
  court.member(3).build = 'another'
  court.settle()
  assert.deepEqual(condemned(court), [])
  assert.equal(court.member(1).disputes.data.verifiedIndex, INDEX)
  assert.equal(disputeAt(court.member(3)), 'none')
  const split = courtOf('ab')
  split.member(2).build = 'another'
  split.settle()
  assert.equal(disputeAt(split.member(1)), 'none')
})

test('who is known to have other data gives them to nobody, before it knows that itself', () => {
  const court = courtOf('aab')
  const odd = court.member(3)
  odd.disputes.tick()
  court.network.deliver()
  odd.stop()
  court.settle()
  assert(!odd.isCondemned)
  for (const raftId of [1, 2]) assert(court.member(raftId).disputes.isSuspect(3))
})

test('the word for one that took no digest is refused and leaves a tie a tie, for another word', () => {
  const court = courtOf('ab-')
  court.settle()
  assert.equal(court.member(1).disputes.trust('n3')?.code, 'MEMBERS_REFUSED')
  court.settle()
  assert.equal(disputeAt(court.member(1)), `data: tie at ${INDEX}`)
  assert.equal(court.member(1).disputes.trust('n1'), undefined)
  court.settle()
  assert.deepEqual(condemned(court), [2])
})

test('where all voters have spoken no further digest can help', () => {
  const court = courtOf('ab')
  court.settle()
  assert(!court.member(1).disputes.data.wantsAnother)
})

test('who is away or took none holds nobody up, and is not wrong', () => {
  const court = courtOf('aa-')
  court.settle()
  assert.equal(court.member(1).disputes.data.verifiedIndex, INDEX)
  assert.equal(court.member(3).disputes.data.verifiedIndex, 0)
  assert.deepEqual(condemned(court), [])
  const single = courtOf('a--')
  single.settle()
  assert.equal(disputeAt(single.member(1)), 'none')
  assert.equal(single.member(1).disputes.data.verifiedIndex, 0)
})

test('a voter alone proves nothing: neither its data, nor those of a learner, are replaced', () => {
  const court = courtOf('ab', 1)
  court.settle()
  assert.deepEqual(condemned(court), [])
  assert.equal(disputeAt(court.member(1)), 'none')
  assert.equal(court.member(1).disputes.data.verifiedIndex, 0)
})

test('a learner is judged by the voters and decides nothing', () => {
  const court = courtOf('aaab', 1)
  court.settle()
  assert.deepEqual(condemned(court), [4])
  const two = courtOf('aba', 1)
  two.settle()
  assert.deepEqual(condemned(two), [])
  assert.equal(disputeAt(two.member(1)), `data: tie at ${INDEX}`)
})

test('data that were copied after the entry count for nobody', () => {
  const court = courtOf('abb')
  const copier = court.member(3)
  copier.past = { ...copier.past, copiedIndex: INDEX }
  court.settle()
  assert.deepEqual(condemned(court), [])
  assert.equal(disputeAt(court.member(1)), `data: tie at ${INDEX}`)
})

test('what a majority agreed on is told to one that comes later, though one of them has forgotten', () => {
  const court = courtOf('aa?')
  court.member(3).stop()
  court.settle()
  court.member(1).taken.clear()
  court.member(1).restart()
  take(court, '-ab')
  court.member(3).restart()
  court.settle()
  assert.deepEqual(condemned(court), [3])
})

test('a restart takes back nobody’s word', () => {
  const court = courtOf('ab?')
  court.settle()
  court.member(2).restart()
  take(court, 'a--')
  court.settle()
  assert.equal(disputeAt(court.member(1)), `data: tie at ${INDEX}`)
})

test('what members say of their data survives its way; older and later releases are silent', () => {
  const testimony = {
    copiedIndex: 1,
    appliedIndex: 300,
    agreement: { after: 0, upTo: 200 },
    question: undefined,
    isCondemned: false,
    statements: [],
    trust: undefined,
    data: {
      isPreparing: true,
      build: 'sqlite 3',
      words: [
        { index: 5, opinion: PENDING, parts: [], verdict: 'abc' },
        { index: 300, opinion: SILENT, parts: [], verdict: undefined },
        {
          index: 301,
          opinion: { type: 'value', value: '0123' } as const,
          parts: [0, 2 ** 32 - 1],
          verdict: '0123',
        },
      ],
    },
  }
  const bytes = encodeTestimony(testimony)
  assert.deepEqual(decodeTestimony(bytes), testimony)
  const older = { ...testimony, data: undefined }
  const short = encodeTestimony(older)
  assert.deepEqual(decodeTestimony(short), older)
  assert.deepEqual(bytes.subarray(0, short.length), short, 'an older release reads its part')
  const later = bytes.slice()
  later[short.length] = 2
  assert.deepEqual(decodeTestimony(later), older)
})
