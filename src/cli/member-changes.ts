/**
 * Changes of the members, asked of any node. The leader makes them through the log; any other node
 * passes the request on to the leader's port, as it is, once. A leader that is to go, or to vote no
 * more, hands over first and passes the request on to its successor.
 */
import { must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { Clock } from '../base/ports.ts'
import type { LogStatus, Membership, MembersChange, ReplicatedLog } from '../log/log.ts'
import { checkSecretNeeded, parseAddress } from '../platform/address.ts'
import { otherDisk } from '../platform/roster.ts'
import type { MembersRequest, MembersResponse } from '../protocol/http-api.ts'
import type { HandOverCallback } from '../replica/hand-over.ts'
import { FORWARDED_HEADER } from '../server/http/members.ts'
import type { IdentityOf } from './identity.ts'
import type { JoinAnswer, JoinRequest } from './join-messages.ts'
import { postToNode, readNodeError } from './node-call.ts'

export interface MemberChangesParts {
  readonly identity: IdentityOf<'member'>
  readonly secret: string
  /** Names the SQL engine's build. */
  readonly build: string
  readonly log: Pick<ReplicatedLog, 'status' | 'changeMembers' | 'point'>
  readonly clock: Clock
  readonly handOver: (target: number | undefined, timeoutMs: number, done: HandOverCallback) => void
}

/** A request that came from a client or from another node. */
export interface Asked {
  readonly timeoutMs: number
  /** Another node passed it on; it is not passed on again. */
  readonly isForwarded: boolean
}

/** The answer of the leader, sealed by it. */
export interface Elsewhere {
  readonly type: 'elsewhere'
  readonly text: string
}

/** Between a hand-over and the first word of the successor. */
const SUCCESSOR_STEP_MS = 5
/** What the asking node waits longer than the asked one. */
const GRACE_MS = 500

export class MemberChanges {
  readonly #parts: MemberChangesParts
  /** Whom to ask next while no leader is known. */
  #nextOther = 0

  constructor(parts: MemberChangesParts) {
    this.#parts = parts
  }

  /** The members as this node knows them. */
  list(): MembersResponse {
    const { identity, log } = this.#parts
    const status = log.status()
    const { index, members, voters, votersOutgoing, learnersNext, removed } = status.membership
    const isLeaving = (raftId: number): boolean =>
      votersOutgoing.includes(raftId) && !voters.includes(raftId)
    return {
      node: identity.nodeId,
      index,
      leader: leaderOf(status),
      members: members.map(({ nodeId, raftId, address }) => {
        const isVoter = voters.includes(raftId)
        const isOut = isLeaving(raftId) && !learnersNext.includes(raftId)
        const role = isVoter ? 'voter' : isOut ? 'leaving' : 'learner'
        return { nodeId, raftId, address, role, isLeader: raftId === status.leader }
      }),
      removed: removed.map(({ nodeId }) => nodeId),
    }
  }

  /** Changes who belongs to the cluster, and as what; `done` is called once, with the result. */
  change(
    request: MembersRequest,
    asked: Asked,
    done: (outcome: MembersResponse | DbError) => void,
  ): void {
    const status = this.#parts.log.status()
    if (status.role !== 'leader') {
      const body = JSON.stringify({ ...request, timeoutMs: asked.timeoutMs })
      this.#forward('/members', body, asked, outcome => {
        done(outcome instanceof DbError ? outcome : (JSON.parse(outcome) as MembersResponse))
      })
      return
    }
    try {
      this.#lead(request, status.membership, asked, done)
    } catch (error) {
      if (!(error instanceof DbError)) throw error
      done(error)
    }
  }

  /**
   * The same for this node's own wishes. A node that has moved hears of no leader, because nobody
   * knows yet where it is; then it asks the others one after the other.
   */
  changeAnywhere(
    request: MembersRequest,
    timeoutMs: number,
    done: (outcome: MembersResponse | DbError) => void,
  ): void {
    const { log, identity } = this.#parts
    const { leader, membership } = log.status()
    const others = membership.members.filter(({ raftId }) => raftId !== identity.raftId)
    const other = others[this.#nextOther % Math.max(1, others.length)]
    this.#nextOther += 1
    const asked = { timeoutMs, isForwarded: false }
    if (leader !== undefined || other === undefined) return this.change(request, asked, done)
    this.#ask(other, '/members', JSON.stringify({ ...request, timeoutMs }), {}, timeoutMs, answer =>
      done(answer instanceof DbError ? answer : (JSON.parse(answer) as MembersResponse)),
    )
  }

  /** Lets a node in that proved to know the secret, as a learner. It may ask again and again. */
  admit(
    request: JoinRequest,
    body: Uint8Array,
    asked: Asked,
    done: (outcome: JoinAnswer | Elsewhere | DbError) => void,
  ): void {
    const { log } = this.#parts
    const status = log.status()
    const refusal = this.#whyNotAdmitted(request, status.membership)
    if (refusal !== undefined) return done(refusal)
    const { nodeId, address, incarnation } = request
    const own = status.membership.members.find(member => member.nodeId === nodeId)
    if (own !== undefined) return done(this.#letIn(own.raftId, status.membership))
    if (status.role !== 'leader') {
      this.#forward('/join', Buffer.from(body).toString('utf8'), asked, outcome => {
        done(outcome instanceof DbError ? outcome : { type: 'elsewhere', text: outcome })
      })
      return
    }
    const node = { nodeId, address, incarnation }
    log.changeMembers({ type: 'add-learner', node }, asked.timeoutMs, outcome => {
      if (outcome instanceof DbError) return done(outcome)
      const member = must(outcome.members.find(other => other.incarnation === incarnation))
      done(this.#letIn(member.raftId, outcome))
    })
  }

  #letIn(raftId: number, membership: Membership): JoinAnswer {
    const { clusterId, historyId, groupId } = this.#parts.identity
    const { index, members, nextRaftId } = membership
    const list = { index, members: [...members], nextRaftId }
    // If the log does not reach back to them, it begins with a snapshot that names all.
    const founders = [...(this.#parts.log.point(0)?.membership.members ?? [])]
    return { type: 'joined', clusterId, historyId, groupId, raftId, founders, known: list }
  }

  #whyNotAdmitted(request: JoinRequest, membership: Membership): DbError | undefined {
    const { identity, build, secret } = this.#parts
    const { nodeId, address, incarnation } = request
    if (request.build !== build) {
      return new DbError(
        'FORBIDDEN',
        `node ${nodeId} runs the SQL engine "${request.build}" and node ${identity.nodeId} ` +
          `"${build}"; run the same release on every node, replicas must compute the same`,
      )
    }
    const { members, removed } = membership
    const namesake = members.find(member => member.nodeId === nodeId)
    if (namesake !== undefined && namesake.incarnation !== incarnation) return otherDisk(nodeId)
    if (removed.some(member => member.nodeId === nodeId || member.incarnation === incarnation)) {
      const message = `a node ${nodeId} was a member before and was removed; ids are not used again`
      return new DbError('FORBIDDEN', `${message}: join with an empty directory under a new id`)
    }
    const neighbour = members.find(member => member.address === address)
    if (neighbour !== undefined && neighbour !== namesake) {
      const message = `node ${neighbour.nodeId} has the address ${address} too`
      return new DbError('FORBIDDEN', `${message}; give every node its own`)
    }
    return orError(() => {
      parseAddress(address)
      checkSecretNeeded(secret, [address])
    })
  }

  #lead(
    request: MembersRequest,
    membership: Membership,
    asked: Asked,
    done: (outcome: MembersResponse | DbError) => void,
  ): void {
    const { raftId: self } = this.#parts.identity
    if (request.action === 'transfer') {
      const target = request.node === undefined ? undefined : raftIdOf(membership, request.node)
      if (target === self) return done(this.list())
      this.#handOver(target, asked, error => done(error ?? this.list()))
      return
    }
    const change = toChange(request, membership)
    const leaving = change.type === 'replace' ? change.remove : change.raftId
    const isOwnEnd = change.type !== 'set-address' && change.type !== 'promote' && leaving === self
    if (isOwnEnd && membership.voters.length === 1) {
      const message = 'it is the only voter, without which nobody could lead'
      return done(new DbError('MEMBERS_REFUSED', `${message}; promote another node first`))
    }
    if (isOwnEnd) {
      // A successor does it: a leader that removes itself would take what waits with it.
      this.#handOver(undefined, asked, error => {
        if (error === undefined) this.change(request, { ...asked, isForwarded: false }, done)
        else done(error)
      })
      return
    }
    this.#parts.log.changeMembers(change, asked.timeoutMs, outcome => {
      done(outcome instanceof DbError ? outcome : this.list())
    })
  }

  /** Without an error when another node leads and this one knows it. */
  #handOver(target: number | undefined, asked: Asked, done: HandOverCallback): void {
    const { clock, handOver, log, identity } = this.#parts
    const deadlineMs = clock.monotonicMs() + asked.timeoutMs
    const wait = (): void => {
      const { leader } = log.status()
      if (leader !== undefined && leader !== identity.raftId) return done(undefined)
      if (clock.monotonicMs() < deadlineMs) {
        clock.setTimer(SUCCESSOR_STEP_MS, wait)
        return
      }
      done(new DbError('NO_LEADER', 'leadership was handed over, but nobody has taken it yet'))
    }
    handOver(target, asked.timeoutMs, error => (error === undefined ? wait() : done(error)))
  }

  /** Passes a request on to the leader; `done` gets the text of its answer. */
  #forward(
    path: string,
    body: string,
    asked: Asked,
    done: (outcome: string | DbError) => void,
  ): void {
    const leader = leaderOf(this.#parts.log.status())
    if (leader === null || asked.isForwarded) {
      const message = leader === null ? 'nobody leads right now' : `${leader.nodeId} leads now`
      done(new DbError('NO_LEADER', `${message}; ask again in a moment`))
      return
    }
    this.#ask(leader, path, body, { [FORWARDED_HEADER]: '1' }, asked.timeoutMs, done)
  }

  #ask(
    node: { readonly nodeId: string; readonly address: string },
    path: string,
    body: string,
    headers: Readonly<Record<string, string>>,
    waitMs: number,
    done: (outcome: string | DbError) => void,
  ): void {
    const { clock } = this.#parts
    const { address, nodeId } = node
    const timeoutMs = waitMs + GRACE_MS
    postToNode({ address, path, body, headers, timeoutMs, clock }, outcome => {
      if (outcome instanceof Error) {
        // It may have been done: whoever asks looks at the members, or asks for the same again.
        const message = `node ${nodeId} did not answer: ${outcome.message}`
        done(new DbError('CONNECTION_LOST', message, { cause: outcome }))
        return
      }
      done(readNodeError(outcome) ?? outcome)
    })
  }
}

function toChange(
  request: Exclude<MembersRequest, { action: 'transfer' }>,
  membership: Membership,
): Exclude<MembersChange, { type: 'add-learner' }> {
  switch (request.action) {
    case 'replace': {
      const remove = raftIdOf(membership, request.remove)
      return { type: 'replace', remove, promote: raftIdOf(membership, request.promote) }
    }
    case 'set-address': {
      const { address } = request
      parseAddress(address)
      return { type: 'set-address', raftId: raftIdOf(membership, request.node), address }
    }
    case 'remove':
    case 'promote':
    case 'demote':
      return { type: request.action, raftId: raftIdOf(membership, request.node) }
    default:
      throw new DbError('INVALID_REQUEST', 'this change of the members is not known')
  }
}

function raftIdOf(membership: Membership, nodeId: string): number {
  const member = membership.members.find(other => other.nodeId === nodeId)
  if (member !== undefined) return member.raftId
  const names = membership.members.map(other => other.nodeId).join(', ')
  const wasRemoved = membership.removed.some(other => other.nodeId === nodeId)
  const what = wasRemoved ? 'was removed already' : 'is no member of the cluster'
  throw new DbError('UNKNOWN_NODE', `node ${nodeId} ${what}; members are ${names}`)
}

function leaderOf(status: LogStatus): { readonly nodeId: string; readonly address: string } | null {
  const leader = status.membership.members.find(member => member.raftId === status.leader)
  return leader === undefined ? null : { nodeId: leader.nodeId, address: leader.address }
}

function orError(check: () => void): DbError | undefined {
  try {
    check()
    return undefined
  } catch (error) {
    if (error instanceof DbError) return error
    throw error
  }
}
