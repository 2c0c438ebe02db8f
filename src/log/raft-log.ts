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
import type { Storage } from '../raft/storage.ts'
import type { Entry, Message, Ready } from '../raft/types.ts'
import { LOCAL_APPEND, LOCAL_APPLY, NO_ID, NO_LIMIT } from '../raft/types.ts'
import type { Wal } from '../wal/wal.ts'
import { Campaigns } from './campaigns.ts'
import { CommitNotices } from './commit-notices.ts'
import { DiskWatch } from './disk-watch.ts'
import type {
  LogEntry,
  LogEvent,
  LogStatus,
  Membership,
  MembersChange,
  OwnEntry,
  PeerHealth,
  ProposalNumber,
  ReplicatedLog,
  SnapshotPoint,
} from './log.ts'
import { MemberHistory } from './member-history.ts'
import { MembersChanger } from './members-changer.ts'
import { decodeBook, nextMembership, storedMembers, toSnapshot } from './membership.ts'
import { decodeMessage, encodeMessage } from './peer-codec.ts'
import type { Peers } from './peers.ts'
import { OwnProposals } from './own-proposals.ts'
import { Pulse } from './pulse.ts'
import { ReadRounds } from './read-rounds.ts'
import { SnapshotTraffic } from './snapshot-traffic.ts'
import { chooseSuccessor } from './successor.ts'

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
  /** Begun with the members, as `storedMembers` makes them. */
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
  readonly #history: MemberHistory
  readonly #changer: MembersChanger
  readonly #snapshots: SnapshotTraffic
  readonly #notices: CommitNotices
  readonly #diskWatch: DiskWatch
  readonly #campaigns: Campaigns
  #listener: (event: LogEvent) => void = () => {}
  readonly #pulse: Pulse
  #ticksToMark: number
  #isStarted = false
  #isStopped = false
  /** Guards against a step inside a step: the core is never entered twice. */
  #isProcessing = false
  #lastRole: Extract<LogEvent, { type: 'role' }> | undefined
  #commitIndex = 0
  #commitTerm = 0
  #pageTimer: Timer | undefined
  readonly #proposals = new OwnProposals()

  constructor(parts: RaftLogParts) {
    this.#parts = parts
    const { wal, options, random } = parts
    const base = wal.base()
    this.#commitIndex = base.index
    this.#commitTerm = base.term
    this.#history = new MemberHistory(decodeBook(base.confState, base.book))
    this.#ticksToMark = options.electionTicks
    this.#pulse = new Pulse({
      clock: parts.clock,
      tickMs: options.tickMs,
      patienceMs: this.#electionMs,
      onTick: () => this.#tick(),
      onStall: lateMs => this.#stalled(lateMs),
    })
    this.#notices = new CommitNotices(parts.clock, notice => this.#transmit(notice))
    this.#node = new RawNode({
      id: parts.raftId,
      electionTicks: options.electionTicks,
      heartbeatTicks: options.heartbeatTicks,
      storage: this.#coreStorage(),
      // Committed entries are handed over again from the first one that is still there; the
      // replica knows which of them its engine has.
      appliedIndex: base.index,
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
      shareCommit: true,
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
    this.#campaigns = new Campaigns({
      node: this.#node,
      clock: parts.clock,
      random,
      electionMs: this.#electionMs,
      heartbeatMs: options.tickMs * options.heartbeatTicks,
      contact: raftId => parts.peers.contact(raftId),
      process: () => this.#process(),
    })
    this.#diskWatch = new DiskWatch(this.#node, this.#electionMs)
    this.#snapshots = new SnapshotTraffic(this.#node, () => parts.clock.monotonicMs())
    this.#changer = new MembersChanger({
      raftId: parts.raftId,
      nowMs: () => parts.clock.monotonicMs(),
      status: () => this.#node.status(),
      membership: () => this.#history.current,
      // Also not before this leader has committed something: thesis 4.1 lacks that, and loses data.
      isFree: () => this.#node.mayChangeMembership && this.#commitTerm === this.#node.term,
      isHeard: raftId => this.#isHeard(raftId, 2 * this.#electionMs),
      propose: change => {
        const result = this.#node.proposeConfChange(change)
        return result.type === 'appended' ? result.lastIndex : undefined
      },
    })
  }

  start(listener: (event: LogEvent) => void): void {
    this.#listener = listener
    this.#tellMembers()
    // What a crash left in the page cache is in the log that was read, but the core takes all that
    // it reads for durable: so it hears nothing and says nothing before that is true.
    this.#parts.wal.flush(() => {
      if (this.#isStopped) return
      this.#isStarted = true
      this.#process()
    })
    this.#pulse.start()
    const { peers, logger } = this.#parts
    peers.on('raft', decodeMessage, (from, message) => this.#receive(from, message))
    peers.onRefused((from, error) =>
      logger.warn({ from, error: error.message }, 'a frame from a peer was refused'),
    )
    // What was on its way is lost; whoever comes back is asked at once where its log is.
    peers.onLink((peer, _lane, isConnected) => {
      if (!isConnected) this.#snapshots.undeliverable(peer)
    })
  }

  get nextProposal(): ProposalNumber {
    return this.#proposals.next
  }

  append(term: number, data: Uint8Array): ProposalNumber | undefined {
    const { role, term: currentTerm } = this.#node
    if (this.#isStopped || role !== 'leader' || currentTerm !== term) return undefined
    const result = this.#node.propose(data)
    if (result.type !== 'appended') return undefined
    this.#notices.proposed()
    const proposal = this.#proposals.add(result.lastIndex)
    this.#process()
    return proposal
  }

  read(from: number, maxBytes: number): readonly LogEntry[] {
    const { wal } = this.#parts
    if (from > this.#commitIndex || from < wal.firstIndex()) return []
    const entries = wal.entries(from, this.#commitIndex + 1, maxBytes)
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
      this.#parts.wal.compact(target, storedMembers(this.#history.at(target)), () => {})
      this.#history.forgetBefore(target)
    }
  }

  changeMembers(
    change: MembersChange,
    timeoutMs: number,
    done: (outcome: Membership | DbError) => void,
  ): void {
    if (this.#isStopped) {
      done(new DbError('SHUTTING_DOWN', 'this node is stopping; ask another one'))
      return
    }
    this.#changer.change(change, timeoutMs, done)
    this.#process()
  }

  point(index: number): SnapshotPoint | undefined {
    const term = index <= this.#commitIndex ? this.#parts.wal.term(index) : 'unavailable'
    if (typeof term !== 'number') return undefined
    return { index, term, membership: this.#history.at(index) }
  }

  install(point: SnapshotPoint, done: (isTaken: boolean) => void): void {
    if (this.#isStopped) return
    if (this.#snapshots.install(point, done)) {
      // What was handed over before is covered by the copy that the replica has at hand.
      this.#commitIndex = point.index
      this.#commitTerm = point.term
      this.#history.replace(point.membership)
      this.#parts.logger.info({ index: point.index, term: point.term }, 'the log begins anew')
      this.#tellMembers()
    }
    this.#process()
  }

  transferLeadership(mayLead: (raftId: number) => boolean = () => true, target?: number): void {
    const status = this.#node.status()
    if (status.role !== 'leader') return
    const isHeard = (raftId: number): boolean => this.#isHeard(raftId, this.#electionMs)
    const best = chooseSuccessor(status, isHeard, mayLead, target)
    if (best === NO_ID) return
    this.#node.transferLeader(best)
    this.#process()
  }

  status(): LogStatus {
    const { wal } = this.#parts
    const status = this.#node.status()
    const membership = this.#history.current
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
      membership,
      isMember:
        status.id >= membership.nextRaftId ||
        membership.members.some(member => member.raftId === status.id),
      sizeBytes: wal.sizeBytes(),
      flushes: this.#proposals.flushes,
      peers: this.#peerHealth(),
    }
  }

  stop(done: () => void): void {
    this.#isStopped = true
    this.#pulse.stop()
    this.#notices.stop()
    this.#campaigns.stop()
    this.#pageTimer?.cancel()
    const error = new DbError('SHUTTING_DOWN', 'this node is stopping; ask another one')
    this.#rounds.fail(error)
    this.#changer.fail(error)
    this.#parts.wal.close(done)
  }

  #peerHealth(): PeerHealth[] {
    const { peers, clock, raftId } = this.#parts
    const { progress } = this.#node.status()
    const now = clock.monotonicMs()
    return this.#history.current.members
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
          offeredIndex: this.#snapshots.offeredIndex(member.raftId),
        }
      })
  }

  /**
   * Others may have waited for this leader in vain, and elected another one: what it heard before
   * counts no more, and without a majority that answers anew it steps down.
   */
  #stalled(lateMs: number): void {
    if (this.#node.role !== 'leader') return
    this.#parts.logger.warn({ lateMs }, 'this leader stood still; it must be heard anew')
    this.#node.doubtLeadership()
  }

  #tick(): void {
    // Whoever waits has a deadline, also while a slow disk keeps this node from taking part.
    this.#rounds.tick()
    if (!this.#isStarted) return
    this.#node.tick()
    this.#campaigns.look()
    this.#changer.sweep()
    this.#snapshots.sweep()
    this.#watchDisk()
    this.#parts.wal.tidy()
    this.#ticksToMark -= 1
    if (this.#ticksToMark === 0) this.#mark()
    this.#process()
  }

  get #electionMs(): number {
    const { tickMs, electionTicks } = this.#parts.options
    return tickMs * electionTicks
  }

  /** Once in an election timeout. */
  #mark(): void {
    this.#ticksToMark = this.#parts.options.electionTicks
    this.#changer.mark(this.#node.log.committed)
  }

  #watchDisk(): void {
    const nowMs = this.#parts.clock.monotonicMs()
    const verdict = this.#diskWatch.verdict(nowMs)
    if (verdict === 'fine') return
    const lagMs = this.#diskWatch.lagMs(nowMs)
    this.#parts.logger.warn({ lagMs }, 'the disk of this leader is slow; another one is to lead')
    if (verdict === 'hand-over') this.transferLeadership()
    else this.#node.stepDown()
  }

  #isHeard(raftId: number, withinMs: number): boolean {
    const { peers, clock } = this.#parts
    const { lastFrameMs } = peers.contact(raftId)
    return lastFrameMs !== undefined && clock.monotonicMs() - lastFrameMs <= withinMs
  }

  #receive(from: number, message: Message): void {
    if (this.#isStopped || !this.#isStarted) return
    // The handshake says who speaks on a connection; a message can't claim to be another's, except
    // that a read request keeps the name of the follower it came from.
    if (message.from !== from || message.to !== this.#parts.raftId) return
    if (message.type === 'snapshot') this.#receiveOffer(message)
    else this.#node.step(message)
    this.#campaigns.heard(message)
    this.#process()
  }

  #receiveOffer(message: Message): void {
    const index = this.#snapshots.received(message)
    if (index === undefined) return
    this.#listener({ type: 'snapshot-needed', from: message.from, index })
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
    this.#changer.roleChanged(role, term, this.#node.log.committed)
    this.#lastRole = { type: 'role', role, term, leader }
    this.#parts.logger.info({ role, term, leader }, 'role')
    this.#listener(this.#lastRole)
  }

  /** Has a message's work done by the disk, and after it sends what waits for that. */
  #store(message: Message, waiting: readonly Message[]): void {
    const { entries, term, vote, commit, snapshot } = message
    const responses = [...waiting, ...(message.responses ?? [])]
    const write = {
      entries,
      ...(term > 0 && { hardState: { term, vote, commit } }),
      ...(snapshot && { snapshot: { ...snapshot.metadata, book: snapshot.data } }),
    }
    const { wal, clock } = this.#parts
    const askedMs = clock.monotonicMs()
    this.#diskWatch.asked(askedMs)
    wal.append(write, () => {
      this.#diskWatch.done()
      this.#proposals.flushed(entries, this.#node.term, askedMs, clock.monotonicMs())
      this.#stored(responses)
      if (snapshot !== undefined) this.#snapshots.stored(snapshot.metadata.index)
    })
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
    let own: OwnEntry[] = []
    const tell = (): void => {
      if (message.entries.length === 0) return
      this.#listener({ type: 'committed', commitIndex: this.#commitIndex, own })
      own = []
    }
    for (const entry of message.entries) {
      assert(
        entry.index === this.#commitIndex + 1,
        `committed ${entry.index} after ${this.#commitIndex}`,
      )
      // Before the index moves: the core may ask for a snapshot to feed a new member with, and
      // index and members of it must be of one moment.
      const membership = entry.type === 'config' ? this.#changeMembership(entry) : undefined
      this.#commitIndex = entry.index
      this.#commitTerm = entry.term
      const proposal = this.#proposals.take(entry.index)
      if (proposal !== undefined) own.push(proposal)
      if (membership === undefined) continue
      tell()
      // A commit index alone is not flushed; but who was removed shall not forget it in a crash.
      this.#parts.wal.flush(() => {})
      this.#history.add(membership)
      this.#tellMembers()
      this.#changer.applied(membership)
    }
    if (message.entries.at(-1)?.type !== 'config') tell()
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

  /** Puts a committed change in force in the core. */
  #changeMembership(entry: Entry): Membership {
    const change = decodeConfChange(entry.data)
    const confState = this.#node.applyConfChange(change)
    return nextMembership(this.#history.current, entry.index, change, confState)
  }

  #tellMembers(): void {
    const membership = this.#history.current
    this.#parts.peers.setMembers(membership)
    this.#listener({ type: 'membership', membership })
  }

  /** The log on disk as the core reads it. Its newest snapshot is whatever is applied. */
  #coreStorage(): Storage {
    const { wal } = this.#parts
    return {
      initialState: () => wal.initialState(),
      firstIndex: () => wal.firstIndex(),
      lastIndex: () => wal.lastIndex(),
      term: index => wal.term(index),
      entries: (low, high, maxSizeBytes) => wal.entries(low, high, maxSizeBytes),
      snapshot: () => {
        const point = this.point(this.#commitIndex)
        return point === undefined ? 'unavailable' : toSnapshot(point)
      },
    }
  }

  #send(message: Message): void {
    if (this.#isNotice(message)) {
      this.#notices.hold(message)
      return
    }
    // Whatever else goes to a follower as append tells it the commit index too.
    if (message.type === 'append') this.#notices.drop(message.to)
    this.#transmit(message)
  }

  #isNotice(message: Message): boolean {
    return (
      message.type === 'append' &&
      message.entries.length === 0 &&
      this.#node.progressState(message.to) === 'replicate'
    )
  }

  #transmit(message: Message): void {
    const { peers, wal } = this.#parts
    // An append without entries rests on those before it. As long as they are under way, it must
    // not overtake them: the follower would refuse it, and all of them would be sent again.
    const isData =
      message.type === 'append' &&
      (message.entries.length > 0 || message.index > this.#node.matchIndex(message.to))
    const lane = isData ? 'data' : 'control'
    const isOffer = message.type === 'snapshot'
    const sent = isOffer ? this.#snapshots.offer(message, wal.firstIndex() - 1) : message
    if (peers.send(message.to, lane, 'raft', encodeMessage(sent))) return
    // Only for appends: a lost heartbeat says nothing about entries on their way.
    if (message.type === 'append') this.#node.reportUnreachable(message.to)
    if (isOffer) this.#snapshots.undeliverable(message.to)
  }
}
