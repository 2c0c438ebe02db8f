/** Single requests that are proven by the cluster secret. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import {
  checkAnswer,
  makeProof,
  type ProofFacts,
  ProofGate,
  sealAnswer,
} from '../../src/platform/peer-proof.ts'
import { SystemRandom } from '../../src/platform/random.ts'
import { ManualClock } from '../replica/doubles.ts'

const FACTS: ProofFacts = { clusterId: 'c', historyId: 'h', secret: 'the secret' }
const URL = '/snapshot?atLeast=7'

function gate(clock = new ManualClock()): ProofGate {
  return new ProofGate(FACTS, clock, new SystemRandom())
}

function refusalOf(act: () => void): DbError {
  try {
    act()
  } catch (error) {
    if (error instanceof DbError) return error
    throw error
  }
  return assert.fail('it is not refused')
}

function challengeOf(asked: ProofGate): string {
  return String(refusalOf(() => asked.check('', URL)).details['challenge'])
}

test('a proof holds for its challenge, for what is asked and for some minutes', () => {
  const clock = new ManualClock()
  const asked = gate(clock)
  const proof = makeProof(FACTS, challengeOf(asked), URL)
  asked.check(proof, URL)
  assert.equal(refusalOf(() => asked.check(proof, `${URL}1`)).code, 'UNAUTHENTICATED')
  assert.equal(refusalOf(() => gate().check(proof, URL)).code, 'UNAUTHENTICATED')
  clock.pass(5 * 60_000)
  asked.check(proof, URL)
  clock.pass(5 * 60_000)
  assert.equal(refusalOf(() => asked.check(proof, URL)).code, 'UNAUTHENTICATED')
})

test('another secret, history or cluster makes no proof', () => {
  const asked = gate()
  const challenge = challengeOf(asked)
  const codeOf = (facts: ProofFacts): string =>
    refusalOf(() => asked.check(makeProof(facts, challenge, URL), URL)).code
  assert.equal(codeOf({ ...FACTS, secret: 'x' }), 'UNAUTHENTICATED')
  assert.equal(codeOf({ ...FACTS, historyId: 'x' }), 'WRONG_HISTORY')
  assert.equal(codeOf({ ...FACTS, clusterId: 'x' }), 'FORBIDDEN')
  for (const proof of ['', ' ', 'a b c', 'c h  ', `c h ${challenge} `, 'c h d e f g']) {
    assert.equal(refusalOf(() => asked.check(proof, URL)).code, 'UNAUTHENTICATED')
  }
})

test('an answer is proven for what was asked, and no proof of a request can stand for it', () => {
  const seal = sealAnswer(FACTS, URL, 'body')
  checkAnswer(FACTS, URL, 'body', seal)
  const wrong = [
    () => checkAnswer(FACTS, `${URL}0`, 'body', seal),
    () => checkAnswer(FACTS, URL, 'other', seal),
    () => checkAnswer({ ...FACTS, secret: 'x' }, URL, 'body', seal),
    () => checkAnswer(FACTS, URL, 'body', ''),
    () => checkAnswer(FACTS, URL, 'body', makeProof(FACTS, URL, 'body').split(' ')[3] ?? ''),
  ]
  for (const act of wrong) assert.equal(refusalOf(act).code, 'UNAUTHENTICATED')
})
