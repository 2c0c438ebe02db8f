/**
 * The arithmetic of majorities. In a joint membership every decision needs a majority of the old
 * voters and a majority of the new ones; an empty half agrees to everything.
 */
import type { RaftId } from './types.ts'

/** The outcome of an election so far. */
export type VoteResult = 'pending' | 'won' | 'lost'

/** Voters of a group. `outgoing` is empty unless the membership is joint. */
export interface JointVoters {
  readonly voters: ReadonlySet<RaftId>
  readonly outgoing: ReadonlySet<RaftId>
}

/** How far a voter has acknowledged; undefined when nothing was heard of it. */
export type AckedIndex = (id: RaftId) => number | undefined

/** The size of the smallest majority of a set. */
export function majorityCount(memberCount: number): number {
  return Math.floor(memberCount / 2) + 1
}

/** The highest index that a majority of `voters` has acknowledged; Infinity for no voters. */
export function majorityCommittedIndex(voters: ReadonlySet<RaftId>, acked: AckedIndex): number {
  if (voters.size === 0) return Number.POSITIVE_INFINITY
  const indexes: number[] = []
  for (const id of voters) indexes.push(acked(id) ?? 0)
  indexes.sort((a, b) => b - a)
  return indexes[majorityCount(voters.size) - 1] ?? 0
}

/** The outcome of a vote among `voters`. Nobody to ask means that it is won. */
export function majorityVoteResult(
  voters: ReadonlySet<RaftId>,
  votes: ReadonlyMap<RaftId, boolean>,
): VoteResult {
  if (voters.size === 0) return 'won'
  let grantedCount = 0
  let missingCount = 0
  for (const id of voters) {
    const vote = votes.get(id)
    if (vote === undefined) missingCount++
    else if (vote) grantedCount++
  }
  const needed = majorityCount(voters.size)
  if (grantedCount >= needed) return 'won'
  return grantedCount + missingCount >= needed ? 'pending' : 'lost'
}

/**
 * Thesis 4.3: in a joint membership, agreement "for elections and entry commitment" requires
 * "majorities from both the old and new configurations". So an index is committed when it is so in
 * both halves.
 */
export function committedIndex(group: JointVoters, acked: AckedIndex): number {
  return Math.min(
    majorityCommittedIndex(group.voters, acked),
    majorityCommittedIndex(group.outgoing, acked),
  )
}

/** An election is won when both halves are won, lost as soon as one is lost. */
export function voteResult(group: JointVoters, votes: ReadonlyMap<RaftId, boolean>): VoteResult {
  const incoming = majorityVoteResult(group.voters, votes)
  const outgoing = majorityVoteResult(group.outgoing, votes)
  if (incoming === outgoing) return incoming
  return incoming === 'lost' || outgoing === 'lost' ? 'lost' : 'pending'
}
