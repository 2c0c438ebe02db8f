/**
 * What is left to do when a majority of the voters is lost for good: the log of one that is left is
 * made the truth, and this member its only voter. All that stands in the log counts as committed
 * from now on: what was acknowledged is in there, as far as this member ever heard of it. The other
 * members are removed by entries at its end, as if they had been removed one after the other.
 *
 * It works on the log of a node that does not run. It can be repeated after a crash at any moment.
 */
import { assert, AssertionError } from '../base/assert.ts'
import {
  decodeConfChange,
  encodeConfChange,
  isLeaveJoint,
  jointEntry,
  LEAVE_JOINT,
} from '../raft/conf-change.ts'
import { toConfState } from '../raft/membership.ts'
import {
  enterJoint,
  leaveJoint,
  type Members,
  restoreMembers,
  simpleChange,
} from '../raft/membership-change.ts'
import {
  type ConfChange,
  type ConfChangeStep,
  EMPTY_BYTES,
  type Entry,
  NO_ID,
} from '../raft/types.ts'
import type { Wal } from '../wal/wal.ts'
import type { Membership } from './log.ts'
import { decodeBook, nextMembership } from './membership.ts'

/** How far a log reaches. */
export interface LogEnd {
  /** Last entry and its term. */
  readonly lastIndex: number
  readonly lastTerm: number
  /** As far as this member knew the log to be committed. */
  readonly commitIndex: number
  /** Who belongs to the group by its last entry, committed or not. */
  readonly membership: Membership
}

/** How far the log reached before anything was added, and who belongs to the group from now on. */
export interface OnlyVoter extends Omit<LogEnd, 'membership'> {
  readonly before: Membership
  readonly after: Membership
}

const PAGE_BYTES = 4 * 1024 * 1024
/** Progress is of no concern here: nothing is sent. */
const NEWCOMER = { lastIndex: 0, maxInflightMessages: 1, maxInflightBytes: 0 }

/** Members by number and by name. */
interface State {
  readonly members: Members
  readonly membership: Membership
}

/** Changes nothing. */
export function readLogEnd(wal: Wal): LogEnd {
  const lastIndex = wal.lastIndex()
  const lastTerm = wal.term(lastIndex)
  assert(typeof lastTerm === 'number', `the term of entry ${lastIndex} is ${lastTerm}`)
  const { commit: commitIndex } = wal.initialState().hardState
  return { lastIndex, lastTerm, commitIndex, membership: membersAtEnd(wal).membership }
}

/** `done` is called when it is on disk. Throws if the log does not name this member. */
export function makeOnlyVoter(wal: Wal, raftId: number, done: (result: OnlyVoter) => void): void {
  const { lastIndex, lastTerm, commitIndex } = readLogEnd(wal)
  let state = membersAtEnd(wal)
  const before = state.membership
  const term = Math.max(wal.initialState().hardState.term, lastTerm) + 1
  const entries: Entry[] = []
  for (let change = nextChange(state, raftId); change; change = nextChange(state, raftId)) {
    const index = lastIndex + entries.length + 1
    entries.push({ index, term, type: 'config', data: encodeConfChange(change) })
    state = after(state, index, change)
  }
  const commit = lastIndex + entries.length
  wal.append({ entries, hardState: { term, vote: NO_ID, commit } }, () =>
    done({ lastIndex, lastTerm, commitIndex, before, after: state.membership }),
  )
}

/** The members as of the last entry, committed or not. */
function membersAtEnd(wal: Wal): State {
  const { confState, book, index: base } = wal.base()
  const restored = restoreMembers(confState, NEWCOMER)
  if (restored.type === 'refused') throw new AssertionError(restored.reason)
  let state: State = { members: restored.members, membership: decodeBook(confState, book) }
  for (let next = base + 1; next <= wal.lastIndex();) {
    const entries = wal.entries(next, wal.lastIndex() + 1, PAGE_BYTES)
    if (typeof entries === 'string') throw new AssertionError(`entry ${next} is ${entries}`)
    for (const { index, type, data } of entries) {
      if (type === 'config') state = after(state, index, decodeConfChange(data))
    }
    next += entries.length
  }
  return state
}

/** What brings the group nearer to this one voter; undefined when it is there. */
function nextChange(state: State, raftId: number): ConfChange | undefined {
  const { voters, votersOutgoing, members } = state.membership
  if (votersOutgoing.length > 0) return LEAVE_JOINT
  if (!voters.includes(raftId)) return single({ type: 'add-voter', nodeId: raftId })
  const other = members.find(member => member.raftId !== raftId)
  return other === undefined ? undefined : single({ type: 'remove', nodeId: other.raftId })
}

function single(step: ConfChangeStep): ConfChange {
  return { version: 2, transition: 'auto', steps: [step], context: EMPTY_BYTES }
}

function after(state: State, index: number, change: ConfChange): State {
  const entry = jointEntry(change)
  const result = isLeaveJoint(change)
    ? leaveJoint(state.members, NEWCOMER)
    : entry === 'simple'
      ? simpleChange(state.members, change.steps, NEWCOMER)
      : enterJoint(state.members, entry === 'joint-auto-leave', change.steps, NEWCOMER)
  if (result.type === 'refused') throw new AssertionError(`entry ${index}: ${result.reason}`)
  const { members } = result
  const confState = toConfState(members.membership)
  return { members, membership: nextMembership(state.membership, index, change, confState) }
}
