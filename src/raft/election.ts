/**
 * Elections (thesis 3.4, 3.6.1, 9.6): when a node campaigns, whom it votes for, and what the count
 * of votes makes of it.
 */
import { assert } from '../base/assert.ts'
import type { RaftCore } from './core.ts'
import { draftEntry } from './entries.ts'
import { voterIds } from './membership.ts'
import { appendOwnEntries } from './replication.ts'
import { broadcastAppend } from './sending.ts'
import { EMPTY_BYTES, type Message, NO_ID } from './types.ts'

/**
 * Why a node campaigns: to see whether it could win, for real, or because the leader told it to.
 */
export type CampaignType = 'pre-election' | 'election' | 'transfer'

/** Marks the votes asked for in a transfer: they are given even while a leader is heard. */
const TRANSFER_CONTEXT: Uint8Array = new TextEncoder().encode('transfer')

/** Campaigns if this node may. */
export function startCampaign(core: RaftCore, type: CampaignType): void {
  if (core.role === 'leader') {
    core.logger?.debug(`${core.id} does not campaign: it leads already`)
    return
  }
  if (!core.isPromotable()) {
    core.logger?.warn(`${core.id} can not campaign: it is no voter, or waits for a snapshot`)
    return
  }
  // A committed change that isn't applied here may be in force elsewhere. Counting votes by the old
  // membership then, two leaders could be elected in one term by majorities that don't overlap.
  if (core.log.someUnapplied(entry => entry.type === 'config')) {
    core.logger?.warn(`${core.id} can not campaign: a committed membership change is unapplied`)
    return
  }
  core.logger?.info(`${core.id} starts an election at term ${core.term}`)
  campaign(core, type)
}

/** Asks for votes; the own one is counted when it is on disk, like everybody's. */
function campaign(core: RaftCore, type: CampaignType): void {
  const isPreVote = type === 'pre-election'
  if (isPreVote) core.becomePreCandidate()
  else core.becomeCandidate()
  // A pre-vote is asked for the term that a real campaign would be for.
  const term = isPreVote ? core.term + 1 : core.term
  const last = core.log.lastPosition()
  for (const id of voterIds(core.tracker.membership)) {
    if (id === core.id) {
      core.send({ type: isPreVote ? 'pre-vote-response' : 'vote-response', to: id, term })
      continue
    }
    core.logger?.info(`${core.id} asks ${id} for its vote for term ${term}`)
    core.send({
      type: isPreVote ? 'pre-vote' : 'vote',
      to: id,
      term,
      index: last.index,
      logTerm: last.term,
      ...commitNews(core),
      context: type === 'transfer' ? TRANSFER_CONTEXT : EMPTY_BYTES,
    })
  }
}

/**
 * Thesis 4.2.3: "if a server receives a RequestVote request within the minimum election timeout of
 * hearing from a current leader, it does not update its term or grant its vote". So that a node
 * that was removed, or was cut off, can't unseat a leader whom others hear. Transfers are meant to.
 */
export function isHeldByLease(core: RaftCore, message: Message): boolean {
  if (message.type !== 'vote' && message.type !== 'pre-vote') return false
  if (!core.config.checkQuorum || core.lead === NO_ID) return false
  if (core.electionElapsed >= core.config.electionTicks || isTransfer(message)) return false
  core.logger?.info(
    `${core.id} ignores ${message.type} of ${message.from} for term ${message.term}: it heard ` +
      `${core.lead} ${core.electionElapsed} ticks ago`,
  )
  return true
}

/** Somebody asks for a vote, at this node's term (a pre-vote also for a later one). */
export function handleVoteRequest(core: RaftCore, message: Message): void {
  const { from, index, logTerm, term, type } = message
  const isPreVote = type === 'pre-vote'
  // "Each server will vote for at most one candidate in a given term, on a first-come-first-served
  // basis" (3.4); the same answer twice is no second vote. A pre-vote binds nobody.
  const isFree =
    core.vote === from ||
    (core.vote === NO_ID && core.lead === NO_ID) ||
    (isPreVote && term > core.term)
  // A learner votes, too: it may be a voter already and not know it yet. Whoever counts its vote
  // does so because a committed change made it one.
  const isGranted = isFree && core.log.isUpToDate({ index, term: logTerm })
  core.logger?.info(
    `${core.id} ${isGranted ? 'grants' : 'rejects'} ${type} of ${from} in term ${term} with last ` +
      `entry ${index} of term ${logTerm} (own vote in term ${core.term}: ${core.vote})`,
  )
  const response = isPreVote ? 'pre-vote-response' : 'vote-response'
  if (!isGranted) {
    core.send({ type: response, to: from, term: core.term, reject: true, ...commitNews(core) })
    return
  }
  // A granted pre-vote carries the term asked for: at its own, older term it would be ignored.
  core.send({ type: response, to: from, term })
  if (isPreVote) return
  core.electionElapsed = 0
  core.vote = from
}

/**
 * How far this node's log is committed, for those who take part in campaigns. Whoever gets a vote
 * is not told: to hear of a change of members there would only end a campaign that succeeds.
 */
export function commitNews(core: RaftCore): Pick<Message, 'commit' | 'commitTerm'> {
  const { committed } = core.log
  if (!core.config.shareCommit) return { commit: 0, commitTerm: 0 }
  return { commit: committed, commitTerm: core.log.termOrZero(committed) }
}

/**
 * Somebody told how far its log is committed. An entry of that index and term is the same one in
 * every log, so it is committed here too, in whatever term and by whomever it was said.
 *
 * Without this a group could be stuck for good, because changes of members are in force from their
 * application on: who was removed knows it and doesn't campaign, but if its log is the longest, it
 * refuses its vote to those who don't know it and think that they need it.
 */
export function learnCommit(core: RaftCore, { commit, commitTerm }: Message): void {
  if (core.role === 'leader') return
  if (!core.log.maybeCommit({ index: commit, term: commitTerm })) return
  core.logger?.info(`${core.id} learns in a campaign that ${commit} is committed`)
  // The same rule as for the beginning of a campaign: votes must not be counted by the members of
  // before.
  if (core.role !== 'follower' && core.log.someUnapplied(entry => entry.type === 'config')) {
    core.becomeFollower(core.term, NO_ID)
  }
}

/** An answer to the present campaign. */
export function handleVoteResponse(core: RaftCore, message: Message): void {
  core.tracker.recordVote(message.from, !message.reject)
  const { grantedCount, rejectedCount, result } = core.tracker.tally()
  core.logger?.info(
    `${core.id} got ${message.reject ? 'a rejection' : 'a vote'} (${message.type}) from ` +
      `${message.from}: ${grantedCount} for it, ${rejectedCount} against`,
  )
  if (result === 'lost') {
    // Pre-vote answers carry a later term, which nobody has entered: stay in this one.
    core.becomeFollower(core.term, NO_ID)
  } else if (result === 'won') {
    if (core.role === 'pre-candidate') {
      campaign(core, 'election')
    } else {
      takeOffice(core)
      broadcastAppend(core)
    }
  }
}

/**
 * A follower was told by its leader to take over. Asking first would only cost time: nobody is cut
 * off.
 */
export function handleTimeoutNow(core: RaftCore, message: Message): void {
  core.logger?.info(`${core.id} is told by ${message.from} to campaign`)
  startCampaign(core, 'transfer')
}

/** The election is won: the candidate becomes leader and appends the first entry of its term. */
function takeOffice(core: RaftCore): void {
  assert(core.role === 'candidate', `a ${core.role} can not become leader`)
  core.reset(core.term)
  core.lead = core.id
  core.role = 'leader'
  const own = core.tracker.progress.get(core.id)
  if (own !== undefined) {
    own.becomeReplicate()
    own.isRecentlyActive = true
  }
  // A membership change may be among the entries it starts with. Looking for it could take long;
  // waiting until they are all applied is enough.
  core.pendingConfIndex = core.log.lastIndex()
  // Thesis 6.4: "Raft handles this by having each leader commit a blank no-op entry into the log at
  // the start of its term."
  const isAppended = appendOwnEntries(core, [draftEntry('normal')])
  assert(isAppended, 'the first entry of a term was refused')
  core.logger?.info(`${core.id} became leader at term ${core.term}`)
}

/** A leader's regular look at who answered lately; without a quorum it steps down (thesis 6.2). */
export function checkQuorum(core: RaftCore): void {
  if (!core.tracker.isQuorumActive()) {
    core.logger?.warn(`${core.id} steps down: it heard no quorum for an election timeout`)
    core.becomeFollower(core.term, NO_ID)
  }
  for (const [id, progress] of core.tracker.progress) {
    if (id !== core.id) progress.isRecentlyActive = false
  }
}

/**
 * A leader that was away for long, without having noticed, may be deposed: what it heard before
 * counts for nothing, and it must hear from a quorum again within an election timeout.
 */
export function doubtLeadership(core: RaftCore): void {
  if (core.role !== 'leader') return
  core.electionElapsed = 0
  for (const [id, progress] of core.tracker.progress) {
    if (id !== core.id) progress.isRecentlyActive = false
  }
}

/** Stops following the leader of this term, without forgetting that there was one. */
export function forgetLeader(core: RaftCore): void {
  if (core.role !== 'follower' || core.lead === NO_ID) return
  if (core.config.readOnly === 'lease') {
    // The vote it could give then would break the promise that the leader's lease rests on.
    core.logger?.error(`${core.id} does not forget its leader: reads rest on leases`)
    return
  }
  core.logger?.info(`${core.id} forgets leader ${core.lead} at term ${core.term}`)
  core.lead = NO_ID
}

function isTransfer(message: Message): boolean {
  const { context } = message
  return (
    context.length === TRANSFER_CONTEXT.length &&
    context.every((byte, position) => byte === TRANSFER_CONTEXT[position])
  )
}
