/**
 * The state of one node, and the moves between roles that touch nothing else. What a message or a
 * tick does to it stands in the other files of this folder, one chapter each; raft.ts puts them
 * together. The fields are open to those chapters and to nobody else.
 */
import { AssertionError, assert } from '../base/assert.ts'
import { type RaftConfig, checkConfig } from './config.ts'
import { type Members, restoreMembers } from './membership-change.ts'
import { describeMembership, toConfState } from './membership.ts'
import { RaftLog } from './raft-log.ts'
import { ReadQueue } from './read-queue.ts'
import { Tracker } from './tracker.ts'
import {
  type ConfState,
  type Message,
  type MessageFields,
  type MessageType,
  NO_ID,
  type RaftId,
  type RaftLogger,
  type ReadState,
  type Role,
  createMessage,
} from './types.ts'

/**
 * Responses that promise something: a vote, or an entry kept. They wait until everything they rest
 * on is on disk (thesis 3.8), rejections too: those are rare, and nobody has proved them harmless.
 */
const AFTER_APPEND: ReadonlySet<MessageType> = new Set([
  'append-response',
  'vote-response',
  'pre-vote-response',
])

/** Messages about campaigns carry the term campaigned for, which need not be the sender's. */
const CAMPAIGN: ReadonlySet<MessageType> = new Set([
  'vote',
  'vote-response',
  'pre-vote',
  'pre-vote-response',
])

/** Requests that are passed on to whoever leads carry no term: they are not of any. */
const TERMLESS: ReadonlySet<MessageType> = new Set(['propose', 'read-index'])

/** Everything a node knows. */
export class RaftCore {
  readonly config: RaftConfig
  readonly id: RaftId
  readonly logger: RaftLogger | undefined
  readonly log: RaftLog
  readonly tracker: Tracker

  /** Never goes down. */
  term = 0
  /** Whom this node voted for in `term`. */
  vote: RaftId = NO_ID
  role: Role = 'follower'
  /** The leader of `term`, as far as this node knows. */
  lead: RaftId = NO_ID
  /** This node receives the log and has no vote, as far as it knows. */
  isLearner = false

  /** To send as soon as anyone looks. Never to this node itself. */
  messages: Message[] = []
  /** To send, or to give to this node itself, when all that is unstable now is on disk. */
  messagesAfterAppend: Message[] = []
  /** Reads that were confirmed. */
  readStates: ReadState[] = []

  /** Whom leadership is being handed to. */
  leadTransferee: RaftId = NO_ID
  /**
   * This leader told somebody to campaign at once, which ignores leases: it has none any more, to
   * the end of its term.
   */
  isLeaseGivenUp = false
  /**
   * At or after the last membership change in the log. Until that index is applied no other change
   * may be proposed.
   */
  pendingConfIndex = 0
  /**
   * An estimate, never too high, of the payload appended in this leadership and not yet applied.
   */
  uncommittedBytes = 0
  /** Reads that wait for a round of heartbeats. */
  reads = new ReadQueue()
  /** Reads that came before this leader had committed anything in its term. */
  earlyReads: Message[] = []

  /**
   * Ticks since the last election timeout as leader or candidate, or since the leader's last word.
   */
  electionElapsed = 0
  /** Ticks since the last heartbeat; only a leader counts them. */
  heartbeatElapsed = 0
  /** Between electionTicks and twice that; drawn again at every change of role. */
  randomizedElectionTicks = 0

  constructor(config: RaftConfig) {
    checkConfig(config)
    this.config = config
    this.id = config.id
    this.logger = config.logger
    this.log = new RaftLog(config.storage, config.maxCommittedSizePerReadyBytes, config.logger)
    this.tracker = new Tracker(config.maxInflightMessages, config.maxInflightBytes)

    const { hardState, confState } = config.storage.initialState()
    this.useConfState(confState)
    if (hardState.term !== 0 || hardState.vote !== NO_ID || hardState.commit !== 0) {
      this.log.loadCommit(hardState.commit)
      this.term = hardState.term
      this.vote = hardState.vote
    }
    if (config.appliedIndex > 0) this.log.appliedTo(config.appliedIndex, 0)
    this.becomeFollower(this.term, NO_ID)
    this.logger?.info(
      `node ${this.id} starts with ${describeMembership(this.tracker.membership)} at term ` +
        `${this.term}, committed ${this.log.committed}, applied ${this.log.applied}, ` +
        `last ${this.log.lastIndex()}`,
    )
  }

  /**
   * Queues a message; the sender and, where one belongs, the term are filled in. Local messages and
   * requests that were passed on keep the sender they have.
   */
  send(fields: MessageFields): void {
    const isCampaign = CAMPAIGN.has(fields.type)
    const term = fields.term ?? 0
    // Only a node that never entered a term rejects a pre-vote in term 0.
    assert(
      isCampaign ? term > 0 || fields.reject === true : term === 0,
      `${fields.type} to ${fields.to} has term ${term}; only campaign messages set it themselves`,
    )
    const isTermless = isCampaign || TERMLESS.has(fields.type)
    const message = createMessage({
      ...fields,
      from: fields.from === undefined || fields.from === NO_ID ? this.id : fields.from,
      term: isTermless ? term : this.term,
    })
    if (AFTER_APPEND.has(fields.type)) {
      this.messagesAfterAppend.push(message)
      return
    }
    assert(message.to !== this.id, `${message.type} is addressed to its sender ${this.id}`)
    this.messages.push(message)
  }

  becomeFollower(term: number, lead: RaftId): void {
    this.reset(term)
    this.lead = lead
    this.role = 'follower'
    this.logger?.info(`${this.id} became follower at term ${this.term}`)
  }

  becomeCandidate(): void {
    assert(this.role !== 'leader', 'a leader can not become a candidate')
    this.reset(this.term + 1)
    this.vote = this.id
    this.role = 'candidate'
    this.logger?.info(`${this.id} became candidate at term ${this.term}`)
  }

  /** Thesis 9.6: asking first changes nothing but what this node waits for; no term, no vote. */
  becomePreCandidate(): void {
    assert(this.role !== 'leader', 'a leader can not become a pre-candidate')
    this.tracker.resetVotes()
    this.lead = NO_ID
    this.role = 'pre-candidate'
    this.logger?.info(`${this.id} became pre-candidate at term ${this.term}`)
  }

  /** Enters a term (or begins this one again) with nothing left of what it was doing. */
  reset(term: number): void {
    if (this.term !== term) {
      assert(term > this.term, `term ${term} after ${this.term}`)
      this.term = term
      this.vote = NO_ID
    }
    this.lead = NO_ID
    this.electionElapsed = 0
    this.heartbeatElapsed = 0
    this.drawElectionTimeout()
    this.leadTransferee = NO_ID
    this.isLeaseGivenUp = false
    this.tracker.resetVotes()
    this.tracker.resetProgress(this.id, this.log.lastIndex())
    this.pendingConfIndex = 0
    this.uncommittedBytes = 0
    this.reads = new ReadQueue()
    this.earlyReads = []
  }

  /** Thesis 3.4: "Raft uses randomized election timeouts to ensure that split votes are rare". */
  drawElectionTimeout(): void {
    const { electionTicks, randomTicks } = this.config
    this.randomizedElectionTicks = electionTicks + randomTicks(electionTicks)
  }

  /**
   * Whether this node may campaign: it is a voter, and no snapshot is about to replace its state.
   */
  isPromotable(): boolean {
    const own = this.tracker.progress.get(this.id)
    return own !== undefined && !own.isLearner && this.log.unstable.snapshot === undefined
  }

  /** Puts a stored membership in force, with nothing known of anybody's log. */
  useConfState(confState: ConfState): void {
    const options = this.tracker.newcomerOptions(this.log.lastIndex())
    const result = restoreMembers(confState, options)
    if (result.type === 'refused') {
      throw new AssertionError(`the stored membership can't be used: ${result.reason}`)
    }
    this.useMembers(result.members)
  }

  /** Puts members in force and returns the membership as it is stored. */
  useMembers(members: Members): ConfState {
    this.tracker.use(members)
    this.isLearner = members.progress.get(this.id)?.isLearner === true
    this.logger?.info(`${this.id} switched to ${describeMembership(members.membership)}`)
    return toConfState(members.membership)
  }
}
