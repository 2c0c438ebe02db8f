/**
 * The rule of majority, as functions of what members say. Replicas that computed one entry
 * differently are all suspects until a majority of the voters agrees on what it gave; who gave
 * something else is wrong then, be it a follower or the leader that wrote the entry. Nobody is
 * believed for its role, and nobody counts who has its data from another.
 */

import { DbError } from '../base/errors.ts'
import type { Divergence, EnginePast } from '../engine/engine.ts'

/** Who counts. While the members change jointly, both sets must agree. */
export interface Electorate {
  readonly voters: readonly number[]
  /** Empty unless the members are just changing. */
  readonly votersOutgoing: readonly number[]
}

/** What an entry gave: what it says itself, or the digest of other outcomes. */
export type Value = string

/** The outcomes that the entry carries: those of the leader that wrote it. */
export const AS_WRITTEN: Value = 'as written'

/** What a member says of one entry. */
export type Opinion =
  /** It has not come so far, or hasn't said anything yet. */
  | { readonly type: 'pending' }
  /** It did not compute the entry itself, and never will. */
  | { readonly type: 'silent' }
  | { readonly type: 'value'; readonly value: Value }

export const PENDING: Opinion = { type: 'pending' }
export const SILENT: Opinion = { type: 'silent' }

/** How this replica stands to the log. */
export interface OwnState {
  readonly appliedIndex: number
  readonly past: EnginePast
  readonly divergence: Divergence | undefined
  readonly isCondemned: boolean
  /** The entries after the applied ones are not to be had any more: only a snapshot helps. */
  readonly isStranded: boolean
}

/** The oldest entry about which the members do not agree. */
export interface Dispute {
  readonly index: number
  /** No majority can come about: only an operator can say who is right. */
  readonly isTie: boolean
  /** What an entry gave, or the data right after it. */
  readonly subject: 'outcome' | 'data'
}

/** Why no node takes writes, if nobody can tell whose data is right. */
export function disputedError(dispute: Dispute | undefined): DbError | undefined {
  if (dispute?.isTie !== true) return undefined
  const { index, subject } = dispute
  const what =
    subject === 'data'
      ? `replicas have different data as of entry ${index}`
      : `replicas computed different things at entry ${index}`
  const message = `${what} and no majority agrees; an operator must decide which node is right`
  return new DbError('DISPUTED', message, { details: { index } })
}

export type Judgement =
  | { readonly type: 'decided'; readonly value: Value }
  /** Who is pending may still bring a majority about. */
  | { readonly type: 'open' }
  /** No majority can come about any more. */
  | { readonly type: 'tie' }

/** Counts the opinions of the voters on one entry, or on the state after it. */
export function judge(electorate: Electorate, opinionOf: (raftId: number) => Opinion): Judgement {
  const sets = [electorate.voters, electorate.votersOutgoing].filter(set => set.length > 0)
  const tallies = sets.map(set => tally(set, opinionOf))
  const values = new Set(tallies.flatMap(({ votes }) => [...votes.keys()]))
  let isOpen = tallies.every(({ pending, needed }) => pending >= needed)
  for (const value of values) {
    const votes = tallies.map(each => ({ ...each, own: each.votes.get(value) ?? 0 }))
    if (votes.every(({ own, needed }) => own >= needed)) return { type: 'decided', value }
    isOpen ||= votes.every(({ own, pending, needed }) => own + pending >= needed)
  }
  return isOpen ? { type: 'open' } : { type: 'tie' }
}

/**
 * The same for one entry. A voter alone that contradicts what is written, perhaps by itself before
 * a restart, has nobody to agree with.
 */
export function judgeEntry(
  electorate: Electorate,
  opinionOf: (raftId: number) => Opinion,
): Judgement {
  const judgement = judge(electorate, opinionOf)
  const isAlone = electorate.voters.length < 2 && electorate.votersOutgoing.length < 2
  if (!isAlone || judgement.type !== 'decided') return judgement
  return judgement.value === AS_WRITTEN ? judgement : { type: 'tie' }
}

interface Tally {
  readonly votes: ReadonlyMap<Value, number>
  readonly pending: number
  readonly needed: number
}

function tally(voters: readonly number[], opinionOf: (raftId: number) => Opinion): Tally {
  const votes = new Map<Value, number>()
  let pending = 0
  for (const raftId of voters) {
    const opinion = opinionOf(raftId)
    if (opinion.type === 'pending') pending++
    else if (opinion.type === 'value') votes.set(opinion.value, (votes.get(opinion.value) ?? 0) + 1)
  }
  return { votes, pending, needed: Math.floor(voters.length / 2) + 1 }
}

/** Entries after `after` up to `upTo` were computed alike by a majority of the voters, once. */
export interface Agreement {
  readonly after: number
  readonly upTo: number
}

export const NO_AGREEMENT: Agreement = { after: 0, upTo: 0 }

/** From where to where a member has computed entries itself and found nothing against them. */
export interface Progress {
  readonly after: number
  readonly upTo: number
}

/**
 * What a majority is known to agree on, with what members say of their progress now. It is
 * remembered, because who restarts computes again, and may then be the odd one.
 */
export function agree(
  before: Agreement,
  electorate: Electorate,
  progressOf: (raftId: number) => Progress | undefined,
): Agreement {
  const sets = [electorate.voters, electorate.votersOutgoing].filter(set => set.length > 0)
  // A node that joins has not heard yet who votes.
  if (sets.length === 0) return before
  const each = sets.map(set => agreementOf(set, progressOf))
  const after = Math.max(...each.map(agreement => agreement.after))
  const upTo = Math.min(...each.map(agreement => agreement.upTo))
  return joined(before, { after, upTo })
}

/** Both together if they overlap or touch, else the one that reaches further. */
export function joined(one: Agreement, other: Agreement): Agreement {
  if (other.after >= other.upTo) return one
  if (one.after >= one.upTo) return other
  const isConnected = other.after <= one.upTo && one.after <= other.upTo
  if (!isConnected) return other.upTo > one.upTo ? other : one
  const after = Math.min(one.after, other.after)
  return { after, upTo: Math.max(one.upTo, other.upTo) }
}

function agreementOf(
  voters: readonly number[],
  progressOf: (raftId: number) => Progress | undefined,
): Agreement {
  const needed = Math.floor(voters.length / 2) + 1
  const known = voters.map(progressOf).filter(progress => progress !== undefined)
  const upTo = known.map(progress => progress.upTo).sort((left, right) => right - left)[needed - 1]
  if (upTo === undefined) return NO_AGREEMENT
  const reaching = known.filter(progress => progress.upTo >= upTo)
  const after = reaching.map(progress => progress.after).sort((left, right) => left - right)
  return { after: after[needed - 1] ?? upTo, upTo }
}
