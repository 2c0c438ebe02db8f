/**
 * A group's membership as values: who votes, who learns, and whether it is between two memberships.
 * How one membership becomes another is in membership-change.ts.
 */
import type { ConfState, RaftId } from './types.ts'

/** The membership that is in force on a node. Never changed in place. */
export interface Membership {
  /** The voters; in a joint membership, of its new half. */
  readonly voters: ReadonlySet<RaftId>
  /** The voters of the old half of a joint membership; otherwise empty. */
  readonly outgoing: ReadonlySet<RaftId>
  /** Never voters at the same time, in either half. */
  readonly learners: ReadonlySet<RaftId>
  /**
   * Voters of the old half that become learners when the joint membership is left. They can't be
   * learners before, because until then their votes count.
   */
  readonly learnersNext: ReadonlySet<RaftId>
  /** The joint membership is left by the leader itself. */
  readonly autoLeave: boolean
}

/** Nobody yet: a node that waits to be added. */
export const EMPTY_MEMBERSHIP: Membership = {
  voters: new Set(),
  outgoing: new Set(),
  learners: new Set(),
  learnersNext: new Set(),
  autoLeave: false,
}

/** Between two memberships, so that decisions need both. */
export function isJoint(membership: Membership): boolean {
  return membership.outgoing.size > 0
}

/** Everybody whose vote counts in either half, ascending. */
export function voterIds(membership: Membership): RaftId[] {
  return sortedIds(new Set([...membership.voters, ...membership.outgoing]))
}

/** Whether `id`'s vote counts. */
export function isVoter(membership: Membership, id: RaftId): boolean {
  return membership.voters.has(id) || membership.outgoing.has(id)
}

/** One voter, so that it decides alone. */
export function isSingleton(membership: Membership): boolean {
  return membership.voters.size === 1 && membership.outgoing.size === 0
}

/** The form that is stored in snapshots. */
export function toConfState(membership: Membership): ConfState {
  return {
    voters: sortedIds(membership.voters),
    learners: sortedIds(membership.learners),
    votersOutgoing: sortedIds(membership.outgoing),
    learnersNext: sortedIds(membership.learnersNext),
    autoLeave: membership.autoLeave,
  }
}

/** For people: `voters=(1 2 3)&&(1 2) learners=(4) learners_next=(5) autoleave`. */
export function describeMembership(membership: Membership): string {
  const parts = [`voters=${describeIds(membership.voters)}`]
  if (isJoint(membership)) parts[0] += `&&${describeIds(membership.outgoing)}`
  if (membership.learners.size > 0) parts.push(`learners=${describeIds(membership.learners)}`)
  if (membership.learnersNext.size > 0) {
    parts.push(`learners_next=${describeIds(membership.learnersNext)}`)
  }
  if (membership.autoLeave) parts.push('autoleave')
  return parts.join(' ')
}

function sortedIds(ids: ReadonlySet<RaftId>): RaftId[] {
  return [...ids].sort((a, b) => a - b)
}

function describeIds(ids: ReadonlySet<RaftId>): string {
  return `(${sortedIds(ids).join(' ')})`
}
