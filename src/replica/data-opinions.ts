/**
 * DataOpinions: what the members say of their data right after entries at which they took digests,
 * and what follows from it for this one. It is kept apart from what they say of outcomes, since
 * nobody waits for it: who was away, or took no digest, says nothing, and nothing comes of that.
 */
import type { Clock, Logger } from '../base/ports.ts'
import type { Divergence } from '../engine/engine.ts'
import type { DataDigest } from '../engine/snapshot.ts'
import type { LogStatus } from '../log/log.ts'
import { dataOpinion, judgeData, type Taken } from './data-digest.ts'
import {
  type Dispute,
  type Electorate,
  type Opinion,
  type OwnState,
  PENDING,
  SILENT,
  type Value,
} from './divergence.ts'
import type { DataWord, Testimony, Trust } from './testimony.ts'

/** Entries that are spoken of. */
const INDEXES_MAX = 8
/** Of so many databases it is told which one differs. */
const PARTS_MAX = 64

export interface DataOpinionsParts {
  readonly raftId: number
  readonly clock: Clock
  readonly logger: Logger
  readonly logStatus: () => LogStatus
  readonly self: () => OwnState
  /** Digests that this replica took. */
  readonly taken: () => ReadonlyMap<number, Taken>
  /** Build of the SQL engine. */
  readonly build: () => string
  readonly condemn: (divergence: Divergence) => void
}

/** What one member has said. */
interface Heard {
  /** Its release knows of digests, and its engine is the same build, so that they compare. */
  readonly isAble: boolean
  readonly words: Map<number, DataWord>
}

export class DataOpinions {
  readonly #parts: DataOpinionsParts
  readonly #heard = new Map<number, Heard>()
  readonly #verdicts = new Map<number, Value>()
  readonly #warned = new Set<number>()
  #dispute: Dispute | undefined
  #verified: { readonly index: number; readonly atMs: number } | undefined

  constructor(parts: DataOpinionsParts) {
    this.#parts = parts
  }

  /** The oldest entry after which voters have different data, and nobody knows yet who is right. */
  get dispute(): Dispute | undefined {
    return this.#dispute
  }

  /** The last entry after which this replica had the data of a majority. */
  get verifiedIndex(): number {
    return this.#verified?.index ?? 0
  }

  get verifiedAgoMs(): number | undefined {
    const { clock } = this.#parts
    return this.#verified && Math.max(0, clock.monotonicMs() - this.#verified.atMs)
  }

  receive(from: number, { data, copiedIndex, isCondemned }: Testimony): void {
    const words = this.#heard.get(from)?.words ?? new Map<number, DataWord>()
    const isAble = data?.build === this.#parts.build()
    this.#heard.set(from, { isAble, words })
    for (const index of words.keys()) {
      if (isCondemned || index <= copiedIndex) words.delete(index)
    }
    for (const word of isAble ? (data?.words ?? []) : []) {
      const { index, opinion, verdict } = word
      // A restart takes back nobody's word.
      const isNews = opinion.type === 'value' || words.get(index)?.opinion.type !== 'value'
      if (isNews) words.set(index, word)
      if (verdict !== undefined) this.#decide(index, verdict)
    }
  }

  /** Judges again, and stops this replica if it is wrong. */
  evaluate(trust: Trust | undefined): void {
    const { raftId, logStatus } = this.#parts
    const { voters, membership } = logStatus()
    const electorate: Electorate = { voters, votersOutgoing: membership.votersOutgoing }
    let dispute: Dispute | undefined
    for (const index of this.#indexes()) {
      if (this.#verdicts.has(index) || this.#isPast(electorate, index)) continue
      const opinionOf = (each: number): Opinion => this.#opinionOf(each, index)
      const verdict = judgeData(electorate, raftId, opinionOf)
      const isTrusted = trust !== undefined && index <= trust.upTo
      const trusted = isTrusted ? opinionOf(trust.raftId) : undefined
      if (verdict.type === 'verified' || verdict.type === 'wrong') {
        this.#decide(index, verdict.value)
      } else if (verdict.type === 'wait') {
        this.#warnOfLearners(index)
      } else if (trusted?.type === 'value') {
        this.#decide(index, trusted.value)
      } else {
        dispute ??= { index, isTie: verdict.type === 'tie', subject: 'data' }
      }
    }
    this.#note(dispute)
    this.#verify()
    this.#act()
  }

  /**
   * Whatever voters said of an entry: later they all have said it of one that is decided. Who still
   * has other data is found there, and a difference that is gone by then is nobody's any more.
   */
  #isPast({ voters, votersOutgoing }: Electorate, index: number): boolean {
    const spoke = [...voters, ...votersOutgoing].filter(each => this.hasSaid(each, index))
    return [...this.#verdicts.keys()].some(
      later => later > index && spoke.every(each => this.hasSaid(each, later)),
    )
  }

  /** Whether a member has told a digest of its data as of entry `index`. */
  hasSaid(raftId: number, index: number): boolean {
    return valueOf(this.#opinionOf(raftId, index)) !== undefined
  }

  /** The data of a member may be wrong. */
  isSuspect(raftId: number): boolean {
    return [...this.#verdicts].some(([index, verdict]) => {
      const value = valueOf(this.#opinionOf(raftId, index))
      return value !== undefined && value !== verdict
    })
  }

  /** Every voter that can be heard has said what it will about the newest digest. */
  get isAnswered(): boolean {
    const { raftId, logStatus } = this.#parts
    const { voters, peers } = logStatus()
    const newest = this.#indexes().at(-1)
    if (newest === undefined) return true
    return voters.every(each => {
      const isHere = peers.some(peer => peer.raftId === each && peer.isConnected)
      return (each !== raftId && !isHere) || this.#opinionOf(each, newest).type !== 'pending'
    })
  }

  /** Voters disagree, and one that took no digest might decide it with the next one. */
  get wantsAnother(): boolean {
    const index = this.#dispute?.index
    if (index === undefined) return false
    const { voters } = this.#parts.logStatus()
    return voters.some(each => this.#opinionOf(each, index).type === 'silent')
  }

  /** What this member says of every entry that is spoken of. */
  words(): DataWord[] {
    return this.#indexes().map(index => {
      const opinion = this.#opinionOf(this.#parts.raftId, index)
      const digest = this.#parts.taken().get(index)?.digest
      const parts = opinion.type === 'value' && digest !== undefined ? shortParts(digest) : []
      return { index, opinion, parts, verdict: this.#verdicts.get(index) }
    })
  }

  // What is known.

  /** Entries that are spoken of, in ascending order. */
  #indexes(): number[] {
    const known = new Set(this.#parts.taken().keys())
    for (const { words } of this.#heard.values()) for (const index of words.keys()) known.add(index)
    const indexes = [...known].toSorted((a, b) => a - b)
    for (const forgotten of indexes.splice(0, indexes.length - INDEXES_MAX)) {
      this.#verdicts.delete(forgotten)
      this.#warned.delete(forgotten)
      for (const { words } of this.#heard.values()) words.delete(forgotten)
    }
    return indexes
  }

  #opinionOf(raftId: number, index: number): Opinion {
    if (raftId === this.#parts.raftId) return this.#ownOpinion(index)
    const heard = this.#heard.get(raftId)
    if (heard === undefined) return PENDING
    if (!heard.isAble) return SILENT
    return heard.words.get(index)?.opinion ?? PENDING
  }

  #ownOpinion(index: number): Opinion {
    const { appliedIndex, past, isCondemned, isStranded } = this.#parts.self()
    if (isCondemned) return SILENT
    const taken = this.#parts.taken().get(index)?.opinion
    if (taken !== undefined) return dataOpinion(index, past.copiedIndex, taken)
    return index <= Math.max(appliedIndex, past.copiedIndex) || isStranded ? SILENT : PENDING
  }

  #decide(index: number, value: Value): void {
    if (!this.#verdicts.has(index)) this.#verdicts.set(index, value)
  }

  // What follows from it.

  #note(dispute: Dispute | undefined): void {
    const before = this.#dispute
    this.#dispute = dispute
    const isKnown = before?.index === dispute?.index && before?.isTie === dispute?.isTie
    if (dispute === undefined || isKnown) return
    const message = dispute.isTie
      ? 'replicas have different data and no majority agrees: writes are stopped until another ' +
        'digest or an operator decides which node is right'
      : 'replicas have different data: writes wait until a majority agrees'
    this.#parts.logger.error({ index: dispute.index }, message)
  }

  /** One voter is no majority: what it has proves nothing against learners, nor they against it. */
  #warnOfLearners(index: number): void {
    const { raftId, logStatus, logger } = this.#parts
    const own = valueOf(this.#opinionOf(raftId, index))
    if (own === undefined || this.#warned.has(index)) return
    for (const each of logStatus().learners) {
      const theirs = valueOf(this.#opinionOf(each, index))
      if (theirs === undefined || theirs === own) continue
      this.#warned.add(index)
      const message = 'a learner has other data than the only voter: one of both is wrong'
      logger.error({ index, learner: each, own, theirs }, message)
    }
  }

  #verify(): void {
    const { raftId, clock, logger } = this.#parts
    for (const [index, value] of this.#verdicts) {
      if (index <= this.verifiedIndex || valueOf(this.#opinionOf(raftId, index)) !== value) continue
      this.#verified = { index, atMs: clock.monotonicMs() }
      logger.info({ index, digest: value }, 'this replica has the data that a majority has')
    }
  }

  #act(): void {
    const { raftId, condemn } = this.#parts
    for (const [index, verdict] of this.#verdicts) {
      const own = valueOf(this.#opinionOf(raftId, index))
      if (own === undefined || own === verdict) continue
      condemn({
        index,
        database: this.#differing(index, verdict) ?? '',
        sql: '',
        expected: `data of digest ${verdict}`,
        actual: `data of digest ${own}`,
        digest: own,
      })
      return
    }
  }

  /** The first database that differs from that of a member who is right, if that can be told. */
  #differing(index: number, verdict: Value): string | undefined {
    const own = this.#parts.taken().get(index)?.digest
    if (own === undefined) return undefined
    const parts = shortParts(own)
    for (const { words } of this.#heard.values()) {
      const word = words.get(index)
      if (word === undefined || valueOf(word.opinion) !== verdict) continue
      const at = parts.findIndex((part, position) => part !== word.parts[position])
      if (at >= 0) return own.parts[at]?.name
    }
    return undefined
  }
}

function valueOf(opinion: Opinion): Value | undefined {
  return opinion.type === 'value' ? opinion.value : undefined
}

/** Half of the digest of each part: enough to tell which one differs. */
function shortParts({ parts }: DataDigest): number[] {
  return parts.slice(0, PARTS_MAX).map(({ digest }) => Number.parseInt(digest.slice(0, 8), 16))
}
