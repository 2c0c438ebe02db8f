/**
 * Changes of the members, from the wish to the entry that is in force. The leader checks that a
 * change makes sense and leaves a group that can go on; the core checks that it is the only one.
 * One member changes at a time, so that any majority before and any after overlap; a voter is
 * replaced through a joint membership, so that there is no voter less in between.
 */
import { must, unreachable } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { ConfChange, ConfChangeStep, ProgressStatus, RaftStatus } from '../raft/types.ts'
import { EMPTY_BYTES } from '../raft/types.ts'
import type { Member, Membership, MembersChange, Role } from './log.ts'
import { addressContext, newcomerContext } from './membership.ts'

/** More voters would make every write wait for more disks, and survive hardly more. */
const VOTERS_MAX = 7

export interface MembersChangerParts {
  readonly raftId: number
  readonly nowMs: () => number
  readonly status: () => RaftStatus
  readonly membership: () => Membership
  /** Whether a proposed change would be taken as such now. */
  readonly isFree: () => boolean
  /** Whether anything was heard of this member lately. */
  readonly isHeard: (raftId: number) => boolean
  /** Appends a change as leader and returns its index. */
  readonly propose: (change: ConfChange) => number | undefined
}

interface OpenChange {
  readonly index: number
  readonly term: number
  readonly deadlineMs: number
  readonly done: (outcome: Membership | DbError) => void
}

export class MembersChanger {
  readonly #parts: MembersChangerParts
  #open: OpenChange | undefined
  /** Commit indexes at the last two marks, an election timeout apart. */
  #floors: readonly [older: number, newer: number] = [Infinity, Infinity]

  constructor(parts: MembersChangerParts) {
    this.#parts = parts
  }

  change(change: MembersChange, timeoutMs: number, done: OpenChange['done']): void {
    const { status, isFree, nowMs, propose } = this.#parts
    const { role, term } = status()
    if (role !== 'leader') return done(notLeader())
    const refusal = this.#open === undefined && isFree() ? this.#refusal(change) : busy()
    if (refusal !== undefined) return done(refusal)
    const index = propose(this.#toConfChange(change))
    if (index === undefined) return done(busy())
    this.#open = { index, term, deadlineMs: nowMs() + timeoutMs, done }
  }

  /** The members have changed. A joint membership is half the way: the leader leaves it. */
  applied(membership: Membership): void {
    const open = this.#open
    if (open === undefined || membership.index < open.index) return
    if (membership.votersOutgoing.length === 0) this.#end(membership)
  }

  /** What a deposed leader has begun may still come into force, or never. */
  roleChanged(role: Role, term: number, commitIndex: number): void {
    const open = this.#open
    if (open !== undefined && (role !== 'leader' || term !== open.term)) this.#end(lost())
    this.#floors = role === 'leader' ? [commitIndex, commitIndex] : [Infinity, Infinity]
  }

  /** Called once in an election timeout: what a learner must have by the next one but one. */
  mark(commitIndex: number): void {
    this.#floors = [this.#floors[1], commitIndex]
  }

  /** Ends what waits past its deadline. */
  sweep(): void {
    if (this.#open !== undefined && this.#open.deadlineMs <= this.#parts.nowMs()) {
      const text = 'no quorum confirmed the change of members in time; it may still take effect'
      this.#end(new DbError('COMMIT_TIMEOUT', text))
    }
  }

  fail(error: DbError): void {
    this.#end(error)
  }

  #end(outcome: Membership | DbError): void {
    const open = this.#open
    this.#open = undefined
    open?.done(outcome)
  }

  #refusal(change: MembersChange): DbError | undefined {
    switch (change.type) {
      case 'add-learner':
        return this.#newcomerRefusal(change.node)
      case 'promote':
        return this.#promotionRefusal(change.raftId) ?? this.#votersRefusal({ add: change.raftId })
      case 'demote':
        return this.#voterRefusal(change.raftId) ?? this.#votersRefusal({ drop: change.raftId })
      case 'remove':
        return this.#removalRefusal(change.raftId)
      case 'replace': {
        const { remove: drop, promote: add } = change
        const refusal = this.#voterRefusal(drop) ?? this.#promotionRefusal(add)
        return refusal ?? this.#votersRefusal({ add, drop })
      }
      case 'set-address':
        return this.#addressRefusal(change.raftId, change.address)
      default:
        return unreachable(change)
    }
  }

  #newcomerRefusal({ nodeId, incarnation, address }: Omit<Member, 'raftId'>): DbError | undefined {
    const { members, removed } = this.#parts.membership()
    const namesake = members.find(member => member.nodeId === nodeId)
    if (namesake !== undefined) return refused(`${nodeId} is a member already`)
    if (removed.some(member => member.nodeId === nodeId)) {
      return refused(`a member ${nodeId} was removed, and its name is spent: join under a new one`)
    }
    if ([...members, ...removed].some(member => member.incarnation === incarnation)) {
      return refused(`the disk of ${nodeId} belongs to another member: join with an empty one`)
    }
    const neighbour = members.find(member => member.address === address)
    if (neighbour === undefined) return undefined
    return refused(`${neighbour.nodeId} has the address ${address} already`)
  }

  #addressRefusal(raftId: number, address: string): DbError | undefined {
    const { members } = this.#parts.membership()
    if (!members.some(member => member.raftId === raftId)) return unknownMember(raftId)
    const holder = members.find(member => member.address === address)
    return holder === undefined
      ? undefined
      : refused(`${holder.nodeId} has the address ${address} already`)
  }

  #removalRefusal(raftId: number): DbError | undefined {
    const { members, learners } = this.#parts.membership()
    if (!members.some(member => member.raftId === raftId)) return unknownMember(raftId)
    if (learners.includes(raftId)) return undefined
    return this.#voterRefusal(raftId) ?? this.#votersRefusal({ drop: raftId })
  }

  /** Why this one can't cease to be a voter. */
  #voterRefusal(raftId: number): DbError | undefined {
    const { members, voters } = this.#parts.membership()
    const member = members.find(each => each.raftId === raftId)
    if (member === undefined) return unknownMember(raftId)
    if (!voters.includes(raftId)) return refused(`${member.nodeId} is a learner`)
    // One that goes while it leads can leave the others without the news, and its log the longest.
    if (raftId !== this.#parts.raftId) return undefined
    return refused(`${member.nodeId} leads: hand leadership over first`)
  }

  /** Why this one can't become a voter. It must not make commits wait until it has caught up. */
  #promotionRefusal(raftId: number): DbError | undefined {
    const { members, learners } = this.#parts.membership()
    const member = members.find(each => each.raftId === raftId)
    if (member === undefined) return unknownMember(raftId)
    if (!learners.includes(raftId)) return refused(`${member.nodeId} is a voter already`)
    if (this.#hasCaughtUp(this.#parts.status().progress.get(raftId))) return undefined
    const text = `${member.nodeId} has not caught up with the log yet; try again in a moment`
    return new DbError('MEMBERS_BUSY', text)
  }

  /** It has all that was committed an election timeout ago, and is fed what came since. */
  #hasCaughtUp(progress: ProgressStatus | undefined): boolean {
    return progress?.state === 'replicate' && progress.match >= this.#floors[0]
  }

  /** Whether a majority of the voters to be is there. */
  #votersRefusal({ add, drop }: { add?: number; drop?: number }): DbError | undefined {
    const { voters, members } = this.#parts.membership()
    const next = [...voters, ...(add === undefined ? [] : [add])].filter(id => id !== drop)
    if (next.length === 0) return refused('a cluster needs a voter')
    if (next.length > VOTERS_MAX) return refused(`${VOTERS_MAX} voters are the most there may be`)
    const silent = next.filter(id => id !== this.#parts.raftId && !this.#parts.isHeard(id))
    if (next.length - silent.length > next.length / 2) return undefined
    const names = silent.map(id => must(members.find(({ raftId }) => raftId === id)).nodeId)
    const are = silent.length === 1 ? 'is' : 'are'
    const away = `no majority of the voters would be there: ${names.join(', ')} ${are} away`
    return refused(`${away}; nothing was changed: bring back or remove what is away first`)
  }

  #toConfChange(change: MembersChange): ConfChange {
    const raftId = this.#parts.membership().nextRaftId
    const of = (context: Uint8Array, ...steps: ConfChangeStep[]): ConfChange => {
      return { version: 2, transition: 'auto', steps, context }
    }
    switch (change.type) {
      case 'add-learner':
        return of(newcomerContext({ ...change.node, raftId }), {
          type: 'add-learner',
          nodeId: raftId,
        })
      case 'promote':
        return of(EMPTY_BYTES, { type: 'add-voter', nodeId: change.raftId })
      case 'demote':
        return of(EMPTY_BYTES, { type: 'add-learner', nodeId: change.raftId })
      case 'remove':
        return of(EMPTY_BYTES, { type: 'remove', nodeId: change.raftId })
      case 'replace':
        return of(
          EMPTY_BYTES,
          { type: 'add-voter', nodeId: change.promote },
          { type: 'remove', nodeId: change.remove },
        )
      case 'set-address':
        return of(addressContext(change.raftId, change.address), {
          type: 'update',
          nodeId: change.raftId,
        })
      default:
        return unreachable(change)
    }
  }
}

function notLeader(): DbError {
  return new DbError('NOT_LEADER', 'only the leader changes the members')
}

function busy(): DbError {
  const text = 'another change of the members, an election or a transfer is under way; try again'
  return new DbError('MEMBERS_BUSY', text)
}

function lost(): DbError {
  const text = 'leadership was lost before the change of members was in force; look before you try'
  return new DbError('LEADERSHIP_LOST', text)
}

function unknownMember(raftId: number): DbError {
  return new DbError('UNKNOWN_NODE', `there is no member with the raft id ${raftId}`)
}

function refused(text: string): DbError {
  return new DbError('MEMBERS_REFUSED', text)
}
