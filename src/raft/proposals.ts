/**
 * Proposals, and membership changes from proposal to force. A change is in force when it is
 * applied, not when it is appended; so until the last one in the log is applied, nobody may propose
 * another, and nobody who has one committed and unapplied may campaign.
 */
import { AssertionError, assert } from '../base/assert.ts'
import {
  LEAVE_JOINT,
  decodeConfChange,
  encodeConfChange,
  isLeaveJoint,
  jointEntry,
} from './conf-change.ts'
import type { RaftCore } from './core.ts'
import { draftEntry } from './entries.ts'
import { type ChangeResult, enterJoint, leaveJoint, simpleChange } from './membership-change.ts'
import { describeMembership, isJoint, isVoter } from './membership.ts'
import { appendOwnEntries, maybeCommit } from './replication.ts'
import { broadcastAppend, maybeSendAppend } from './sending.ts'
import {
  type ConfChange,
  type ConfState,
  type DropReason,
  type Entry,
  NO_ID,
  type ProposeResult,
  type RaftId,
} from './types.ts'

/** Proposes entries: appends them as leader, passes them on as follower. */
export function propose(core: RaftCore, from: RaftId, drafts: readonly Entry[]): ProposeResult {
  assert(drafts.length > 0, `${core.id} was given an empty proposal`)
  if (core.role === 'leader') return proposeAsLeader(core, drafts)
  if (core.role !== 'follower' || core.lead === NO_ID) return dropped(core, 'no-leader')
  if (core.config.disableProposalForwarding) return dropped(core, 'not-forwarding')
  core.send({ type: 'propose', to: core.lead, from, entries: drafts })
  return { type: 'forwarded', to: core.lead }
}

function proposeAsLeader(core: RaftCore, drafts: readonly Entry[]): ProposeResult {
  // Removed while it led: whatever it appended now might never reach anybody.
  if (!core.tracker.progress.has(core.id)) return dropped(core, 'not-a-member')
  // Thesis 3.10, step 1: "The prior leader stops accepting new client requests."
  if (core.leadTransferee !== NO_ID) return dropped(core, 'transferring')

  const firstIndex = core.log.lastIndex() + 1
  const entries = drafts.map((draft, position) =>
    draft.type === 'config' ? admitConfChange(core, draft, firstIndex + position) : draft,
  )
  if (!appendOwnEntries(core, entries)) return dropped(core, 'too-much-uncommitted')
  broadcastAppend(core)
  return {
    type: 'appended',
    firstIndex,
    lastIndex: firstIndex + entries.length - 1,
    term: core.term,
  }
}

/** A change that may not be made now becomes an entry that does nothing. */
function admitConfChange(core: RaftCore, draft: Entry, index: number): Entry {
  const refusal = confChangeRefusal(core, decodeConfChange(draft.data))
  if (refusal !== undefined && !core.config.disableConfChangeValidation) {
    const membership = describeMembership(core.tracker.membership)
    core.logger?.info(`${core.id} ignores a membership change at ${membership}: ${refusal}`)
    return draftEntry('normal')
  }
  core.pendingConfIndex = index
  return draft
}

function confChangeRefusal(core: RaftCore, change: ConfChange): string | undefined {
  const wantsLeaveJoint = change.steps.length === 0
  const isAlreadyJoint = isJoint(core.tracker.membership)
  // This also keeps a new leader from changing the membership before its first entry is committed
  // and applied: it sets pendingConfIndex to the end of the log it starts with. Single changes are
  // unsafe without that (the bug found in 2015 in the thesis' algorithm).
  if (core.pendingConfIndex > core.log.applied) {
    return `another may wait at ${core.pendingConfIndex} (applied ${core.log.applied})`
  }
  if (isAlreadyJoint && !wantsLeaveJoint) return 'the joint membership must be left first'
  if (!isAlreadyJoint && wantsLeaveJoint) return 'there is no joint membership to leave'
  return undefined
}

/** The outside applied a committed change. Returns the membership now in force. */
export function applyConfChange(core: RaftCore, change: ConfChange): ConfState {
  const result = changeMembers(core, change)
  if (result.type === 'refused') {
    const membership = describeMembership(core.tracker.membership)
    throw new AssertionError(
      `a committed change can't be applied at ${membership}: ${result.reason}`,
    )
  }
  const confState = core.useMembers(result.members)
  afterMembershipChange(core)
  return confState
}

function changeMembers(core: RaftCore, change: ConfChange): ChangeResult {
  const options = core.tracker.newcomerOptions(core.log.lastIndex())
  if (isLeaveJoint(change)) return leaveJoint(core.tracker, options)
  const entry = jointEntry(change)
  return entry === 'simple'
    ? simpleChange(core.tracker, change.steps, options)
    : enterJoint(core.tracker, entry === 'joint-auto-leave', change.steps, options)
}

function afterMembershipChange(core: RaftCore): void {
  if (core.role !== 'leader') return
  if (core.isLearner || !core.tracker.progress.has(core.id)) {
    // Thesis 4.2.2: "a leader that is removed from the configuration steps down once the Cnew entry
    // is committed".
    if (core.config.stepDownOnRemoval) core.becomeFollower(core.term, NO_ID)
    return
  }
  if (maybeCommit(core)) {
    // A smaller quorum may have committed more.
    broadcastAppend(core)
  } else {
    // New members needn't wait for the next heartbeat.
    for (const id of core.tracker.progress.keys()) {
      if (id !== core.id) maybeSendAppend(core, id, false)
    }
  }
  if (core.leadTransferee !== NO_ID && !isVoter(core.tracker.membership, core.leadTransferee)) {
    core.leadTransferee = NO_ID
  }
}

/**
 * Entries up to `index` are applied. A joint membership that is to be left by the leader is left as
 * soon as no change waits any more; if that can't be proposed now, the next applied entry tries
 * again.
 */
export function entriesApplied(core: RaftCore, index: number, sizeBytes: number): void {
  core.log.appliedTo(Math.max(index, core.log.applied), sizeBytes)
  if (core.role !== 'leader' || !core.tracker.membership.autoLeave) return
  if (core.log.applied < core.pendingConfIndex) return
  const leave = draftEntry('config', encodeConfChange(LEAVE_JOINT))
  const result = propose(core, core.id, [leave])
  const membership = describeMembership(core.tracker.membership)
  if (result.type === 'dropped') core.logger?.debug(`${core.id} can't leave ${membership} yet`)
  else core.logger?.info(`${core.id} begins to leave ${membership}`)
}

function dropped(core: RaftCore, reason: DropReason): ProposeResult {
  core.logger?.debug(`${core.id} drops a proposal at term ${core.term}: ${reason}`)
  return { type: 'dropped', reason }
}
