/**
 * What a node does when the members change: it remembers them for its next start, so that it finds
 * the others again, has the connections follow, and sees to what concerns itself: that it becomes a
 * voter if it joined as one to be, that the others know its address, and that it ends its work when
 * it was removed.
 */
import type { DbError } from '../base/errors.ts'
import type { Clock, Logger, Timer } from '../base/ports.ts'
import type { Membership } from '../log/log.ts'
import type { MembersRequest } from '../protocol/http-api.ts'
import { type Identity, type IdentityOf, writeIdentity } from './identity.ts'

export interface MemberKeeperParts {
  readonly directory: string
  readonly identity: IdentityOf<'member'>
  /** Where the others reach this node, by its options. */
  readonly address: string
  readonly clock: Clock
  readonly logger: Logger
  /** The connections follow. */
  readonly onMembers: (membership: Membership) => void
  /** This node was removed, and that is on its disk. */
  readonly onRemoved: (identity: IdentityOf<'removed'>) => void
  /** Asks the leader, wherever it is. */
  readonly change: (request: MembersRequest, done: (error: DbError | undefined) => void) => void
  /** The others take this for the node that it says to be, and it has about caught up. */
  readonly mayAsk: () => boolean
}

/** Pause before the leader is asked again for what it did not do. */
const ASK_AGAIN_MS = 300
const ASK_AGAIN_REFUSED_MS = 10_000

export class MemberKeeper {
  readonly #parts: MemberKeeperParts
  #identity: IdentityOf<'member'>
  #membership: Membership | undefined
  #timer: Timer | undefined
  #lastNews = ''
  #isStopped = false

  constructor(parts: MemberKeeperParts) {
    this.#parts = parts
    this.#identity = parts.identity
  }

  /** The members as of an entry, as the log tells them. */
  onMembership(membership: Membership): void {
    if (this.#isStopped) return
    this.#membership = membership
    const { raftId, known } = this.#identity
    this.#parts.onMembers(membership)
    if (membership.index < known.index) return
    const own = membership.members.find(member => member.raftId === raftId)
    if (own === undefined) {
      // A log that is read from its beginning tells of times before this node joined.
      if (raftId < membership.nextRaftId) this.removed(`by entry ${membership.index} of its log`)
      return
    }
    const isPromotionDue = this.#identity.isPromotionDue && !membership.voters.includes(raftId)
    const { index, members, nextRaftId } = membership
    const isNews = index > known.index || isPromotionDue !== this.#identity.isPromotionDue
    if (isNews) {
      const list = { index, members: [...members], nextRaftId }
      this.#identity = { ...this.#identity, known: list, isPromotionDue }
      this.#write(this.#identity)
    }
    this.#careLater(0)
  }

  /** Another member proved, or the log says, that this node is none any more. */
  removed(reason: string): void {
    if (this.#isStopped) return
    this.stop()
    const { format, clusterId, historyId, groupId, nodeId, raftId, incarnation } = this.#identity
    const head = { format, clusterId, historyId, groupId, nodeId, raftId, incarnation }
    const identity: IdentityOf<'removed'> = { ...head, type: 'removed', reason }
    this.#write(identity)
    this.#parts.onRemoved(identity)
  }

  /**
   * Notes this start, and that the log of this member is on its disk. To be called when the empty
   * log is durable and before the node speaks to another one: a crash in between only means to look
   * again, and after it nobody can take an emptied log directory for a new node.
   */
  noteStart(): void {
    const starts = this.#identity.starts + 1
    this.#identity = { ...this.#identity, hasLog: true, starts }
    this.#write(this.#identity)
  }

  stop(): void {
    this.#isStopped = true
    this.#timer?.cancel()
  }

  #write(identity: Identity): void {
    writeIdentity(this.#parts.directory, identity)
  }

  #careLater(delayMs: number): void {
    this.#timer?.cancel()
    this.#timer = this.#parts.clock.setTimer(delayMs, () => this.#care())
  }

  /** Asks for what this node lacks, until it has it. */
  #care(): void {
    const request = this.#wish()
    if (request === undefined || this.#isStopped) return
    if (!this.#parts.mayAsk()) return this.#careLater(ASK_AGAIN_MS)
    this.#parts.change(request, error => {
      if (this.#isStopped) return
      const news = error === undefined ? '' : `${request.action}: ${error.message}`
      if (news !== '' && news !== this.#lastNews) {
        const { action } = request
        this.#parts.logger.info({ action, news: error?.message }, 'the leader is asked again')
      }
      this.#lastNews = news
      this.#careLater(error?.retry === 'never' ? ASK_AGAIN_REFUSED_MS : ASK_AGAIN_MS)
    })
  }

  #wish(): MembersRequest | undefined {
    const { nodeId, raftId, isPromotionDue } = this.#identity
    const own = this.#membership?.members.find(member => member.raftId === raftId)
    if (own === undefined) return undefined
    const { address } = this.#parts
    if (own.address !== address) return { action: 'set-address', node: nodeId, address }
    return isPromotionDue ? { action: 'promote', node: nodeId } : undefined
  }
}
