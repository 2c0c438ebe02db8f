/**
 * From one membership to the next (thesis chapter 4). A simple change touches at most one voter, so
 * that any majority before and any majority after overlap. Anything more goes through a joint
 * membership, in which both majorities are needed. Everything here works on copies: a change that
 * turns out to be wrong is refused and leaves nothing behind.
 */
import { must, unreachable } from '../base/assert.ts'
import { Inflights } from './inflights.ts'
import { type Membership, isJoint, voterIds } from './membership.ts'
import { Progress } from './progress.ts'
import type { ConfChangeStep, ConfState, RaftId } from './types.ts'

/** A membership together with what is known of each member, ascending by id. */
export interface Members {
  readonly membership: Membership
  readonly progress: ReadonlyMap<RaftId, Progress>
}

/** The members after a change, or why it can't be made. */
export type ChangeResult =
  | { readonly type: 'changed'; readonly members: Members }
  | { readonly type: 'refused'; readonly reason: string }

/** What the progress of a new member starts with. */
export interface NewcomerOptions {
  /** The last index of the log: where probing a newcomer begins. */
  readonly lastIndex: number
  readonly maxInflightMessages: number
  readonly maxInflightBytes: number
}

/** One change to the voters at most, in force at once. */
export function simpleChange(
  current: Members,
  steps: readonly ConfChangeStep[],
  options: NewcomerOptions,
): ChangeResult {
  const draft = new Draft(current, options)
  const before = draft.refusal()
  if (before !== undefined) return refused(before)
  if (isJoint(current.membership)) {
    return refused("can't apply simple config change in joint config")
  }
  draft.applyAll(steps)
  if (draft.voters.size === 0) return refused('removed all voters')
  if (differenceCount(current.membership.voters, draft.voters) > 1) {
    return refused('more than one voter changed without entering joint config')
  }
  return draft.result()
}

/**
 * Thesis 4.3: "the cluster first switches to a transitional configuration we call joint consensus".
 * The present voters become the old half; the steps make the new half out of them.
 */
export function enterJoint(
  current: Members,
  autoLeave: boolean,
  steps: readonly ConfChangeStep[],
  options: NewcomerOptions,
): ChangeResult {
  const draft = new Draft(current, options)
  const before = draft.refusal()
  if (before !== undefined) return refused(before)
  if (isJoint(current.membership)) return refused('config is already joint')
  if (draft.voters.size === 0) return refused("can't make a zero-voter config joint")
  draft.outgoing = new Set(draft.voters)
  draft.applyAll(steps)
  if (draft.voters.size === 0) return refused('removed all voters')
  draft.autoLeave = autoLeave
  return draft.result()
}

/** The old half is dropped; its voters that are in no other role are forgotten. */
export function leaveJoint(current: Members, options: NewcomerOptions): ChangeResult {
  const draft = new Draft(current, options)
  const before = draft.refusal()
  if (before !== undefined) return refused(before)
  if (!isJoint(current.membership)) return refused("can't leave a non-joint config")
  draft.leave()
  return draft.result()
}

/** The members that a stored membership describes, each with a fresh progress. */
export function restoreMembers(confState: ConfState, options: NewcomerOptions): ChangeResult {
  const membership: Membership = {
    voters: new Set(confState.voters),
    outgoing: new Set(confState.votersOutgoing),
    learners: new Set(confState.learners),
    learnersNext: new Set(confState.learnersNext),
    autoLeave: confState.autoLeave,
  }
  const progress = new Map<RaftId, Progress>()
  for (const id of voterIds(membership)) progress.set(id, newcomer(false, options))
  for (const id of membership.learners) {
    if (!progress.has(id)) progress.set(id, newcomer(true, options))
  }
  return new Draft({ membership, progress }, options).result()
}

/** A membership on its way to become another. */
class Draft {
  readonly #options: NewcomerOptions
  readonly #progress = new Map<RaftId, Progress>()
  voters: Set<RaftId>
  outgoing: Set<RaftId>
  readonly learners: Set<RaftId>
  readonly learnersNext: Set<RaftId>
  autoLeave: boolean

  constructor(current: Members, options: NewcomerOptions) {
    this.#options = options
    for (const [id, progress] of current.progress) this.#progress.set(id, progress.clone())
    this.voters = new Set(current.membership.voters)
    this.outgoing = new Set(current.membership.outgoing)
    this.learners = new Set(current.membership.learners)
    this.learnersNext = new Set(current.membership.learnersNext)
    this.autoLeave = current.membership.autoLeave
  }

  applyAll(steps: readonly ConfChangeStep[]): void {
    for (const step of steps) {
      // An application that decides not to make a committed change gives it the id 0.
      if (step.nodeId !== 0) this.#apply(step)
    }
  }

  leave(): void {
    for (const id of this.learnersNext) {
      this.learners.add(id)
      must(this.#progress.get(id), `progress of learner ${id}`).isLearner = true
    }
    this.learnersNext.clear()
    for (const id of this.outgoing) {
      if (!this.voters.has(id) && !this.learners.has(id)) this.#progress.delete(id)
    }
    this.outgoing.clear()
    this.autoLeave = false
  }

  result(): ChangeResult {
    const reason = this.refusal()
    if (reason !== undefined) return refused(reason)
    const { voters, outgoing, learners, learnersNext, autoLeave } = this
    return {
      type: 'changed',
      members: {
        membership: { voters, outgoing, learners, learnersNext, autoLeave },
        progress: new Map([...this.#progress].sort(([a], [b]) => a - b)),
      },
    }
  }

  /** What is wrong with the draft as it is, if anything. */
  refusal(): string | undefined {
    const everybody = [this.voters, this.outgoing, this.learners, this.learnersNext]
    for (const id of everybody.flatMap(ids => [...ids])) {
      if (!this.#progress.has(id)) return `no progress for ${id}`
    }
    for (const id of this.learnersNext) {
      if (!this.outgoing.has(id)) return `${id} is in LearnersNext, but not Voters[1]`
      if (this.#isLearner(id)) return `${id} is in LearnersNext, but is already marked as learner`
    }
    for (const id of this.learners) {
      if (this.outgoing.has(id)) return `${id} is in Learners and Voters[1]`
      if (this.voters.has(id)) return `${id} is in Learners and Voters[0]`
      if (!this.#isLearner(id)) return `${id} is in Learners, but is not marked as learner`
    }
    if (this.outgoing.size === 0) {
      if (this.learnersNext.size > 0) return 'cfg.LearnersNext must be nil when not joint'
      if (this.autoLeave) return 'AutoLeave must be false when not joint'
    }
    return undefined
  }

  #isLearner(id: RaftId): boolean {
    return this.#progress.get(id)?.isLearner === true
  }

  #apply(step: ConfChangeStep): void {
    switch (step.type) {
      case 'add-voter':
        return this.#addVoter(step.nodeId)
      case 'add-learner':
        return this.#addLearner(step.nodeId)
      case 'remove':
        return this.#remove(step.nodeId)
      case 'update':
        return
      default:
        return unreachable(step.type)
    }
  }

  #addVoter(id: RaftId): void {
    const progress = this.#progress.get(id)
    if (progress === undefined) this.#progress.set(id, newcomer(false, this.#options))
    else progress.isLearner = false
    this.learners.delete(id)
    this.learnersNext.delete(id)
    this.voters.add(id)
  }

  #addLearner(id: RaftId): void {
    const progress = this.#progress.get(id)
    if (progress === undefined) {
      this.#progress.set(id, newcomer(true, this.#options))
      this.learners.add(id)
      return
    }
    if (progress.isLearner) return
    this.#remove(id)
    // A demoted voter is still the same node: what is known of it stays.
    this.#progress.set(id, progress)
    if (this.outgoing.has(id)) {
      this.learnersNext.add(id)
    } else {
      progress.isLearner = true
      this.learners.add(id)
    }
  }

  #remove(id: RaftId): void {
    if (!this.#progress.has(id)) return
    this.voters.delete(id)
    this.learners.delete(id)
    this.learnersNext.delete(id)
    // As long as the old half counts, its voters must be fed.
    if (!this.outgoing.has(id)) this.#progress.delete(id)
  }
}

/**
 * A newcomer counts as active, or a check of the quorum right after it was added might unseat the
 * leader before the newcomer could say anything.
 */
function newcomer(isLearner: boolean, options: NewcomerOptions): Progress {
  return new Progress({
    match: 0,
    next: Math.max(options.lastIndex, 1),
    isLearner,
    isRecentlyActive: true,
    inflights: new Inflights(options.maxInflightMessages, options.maxInflightBytes),
  })
}

function refused(reason: string): ChangeResult {
  return { type: 'refused', reason }
}

function differenceCount(a: ReadonlySet<RaftId>, b: ReadonlySet<RaftId>): number {
  return a.symmetricDifference(b).size
}
