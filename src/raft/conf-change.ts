/**
 * Membership changes as they are proposed and stored in entries.
 *
 * Layout of a `config` entry's data (nothing at all means: leave the joint membership):
 *
 *   version     u8       1 (one step) or 2
 *   transition  u8       0 auto, 1 implicit, 2 explicit
 *   stepCount   u32 LE
 *   steps       { type u8: 0 add voter, 1 remove, 2 update, 3 add learner; nodeId f64 LE } each
 *   context     the rest
 */
import { assert, must, unreachable } from '../base/assert.ts'
import {
  type ConfChange,
  type ConfChangeStep,
  type ConfChangeTransition,
  EMPTY_BYTES,
} from './types.ts'

const TRANSITIONS: readonly ConfChangeTransition[] = ['auto', 'implicit', 'explicit']
const STEP_TYPES: readonly ConfChangeStep['type'][] = [
  'add-voter',
  'remove',
  'update',
  'add-learner',
]
const HEAD_BYTES = 6
const STEP_BYTES = 9

/** The change that leaves a joint membership; its encoding is empty, so it is never too large. */
export const LEAVE_JOINT: ConfChange = {
  version: 2,
  transition: 'auto',
  steps: [],
  context: EMPTY_BYTES,
}

/** The change as the data of a `config` entry. */
export function encodeConfChange(change: ConfChange): Uint8Array {
  if (change.version === 1) {
    assert(
      change.steps.length === 1 && change.transition === 'auto',
      `a change in the one-step encoding has ${change.steps.length} steps, ${change.transition}`,
    )
  }
  if (isLeaveJoint(change) && change.context.length === 0) return EMPTY_BYTES
  const stepsBytes = change.steps.length * STEP_BYTES
  const data = new Uint8Array(HEAD_BYTES + stepsBytes + change.context.length)
  const view = new DataView(data.buffer)
  view.setUint8(0, change.version)
  view.setUint8(1, TRANSITIONS.indexOf(change.transition))
  view.setUint32(2, change.steps.length, true)
  for (const [position, step] of change.steps.entries()) {
    view.setUint8(HEAD_BYTES + position * STEP_BYTES, STEP_TYPES.indexOf(step.type))
    view.setFloat64(HEAD_BYTES + position * STEP_BYTES + 1, step.nodeId, true)
  }
  data.set(change.context, HEAD_BYTES + stepsBytes)
  return data
}

/** The change in a `config` entry's data. Data that nobody encoded is a broken invariant. */
export function decodeConfChange(data: Uint8Array): ConfChange {
  if (data.length === 0) return LEAVE_JOINT
  assert(data.length >= HEAD_BYTES, `a membership change of ${data.length} bytes is cut short`)
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  const version = view.getUint8(0)
  assert(version === 1 || version === 2, `unknown version ${version} of a membership change`)
  const transition = must(TRANSITIONS[view.getUint8(1)], 'transition of a membership change')
  const stepCount = view.getUint32(2, true)
  const stepsEnd = HEAD_BYTES + stepCount * STEP_BYTES
  assert(data.length >= stepsEnd, `a membership change lacks some of its ${stepCount} steps`)
  const steps: ConfChangeStep[] = []
  for (let at = HEAD_BYTES; at < stepsEnd; at += STEP_BYTES) {
    const type = must(STEP_TYPES[view.getUint8(at)], 'type of a membership step')
    steps.push({ type, nodeId: view.getFloat64(at + 1, true) })
  }
  return { version, transition, steps, context: data.slice(stepsEnd) }
}

/** A change without steps ends a joint membership. */
export function isLeaveJoint(change: ConfChange): boolean {
  return change.transition === 'auto' && change.steps.length === 0
}

/**
 * Whether a change goes through a joint membership, and who leaves it then. Some changes of several
 * steps could do without, but which depends on the membership they apply to; joint always works.
 */
export function jointEntry(change: ConfChange): 'simple' | 'joint-auto-leave' | 'joint' {
  if (change.transition === 'auto' && change.steps.length <= 1) return 'simple'
  return change.transition === 'explicit' ? 'joint' : 'joint-auto-leave'
}

/** For people: `v1 l2 r3 u4` is voter 1, learner 2, remove 3, update 4. */
export function describeSteps(steps: readonly ConfChangeStep[]): string {
  return steps.map(step => `${stepLetter(step.type)}${step.nodeId}`).join(' ')
}

function stepLetter(type: ConfChangeStep['type']): string {
  switch (type) {
    case 'add-voter':
      return 'v'
    case 'add-learner':
      return 'l'
    case 'remove':
      return 'r'
    case 'update':
      return 'u'
    default:
      return unreachable(type)
  }
}
