/**
 * The state machine as a whole: a message or a tick goes in, and the chapters do the rest. First
 * the term is settled, the same for everybody; then the role decides.
 */
import {
  checkQuorum,
  commitNews,
  handleTimeoutNow,
  handleVoteRequest,
  handleVoteResponse,
  isHeldByLease,
  learnCommit,
  startCampaign,
} from './election.ts'
import type { RaftCore } from './core.ts'
import { entriesSizeBytes, payloadsSizeBytes } from './entries.ts'
import { entriesApplied, propose } from './proposals.ts'
import { handleReadIndex } from './reads.ts'
import {
  handleAppend,
  handleAppendResponse,
  handleHeartbeat,
  handleHeartbeatResponse,
} from './replication.ts'
import { broadcastHeartbeat } from './sending.ts'
import { handleSnapshot, snapshotStored } from './snapshots.ts'
import { startTransfer } from './transfer.ts'
import { type Message, type MessageType, NO_ID, type StepResult } from './types.ts'

/** Sent by leaders only, so that whoever sends them leads the message's term. */
const FROM_LEADER: ReadonlySet<MessageType> = new Set(['append', 'heartbeat', 'snapshot'])

/** Campaigns, asking first if the node is set up so. */
export function campaign(core: RaftCore): void {
  startCampaign(core, core.config.preVote ? 'pre-election' : 'election')
}

/** Lets one tick pass. */
export function tick(core: RaftCore): void {
  if (core.role === 'leader') tickLeader(core)
  else tickOthers(core)
}

/**
 * Thesis 3.4: "If a follower receives no communication over a period of time called the election
 * timeout, then it assumes there is no viable leader and begins an election to choose a new
 * leader."
 */
function tickOthers(core: RaftCore): void {
  core.electionElapsed++
  if (!core.isPromotable() || core.electionElapsed < core.randomizedElectionTicks) return
  core.electionElapsed = 0
  campaign(core)
}

function tickLeader(core: RaftCore): void {
  core.heartbeatElapsed++
  core.electionElapsed++
  if (core.electionElapsed >= core.config.electionTicks) {
    core.electionElapsed = 0
    if (core.config.checkQuorum) checkQuorum(core)
    // A transfer that took an election timeout has failed: go on leading.
    core.leadTransferee = NO_ID
  }
  if (core.role !== 'leader' || core.heartbeatElapsed < core.config.heartbeatTicks) return
  core.heartbeatElapsed = 0
  broadcastHeartbeat(core)
}

/** Acts upon one message, from another node or from this node's storage. */
export function step(core: RaftCore, message: Message): StepResult {
  if (message.commitTerm > 0) learnCommit(core, message)
  if (message.term > core.term) {
    if (isHeldByLease(core, message)) return 'done'
    enterLaterTerm(core, message)
  } else if (message.term > 0 && message.term < core.term) {
    handleEarlierTerm(core, message)
    return 'done'
  }
  const { type } = message
  if (type === 'propose') {
    const result = propose(core, message.from, message.entries)
    return result.type === 'dropped' ? 'proposal-dropped' : 'done'
  }
  if (type === 'vote' || type === 'pre-vote') handleVoteRequest(core, message)
  else if (type === 'storage-append-response') handleStored(core, message)
  else if (type === 'storage-apply-response') handleApplied(core, message)
  else if (core.role === 'leader') stepLeader(core, message)
  else if (FROM_LEADER.has(type)) stepFromLeader(core, message)
  else if (core.role === 'follower') stepFollower(core, message)
  else stepCandidate(core, message)
  return 'done'
}

/**
 * Thesis 3.3: "if one server's current term is smaller than the other's, then it updates its
 * current term to the larger value. If a candidate or leader discovers that its term is out of
 * date, it immediately reverts to follower state."
 */
function enterLaterTerm(core: RaftCore, message: Message): void {
  const { type, from, term } = message
  // Pre-votes are about a term that nobody has entered yet; so are their grants. A rejection comes
  // from somebody who is in it.
  if (type === 'pre-vote' || (type === 'pre-vote-response' && !message.reject)) return
  core.logger?.info(`${core.id} at term ${core.term} got ${type} of term ${term} from ${from}`)
  core.becomeFollower(term, FROM_LEADER.has(type) ? from : NO_ID)
}

/** "If a server receives a request with a stale term number, it rejects the request" (3.3). */
function handleEarlierTerm(core: RaftCore, message: Message): void {
  const { type, from, term } = message
  const { checkQuorum, preVote } = core.config
  if ((checkQuorum || preVote) && (type === 'heartbeat' || type === 'append')) {
    // This node may have raised its term while it was cut off, and now nobody heeds its campaigns,
    // for they hear this leader. Telling the leader the later term frees everybody for a new
    // election.
    core.send({ type: 'append-response', to: from })
  } else if (type === 'pre-vote') {
    // Without an answer, a group in which some nodes raised their terms before pre-votes were
    // turned on could wait forever.
    const news = commitNews(core)
    core.send({ type: 'pre-vote-response', to: from, term: core.term, reject: true, ...news })
  } else if (type === 'storage-append-response') {
    // The entries may have been replaced since (and their successors be on the way to disk):
    // whether they are stable says only an answer of this term. A snapshot is good in any term.
    core.logger?.info(`${core.id} ignores that entries of term ${term} were stored`)
    handleStoredSnapshot(core, message)
  } else {
    core.logger?.info(
      `${core.id} at term ${core.term} ignores ${type} of term ${term} from ${from}`,
    )
  }
}

function handleStored(core: RaftCore, message: Message): void {
  if (message.index > 0) core.log.unstable.stableTo(message.index, message.logTerm)
  handleStoredSnapshot(core, message)
}

function handleStoredSnapshot(core: RaftCore, message: Message): void {
  if (message.snapshot === undefined) return
  snapshotStored(core, message.snapshot)
  entriesApplied(core, message.snapshot.metadata.index, 0)
}

function handleApplied(core: RaftCore, message: Message): void {
  const last = message.entries.at(-1)
  if (last === undefined) return
  entriesApplied(core, last.index, entriesSizeBytes(message.entries))
  const sizeBytes = payloadsSizeBytes(message.entries)
  core.uncommittedBytes = Math.max(0, core.uncommittedBytes - sizeBytes)
}

function stepLeader(core: RaftCore, message: Message): void {
  if (message.type === 'read-index') {
    handleReadIndex(core, message)
    return
  }
  const progress = core.tracker.progress.get(message.from)
  if (progress === undefined) {
    core.logger?.debug(`${core.id} has no progress for ${message.from}`)
    return
  }
  if (message.type === 'append-response') handleAppendResponse(core, message, progress)
  else if (message.type === 'heartbeat-response') handleHeartbeatResponse(core, message, progress)
  else if (message.type === 'transfer-leader') startTransfer(core, message.from, progress)
}

/**
 * A leader of this term speaks: whoever campaigns in it has lost (3.4), whoever follows waits
 * again.
 */
function stepFromLeader(core: RaftCore, message: Message): void {
  if (core.role === 'follower') {
    core.electionElapsed = 0
    core.lead = message.from
  } else {
    core.becomeFollower(message.term, message.from)
  }
  if (message.type === 'append') handleAppend(core, message)
  else if (message.type === 'heartbeat') handleHeartbeat(core, message)
  else handleSnapshot(core, message)
}

function stepFollower(core: RaftCore, message: Message): void {
  const { type, from, context } = message
  if (type === 'timeout-now') {
    handleTimeoutNow(core, message)
  } else if (type === 'read-index-response') {
    core.readStates.push({ index: message.index, context })
  } else if (type === 'read-index' || type === 'transfer-leader') {
    if (core.lead === NO_ID) core.logger?.info(`${core.id} knows no leader for ${type}`)
    else core.send({ type, to: core.lead, from, context })
  }
}

function stepCandidate(core: RaftCore, message: Message): void {
  // Answers to an earlier pre-vote may still come in while campaigning for real.
  const answer = core.role === 'pre-candidate' ? 'pre-vote-response' : 'vote-response'
  if (message.type === answer) handleVoteResponse(core, message)
  else core.logger?.debug(`${core.id} ignores ${message.type} as ${core.role}`)
}
