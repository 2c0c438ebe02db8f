/**
 * Disputes: what this member does about entries that replicas computed differently. Members tell
 * one another where they stopped and what they say of each entry in question; each of them comes to
 * the verdict by itself, with the rule in divergence.ts, and acts on it: who computed what the
 * majority did goes on, who didn't stops and takes the data of another. Once reached, a verdict is
 * passed on as such, so that who comes later need not count again.
 */
import { DbError } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import type { AcceptedEntry, Divergence } from '../engine/engine.ts'
import type { LogStatus } from '../log/log.ts'
import type { Peers } from '../log/peers.ts'
import { DataOpinions } from './data-opinions.ts'
import type { Taken } from './data-digest.ts'
import {
  agree,
  type Agreement,
  AS_WRITTEN,
  type Dispute,
  type Electorate,
  joined,
  judgeEntry,
  NO_AGREEMENT,
  type Opinion,
  type OwnState,
  PENDING,
  SILENT,
  type Value,
} from './divergence.ts'
import {
  decodeTestimony,
  encodeTestimony,
  type Statement,
  type Testimony,
  type Trust,
} from './testimony.ts'

/** Accepted entries that a member tells of unasked, so that who took them otherwise learns it. */
const ACCEPTED_TOLD_MAX = 16
/** Verdicts that are remembered. */
const VERDICTS_MAX = 1000

export interface DisputesParts {
  readonly raftId: number
  readonly clock: Clock
  readonly peers: Peers
  readonly logger: Logger
  readonly logStatus: () => LogStatus
  readonly self: () => OwnState
  /** This replica computed an entry as the others did. */
  readonly accept: (entry: AcceptedEntry) => void
  /** This replica is wrong. */
  readonly condemn: (divergence: Divergence) => void
  /** Digests that this replica took of its data. */
  readonly taken: () => ReadonlyMap<number, Taken>
  /** Build of the SQL engine. */
  readonly build: () => string
  /** This replica is about to mark a place in the log at which all take a digest. */
  readonly isPreparing: () => boolean
  /** The leader is about to. */
  readonly onPreparing: () => void
}

export class Disputes {
  readonly #parts: DisputesParts
  readonly #heard = new Map<number, Testimony>()
  /** Where others stopped, until they are past it: a restart takes back nobody's word. */
  readonly #questions = new Map<number, Divergence>()
  readonly #verdicts = new Map<number, Value>()
  /** The same for digests of all data. */
  readonly data: DataOpinions
  #agreement: Agreement = NO_AGREEMENT
  #trust: Trust | undefined
  #dispute: Dispute | undefined
  #lastSaid = ''

  constructor(parts: DisputesParts) {
    this.#parts = parts
    this.data = new DataOpinions(parts)
    parts.peers.on('testimony', decodeTestimony, (from, heard) => this.#receive(from, heard))
  }

  get dispute(): Dispute | undefined {
    return this.#dispute ?? this.data.dispute
  }

  /** Whether the data of a member, or of this one, may be wrong for all that is known here. */
  isSuspect(raftId: number): boolean {
    // As long as it is open who is right, it may be anybody.
    if (this.dispute !== undefined || this.data.isSuspect(raftId)) return true
    if (raftId === this.#parts.raftId) return this.#parts.self().divergence !== undefined
    const heard = this.#heard.get(raftId)
    if (heard === undefined || heard.isCondemned || heard.question !== undefined) return true
    return [...this.#verdicts].some(([index, value]) => {
      const held = this.#heldBy(raftId, index)
      return held !== undefined && held !== value
    })
  }

  /** Looks at everything again, and tells all members what is to be said. Called regularly. */
  tick(): void {
    this.#evaluate()
    this.#say()
  }

  /** This replica has diverged, or has applied more: somebody may be waiting for its word. */
  changed(): void {
    if (this.#questions.size === 0 && this.#parts.self().divergence === undefined) return
    this.#evaluate()
    if (encodeKey(this.#testimony()) !== this.#lastSaid) this.#say()
  }

  /** A digest was taken, or given up. */
  dataChanged(): void {
    this.#evaluate()
    this.#say()
  }

  /** An operator decides that `nodeId` is right in all that is in dispute now. */
  trust(nodeId: string): DbError | undefined {
    const { members } = this.#parts.logStatus().membership
    const member = members.find(each => each.nodeId === nodeId)
    if (member === undefined) {
      return new DbError('UNKNOWN_NODE', `there is no member ${nodeId}`)
    }
    this.#evaluate()
    if (this.dispute === undefined) {
      const message = 'the members do not disagree about anything now: there is nothing to decide'
      return new DbError('MEMBERS_REFUSED', message)
    }
    const { raftId } = member
    const { index, subject } = this.dispute
    const isTelling =
      subject === 'data'
        ? this.data.hasSaid(raftId, index)
        : this.#heldBy(raftId, index) !== undefined
    if (!isTelling) {
      const message =
        `the members disagree about entry ${index}, and ${nodeId} has not told what it has ` +
        'there: nothing was decided; trust a node that has told, or this one when it has'
      return new DbError('MEMBERS_REFUSED', message, { details: { index } })
    }
    this.#trust = { raftId, upTo: this.#parts.logStatus().lastIndex }
    this.#parts.logger.warn({ nodeId, ...this.#trust }, 'an operator decided who is right')
    this.tick()
    return undefined
  }

  #receive(from: number, testimony: Testimony): void {
    this.#heard.set(from, testimony)
    const { question, appliedIndex, statements, trust } = testimony
    if (question !== undefined) this.#questions.set(from, question)
    else if (appliedIndex >= (this.#questions.get(from)?.index ?? Infinity)) {
      this.#questions.delete(from)
    }
    for (const { index, value, isDecided } of statements) {
      if (isDecided && value !== undefined) this.#decide(index, value)
    }
    this.#agreement = joined(this.#agreement, testimony.agreement)
    if (trust !== undefined && trust.upTo > (this.#trust?.upTo ?? 0)) this.#trust = trust
    this.data.receive(from, testimony)
    if (testimony.data?.isPreparing === true && from === this.#parts.logStatus().leader) {
      this.#parts.onPreparing()
    }
    this.#evaluate()
    if (encodeKey(this.#testimony()) !== this.#lastSaid) this.#say()
  }

  #decide(index: number, value: Value): void {
    if (this.#verdicts.has(index)) return
    this.#verdicts.set(index, value)
    if (this.#verdicts.size <= VERDICTS_MAX) return
    const [oldest] = this.#verdicts.keys()
    if (oldest !== undefined) this.#verdicts.delete(oldest)
  }

  // What is known.

  #electorate(): Electorate {
    const { voters, membership } = this.#parts.logStatus()
    return { voters, votersOutgoing: membership.votersOutgoing }
  }

  #isMember(raftId: number): boolean {
    const { voters, learners, membership } = this.#parts.logStatus()
    const { votersOutgoing } = membership
    return [voters, learners, votersOutgoing].some(set => set.includes(raftId))
  }

  /** Who stopped where, of those that are members still; this one too. */
  #openQuestions(): Map<number, Divergence> {
    const questions = new Map<number, Divergence>()
    for (const [raftId, question] of this.#questions) {
      if (this.#isMember(raftId)) questions.set(raftId, question)
      else this.#questions.delete(raftId)
    }
    const { divergence, isCondemned } = this.#parts.self()
    if (divergence !== undefined && !isCondemned) questions.set(this.#parts.raftId, divergence)
    return questions
  }

  #opinionOf(raftId: number, index: number): Opinion {
    if (raftId === this.#parts.raftId) return ownOpinion(this.#parts.self(), index)
    const question = this.#questions.get(raftId)
    if (question?.index === index) return { type: 'value', value: question.digest }
    const heard = this.#heard.get(raftId)
    const statement = heard?.statements.find(each => each.index === index)
    if (statement === undefined) return PENDING
    return statement.value === undefined ? SILENT : { type: 'value', value: statement.value }
  }

  /**
   * What the data of a member hold of an entry, whoever computed them: what replicas agreed on
   * instead of what is written is copied with the data, so that all other copies are as written.
   */
  #heldBy(raftId: number, index: number): Value | undefined {
    const opinion = this.#opinionOf(raftId, index)
    if (opinion.type === 'value') return opinion.value
    const self = this.#parts.self()
    const holder =
      raftId === this.#parts.raftId
        ? { copiedIndex: self.past.copiedIndex, isCondemned: self.isCondemned }
        : this.#heard.get(raftId)
    if (opinion.type !== 'silent' || holder === undefined || holder.isCondemned) return undefined
    return index <= holder.copiedIndex ? AS_WRITTEN : undefined
  }

  /** What an operator's word makes of an entry, if there is one and it covers it. */
  #trusted(index: number): Value | undefined {
    if (this.#trust === undefined || index > this.#trust.upTo) return undefined
    return this.#heldBy(this.#trust.raftId, index)
  }

  #evaluate(): void {
    this.#renewAgreement()
    const electorate = this.#electorate()
    const isVoter = (raftId: number): boolean =>
      electorate.voters.includes(raftId) || electorate.votersOutgoing.includes(raftId)
    let dispute: Dispute | undefined
    for (const [raftId, { index }] of this.#openQuestions()) {
      this.#settleFromOwnPast(index)
      if (this.#verdicts.has(index)) continue
      const trusted = this.#trusted(index)
      const judgement = judgeEntry(electorate, each => this.#opinionOf(each, index))
      if (judgement.type === 'decided') this.#decide(index, judgement.value)
      else if (trusted !== undefined) this.#decide(index, trusted)
      // A learner that waits for the voters' word keeps nobody from writing.
      else if (isVoter(raftId) && index <= (dispute?.index ?? Infinity)) {
        dispute = { index, isTie: judgement.type === 'tie', subject: 'outcome' }
      }
    }
    this.#note(dispute)
    this.#act()
    this.data.evaluate(this.#trust)
  }

  #renewAgreement(): void {
    const self = this.#parts.self()
    this.#agreement = agree(this.#agreement, this.#electorate(), raftId => {
      if (raftId === this.#parts.raftId) {
        return { after: self.past.copiedIndex, upTo: self.appliedIndex }
      }
      const heard = this.#heard.get(raftId)
      return heard && { after: heard.copiedIndex, upTo: heard.appliedIndex }
    })
  }

  /** What this replica has applied and a majority agreed on before is no question any more. */
  #settleFromOwnPast(index: number): void {
    const { past } = this.#parts.self()
    const accepted = past.accepted.find(each => each.index === index)
    if (accepted !== undefined) return this.#decide(index, accepted.digest)
    const own = ownOpinion(this.#parts.self(), index)
    const { after, upTo } = this.#agreement
    const isAgreed = index > after && index <= upTo
    if (isAgreed && own.type === 'value' && own.value === AS_WRITTEN) {
      this.#decide(index, AS_WRITTEN)
    }
  }

  #note(dispute: Dispute | undefined): void {
    const before = this.#dispute
    this.#dispute = dispute
    if (dispute?.isTie !== true || (before?.isTie === true && before.index === dispute.index))
      return
    const message =
      'replicas computed different things and no majority agrees: writes are stopped until an ' +
      'operator decides which node is right'
    this.#parts.logger.error({ index: dispute.index }, message)
  }

  // What follows from it.

  #act(): void {
    const self = this.#parts.self()
    if (self.isCondemned) return
    const { divergence } = self
    const verdict = divergence && this.#verdicts.get(divergence.index)
    if (divergence !== undefined && verdict !== undefined) {
      const { index, digest } = divergence
      if (verdict === digest) this.#parts.accept({ index, digest })
      else this.#parts.condemn(divergence)
      return
    }
    for (const [index, value] of this.#verdicts) {
      if (this.#heldBy(this.#parts.raftId, index) !== AS_WRITTEN || value === AS_WRITTEN) continue
      this.#parts.condemn(this.#asDivergence(index, value))
      return
    }
  }

  /** It has taken an entry as it is written, or a copy of such data, and the majority has not. */
  #asDivergence(index: number, digest: Value): Divergence {
    const questions = [...this.#questions.values()]
    const question = questions.find(each => each.index === index && each.digest === digest)
    return {
      index,
      database: question?.database ?? '',
      sql: question?.sql ?? '',
      expected: question?.actual ?? `outcomes of digest ${digest}`,
      actual: question?.expected ?? 'what the entry says',
      digest: AS_WRITTEN,
    }
  }

  // What is said.

  #testimony(): Testimony {
    const self = this.#parts.self()
    const { divergence, isCondemned, past, appliedIndex } = self
    return {
      copiedIndex: past.copiedIndex,
      appliedIndex,
      agreement: this.#agreement,
      question: isCondemned ? undefined : divergence,
      isCondemned,
      statements: this.#statements(self),
      trust: this.#trust,
      data: {
        isPreparing: this.#parts.isPreparing(),
        build: this.#parts.build(),
        words: this.data.words(),
      },
    }
  }

  #statements(self: OwnState): Statement[] {
    const asked = [...this.#openQuestions().values()].map(({ index }) => index)
    const told = self.past.accepted.slice(-ACCEPTED_TOLD_MAX).map(({ index }) => index)
    const statements: Statement[] = []
    for (const index of new Set([...asked, ...told])) {
      const accepted = self.past.accepted.find(each => each.index === index)
      const verdict = this.#verdicts.get(index) ?? accepted?.digest
      const own = ownOpinion(self, index)
      if (verdict !== undefined) statements.push({ index, value: verdict, isDecided: true })
      else if (own.type === 'silent') statements.push({ index, value: undefined, isDecided: false })
      else if (own.type === 'value') statements.push({ index, value: own.value, isDecided: false })
    }
    return statements
  }

  #say(): void {
    const testimony = this.#testimony()
    this.#lastSaid = encodeKey(testimony)
    const body = encodeTestimony(testimony)
    for (const { raftId } of this.#parts.logStatus().peers) {
      this.#parts.peers.send(raftId, 'control', 'testimony', body)
    }
  }
}

function ownOpinion(self: OwnState, index: number): Opinion {
  const { appliedIndex, past, divergence, isCondemned, isStranded } = self
  if (divergence !== undefined && index >= divergence.index) {
    // Whatever a wrong replica computes after its error is worth nothing.
    if (isCondemned) return SILENT
    return index === divergence.index ? { type: 'value', value: divergence.digest } : PENDING
  }
  const accepted = past.accepted.find(each => each.index === index)
  if (accepted !== undefined) return { type: 'value', value: accepted.digest }
  if (index <= past.copiedIndex) return SILENT
  if (index <= appliedIndex) return { type: 'value', value: AS_WRITTEN }
  return isStranded ? SILENT : PENDING
}

/** What others must hear at once if it changed; how far this one has come is no such thing. */
function encodeKey({ question, isCondemned, statements, trust, data }: Testimony): string {
  return JSON.stringify([question, isCondemned, statements, trust, data])
}
