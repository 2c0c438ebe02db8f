/**
 * Who belongs to the cluster, as far as this node knows at the moment. The log says it, and a node
 * may be behind: members that came after its last news are strangers to it, although one of them
 * may lead and be the only one to tell it so. Raft ids are given in order and never twice, so a
 * stranger with a lower id than the next free one was removed, and one with a higher id is newer
 * than what this node knows. Whoever proves to know the cluster's secret is believed the latter.
 */
import { DbError } from '../base/errors.ts'
import type { MemberList, PeerMember } from '../base/ports.ts'
import { checkSecretNeeded } from './address.ts'

export class Roster {
  #list: MemberList

  constructor(list: MemberList) {
    this.#list = list
  }

  get list(): MemberList {
    return this.#list
  }

  /** False if the list is older than the one that is known: nothing changed. */
  update(list: MemberList): boolean {
    if (list.index < this.#list.index) return false
    this.#list = list
    return true
  }

  member(raftId: number): PeerMember | undefined {
    return this.#list.members.find(member => member.raftId === raftId)
  }

  /** True once a member of this raft id has been there and is no more. */
  wasRemoved(raftId: number): boolean {
    return raftId < this.#list.nextRaftId && this.member(raftId) === undefined
  }

  /**
   * The member that a caller claims to be; a newer one is reached at the address that it names.
   * Throws REMOVED if it was a member, FORBIDDEN if it can't be one.
   */
  identify(caller: PeerMember, secret: string): PeerMember {
    const { raftId, nodeId, address, incarnation } = caller
    const member = this.member(raftId)
    if (this.wasRemoved(raftId)) throw removed(nodeId)
    const namesake = this.#list.members.find(other => other.nodeId === nodeId)
    if (namesake !== member || (member !== undefined && member.nodeId !== nodeId)) {
      throw new DbError(
        'FORBIDDEN',
        `node ${nodeId} (raft id ${raftId}) is not a member of this cluster`,
      )
    }
    if (member !== undefined && member.incarnation !== incarnation) throw otherDisk(nodeId)
    if (member !== undefined) return member
    checkSecretNeeded(secret, [address])
    return { raftId, nodeId, address, incarnation }
  }
}

/** Why a node with an empty or foreign disk is refused under a name that is in use. */
export function otherDisk(nodeId: string): DbError {
  return new DbError(
    'FORBIDDEN',
    `node ${nodeId} came with another data directory than the one it joined with: it was wiped, ` +
      `or two nodes run as ${nodeId}; start it with its own data directory, ` +
      'votes and entries it confirmed are in there. If that is lost, remove the node ' +
      `("lockstep remove ${nodeId}") and join an empty directory under a new id`,
  )
}

function removed(nodeId: string): DbError {
  return new DbError(
    'REMOVED',
    `node ${nodeId} was removed from the cluster; to come back it joins with an empty directory ` +
      'under a new id',
  )
}
