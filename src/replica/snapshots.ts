/**
 * Snapshots: how a replica that the log can't lead on any more, or whose data are wrong, gets the
 * data of another member. The order is the safety: staged completely and durably, then the log
 * begins after it, then the engine takes it over. A crash after the second step leaves a log that
 * begins after what the engine has, and a staged snapshot that is finished at the next start.
 */
import { must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { Clock, Logger, SnapshotTransfer, Timer } from '../base/ports.ts'
import { decodeManifest, type SnapshotManifest, type SnapshotStore } from '../engine/snapshot.ts'
import type { ReplicatedLog, SnapshotPoint } from '../log/log.ts'
import { decodePoint } from '../log/membership.ts'
import type { MemberReport, SnapshotStatus } from './types.ts'

/** Why this replica's data must be replaced, and by what. */
export interface HealRequest {
  /** Shown to the operator. */
  readonly reason: string
  /** The snapshot must be of this entry or a later one. */
  readonly minIndex: number
  /** Nothing is taken from such a member. */
  readonly isSuspect: (raftId: number) => boolean
}

export interface SnapshotsParts {
  readonly store: SnapshotStore
  readonly log: ReplicatedLog
  readonly transfer: SnapshotTransfer
  readonly clock: Clock
  readonly logger: Logger
  readonly appliedIndex: () => number
  /** What the others last said of themselves. */
  readonly reports: () => ReadonlyMap<number, MemberReport>
  /** Nothing is taken from such a member: its data may be wrong. */
  readonly isSuspect: (raftId: number) => boolean
  /** Ends the writer; `done` when it is gone. */
  readonly suspend: (done: () => void) => void
  /** Has a writer open the files that are there now. */
  readonly restart: () => void
  /** Leadership goes to another: nobody leads who has no data. */
  readonly abdicate: () => void
  /** A need arose: this replica must not serve its data. */
  readonly onNeeded: () => void
  /** The files are those of the snapshot of entry `index` now; nobody has opened them yet. */
  readonly onInstalled: (index: number) => void
}

interface Need {
  readonly reason: string
  readonly minIndex: number
  readonly isSuspect: (raftId: number) => boolean
  /** What this replica holds is wrong, however new. */
  readonly isHealing: boolean
  /** The engine can't go on with its own files: it has no writer. */
  hasGap: boolean
}

type Step = 'looking' | 'asking' | 'fetching' | 'checking' | 'installing' | 'adopting'

const POLL_MS = 300
const RETRY_MS_MIN = 300
const RETRY_MS_MAX = 10_000
/** A member that is about to be ready is waited for so long before another one is asked. */
const PATIENCE_MS = 5_000
const REFUSED_INSTALLS_MAX = 20
/** What lies staged, and nobody has needed for so long, is removed. */
const UNUSED_MS = 60_000
/** Who gave what was garbled, or failed again and again, is asked only if nobody else is there. */
const AVOID_MS = 60_000

export class Snapshots {
  readonly #parts: SnapshotsParts
  #need: Need | undefined
  #step: Step = 'looking'
  /** Rises whenever what was begun must not go on. */
  #attempt = 0
  #failures = 0
  /** Members that failed, by when they may be asked again. */
  readonly #avoided = new Map<number, number>()
  #source: number | undefined
  /** The last leader that had nothing else for this node: it is asked when nobody else is known. */
  #leader: number | undefined
  #askedSinceMs = 0
  #timer: Timer | undefined
  #transfer: { cancel(): void } | undefined
  #manifest: SnapshotManifest | undefined
  #receivedBytes = 0
  #lastError = ''
  #installed = 0
  #failuresInAll = 0
  #beganAtMs = 0
  #lastDurationMs = 0
  #refusedInstalls = 0
  #isStopped = false
  /** Something may be staged that nobody needs any more, since then. */
  #unusedSinceMs: number | undefined
  #isDiscarding = false

  constructor(parts: SnapshotsParts) {
    this.#parts = parts
    this.#unusedSinceMs = parts.clock.monotonicMs()
  }

  /** A snapshot is needed and not installed yet: this replica's data are not to be served. */
  get isHealing(): boolean {
    return this.#need !== undefined
  }

  status(): SnapshotStatus {
    const need = this.#need
    const manifest = this.#manifest
    return {
      step: need === undefined ? 'none' : this.#step,
      reason: need?.reason ?? '',
      source: need === undefined ? undefined : this.#source,
      index: manifest?.index ?? 0,
      receivedBytes: this.#receivedBytes,
      totalBytes: manifest === undefined ? 0 : sizeBytesOf(manifest),
      lastError: this.#lastError,
      installed: this.#installed,
      failures: this.#failuresInAll,
      lastDurationMs: this.#lastDurationMs,
    }
  }

  /** The log of the leader `from` begins after this one's; only a snapshot from `index` helps. */
  needed(from: number, index: number): void {
    this.#leader = from
    if (this.#need !== undefined) return
    const reason = 'the log of the leader begins after the last entry of this node'
    const { isSuspect } = this.#parts
    this.#begin({ reason, minIndex: index, isSuspect, isHealing: false, hasGap: false })
  }

  /** The log begins after what the engine has: an installation was cut short, or files are lost. */
  gap(): void {
    if (this.#need !== undefined) {
      this.#need.hasGap = true
      return
    }
    const reason = 'the log of this node begins after the last entry of its data'
    const minIndex = this.#parts.log.status().firstIndex - 1
    const { isSuspect } = this.#parts
    this.#begin({ reason, minIndex, isSuspect, isHealing: false, hasGap: true })
  }

  /** Replaces this replica's data by a healthy member's. A later call may ask for more. */
  heal(request: HealRequest): void {
    const last = this.#need
    const isKnown = last?.isHealing === true && last.minIndex >= request.minIndex
    if (isKnown || this.#step === 'installing' || this.#step === 'adopting') return
    const hasGap = last?.hasGap ?? false
    const minIndex = Math.max(request.minIndex, last?.minIndex ?? 0)
    this.#begin({ ...request, minIndex, isHealing: true, hasGap })
  }

  /** Gives up what is not needed any more, and removes what an earlier attempt or life left. */
  sweep(): void {
    if (this.#hasCaughtUp()) {
      this.#parts.logger.info({}, 'the log has led this node on: no snapshot is needed any more')
      this.#over()
    }
    const { clock, store } = this.#parts
    const since = this.#unusedSinceMs
    const isUnused = since !== undefined && clock.monotonicMs() - since >= UNUSED_MS
    if (!isUnused || this.#need !== undefined || this.#isStopped) return
    this.#unusedSinceMs = undefined
    this.#isDiscarding = true
    store.discard(() => {
      this.#isDiscarding = false
    })
  }

  /** The log brought after all what a snapshot was to bring, as from another leader. */
  #hasCaughtUp(): boolean {
    const need = this.#need
    if (need === undefined || need.isHealing || need.hasGap || this.#isStopped) return false
    const isEarly = ['looking', 'asking', 'fetching'].includes(this.#step)
    return isEarly && this.#parts.appliedIndex() >= need.minIndex
  }

  stop(): void {
    this.#isStopped = true
    this.#attempt += 1
    this.#timer?.cancel()
    this.#transfer?.cancel()
  }

  #begin(need: Need): void {
    if (this.#isStopped) return
    this.#abort()
    const isNew = this.#need === undefined
    this.#need = need
    this.#failures = 0
    this.#beganAtMs = this.#parts.clock.monotonicMs()
    this.#avoided.clear()
    this.#lastError = ''
    const { reason, minIndex } = need
    this.#parts.logger.warn({ reason, minIndex }, 'a snapshot of another member is needed')
    if (isNew) this.#parts.onNeeded()
    this.#step = 'looking'
    if (!need.hasGap || need.isHealing) return this.#ask()
    // An earlier life may have been cut short between the log and the engine.
    this.#parts.store.staged(
      this.#continue(manifest => {
        if (manifest !== undefined && this.#fits(manifest)) this.#install(manifest)
        else this.#ask()
      }),
    )
  }

  #abort(): void {
    this.#attempt += 1
    this.#timer?.cancel()
    this.#transfer?.cancel()
    this.#transfer = undefined
    this.#manifest = undefined
    this.#receivedBytes = 0
    this.#source = undefined
  }

  /** Calls `act` unless what it belongs to has been given up meanwhile. */
  #continue<Value>(act: (value: Value) => void): (value: Value) => void {
    const attempt = this.#attempt
    return value => {
      if (attempt === this.#attempt && !this.#isStopped) act(value)
    }
  }

  #later(delayMs: number, act: () => void): void {
    this.#timer?.cancel()
    this.#timer = this.#parts.clock.setTimer(delayMs, this.#continue<void>(act))
  }

  // Getting one.

  #ask(): void {
    const now = this.#parts.clock.monotonicMs()
    if (this.#isDiscarding) return this.#later(POLL_MS, () => this.#ask())
    this.#unusedSinceMs = now
    const source = this.#chooseSource(now)
    if (source === undefined) {
      this.#lastError ||= 'no member that could give a snapshot is connected'
      this.#later(POLL_MS, () => this.#ask())
      return
    }
    if (source !== this.#source) this.#askedSinceMs = now
    this.#source = source
    this.#step = 'asking'
    const minIndex = this.#minIndex()
    this.#parts.transfer.ask(
      source,
      minIndex,
      this.#continue(outcome => this.#asked(outcome)),
    )
  }

  /** The log may have been compacted since the need arose. */
  #minIndex(): number {
    return Math.max(must(this.#need).minIndex, this.#parts.log.status().firstIndex - 1)
  }

  /** The one that is asked already, else a follower that has enough, else the leader. */
  #chooseSource(now: number): number | undefined {
    const { log, reports } = this.#parts
    const { peers, leader } = log.status()
    const need = must(this.#need)
    const heard = reports()
    const able = peers.filter(({ raftId, isConnected }) => {
      const isWrong = need.isSuspect(raftId) || heard.get(raftId)?.isDiverged === true
      return isConnected && !isWrong
    })
    const welcome = able.filter(({ raftId }) => (this.#avoided.get(raftId) ?? -Infinity) <= now)
    const fit = welcome.length > 0 ? welcome : able
    if (fit.some(({ raftId }) => raftId === this.#source)) return this.#source
    const followers = fit.filter(({ raftId }) => raftId !== leader && heard.has(raftId))
    const applied = (raftId: number): number => heard.get(raftId)?.appliedIndex ?? 0
    const [best] = followers.toSorted((a, b) => applied(b.raftId) - applied(a.raftId))
    const isBehind = best === undefined || applied(best.raftId) < this.#minIndex()
    const isLeaderFit = fit.some(({ raftId }) => raftId === leader)
    if (isBehind && isLeaderFit) return leader
    if (best !== undefined || peers.length > 0) return best?.raftId
    // Who has just joined learns from the log who belongs to the cluster, and has none yet.
    const known = this.#leader
    return known !== undefined && !need.isSuspect(known) ? known : undefined
  }

  #asked(outcome: string | DbError): void {
    if (outcome instanceof DbError) return this.#notOffered(outcome)
    const manifest = readOffer(outcome)
    if (manifest instanceof DbError) return this.#failed(manifest)
    const minIndex = this.#minIndex()
    if (manifest.index < minIndex) {
      const message = `a snapshot of ${manifest.index} was offered, ${minIndex} is needed`
      return this.#failed(new DbError('SNAPSHOT_FAILED', message))
    }
    this.#manifest = manifest
    this.#step = 'fetching'
    this.#parts.store.stage(
      manifest,
      this.#continue(staged => {
        if (staged.type === 'failed') this.#failed(staged.error)
        else this.#fetch(manifest, staged.location)
      }),
    )
  }

  #notOffered(error: DbError): void {
    const waitedMs = this.#parts.clock.monotonicMs() - this.#askedSinceMs
    const isComing = error.details['isMaking'] === true || waitedMs < PATIENCE_MS
    if (error.code !== 'NOT_READY' || !isComing) return this.#failed(error)
    this.#later(POLL_MS, () => this.#ask())
  }

  #fetch(manifest: SnapshotManifest, location: string): void {
    const source = must(this.#source)
    const index = manifest.index
    this.#parts.logger.info({ source, index, sizeBytes: sizeBytesOf(manifest) }, 'fetching')
    this.#transfer = this.#parts.transfer.fetch(source, manifest, location, {
      onProgress: this.#continue(sizeBytes => {
        this.#receivedBytes = sizeBytes
      }),
      onDone: this.#continue(error => {
        this.#transfer = undefined
        if (error !== undefined) return this.#failed(error)
        this.#check(manifest)
      }),
    })
  }

  #check(manifest: SnapshotManifest): void {
    this.#step = 'checking'
    this.#parts.store.finish(
      this.#continue(outcome => {
        if (outcome.type === 'failed') this.#failed(outcome.error)
        else if (this.#isFromSuspect()) this.#failed(suspicious())
        else if (this.#fits(manifest)) this.#install(manifest)
        else this.#failed(new DbError('SNAPSHOT_FAILED', 'the log went on beyond the snapshot'))
      }),
    )
  }

  /** Its giver may have been found wrong while it was on its way. */
  #isFromSuspect(): boolean {
    return this.#source !== undefined && must(this.#need).isSuspect(this.#source)
  }

  /** Tries again a little later, with another member if there is one. */
  #failed(error: DbError): void {
    const { clock, logger } = this.#parts
    this.#lastError = error.message
    this.#failures += 1
    this.#failuresInAll += 1
    const delayMs = Math.min(RETRY_MS_MIN * 2 ** (this.#failures - 1), RETRY_MS_MAX)
    logger.warn({ error, source: this.#source, delayMs }, 'a snapshot was not got')
    // What broke once is gone on with; what is garbled, or breaks again, had better come elsewhere.
    const isBad = error.code === 'CORRUPT' || this.#failures > 1
    if (this.#source !== undefined && isBad) {
      this.#avoided.set(this.#source, clock.monotonicMs() + AVOID_MS)
    }
    this.#source = undefined
    this.#step = 'asking'
    this.#later(delayMs, () => this.#ask())
  }

  // Taking it over.

  /** Whether the log, as it is now, goes on from the snapshot. */
  #fits(manifest: SnapshotManifest): boolean {
    return manifest.index >= this.#minIndex()
  }

  #install(manifest: SnapshotManifest): void {
    const { log, appliedIndex, abdicate, suspend } = this.#parts
    const need = must(this.#need)
    this.#manifest = manifest
    this.#step = 'installing'
    const isLate = !need.isHealing && !need.hasGap && appliedIndex() >= manifest.index
    // It caught up by itself meanwhile.
    if (isLate) return this.#over()
    // An only voter has no successor: with its writer gone it may only finish what the log has.
    const isFinishing = need.hasGap && this.#isCovered(manifest)
    if (log.status().role === 'leader' && !isFinishing) {
      abdicate()
      this.#later(POLL_MS, () => this.#install(manifest))
      return
    }
    const point = pointOf(manifest)
    suspend(
      this.#continue<void>(() => {
        need.hasGap = true
        log.install(
          point,
          this.#continue(() => this.#logged(manifest)),
        )
      }),
    )
  }

  /** Whether the log goes on from the snapshot, and knows it for committed. */
  #isCovered({ index }: SnapshotManifest): boolean {
    const { firstIndex, commitIndex } = this.#parts.log.status()
    return index + 1 >= firstIndex && index <= commitIndex
  }

  #logged(manifest: SnapshotManifest): void {
    if (this.#isCovered(manifest)) return this.#adopt(manifest)
    // The log did not take it, though it lacks it: as when an election was going on.
    this.#refusedInstalls += 1
    if (this.#refusedInstalls < REFUSED_INSTALLS_MAX) {
      this.#later(POLL_MS, () => this.#install(manifest))
      return
    }
    this.#refusedInstalls = 0
    this.#failed(new DbError('SNAPSHOT_FAILED', 'the log can not go on from the snapshot'))
  }

  #adopt(manifest: SnapshotManifest): void {
    this.#step = 'adopting'
    this.#parts.store.adopt(
      manifest.id,
      this.#continue(outcome => {
        if (outcome.type === 'failed') {
          this.#lastError = outcome.error.message
          this.#later(RETRY_MS_MAX, () => this.#adopt(manifest))
          return
        }
        const { index } = manifest
        this.#parts.logger.info({ index }, 'a snapshot was installed')
        this.#installed += 1
        this.#lastDurationMs = this.#parts.clock.monotonicMs() - this.#beganAtMs
        this.#unusedSinceMs = undefined
        this.#parts.onInstalled(index)
        this.#over()
      }),
    )
  }

  #over(): void {
    const hasGap = this.#need?.hasGap === true
    if (this.#unusedSinceMs !== undefined) {
      this.#unusedSinceMs = this.#parts.clock.monotonicMs()
    }
    this.#abort()
    this.#need = undefined
    this.#step = 'looking'
    if (hasGap) this.#parts.restart()
  }
}

/** The manifest of what was offered, if it can be used. */
function readOffer(text: string): SnapshotManifest | DbError {
  try {
    const manifest = decodeManifest(text)
    const point = pointOf(manifest)
    if (point.index === manifest.index) return manifest
  } catch (error) {
    if (error instanceof DbError) return error
    // Whatever it is, it came from elsewhere.
    if (!(error instanceof SyntaxError) && !(error instanceof RangeError)) throw error
  }
  return new DbError('SNAPSHOT_FAILED', 'the snapshot does not say where it stands in the log')
}

/** Where the snapshot stands in the log. */
function pointOf(manifest: SnapshotManifest): SnapshotPoint {
  return decodePoint(Uint8Array.fromHex(manifest.context))
}

function sizeBytesOf({ files }: SnapshotManifest): number {
  return files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
}

function suspicious(): DbError {
  return new DbError('SNAPSHOT_FAILED', 'it is not known any more whether its giver is right')
}
