import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  agree,
  AS_WRITTEN,
  type Electorate,
  joined,
  judge,
  judgeEntry,
  NO_AGREEMENT,
  type Opinion,
  PENDING,
  SILENT,
} from '../../src/replica/divergence.ts'

/** One letter a voter: w as written, a to c other outcomes, ? pending, - silent. */
function verdict(text: string, outgoing = ''): string {
  const letters = `${text}${outgoing}`
  const ids = Array.from(letters, (_, at) => at + 1)
  const electorate: Electorate = {
    voters: ids.slice(0, text.length),
    votersOutgoing: ids.slice(text.length),
  }
  const judgement = judgeEntry(electorate, raftId => opinionOf(letters[raftId - 1] ?? '?'))
  if (judgement.type !== 'decided') return judgement.type
  return judgement.value === AS_WRITTEN ? 'w' : judgement.value
}

function opinionOf(letter: string): Opinion {
  if (letter === '?') return PENDING
  if (letter === '-') return SILENT
  return { type: 'value', value: letter === 'w' ? AS_WRITTEN : letter }
}

test('of three, who is alone is wrong: a follower, or the leader', () => {
  assert.equal(verdict('wwa'), 'w')
  assert.equal(verdict('waa'), 'a')
  assert.equal(verdict('wab'), 'tie')
})

test('nobody is judged while a majority may still come about either way', () => {
  assert.equal(verdict('wa?'), 'open')
  assert.equal(verdict('?a?'), 'open')
  assert.equal(verdict('w??'), 'open')
  assert.equal(verdict('w?w'), 'w')
  assert.equal(verdict('ab?'), 'open')
})

test('of two that differ none is believed', () => {
  assert.equal(verdict('wa'), 'tie')
  assert.equal(verdict('w?'), 'open')
  assert.equal(verdict('ww'), 'w')
  assert.equal(verdict('aa'), 'a')
})

test('of five, three decide, and two against two wait for the fifth', () => {
  assert.equal(verdict('wwwaa'), 'w')
  assert.equal(verdict('wwaaa'), 'a')
  assert.equal(verdict('wwaa?'), 'open')
  assert.equal(verdict('wwaab'), 'tie')
  assert.equal(verdict('wabc?'), 'tie')
  assert.equal(verdict('w?a??'), 'open')
  assert.equal(verdict('wwa??'), 'open')
})

test('who has its data from another counts for nobody', () => {
  assert.equal(verdict('w-a'), 'tie')
  assert.equal(verdict('ww-'), 'w')
  assert.equal(verdict('w-?'), 'open')
  assert.equal(verdict('-wwaa'), 'tie')
})

test('a voter alone is never believed against what is written', () => {
  assert.equal(verdict('a'), 'tie')
  assert.equal(verdict('w'), 'w')
  assert.equal(verdict('?'), 'open')
})

test('while the members change jointly, both sets must agree', () => {
  assert.equal(verdict('wwa', 'wwa'), 'w')
  assert.equal(verdict('wwa', 'waa'), 'tie')
  assert.equal(verdict('wwa', 'wa?'), 'open')
  assert.equal(verdict('aa?', 'a'), 'a')
})

test('a decided value has a majority of every set, and no later word of a pending voter changes it', () => {
  const letters = fc.array(fc.constantFrom('w', 'a', 'b', '?', '-'), { minLength: 2, maxLength: 7 })
  fc.assert(
    fc.property(letters, letters, fc.constantFrom('w', 'a', 'b', '-'), (voters, rest, later) => {
      const now = verdict(voters.join(''))
      const then = verdict(voters.map(letter => (letter === '?' ? later : letter)).join(''))
      if (now === 'tie') assert.equal(then, 'tie')
      else if (now !== 'open') assert.equal(then, now)
      if (now !== 'tie' && now !== 'open') {
        assert(voters.filter(letter => letter === now).length * 2 > voters.length)
      }
      const jointly = verdict(voters.join(''), rest.join(''))
      if (jointly !== 'tie' && jointly !== 'open') assert.equal(jointly, now)
    }),
  )
})

test('digests of a whole database are judged alike, and one voter is its own majority there', () => {
  const only: Electorate = { voters: [1], votersOutgoing: [] }
  const judgement = judge(only, () => ({ type: 'value', value: 'a' }))
  assert.deepEqual(judgement, { type: 'decided', value: 'a' })
})

const THREE: Electorate = { voters: [1, 2, 3], votersOutgoing: [] }

test('what a majority has computed stays agreed when one of them computes it again', () => {
  const progress = new Map([
    [1, { after: 0, upTo: 10 }],
    [2, { after: 0, upTo: 8 }],
    [3, { after: 0, upTo: 3 }],
  ])
  const first = agree(NO_AGREEMENT, THREE, id => progress.get(id))
  assert.deepEqual(first, { after: 0, upTo: 8 })
  progress.set(1, { after: 0, upTo: 2 })
  assert.deepEqual(
    agree(first, THREE, id => progress.get(id)),
    first,
  )
})

test('what was copied is computed by nobody', () => {
  const progress = new Map([
    [1, { after: 0, upTo: 10 }],
    [2, { after: 9, upTo: 10 }],
    [3, { after: 0, upTo: 3 }],
  ])
  const agreement = agree(NO_AGREEMENT, THREE, id => progress.get(id))
  assert.deepEqual(agreement, { after: 9, upTo: 10 })
  // With what was agreed on before the copy, nothing is missing in between.
  const before = { after: 0, upTo: 9 }
  assert.deepEqual(
    agree(before, THREE, id => progress.get(id)),
    { after: 0, upTo: 10 },
  )
  progress.set(1, { after: 0, upTo: 9 })
  assert.deepEqual(
    agree(NO_AGREEMENT, THREE, id => progress.get(id)),
    NO_AGREEMENT,
  )
})

test('less than a majority agrees on nothing, and both sets of a joint change must', () => {
  const one = new Map([[1, { after: 0, upTo: 10 }]])
  assert.deepEqual(
    agree(NO_AGREEMENT, THREE, id => one.get(id)),
    NO_AGREEMENT,
  )
  const joint: Electorate = { voters: [1, 2], votersOutgoing: [3] }
  const progress = new Map([
    [1, { after: 0, upTo: 10 }],
    [2, { after: 0, upTo: 9 }],
    [3, { after: 2, upTo: 5 }],
  ])
  assert.deepEqual(
    agree(NO_AGREEMENT, joint, id => progress.get(id)),
    { after: 2, upTo: 5 },
  )
})

test('a node that does not know yet who votes knows of no agreement', () => {
  const nobody: Electorate = { voters: [], votersOutgoing: [] }
  const before = { after: 0, upTo: 3 }
  assert.deepEqual(
    agree(before, nobody, () => ({ after: 0, upTo: 9 })),
    before,
  )
})

test('of two agreements that do not touch the newer one is kept', () => {
  assert.deepEqual(joined({ after: 0, upTo: 3 }, { after: 5, upTo: 9 }), { after: 5, upTo: 9 })
  assert.deepEqual(joined({ after: 5, upTo: 9 }, { after: 0, upTo: 3 }), { after: 5, upTo: 9 })
  assert.deepEqual(joined({ after: 0, upTo: 5 }, { after: 5, upTo: 9 }), { after: 0, upTo: 9 })
  assert.deepEqual(joined({ after: 1, upTo: 5 }, NO_AGREEMENT), { after: 1, upTo: 5 })
})
