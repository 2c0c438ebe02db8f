/** Membership changes as bytes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  LEAVE_JOINT,
  decodeConfChange,
  describeSteps,
  encodeConfChange,
  isLeaveJoint,
  jointEntry,
} from '../../src/raft/conf-change.ts'
import type { ConfChange } from '../../src/raft/types.ts'
import { bytes, change, learnerStep, removeStep, voterStep } from './kit.ts'

const anyChange: fc.Arbitrary<ConfChange> = fc.record({
  version: fc.constant(2 as const),
  transition: fc.constantFrom('auto' as const, 'implicit' as const, 'explicit' as const),
  steps: fc.array(
    fc.record({
      type: fc.constantFrom(
        'add-voter' as const,
        'add-learner' as const,
        'remove' as const,
        'update' as const,
      ),
      nodeId: fc.maxSafeNat(),
    }),
  ),
  context: fc.uint8Array({ maxLength: 20 }),
})

/** The same, with its fields in the order in which they are decoded. */
function ordered(one: ConfChange): ConfChange {
  const steps = one.steps.map(({ type, nodeId }) => ({ type, nodeId }))
  return { version: one.version, transition: one.transition, steps, context: one.context }
}

test('what is encoded is decoded again', () => {
  fc.assert(
    fc.property(anyChange, one => {
      const decoded = decodeConfChange(encodeConfChange(one))
      assert.equal(JSON.stringify(decoded), JSON.stringify(ordered(one)))
    }),
  )
})

test('both versions keep what they are', () => {
  const old: ConfChange = change([removeStep(3)], { version: 1, context: bytes('n3') })
  assert.deepEqual(decodeConfChange(encodeConfChange(old)), old)
  assert.throws(() => encodeConfChange({ ...old, steps: [] }), /one-step encoding has 0 steps/)
  assert.throws(() => encodeConfChange({ ...old, transition: 'explicit' }), /explicit/)
})

test('leaving a joint membership takes no bytes, so that no limit can refuse it', () => {
  assert.equal(encodeConfChange(LEAVE_JOINT).length, 0)
  assert.equal(isLeaveJoint(decodeConfChange(new Uint8Array(0))), true)
  assert.equal(isLeaveJoint(change([], { transition: 'explicit' })), false)
  assert.equal(isLeaveJoint(change([voterStep(1)])), false)
})

test('bytes that are no membership change are never taken for one', () => {
  assert.throws(() => decodeConfChange(Uint8Array.of(1, 0, 0)), /cut short/)
  assert.throws(() => decodeConfChange(Uint8Array.of(3, 0, 0, 0, 0, 0)), /unknown version 3/)
  assert.throws(() => decodeConfChange(Uint8Array.of(2, 9, 0, 0, 0, 0)), /transition/)
  assert.throws(() => decodeConfChange(Uint8Array.of(2, 0, 1, 0, 0, 0)), /lacks some/)
  const whole = encodeConfChange(change([voterStep(1)]))
  const wrongStep = whole.map((byte, position) => (position === 6 ? 77 : byte))
  assert.throws(() => decodeConfChange(wrongStep), /membership step/)
})

test('a change goes through a joint membership if it has several steps or asks for it', () => {
  const one = [voterStep(1)]
  const two = [voterStep(1), removeStep(2)]
  assert.equal(jointEntry(change(one)), 'simple')
  assert.equal(jointEntry(change(two)), 'joint-auto-leave')
  assert.equal(jointEntry(change(one, { transition: 'implicit' })), 'joint-auto-leave')
  assert.equal(jointEntry(change(one, { transition: 'explicit' })), 'joint')
  assert.equal(jointEntry(change(two, { transition: 'explicit' })), 'joint')
})

test('steps are described by letter and node', () => {
  const steps = [
    voterStep(1),
    learnerStep(2),
    removeStep(3),
    { type: 'update', nodeId: 4 } as const,
  ]
  assert.equal(describeSteps(steps), 'v1 l2 r3 u4')
})
