/**
 * RaftLog keeps the promise of `ReplicatedLog` with the Raft core, the WAL and the peers. It is the
 * driver: it turns ticks, frames and finished flushes into steps of the core, and what the core
 * hands out into writes and frames. The order is the safety argument: entries and votes go to the
 * disk first, and only when they are flushed do the answers that rest on them leave this node
 * (thesis 3.8, 10.2.1). Nothing here waits; everything happens within one call after another.
 */
import { assert, AssertionError } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { Clock, Logger, Random, Timer } from '../base/ports.ts'
import { decodeConfChange } from '../raft/conf-change.ts'
import { entriesSizeBytes } from '../raft/entries.ts'
import { RawNode } from '../raft/raw-node.ts'
import type { Message, Ready } from '../raft/types.ts'
import { LOCAL_APPEND, LOCAL_APPLY, NO_ID, NO_LIMIT } from '../raft/types.ts'
import type { Wal } from '../wal/wal.ts'
import type {
  LogEntry,
  LogEvent,
  LogStatus,
  Member,
  Membership,
  MembersChange,
  PeerHealth,
  ProposalNumber,
  ReplicatedLog,
  SnapshotPoint,
} from './log.ts'
import { foundingMembership } from './membership.ts'
import { decodeMessage, encodeMessage } from './peer-codec.ts'
import type { Peers } from './peers.ts'
import { ReadRounds } from './read-rounds.ts'

/** How long a follower may hear later of a commit index, if no entries follow anyway. */
const NOTICE_DELAY_MS = 2
/** The same while proposals come so fast that the next one is sure to be there before. */
const NOTICE_DELAY_MS_BUSY = 8
/**
 * Committed entries are handed over in pages of about so much: at a start all of the log is
 * committed, and may be larger than the memory. After a full page whatever else waits gets a turn.
 */
const PAGE_BYTES = 4 * 1024 * 1024

export interface RaftLogOptions {
  readonly tickMs: number
  /** A follower campaigns after this many ticks of silence, and up to as many again by chance. */
  readonly electionTicks: number
  readonly heartbeatTicks: number
  readonly maxSizePerMessageBytes: number
  readonly maxInflightMessages: number
  readonly maxInflightBytes: number
}

export interface RaftLogParts {
  readonly raftId: number
  /** Of the group as it was founded. */
  readonly members: readonly Member[]
  readonly wal: Wal
  readonly peers: Peers
  readonly clock: Clock
  readonly random: Random
  readonly options: RaftLogOptions
  readonly logger: Logger
}

export class RaftLog implements ReplicatedLog {
  readonly #parts: RaftLogParts
  readonly #node: RawNode
  readonly #rounds: ReadRounds
  readonly #membership: Membership
  #listener: (event: LogEvent) => void = () => {}
  #timer: Timer | undefined
  #isStarted = false
  #isStopped = false
  /** Guards against a step inside a step: the core is never entered twice. */
  #isProcessing = false
  #lastRole: Extract<LogEvent, { type: 'role' }> | undefined
  #commitIndex = 0
  #commitTerm = 0
  #nextProposal: ProposalNumber = 1
  /** Commit indexes to tell to followers, by follower, until the timer or an append takes them. */
  readonly #notices = new Map<number, Message>()
  #noticeTimer: Timer | undefined
  #proposedAtMs = 0
  /** Between the last two proposals of this node. */
  #proposalIntervalMs = Infinity
  #pageTimer: Timer | undefined
  /** Open proposals of the current term by their index. */
  readonly #proposals = new Map<number, ProposalNumber>()

  constructor(parts: RaftLogParts) {
    this.#parts = parts
    const { wal, options, random } = parts
    const base = wal.firstIndex() - 1
    this.#commitIndex = base
    this.#membership = foundingMembership(parts.members)
    this.#node = new RawNode({
      id: parts.raftId,
      electionTicks: options.electionTicks,
      heartbeatTicks: options.heartbeatTicks,
      storage: wal,
      // Committed entries are handed over again from the first one that is still there; the
      // replica knows which of them its engine has.
      appliedIndex: base,
      maxSizePerMessageBytes: options.maxSizePerMessageBytes,
      maxInflightMessages: options.maxInflightMessages,
      maxInflightBytes: options.maxInflightBytes,
      maxUncommittedBytes: NO_LIMIT,
      maxCommittedSizePerReadyBytes: PAGE_BYTES,
      preVote: true,
      checkQuorum: true,
      readOnly: 'quorum',
      asyncStorageWrites: true,
      stepDownOnRemoval: true,
      // An effect is computed on one state of the data; only its own leader may propose it.
      disableProposalForwarding: true,
      disableConfChangeValidation: false,
      randomTicks: bound => random.below(bound),
    })
    this.#rounds = new ReadRounds({
      raftId: parts.raftId,
      clock: parts.clock,
      random,
      retryMs: options.tickMs * options.electionTicks,
      ask: context => this.#node.readIndex(context),
    })
  }

  start(listener: (event: LogEvent) => void): void {
    this.#listener = listener
    listener({ type: 'membership', membership: this.#membership })
    // What a crash left in the page cache is in the log that was read, but the core takes all that
    // it reads for durable: so it hears nothing and says nothing before that is true.
    this.#parts.wal.flush(() => {
      if (this.#isStopped) return
      this.#isStarted = true
      this.#tickLater()
      this.#process()
    })
    this.#parts.peers.on('raft', (from, body) => this.#receive(from, body))
  }

  get nextProposal(): ProposalNumber {
    return this.#nextProposal
  }

  append(term: number, data: Uint8Array): ProposalNumber | undefined {
    const { role, term: currentTerm } = this.#node
    if (this.#isStopped || role !== 'leader' || currentTerm !== term) return undefined
    const result = this.#node.propose(data)
    if (result.type !== 'appended') return undefined
    const now = this.#parts.clock.monotonicMs()
    this.#proposalIntervalMs = now - this.#proposedAtMs
    this.#proposedAtMs = now
    const proposal = this.#nextProposal
    this.#nextProposal += 1
    this.#proposals.set(result.lastIndex, proposal)
    this.#process()
    return proposal
  }

  read(from: number, maxBytes: number): readonly LogEntry[] {
    if (from > this.#commitIndex) return []
    const entries = this.#parts.wal.entries(from, this.#commitIndex + 1, maxBytes)
    if (typeof entries === 'string') throw new AssertionError(`entry ${from} is ${entries}`)
    return entries.map(entry => ({
      index: entry.index,
      term: entry.term,
      type: entry.type === 'config' ? 'config' : entry.data.byteLength === 0 ? 'noop' : 'data',
      data: entry.data,
    }))
  }

  readIndex(timeoutMs: number, done: (outcome: number | DbError) => void): void {
    if (this.#isStopped) {
      done(new DbError('SHUTTING_DOWN', 'this node is stopping; ask another one'))
      return
    }
    this.#rounds.wait(timeoutMs, done)
    this.#process()
  }

  compact(upTo: number): void {
    const status = this.#node.status()
    const target = Math.min(upTo, status.applied)
    if (target >= this.#parts.wal.firstIndex()) {
      this.#parts.wal.compact(target, status.confState, () => {})
    }
  }

  changeMembers(
    change: MembersChange,
    _timeoutMs: number,
    done: (outcome: Membership | DbError) => void,
  ): void {
    done(new DbError('MEMBERS_REFUSED', `this release can't ${change.type} members yet`))
  }

  point(index: number): SnapshotPoint | undefined {
    const term = index <= this.#commitIndex ? this.#parts.wal.term(index) : 'unavailable'
    return typeof term === 'number' ? { index, term, membership: this.#membership } : undefined
  }

  install(point: SnapshotPoint, done: (isTaken: boolean) => void): void {
    assert(point.index <= this.#commitIndex, `a snapshot at ${point.index} can't be taken yet`)
    done(false)
  }

  transferLeadership(mayLead: (raftId: number) => boolean = () => true, target?: number): void {
    const status = this.#node.status()
    if (status.role !== 'leader') return
    let best = NO_ID
    let bestMatch = -1
    for (const [id, progress] of status.progress) {
      const isVoter = id !== status.id && !progress.isLearner
      if (!isVoter || !progress.isRecentlyActive || !mayLead(id)) continue
      if (target !== undefined && id !== target) continue
      if (progress.match > bestMatch) {
        best = id
        bestMatch = progress.match
      }
    }
    if (best === NO_ID) return
    this.#node.transferLeader(best)
    this.#process()
  }

  status(): LogStatus {
    const { wal } = this.#parts
    const status = this.#node.status()
    return {
      raftId: status.id,
      role: status.role,
      term: status.term,
      leader: status.lead === NO_ID ? undefined : status.lead,
      firstIndex: wal.firstIndex(),
      lastIndex: wal.lastIndex(),
      commitIndex: status.commit,
      isCommitCurrent: this.#commitTerm === status.term,
      flushedIndex: wal.flushedIndex(),
      voters: status.confState.voters,
      learners: status.confState.learners,
      membership: this.#membership,
      isMember: true,
      sizeBytes: wal.sizeBytes(),
      peers: this.#peerHealth(),
    }
  }

  stop(done: () => void): void {
    this.#isStopped = true
    this.#timer?.cancel()
    this.#noticeTimer?.cancel()
    this.#pageTimer?.cancel()
    this.#rounds.fail(new DbError('SHUTTING_DOWN', 'this node is stopping; ask another one'))
    this.#parts.wal.close(done)
  }

  #peerHealth(): PeerHealth[] {
    const { members, peers, clock, raftId } = this.#parts
    const { progress } = this.#node.status()
    const now = clock.monotonicMs()
    return members
      .filter(member => member.raftId !== raftId)
      .map(member => {
        const contact = peers.contact(member.raftId)
        const known = progress.get(member.raftId)
        return {
          raftId: member.raftId,
          nodeId: member.nodeId,
          address: member.address,
          isConnected: contact.isConnected,
          lastContactMs: contact.lastFrameMs === undefined ? undefined : now - contact.lastFrameMs,
          retries: contact.retries,
          matchIndex: known?.match,
          progress: known?.state,
        }
      })
  }

  #tickLater(): void {
    this.#timer = this.#parts.clock.setTimer(this.#parts.options.tickMs, () => {
      if (this.#isStopped) return
      // One tick a call, however late it is: after a stall a node first reads what waits in its
      // sockets before it may believe that its leader is silent.
      this.#tickLater()
      this.#node.tick()
      this.#rounds.tick()
      this.#process()
    })
  }

  #receive(from: number, body: Uint8Array): void {
    if (this.#isStopped || !this.#isStarted) return
    const message = decodeMessage(body)
    // The handshake says who speaks on a connection; a message can't claim to be another's, except
    // that a read request keeps the name of the follower it came from.
    if (message.from !== from || message.to !== this.#parts.raftId) return
    this.#node.step(message)
    this.#process()
  }

  /** Lets the core hand out its work until there is none. */
  #process(): void {
    if (this.#isProcessing || this.#isStopped || !this.#isStarted) return
    this.#isProcessing = true
    try {
      while (this.#node.hasReady()) this.#handle(this.#node.ready())
    } finally {
      this.#isProcessing = false
    }
  }

  #handle(ready: Ready): void {
    this.#announceRole()
    // The core lets a candidate ask for votes while its own is still being written. But if it then
    // lost that vote in a crash it could be elected to the same term again, with another log: two
    // leaders of one term. So it asks once its vote is on disk (thesis 3.8), as it answers.
    const requests = ready.messages.filter(({ type }) => type === 'vote')
    for (const message of ready.messages) {
      if (message.to === LOCAL_APPEND) this.#store(message, requests.splice(0))
      else if (message.to === LOCAL_APPLY) this.#hand(message)
      else if (message.type !== 'vote') this.#send(message)
    }
    assert(requests.length === 0, 'a vote was asked for, and nothing was to be stored')
    for (const state of ready.readStates) this.#rounds.answer(state.context, state.index)
  }

  /** A new term takes the certainty from every open proposal before anything else is told. */
  #announceRole(): void {
    const { role, term, lead } = this.#node
    const leader = lead === NO_ID ? undefined : lead
    const last = this.#lastRole
    if (last?.role === role && last.term === term && last.leader === leader) return
    if (last?.term !== term || role !== 'leader') this.#proposals.clear()
    if (last?.leader !== leader) this.#rounds.leaderChanged()
    this.#lastRole = { type: 'role', role, term, leader }
    this.#parts.logger.info({ role, term, leader }, 'role')
    this.#listener(this.#lastRole)
  }

  /** Has a message's work done by the disk, and after it sends what waits for that. */
  #store(message: Message, waiting: readonly Message[]): void {
    assert(message.snapshot === undefined, 'a snapshot came from a peer, which none of them sends')
    const hardState =
      message.term === 0
        ? undefined
        : { term: message.term, vote: message.vote, commit: message.commit }
    const responses = [...waiting, ...(message.responses ?? [])]
    this.#parts.wal.append({ entries: message.entries, ...(hardState && { hardState }) }, () =>
      this.#stored(responses),
    )
  }

  #stored(responses: readonly Message[]): void {
    if (this.#isStopped) return
    for (const response of responses) {
      if (response.to === this.#parts.raftId) this.#node.step(response)
      else this.#send(response)
    }
    this.#process()
  }

  /** Committed entries: they are on this node's disk too, and stay for the replica to read. */
  #hand(message: Message): void {
    const own: { proposal: ProposalNumber; index: number }[] = []
    for (const entry of message.entries) {
      assert(
        entry.index === this.#commitIndex + 1,
        `committed ${entry.index} after ${this.#commitIndex}`,
      )
      this.#commitIndex = entry.index
      this.#commitTerm = entry.term
      if (entry.type === 'config') this.#node.applyConfChange(decodeConfChange(entry.data))
      const proposal = this.#proposals.get(entry.index)
      if (proposal === undefined) continue
      this.#proposals.delete(entry.index)
      own.push({ proposal, index: entry.index })
    }
    if (message.entries.length > 0) {
      this.#listener({ type: 'committed', commitIndex: this.#commitIndex, own })
    }
    const { responses = [] } = message
    if (entriesSizeBytes(message.entries) < PAGE_BYTES / 2) {
      for (const response of responses) this.#node.step(response)
      return
    }
    this.#pageTimer = this.#parts.clock.setTimer(0, () => {
      if (this.#isStopped) return
      for (const response of responses) this.#node.step(response)
      this.#process()
    })
  }

  #send(message: Message): void {
    if (this.#isNotice(message)) {
      this.#hold(message)
      return
    }
    // Whatever else goes to a follower as append tells it the commit index too.
    if (message.type === 'append') this.#dropNotice(message.to)
    this.#transmit(message)
  }

  /**
   * An append without entries to a follower that is being fed only tells the commit index. Under
   * load the next entries tell it a moment later; sending both costs each side a message, an answer
   * and a wake-up for nothing. So a notice waits a little, and is dropped when entries overtake it.
   */
  #isNotice(message: Message): boolean {
    return (
      message.type === 'append' &&
      message.entries.length === 0 &&
      this.#node.progressState(message.to) === 'replicate'
    )
  }

  #dropNotice(to: number): void {
    if (!this.#notices.delete(to) || this.#notices.size > 0) return
    this.#noticeTimer?.cancel()
    this.#noticeTimer = undefined
  }

  #hold(message: Message): void {
    this.#notices.set(message.to, message)
    const isBusy = this.#proposalIntervalMs < NOTICE_DELAY_MS_BUSY
    const delayMs = isBusy ? NOTICE_DELAY_MS_BUSY : NOTICE_DELAY_MS
    this.#noticeTimer ??= this.#parts.clock.setTimer(delayMs, () => {
      this.#noticeTimer = undefined
      if (this.#isStopped) return
      const notices = [...this.#notices.values()]
      this.#notices.clear()
      // A notice of a term that is over would be refused as what it is.
      for (const notice of notices) this.#transmit(notice)
    })
  }

  #transmit(message: Message): void {
    // An append without entries rests on those before it. As long as they are under way, it must
    // not overtake them: the follower would refuse it, and all of them would be sent again.
    const isData =
      message.type === 'append' &&
      (message.entries.length > 0 || message.index > this.#node.matchIndex(message.to))
    const lane = isData ? 'data' : 'control'
    if (this.#parts.peers.send(message.to, lane, 'raft', encodeMessage(message))) return
    // Only for appends: a lost heartbeat says nothing about entries on their way.
    if (message.type === 'append') this.#node.reportUnreachable(message.to)
  }
}
