/**
 * Linearizable reads without log entries (thesis 6.4). The leader notes its commit index, makes
 * sure that it still led at some moment after the request, and answers with that index; the read
 * may be served by any node that has applied so far.
 */
import type { RaftCore } from './core.ts'
import { isSingleton, isVoter } from './membership.ts'
import { broadcastHeartbeat } from './sending.ts'
import { type Message, NO_ID } from './types.ts'

/** A leader was asked for a read index, by this node or by a follower. */
export function handleReadIndex(core: RaftCore, request: Message): void {
  // Thesis 6.4, step 1: "If the leader has not yet marked an entry from its current term committed,
  // it waits until it has done so." Its commit index may be older than what a former leader
  // committed, and a stored one even in a group of one.
  if (!hasCommittedInTerm(core)) {
    core.earlyReads.push(request)
    return
  }
  startRead(core, request)
}

/** The first entry of the term is committed: reads that waited for it begin. */
export function releaseEarlyReads(core: RaftCore): void {
  if (core.earlyReads.length === 0 || !hasCommittedInTerm(core)) return
  const requests = core.earlyReads
  core.earlyReads = []
  for (const request of requests) startRead(core, request)
}

/** A node answered a heartbeat that carried a read round. */
export function confirmReads(core: RaftCore, message: Message): void {
  core.reads.acknowledge(message.from, message.context)
  for (const read of core.reads.takeConfirmed(core.tracker.membership)) {
    answerRead(core, read.request, read.index)
  }
}

function startRead(core: RaftCore, request: Message): void {
  const index = core.log.committed
  // A lone voter needs nobody's word; a leader that was demoted beside one does. A lease holds as
  // long as this leader has told nobody to campaign: such a campaign doesn't wait for the lease to
  // run out (thesis 6.4.1).
  const isLeaseValid = core.config.readOnly === 'lease' && !core.isLeaseGivenUp
  const { membership } = core.tracker
  const isLoneVoter = isSingleton(membership) && isVoter(membership, core.id)
  if (isLoneVoter || isLeaseValid) {
    answerRead(core, request, index)
    return
  }
  core.reads.add(request, index)
  core.reads.acknowledge(core.id, core.reads.heartbeatContext())
  broadcastHeartbeat(core)
}

function answerRead(core: RaftCore, request: Message, index: number): void {
  if (request.from === NO_ID || request.from === core.id) {
    core.readStates.push({ index, context: request.context })
    return
  }
  core.send({ type: 'read-index-response', to: request.from, index, context: request.context })
}

function hasCommittedInTerm(core: RaftCore): boolean {
  return core.log.termOrZero(core.log.committed) === core.term
}
