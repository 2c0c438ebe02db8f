/**
 * Reports go between all members every few ticks: how far each has applied, what troubles it, and,
 * from the leader, how current it is. They carry no promise of consensus; they feed admission,
 * bounded staleness, compaction and the operator's view.
 *
 * Staleness is measured without comparing clocks of two machines: a node stamps its report with its
 * own clock, the leader sends the stamp back with its commit index, and whoever has applied that
 * far knows to be as current as at the moment of its own stamp, less the time since the leader
 * itself was last confirmed by a quorum (measured by the leader in the same way).
 *
 *   report => version u8, life varint, stampMs f64, echoLife varint, echoMs f64, term varint,
 *             flags u8, appliedIndex, durableIndex, commitIndex, floor varint,
 *             confirmedAgoMs f64, lastError text
 *   life   => a number that this process drew; a stamp of an earlier life means nothing to it
 *   flags  => 1: sent by the leader of `term`; 2: diverged; 4: echo is present; 8: short of room
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { Clock, Random } from '../base/ports.ts'
import type { LogStatus } from '../log/log.ts'
import type { Peers } from '../log/peers.ts'
import type { MemberReport } from './types.ts'

const REPORT_VERSION = 1
const FLAG_LEADER = 1
const FLAG_DIVERGED = 2
const FLAG_ECHO = 4
const FLAG_SHORT_OF_ROOM = 8
const LAST_ERROR_LENGTH_MAX = 500

interface Report extends MemberReport {
  readonly life: number
  readonly stampMs: number
  readonly echoLife: number
  readonly echoMs: number | undefined
  readonly term: number
  readonly isLeader: boolean
  readonly commitIndex: number
  /** Every member's log is known to reach at least here; 0 if the sender does not know. */
  readonly floor: number
  readonly confirmedAgoMs: number
}

interface Heard {
  readonly report: Report
  /** This node's own stamp that the peer has echoed last, in a report of this term. */
  readonly echoMs: number | undefined
  readonly echoTerm: number
}

/** What a node knows of its own freshness: complete up to `commitIndex` as of `asOfMs`. */
interface Claim {
  readonly commitIndex: number
  readonly asOfMs: number
}

const CLAIMS_MAX = 64

export interface ReportsParts {
  readonly raftId: number
  readonly peers: Peers
  readonly clock: Clock
  readonly random: Random
  readonly logStatus: () => LogStatus
  readonly self: () => MemberReport
}

export class Reports {
  readonly #parts: ReportsParts
  readonly #life: number
  readonly #heard = new Map<number, Heard>()
  #claims: Claim[] = []
  #freshAsOfMs: number | undefined
  #floor = 0

  constructor(parts: ReportsParts) {
    this.#parts = parts
    this.#life = parts.random.below(2 ** 32)
    parts.peers.on('report', decodeReport, (from, report) => this.#receive(from, report))
  }

  /** Sends a report to every other member. */
  send(): void {
    const { peers, clock, self, raftId } = this.#parts
    const status = this.#parts.logStatus()
    const isLeader = status.role === 'leader'
    if (isLeader) this.#floor = floorOf(status, raftId)
    const now = clock.monotonicMs()
    for (const { raftId: to } of status.peers) {
      const report: Report = {
        ...self(),
        life: this.#life,
        stampMs: now,
        echoLife: this.#heard.get(to)?.report.life ?? 0,
        echoMs: this.#heard.get(to)?.report.stampMs,
        term: status.term,
        isLeader,
        commitIndex: status.commitIndex,
        floor: isLeader ? this.#floor : 0,
        confirmedAgoMs: isLeader ? (this.#confirmedAgoMs(status, now) ?? Infinity) : Infinity,
      }
      peers.send(to, 'control', 'report', encodeReport(report))
    }
  }

  get heard(): ReadonlyMap<number, MemberReport> {
    return new Map([...this.#heard].map(([id, { report }]) => [id, report]))
  }

  /** Entries up to here are in every member's log. */
  get floor(): number {
    return this.#floor
  }

  /** Highest index that a majority of the voters has applied, with this node's own. */
  quorumApplied(): number {
    const { voters } = this.#parts.logStatus()
    const { raftId, self } = this.#parts
    const applied = voters.map(id =>
      id === raftId ? self().appliedIndex : (this.#heard.get(id)?.report.appliedIndex ?? 0),
    )
    return applied.sort((left, right) => right - left)[Math.floor(voters.length / 2)] ?? 0
  }

  /** How long ago this node's applied data was surely the newest; undefined if never yet. */
  lagMs(): number | undefined {
    const now = this.#parts.clock.monotonicMs()
    const status = this.#parts.logStatus()
    if (status.role === 'leader') {
      const isComplete = this.#parts.self().appliedIndex >= status.commitIndex
      const agoMs = this.#confirmedAgoMs(status, now)
      if (isComplete && agoMs !== undefined) this.#freshen(now - agoMs)
    } else {
      this.#redeemClaims()
    }
    return this.#freshAsOfMs === undefined ? undefined : Math.ceil(now - this.#freshAsOfMs)
  }

  #receive(from: number, report: Report): void {
    const status = this.#parts.logStatus()
    const last = this.#heard.get(from)
    // A peer that is in a later term may already follow another leader: its echo confirms nothing.
    const isSameTerm = report.term === status.term
    const isOurs = report.echoMs !== undefined && report.echoLife === this.#life
    const echo =
      isSameTerm && isOurs
        ? { echoMs: report.echoMs, echoTerm: report.term }
        : { echoMs: last?.echoMs, echoTerm: last?.echoTerm ?? 0 }
    this.#heard.set(from, { report, ...echo })
    if (!report.isLeader || !isSameTerm || !isOurs || report.echoMs === undefined) return
    this.#floor = Math.max(this.#floor, report.floor)
    if (report.confirmedAgoMs === Infinity) return
    const asOfMs = report.echoMs - report.confirmedAgoMs
    this.#claims.push({ commitIndex: report.commitIndex, asOfMs })
    if (this.#claims.length > CLAIMS_MAX) this.#claims.shift()
    this.#redeemClaims()
  }

  #redeemClaims(): void {
    const { appliedIndex } = this.#parts.self()
    for (const claim of this.#claims) {
      if (claim.commitIndex <= appliedIndex) this.#freshen(claim.asOfMs)
    }
    this.#claims = this.#claims.filter(claim => claim.commitIndex > appliedIndex)
  }

  #freshen(asOfMs: number): void {
    this.#freshAsOfMs = Math.max(this.#freshAsOfMs ?? asOfMs, asOfMs)
  }

  /**
   * As leader: how long ago a majority was surely still in this term. Undefined before the first
   * confirmation, and while the first entry of the term is not committed, since only then is the
   * commit index complete (thesis 6.4).
   */
  #confirmedAgoMs(status: LogStatus, now: number): number | undefined {
    const stamps = status.voters.map(id => {
      if (id === this.#parts.raftId) return now
      const heard = this.#heard.get(id)
      const isOfTerm = heard?.echoMs !== undefined && heard.echoTerm === status.term
      return isOfTerm ? heard.echoMs : -Infinity
    })
    stamps.sort((left, right) => right - left)
    const stamp = stamps[Math.floor(status.voters.length / 2)] ?? -Infinity
    if (stamp === -Infinity || !status.isCommitCurrent) return undefined
    return now - stamp
  }
}

function floorOf(status: LogStatus, raftId: number): number {
  let floor = status.flushedIndex
  for (const peer of status.peers) {
    if (peer.raftId !== raftId) floor = Math.min(floor, peer.matchIndex ?? 0)
  }
  return floor
}

function encodeReport(report: Report): Uint8Array {
  const writer = new ByteWriter()
  writer.u8(REPORT_VERSION)
  writer.varint(report.life)
  writer.f64(report.stampMs)
  writer.varint(report.echoLife)
  writer.f64(report.echoMs ?? 0)
  writer.varint(report.term)
  writer.u8(
    (report.isLeader ? FLAG_LEADER : 0) |
      (report.isDiverged ? FLAG_DIVERGED : 0) |
      (report.echoMs === undefined ? 0 : FLAG_ECHO) |
      (report.isShortOfRoom ? FLAG_SHORT_OF_ROOM : 0),
  )
  writer.varint(report.appliedIndex)
  writer.varint(report.durableIndex)
  writer.varint(report.commitIndex)
  writer.varint(report.floor)
  writer.f64(report.confirmedAgoMs)
  writer.utf8(report.lastError.slice(0, LAST_ERROR_LENGTH_MAX))
  return writer.finish()
}

function decodeReport(body: Uint8Array): Report {
  const reader = new ByteReader(body)
  const version = reader.u8()
  if (version !== REPORT_VERSION) throw new DbError('CORRUPT', `a report of version ${version}`)
  const life = reader.varint()
  const stampMs = reader.f64()
  const echoLife = reader.varint()
  const echoMs = reader.f64()
  const term = reader.varint()
  const flags = reader.u8()
  return {
    life,
    stampMs,
    echoLife,
    echoMs: (flags & FLAG_ECHO) === 0 ? undefined : echoMs,
    term,
    isLeader: (flags & FLAG_LEADER) !== 0,
    isDiverged: (flags & FLAG_DIVERGED) !== 0,
    isShortOfRoom: (flags & FLAG_SHORT_OF_ROOM) !== 0,
    appliedIndex: reader.varint(),
    durableIndex: reader.varint(),
    commitIndex: reader.varint(),
    floor: reader.varint(),
    confirmedAgoMs: reader.f64(),
    lastError: reader.utf8(),
  }
}
