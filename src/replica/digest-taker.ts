/**
 * DigestTaker takes the digests of this replica's own data. A leader marks a place in the log now
 * and then; every replica comes to a stop right after that entry, begins to read all of its data as
 * of there, goes on, and has the digest some time later. Reading is done by a process beside, which
 * is started before the place is marked, so that the stop is short. A replica that can't, for
 * whatever reason, just says nothing about that entry.
 */
import type { DbError } from '../base/errors.ts'
import type { Clock, Logger, Timer } from '../base/ports.ts'
import type { DataDigest, DigestTask, SnapshotStore } from '../engine/snapshot.ts'
import type { Taken } from './data-digest.ts'
import { type Opinion, PENDING, SILENT } from './divergence.ts'
import type { ReplicaCounters } from './types.ts'
import type { Pause } from './writer.ts'

/** Digests that are remembered, of the newest entries. */
const TAKEN_MAX = 4
/** Followers have so long to start the process that reads, before the leader marks a place. */
const GRACE_MS = 500
/** A process that was started and not needed ends after this time. */
const PREPARED_MS_MAX = 30_000
/** The engine stands still for no more than this. */
const PAUSE_MS_MAX = 2000
/** A digest that takes longer is given up. */
const DIGEST_MS_MAX = 30 * 60_000
/** When members disagree and some took no digest, the next one is taken after this time. */
const AGAIN_MS = 10_000

export interface DigestTakerParts {
  readonly store: SnapshotStore
  readonly clock: Clock
  readonly logger: Logger
  readonly counters: ReplicaCounters
  /** How often a leader marks a place; 0 is never. */
  readonly intervalMs: number
  readonly isLeader: () => boolean
  /** Whether this leader may mark a place now. */
  readonly mayPropose: () => boolean
  /** Members disagree, and another digest may tell who is right. */
  readonly wantsAnother: () => boolean
  /** Marks a place in the log, as soon as there is a gap between batches. */
  readonly propose: () => void
  readonly pause: (pause: Pause) => void
  readonly resume: () => void
  /** This replica's data are known to be wrong, or are being replaced. */
  readonly isUnfit: () => boolean
  /** There is something new to say. */
  readonly onTaken: () => void
  /** SQLite met something in this node's files that can't be. */
  readonly onCorrupt: (reason: string) => void
}

interface Task {
  readonly task: DigestTask
  readonly startedMs: number
  /** The entry after which the data are read, once it is reached. */
  index: number | undefined
  isReady: boolean
  isStill: boolean
  isBegun: boolean
  timer: Timer | undefined
}

export class DigestTaker {
  readonly #parts: DigestTakerParts
  readonly #taken = new Map<number, Taken>()
  #task: Task | undefined
  #isPaused = false
  /** When a place was last marked here, or this replica began. */
  #reachedMs: number
  #proposedMs = -Infinity
  #durationMs = 0
  #lastError = ''

  constructor(parts: DigestTakerParts) {
    this.#parts = parts
    this.#reachedMs = parts.clock.monotonicMs()
  }

  /** By entry, the oldest first. */
  get taken(): ReadonlyMap<number, Taken> {
    return this.#taken
  }

  get isRunning(): boolean {
    return this.#task?.index !== undefined
  }

  /** This replica, as leader, is about to mark a place. */
  get isPreparing(): boolean {
    return this.#task !== undefined && !this.isRunning && this.#parts.isLeader()
  }

  /** How long the last one took, from its entry on. */
  get durationMs(): number {
    return this.#durationMs
  }

  /** Why the last one that failed did. */
  get lastError(): string {
    return this.#lastError
  }

  /** Called regularly. */
  tick(): void {
    const { clock, intervalMs, isLeader, mayPropose, wantsAnother, propose } = this.#parts
    const now = clock.monotonicMs()
    const task = this.#task
    if (task?.index !== undefined) return
    if (task !== undefined && now - task.startedMs > PREPARED_MS_MAX) return this.cancel()
    if (!isLeader()) return
    const isDue = intervalMs > 0 && now - this.#reachedMs >= intervalMs
    const isDueAgain = wantsAnother() && now - this.#reachedMs >= AGAIN_MS
    if ((!isDue && !isDueAgain) || !mayPropose()) return
    if (task === undefined) return this.prepare()
    const isProposed = now - this.#proposedMs <= PREPARED_MS_MAX
    if (isProposed || !task.isReady || now - task.startedMs < GRACE_MS) return
    this.#proposedMs = now
    propose()
  }

  /** A place is about to be marked. */
  prepare(): void {
    if (this.#task !== undefined || this.#parts.isUnfit()) return
    this.#start()
  }

  /** The engine has applied all up to `index`, where a place is marked, and nothing after it. */
  reached(index: number): void {
    const { clock, isUnfit, pause } = this.#parts
    this.#reachedMs = clock.monotonicMs()
    this.#proposedMs = -Infinity
    // The newest is the one that the others will have, too.
    if (this.isRunning) this.#give('another one was due before it was done')
    if (isUnfit()) return this.#note(index, SILENT)
    const task = this.#task ?? this.#start()
    task.index = index
    this.#note(index, PENDING)
    this.#isPaused = true
    task.timer = clock.setTimer(PAUSE_MS_MAX, () => this.#give('its files took too long to open'))
    pause({
      onStill: () => {
        task.isStill = true
        this.#begin(task)
      },
      onBroken: () => {
        this.#isPaused = false
        if (this.#task === task) this.#give('the engine could not stand still for it')
      },
    })
  }

  /** Ends what is under way: nobody may read these files any more. */
  cancel(): void {
    if (this.isRunning) return this.#give('the data are not to be read any more')
    this.#end()
  }

  /** The files are another member's now: what was read of the last ones says nothing of these. */
  forget(): void {
    this.#taken.clear()
  }

  #start(): Task {
    const { store, clock } = this.#parts
    const started = store.digest({
      onReady: () => {
        task.isReady = true
        this.#begin(task)
      },
      onBegun: () => {
        if (this.#task !== task) return
        task.timer?.cancel()
        task.timer = clock.setTimer(DIGEST_MS_MAX, () => this.#give('it took too long'))
        this.#resume()
      },
      onDone: outcome => {
        if (this.#task !== task) return
        if (outcome.type === 'ok') this.#done(task, outcome.digest)
        else this.#failed(outcome.error)
      },
    })
    const task: Task = {
      task: started,
      startedMs: clock.monotonicMs(),
      index: undefined,
      isReady: false,
      isStill: false,
      isBegun: false,
      timer: undefined,
    }
    this.#task = task
    return task
  }

  #begin(task: Task): void {
    const { index, isReady, isStill, isBegun } = task
    if (this.#task !== task || index === undefined || !isReady || !isStill || isBegun) return
    task.isBegun = true
    task.task.begin(index)
  }

  #done(task: Task, digest: DataDigest): void {
    const { clock, counters, logger, onTaken } = this.#parts
    const { index } = task
    this.#end()
    if (index === undefined) return
    this.#durationMs = clock.monotonicMs() - this.#reachedMs
    counters.digests += 1
    const facts = { index, digest: digest.digest, durationMs: this.#durationMs }
    logger.info(facts, 'a digest of all data was taken')
    this.#note(index, { type: 'value', value: digest.digest }, digest)
    onTaken()
  }

  #failed(error: DbError): void {
    this.#give(error.message)
    if (error.code === 'CORRUPT') this.#parts.onCorrupt(error.message)
  }

  /** No digest comes of it. */
  #give(reason: string): void {
    const { counters, logger, onTaken } = this.#parts
    const index = this.#task?.index
    this.#end()
    this.#lastError = reason
    if (index === undefined) return
    counters.digestFailures += 1
    logger.warn({ index, reason }, 'no digest of all data was taken')
    this.#note(index, SILENT)
    onTaken()
  }

  #end(): void {
    const task = this.#task
    this.#task = undefined
    task?.timer?.cancel()
    task?.task.cancel()
    this.#resume()
  }

  #resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#parts.resume()
  }

  #note(index: number, opinion: Opinion, digest?: DataDigest): void {
    this.#taken.set(index, { opinion, digest })
    for (const oldest of [...this.#taken.keys()].toSorted((a, b) => a - b)) {
      if (this.#taken.size <= TAKEN_MAX) break
      this.#taken.delete(oldest)
    }
  }
}
