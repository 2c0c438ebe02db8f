/** The commands of scripts that change a membership step by step. */
import { EMPTY_MEMBERSHIP, describeMembership } from '../../src/raft/membership.ts'
import {
  type ChangeResult,
  type Members,
  enterJoint,
  leaveJoint,
  simpleChange,
} from '../../src/raft/membership-change.ts'
import { type ConfChangeStep, NO_LIMIT } from '../../src/raft/types.ts'
import type { Directive } from './data-driven.ts'
import { describeProgress } from './describe.ts'
import { CommandError } from './environment.ts'
import { parseSteps } from './interaction.ts'

/** Makes a runner of directives that begins with nobody. */
export function confchangeRunner(): (directive: Directive) => string {
  let members: Members = { membership: EMPTY_MEMBERSHIP, progress: new Map() }
  // The log grows by one with every command, so that `next` tells when a member was added.
  let lastIndex = 0
  return directive => {
    const options = { lastIndex, maxInflightMessages: 10, maxInflightBytes: NO_LIMIT }
    lastIndex++
    let steps: ConfChangeStep[]
    try {
      steps = parseSteps(directive.input)
    } catch (error) {
      if (error instanceof CommandError) return error.message
      throw error
    }
    const result = change(directive, members, steps, options)
    if (result.type === 'refused') return result.reason
    members = result.members
    const lines = [describeMembership(members.membership)]
    for (const [id, progress] of members.progress)
      lines.push(describeProgress(id, progress.status()))
    return lines.join('\n')
  }
}

function change(
  directive: Directive,
  members: Members,
  steps: readonly ConfChangeStep[],
  options: Parameters<typeof leaveJoint>[1],
): ChangeResult {
  switch (directive.command) {
    case 'simple':
      return simpleChange(members, steps, options)
    case 'enter-joint': {
      const autoLeave = directive.args.find(arg => arg.key === 'autoleave')?.values[0] === 'true'
      return enterJoint(members, autoLeave, steps, options)
    }
    case 'leave-joint':
      return steps.length > 0
        ? { type: 'refused', reason: 'this command takes no input' }
        : leaveJoint(members, options)
    default:
      return { type: 'refused', reason: 'unknown command' }
  }
}
