/** From one membership to another: what is refused, and that joint and simple changes agree. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type ChangeResult,
  type Members,
  enterJoint,
  leaveJoint,
  restoreMembers,
  simpleChange,
} from '../../src/raft/membership-change.ts'
import { EMPTY_MEMBERSHIP, describeMembership, toConfState } from '../../src/raft/membership.ts'
import { type ConfChangeStep, type ConfState, EMPTY_CONF_STATE } from '../../src/raft/types.ts'
import { learnerStep, removeStep, voterStep } from './kit.ts'

const OPTIONS = { lastIndex: 20, maxInflightMessages: 10, maxInflightBytes: 100 }
const NOBODY: Members = { membership: EMPTY_MEMBERSHIP, progress: new Map() }

function changed(result: ChangeResult): Members {
  assert(result.type === 'changed', result.type === 'refused' ? result.reason : '')
  return result.members
}

function refusal(result: ChangeResult): string {
  assert(result.type === 'refused')
  return result.reason
}

function membersOf(confState: Partial<ConfState>): Members {
  return changed(restoreMembers({ ...EMPTY_CONF_STATE, ...confState }, OPTIONS))
}

function describe(members: Members): string {
  return describeMembership(members.membership)
}

/** Everything about the members that a change decides. */
function facts(members: Members): unknown {
  return {
    confState: toConfState(members.membership),
    learners: [...members.progress].map(([id, progress]) => [id, progress.isLearner]),
  }
}

const anyStep: fc.Arbitrary<ConfChangeStep> = fc.record({
  type: fc.constantFrom('add-voter' as const, 'add-learner' as const, 'remove' as const),
  nodeId: fc.integer({ min: 1, max: 6 }),
})

test('a simple change of two voters is refused, of two learners it is not', () => {
  const three = membersOf({ voters: [1, 2, 3] })

  const two = simpleChange(three, [voterStep(4), removeStep(3)], OPTIONS)
  assert.match(refusal(two), /more than one voter changed/)
  assert.match(refusal(simpleChange(three, [voterStep(4), voterStep(5)], OPTIONS)), /more than one/)
  const learners = changed(simpleChange(three, [learnerStep(4), learnerStep(5)], OPTIONS))
  assert.equal(describe(learners), 'voters=(1 2 3) learners=(4 5)')
})

test('the last voter can not be removed or demoted', () => {
  const one = membersOf({ voters: [1] })
  assert.equal(refusal(simpleChange(one, [removeStep(1)], OPTIONS)), 'removed all voters')
  assert.equal(refusal(simpleChange(one, [learnerStep(1)], OPTIONS)), 'removed all voters')
  assert.equal(refusal(enterJoint(one, false, [removeStep(1)], OPTIONS)), 'removed all voters')
})

test('a joint membership is entered and left once', () => {
  const three = membersOf({ voters: [1, 2, 3] })
  const joint = changed(enterJoint(three, true, [voterStep(4), removeStep(3)], OPTIONS))
  assert.equal(describe(joint), 'voters=(1 2 4)&&(1 2 3) autoleave')

  assert.equal(refusal(enterJoint(joint, true, [], OPTIONS)), 'config is already joint')
  assert.match(refusal(simpleChange(joint, [voterStep(5)], OPTIONS)), /in joint config/)
  const left = changed(leaveJoint(joint, OPTIONS))
  assert.equal(describe(left), 'voters=(1 2 4)')
  assert.deepEqual([...left.progress.keys()], [1, 2, 4])
  assert.equal(refusal(leaveJoint(left, OPTIONS)), "can't leave a non-joint config")
  assert.match(refusal(enterJoint(NOBODY, false, [voterStep(1)], OPTIONS)), /zero-voter/)
})

test('a voter that becomes a learner in a joint membership votes until it is left', () => {
  const three = membersOf({ voters: [1, 2, 3] })
  const joint = changed(enterJoint(three, false, [learnerStep(3), voterStep(4)], OPTIONS))

  assert.equal(describe(joint), 'voters=(1 2 4)&&(1 2 3) learners_next=(3)')
  assert.equal(joint.progress.get(3)?.isLearner, false)
  const left = changed(leaveJoint(joint, OPTIONS))
  assert.equal(describe(left), 'voters=(1 2 4) learners=(3)')
  assert.equal(left.progress.get(3)?.isLearner, true)
})

test('demoting and promoting keeps what is known of a node; removing and adding does not', () => {
  const two = membersOf({ voters: [1, 2] })
  two.progress.get(2)?.maybeUpdate(15)

  const demoted = changed(simpleChange(two, [learnerStep(2)], OPTIONS))
  assert.deepEqual([demoted.progress.get(2)?.match, demoted.progress.get(2)?.isLearner], [15, true])
  const promoted = changed(simpleChange(demoted, [voterStep(2)], OPTIONS))
  assert.equal(promoted.progress.get(2)?.match, 15)
  const removed = changed(simpleChange(promoted, [removeStep(2)], OPTIONS))
  assert.equal(changed(simpleChange(removed, [voterStep(2)], OPTIONS)).progress.get(2)?.match, 0)
})

test('a refused change leaves nothing behind', () => {
  const before = membersOf({ voters: [1, 2, 3], learners: [4] })
  const expected = facts(before)

  refusal(simpleChange(before, [voterStep(4), removeStep(1), learnerStep(2)], OPTIONS))

  assert.deepEqual(facts(before), expected)
})

test('a newcomer is probed from the end of the log and counts as active', () => {
  const members = membersOf({ voters: [1] })
  const two = changed(simpleChange(members, [voterStep(2)], { ...OPTIONS, lastIndex: 30 }))
  const progress = two.progress.get(2)
  assert.deepEqual([progress?.match, progress?.next, progress?.state], [0, 30, 'probe'])
  assert.equal(progress?.isRecentlyActive, true)
  const empty = changed(simpleChange(members, [voterStep(2)], { ...OPTIONS, lastIndex: 0 }))
  assert.equal(empty.progress.get(2)?.next, 1)
})

test('steps for node 0 do nothing', () => {
  const members = membersOf({ voters: [1] })
  assert.deepEqual(
    facts(changed(simpleChange(members, [removeStep(0), voterStep(0)], OPTIONS))),
    facts(members),
  )
})

test('any membership that changes lead to is restored as it was stored', () => {
  const steps = fc.array(anyStep, { maxLength: 6 })
  fc.assert(
    fc.property(steps, steps, fc.boolean(), (first, second, autoLeave) => {
      let members = membersOf({ voters: [1, 2, 3], learners: [4] })
      const result = enterJoint(members, autoLeave, first, OPTIONS)
      if (result.type === 'changed') members = result.members
      const restored = membersOf(toConfState(members.membership))
      assert.deepEqual(facts(restored), facts(members))

      if (members.membership.outgoing.size > 0) members = changed(leaveJoint(members, OPTIONS))
      for (const step of second) {
        const next = simpleChange(members, [step], OPTIONS)
        if (next.type === 'changed') members = next.members
      }
      assert.deepEqual(facts(membersOf(toConfState(members.membership))), facts(members))
    }),
  )
})

test('steps one by one and through a joint membership end in the same membership', () => {
  fc.assert(
    fc.property(fc.array(anyStep, { minLength: 1, maxLength: 8 }), steps => {
      const start = membersOf({ voters: [1, 2, 3], learners: [4] })
      let simple = start
      for (const step of steps) {
        const result = simpleChange(simple, [step], OPTIONS)
        // The last voter can't go one by one, where all together might replace it.
        fc.pre(result.type === 'changed')
        simple = changed(result)
      }
      const joint = changed(enterJoint(start, false, steps, OPTIONS))
      assert.deepEqual(facts(changed(leaveJoint(joint, OPTIONS))), facts(simple))
    }),
  )
})

test('a stored membership that contradicts itself is refused', () => {
  const wrong: readonly [Partial<ConfState>, RegExp][] = [
    [{ voters: [1, 2], learners: [2] }, /2 is in Learners and Voters\[0\]/],
    [{ voters: [1], votersOutgoing: [2], learners: [2] }, /2 is in Learners and Voters\[1\]/],
    [{ voters: [1], votersOutgoing: [1], learnersNext: [3] }, /no progress for 3/],
    [{ voters: [1], autoLeave: true }, /AutoLeave must be false/],
  ]
  for (const [confState, reason] of wrong) {
    const result = restoreMembers({ ...EMPTY_CONF_STATE, ...confState }, OPTIONS)
    assert.match(refusal(result), reason)
  }
})
