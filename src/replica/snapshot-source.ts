/**
 * SnapshotSource makes snapshots of this replica for others and keeps the last one for as long as
 * somebody reads it. One is made at a time and shared by all who want it.
 */
import { DbError } from '../base/errors.ts'
import type { Clock, Logger, Random, Timer } from '../base/ports.ts'
import {
  encodeManifest,
  type SnapshotFile,
  type SnapshotManifest,
  type SnapshotStore,
  type SnapshotTask,
} from '../engine/snapshot.ts'
import type { ReplicatedLog } from '../log/log.ts'
import { encodePoint } from '../log/membership.ts'
import type { Outcome, SnapshotSourceStatus } from './types.ts'
import type { Pause } from './writer.ts'

/** Writes wait for no more than this until all files are being read. */
const PAUSE_MS_MAX = 2000
/** Who has read nothing of a snapshot for so long has enough of it. */
const IDLE_MS = 60_000
/** The same when somebody else waits for a newer one. */
const IDLE_MS_WANTED = 10_000
const ID_BYTES = 8

export interface SnapshotSourceParts {
  readonly store: SnapshotStore
  readonly log: ReplicatedLog
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly appliedIndex: () => number
  readonly pause: (pause: Pause) => void
  readonly resume: () => void
  /** A copy of this replica's files is garbled, and so are they most likely. */
  readonly onCorrupt: (reason: string) => void
  /** Why this replica's data are not to be had, if they aren't. */
  readonly refusal: () => DbError | undefined
}

interface Made {
  readonly manifest: SnapshotManifest
  readonly location: string
  readonly text: string
  usedAtMs: number
}

export class SnapshotSource {
  readonly #parts: SnapshotSourceParts
  #made: Made | undefined
  #making: { readonly id: string; readonly task: SnapshotTask } | undefined
  #isPaused = false
  #pauseTimer: Timer | undefined
  #failure: DbError | undefined
  #madeCount = 0
  #failures = 0
  #beganAtMs = 0
  #lastDurationMs = 0
  #madeAtMs: number | undefined

  constructor(parts: SnapshotSourceParts) {
    this.#parts = parts
  }

  /** Entry of the snapshot that is there to be read, undefined if there is none. */
  get madeIndex(): number | undefined {
    return this.#made?.manifest.index
  }

  get isMaking(): boolean {
    return this.#making !== undefined
  }

  status(): SnapshotSourceStatus {
    const madeAgoMs = this.#madeAtMs === undefined ? undefined : this.#now() - this.#madeAtMs
    const lastDurationMs = this.#lastDurationMs
    return { made: this.#madeCount, failures: this.#failures, lastDurationMs, madeAgoMs }
  }

  /**
   * The manifest of a snapshot of entry `minIndex` or later. NOT_READY while it is being made: ask
   * again. Each call keeps it from being removed for a while.
   */
  offer(minIndex: number): Outcome<string> {
    const refusal = this.#parts.refusal()
    if (refusal !== undefined) return { type: 'failed', error: refusal }
    const made = this.#made
    if (made !== undefined && made.manifest.index >= minIndex) {
      made.usedAtMs = this.#now()
      return { type: 'ok', value: made.text }
    }
    const failure = this.#failure
    this.#failure = undefined
    if (failure !== undefined) return { type: 'failed', error: failure }
    return { type: 'failed', error: this.#making === undefined ? this.#begin(minIndex) : making() }
  }

  /** Where the files of a snapshot are that was offered, undefined if it is gone. */
  location(id: string): string | undefined {
    const made = this.#made
    if (made?.manifest.id !== id || this.#parts.refusal() !== undefined) return undefined
    made.usedAtMs = this.#now()
    return made.location
  }

  /** What a file of a snapshot that was offered should be; undefined if there is no such one. */
  file(id: string, name: string): SnapshotFile | undefined {
    if (this.location(id) === undefined) return undefined
    return this.#made?.manifest.files.find(file => file.name === name)
  }

  /** A file of the snapshot is not what it was any more: nobody is to wait for it. */
  damaged(id: string, reason: string): void {
    if (this.#made?.manifest.id !== id) return
    this.#parts.logger.error({ id, reason }, 'a snapshot was damaged and is thrown away')
    this.#drop()
  }

  /** Removes what nobody reads any more. */
  sweep(): void {
    if (this.#made !== undefined && this.#now() - this.#made.usedAtMs > IDLE_MS) this.#drop()
  }

  /** Ends what is under way, and removes what was made. */
  discard(): void {
    if (this.#making !== undefined) this.#cancel()
    this.#drop()
  }

  #begin(minIndex: number): DbError {
    const applied = this.#parts.appliedIndex()
    if (applied < minIndex) {
      const message = `this node has applied entry ${applied}, a snapshot of ${minIndex} is needed`
      return new DbError('NOT_READY', message)
    }
    if (this.#made !== undefined) {
      if (this.#now() - this.#made.usedAtMs <= IDLE_MS_WANTED) {
        return new DbError('NOT_READY', 'another node still reads an older snapshot of this one')
      }
      this.#drop()
    }
    const { store, random, logger, onCorrupt } = this.#parts
    const id = random.bytes(ID_BYTES).toHex()
    logger.info({ id }, 'a snapshot is being made')
    this.#beganAtMs = this.#now()
    const task = store.take(id, {
      onReady: () => this.#pause(id),
      onBegun: () => this.#resume(),
      onDone: outcome => {
        this.#making = undefined
        this.#resume()
        if (outcome.type === 'failed') {
          this.#fail(outcome.error)
          if (outcome.error.code === 'CORRUPT') onCorrupt(outcome.error.message)
          return
        }
        const { manifest, location } = outcome
        const text = encodeManifest(manifest)
        this.#madeAtMs = this.#now()
        this.#made = { manifest, location, text, usedAtMs: this.#madeAtMs }
        this.#madeCount += 1
        this.#lastDurationMs = this.#madeAtMs - this.#beganAtMs
        logger.info({ id, index: manifest.index }, 'a snapshot is made')
      },
    })
    this.#making = { id, task }
    return making()
  }

  /** All files are to be read between the same two entries. */
  #pause(id: string): void {
    const { log, clock, appliedIndex, pause } = this.#parts
    const isStale = (): boolean => this.#making?.id !== id
    pause({
      onStill: () => {
        this.#isPaused = true
        if (isStale()) return this.#resume()
        const index = appliedIndex()
        const point = log.point(index)
        if (point === undefined) {
          this.#cancel()
          this.#fail(new DbError('SNAPSHOT_FAILED', `the log has forgotten its entry ${index}`))
          return
        }
        this.#pauseTimer = clock.setTimer(PAUSE_MS_MAX, () => {
          this.#cancel()
          this.#fail(new DbError('SNAPSHOT_FAILED', 'the files took too long to be opened'))
        })
        this.#making?.task.begin(index, encodePoint(point).toHex())
      },
      onBroken: () => {
        this.#isPaused = false
        if (isStale()) return
        this.#cancel()
        this.#fail(new DbError('SNAPSHOT_FAILED', 'the process that runs SQL ended meanwhile'))
      },
    })
  }

  #resume(): void {
    this.#pauseTimer?.cancel()
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#parts.resume()
  }

  #cancel(): void {
    this.#making?.task.cancel()
    this.#making = undefined
    this.#resume()
  }

  #fail(error: DbError): void {
    this.#failure = error
    this.#failures += 1
    this.#parts.logger.warn({ error }, 'a snapshot could not be made')
  }

  #drop(): void {
    if (this.#made !== undefined) this.#parts.store.drop(this.#made.manifest.id)
    this.#made = undefined
  }

  #now(): number {
    return this.#parts.clock.monotonicMs()
  }
}

/** Who hears it asks again for as long as it takes. */
function making(): DbError {
  const message = 'the snapshot is being made; ask again'
  return new DbError('NOT_READY', message, { details: { isMaking: true } })
}
