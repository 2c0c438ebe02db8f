/**
 * Reads over a few reader processes. A read can't be interrupted, only its process can be ended, so
 * the pool decides who runs where: short reads share a reader through its pipe, a read that turns
 * out long gets its reader for itself, and one at its deadline is ended together with its reader.
 * Reads change nothing, so whatever else was in that reader is run again unseen.
 *
 * It knows bytes, a clock and a way to start readers; a reader answers in the order of sending.
 */
import { assert } from '../../base/assert.ts'
import type { Clock, Logger, Timer } from '../../base/ports.ts'
import type { RequestError } from '../engine.ts'

export interface ReaderPoolLimits {
  readonly readersMax: number
  /** Readers that run short reads at a time: more than the processors make them all slower. */
  readonly shortReadersMax: number
  /** Reads sent to one reader and not yet answered, at most; fewer if reads take long. */
  readonly windowCount: number
  /** A read that runs for so long has its reader for itself from then on. */
  readonly longMs: number
  /** Another reader is started when a read has waited for so long. */
  readonly growMs: number
  /** A reader beyond the first is ended when it had nothing to do for so long. */
  readonly idleMs: number
  readonly queueCountMax: number
  readonly queueBytesMax: number
}

export const READER_POOL_LIMITS: ReaderPoolLimits = {
  readersMax: 4,
  shortReadersMax: 4,
  windowCount: 16,
  longMs: 50,
  growMs: 10,
  idleMs: 30_000,
  queueCountMax: 10_000,
  queueBytesMax: 64 * 1024 * 1024,
}

/** A running reader. Its first frame says that it is ready; then one comes for each message. */
export interface Reader {
  /** Copies the message, or has sent it when it returns. */
  send(message: Uint8Array): void
  /** No frame comes any more; `onExit` follows later. */
  kill(): void
}

export interface ReaderHandler {
  onFrame(body: Uint8Array): void
  onExit(reason: string): void
}

export type ReadResult =
  /** The bytes stay as they are. */
  | { readonly type: 'reply'; readonly body: Uint8Array }
  | { readonly type: 'failed'; readonly error: RequestError }

interface Job {
  readonly message: Uint8Array
  readonly done: (result: ReadResult) => void
  readonly timeoutMs: number
  readonly queuedMs: number
  readonly deadlineMs: number
  /** It has once run for `longMs`: it starts only where it holds up nobody. */
  isLong: boolean
  /** How many readers died by themselves while they ran it. */
  deathCount: number
  hasEnded: boolean
}

interface Slot {
  reader: Reader
  isReady: boolean
  /** Its first read has run for `longMs`; nothing is sent to it until that is answered. */
  isLong: boolean
  /** In the order of sending; undefined where the read was given to another reader meanwhile. */
  readonly inFlight: (Job | undefined)[]
  /** Since when the first of `inFlight` runs, or since when there is none. */
  sinceMs: number
}

const TICK_MS = 10
const IDLE_TICK_MS = 1_000
/** The work that may wait in one pipe, judged by how long the last reads took. */
const PIPE_MS = 2
const SERVICE_WEIGHT = 0.1
const DEATHS_MAX = 2
const FAILED_STARTS_MAX = 3
const RESTART_MS_MIN = 100
const RESTART_MS_MAX = 5_000

export class ReaderPool {
  readonly #startReader: (handler: ReaderHandler) => Reader
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #limits: ReaderPoolLimits
  /** Replaced, not shortened, when a reader goes: whoever is in a loop over it is not disturbed. */
  #slots: Slot[] = []
  /** Killed and not yet gone. */
  readonly #dying = new Set<Slot>()
  #queue: Job[] = []
  /** Reads known to be long that were stopped in favour of short ones. */
  #longQueue: Job[] = []
  #queueBytes = 0
  /** What a read takes of its reader, averaged over the last few. */
  #serviceMs = 0.1
  #timer: Timer | undefined
  #timerMs = 0
  #failedStartCount = 0
  #startAfterMs = 0
  #onStopped: (() => void) | undefined
  /** The files must not be open: no reader runs, and reads wait. */
  #isHeld = false
  #onHeld: (() => void) | undefined

  /** Starts the first reader. */
  constructor(options: {
    readonly startReader: (handler: ReaderHandler) => Reader
    readonly clock: Clock
    readonly logger: Logger
    readonly limits: ReaderPoolLimits
  }) {
    this.#startReader = options.startReader
    this.#clock = options.clock
    this.#logger = options.logger
    this.#limits = options.limits
    this.#start()
  }

  /** Readers that run now, those that are starting included. */
  get readerCount(): number {
    return this.#slots.length
  }

  /** Runs a copy of `message` in a reader and calls back once, never within the call. */
  run(message: Uint8Array, timeoutMs: number, done: (result: ReadResult) => void): void {
    if (this.#onStopped !== undefined) {
      later(done, failure('SHUTTING_DOWN', 'this node is stopping'))
      return
    }
    const isFull =
      this.#queue.length + this.#longQueue.length >= this.#limits.queueCountMax ||
      this.#queueBytes + message.length > this.#limits.queueBytesMax
    if (isFull && this.#queue.length > 0) {
      const words = `${this.#queue.length} reads are waiting on this node already; try again later`
      later(done, failure('OVERLOADED', words))
      return
    }
    const queuedMs = this.#clock.monotonicMs()
    this.#enqueue({
      message: Buffer.from(message),
      done,
      timeoutMs,
      queuedMs,
      deadlineMs: queuedMs + timeoutMs,
      isLong: false,
      deathCount: 0,
      hasEnded: false,
    })
    this.#dispatch(queuedMs)
  }

  /** Ends all readers and starts none until `release`; reads wait. `done` when they are gone. */
  hold(done: () => void): void {
    this.#isHeld = true
    this.#onHeld = done
    for (const slot of this.#slots) this.#retire(slot)
    if (this.#dying.size === 0) queueMicrotask(() => this.#tellHeld())
    // The deadlines of those that wait go on.
    this.#wakeAt(this.#clock.monotonicMs())
  }

  release(): void {
    this.#isHeld = false
    this.#dispatch(this.#clock.monotonicMs())
  }

  #tellHeld(): void {
    const onHeld = this.#onHeld
    this.#onHeld = undefined
    onHeld?.()
  }

  /** Ends all readers; what still waits fails with SHUTTING_DOWN. */
  stop(done: () => void): void {
    assert(this.#onStopped === undefined, 'the pool of readers is stopped twice')
    this.#onStopped = done
    this.#timer?.cancel()
    const waiting = [...this.#slots.flatMap(slot => slot.inFlight), ...this.#queue]
    waiting.push(...this.#longQueue)
    this.#queue = []
    this.#longQueue = []
    for (const slot of this.#slots) this.#retire(slot)
    for (const job of waiting) {
      if (job !== undefined) end(job, failure('SHUTTING_DOWN', 'this node is stopping'))
    }
    if (this.#dying.size === 0) queueMicrotask(done)
  }

  #start(): void {
    const slot: Slot = {
      // Replaced at once: the handler needs the slot, and the slot needs the reader.
      reader: { send: () => {}, kill: () => {} },
      isReady: false,
      isLong: false,
      inFlight: [],
      sinceMs: this.#clock.monotonicMs(),
    }
    slot.reader = this.#startReader({
      onFrame: body => this.#onFrame(slot, body),
      onExit: reason => this.#onExit(slot, reason),
    })
    this.#slots.push(slot)
  }

  #onFrame(slot: Slot, body: Uint8Array): void {
    const nowMs = this.#clock.monotonicMs()
    if (this.#dying.has(slot)) return
    if (slot.isReady) {
      assert(slot.inFlight.length > 0, 'a reader answered what it was not asked')
      const job = slot.inFlight.shift()
      const ranMs = Math.min(nowMs - slot.sinceMs, this.#limits.longMs)
      this.#serviceMs += (ranMs - this.#serviceMs) * SERVICE_WEIGHT
      slot.isLong = false
      slot.sinceMs = nowMs
      if (job !== undefined) end(job, { type: 'reply', body })
    } else {
      slot.isReady = true
      slot.sinceMs = nowMs
      this.#failedStartCount = 0
    }
    this.#dispatch(nowMs)
  }

  #onExit(slot: Slot, reason: string): void {
    if (this.#dying.delete(slot)) {
      if (this.#dying.size > 0 || this.#slots.length > 0) return
      this.#tellHeld()
      this.#onStopped?.()
      return
    }
    const nowMs = this.#clock.monotonicMs()
    this.#slots = this.#slots.filter(other => other !== slot)
    this.#logger.warn({ reason }, 'a reader process died')
    // The first read is the one that ran, and so the suspect; the others were only near.
    const [suspect] = slot.inFlight
    if (suspect !== undefined) {
      suspect.deathCount += 1
      if (suspect.deathCount >= DEATHS_MAX) end(suspect, restarted(reason))
    }
    this.#takeBack(slot, 0)
    if (!slot.isReady) this.#startFailed(nowMs, reason)
    this.#dispatch(nowMs)
  }

  /** A reader that can't even start would do the same for ever: wait longer each time. */
  #startFailed(nowMs: number, reason: string): void {
    this.#failedStartCount += 1
    const delayMs = RESTART_MS_MIN * 2 ** (this.#failedStartCount - 1)
    this.#startAfterMs = nowMs + Math.min(delayMs, RESTART_MS_MAX)
    if (this.#failedStartCount < FAILED_STARTS_MAX || this.#slots.length > 0) return
    const waiting = [...this.#queue, ...this.#longQueue]
    this.#queue = []
    this.#longQueue = []
    this.#queueBytes = 0
    for (const job of waiting) end(job, restarted(reason))
  }

  /** Sends what can be sent, starts readers that are wanted, and sees to it that time goes on. */
  #dispatch(nowMs: number): void {
    if (this.#onStopped !== undefined) return
    while (this.#queue.length > 0) {
      const slot = this.#leastBusy()
      if (slot === undefined) break
      this.#send(slot, this.#dequeue(this.#queue), nowMs)
    }
    while (this.#longQueue.length > 0 && this.#mayRunLong()) {
      const slot = this.#slots.find(slot => slot.isReady && slot.inFlight.length === 0)
      if (slot === undefined) break
      this.#send(slot, this.#dequeue(this.#longQueue), nowMs)
      slot.isLong = slot.inFlight.length > 0
    }
    if (this.#wantsReader(nowMs)) this.#start()
    this.#wakeAt(nowMs)
  }

  #send(slot: Slot, job: Job, nowMs: number): void {
    if (job.hasEnded) return
    if (nowMs >= job.deadlineMs) {
      end(job, timedOut(job))
      return
    }
    if (slot.inFlight.length === 0) slot.sinceMs = nowMs
    slot.inFlight.push(job)
    slot.reader.send(job.message)
  }

  #leastBusy(): Slot | undefined {
    // Reads that take long must not stand in line in one pipe while other readers are free.
    const fitting = Math.floor(PIPE_MS / this.#serviceMs)
    const windowCount = Math.max(1, Math.min(fitting, this.#limits.windowCount))
    let best: Slot | undefined
    for (const slot of this.#slots) {
      if (!slot.isReady || slot.isLong || slot.inFlight.length >= windowCount) continue
      if (best === undefined || slot.inFlight.length < best.inFlight.length) best = slot
    }
    return best
  }

  /** One place is always left to short reads, if there is more than one. */
  #mayRunLong(): boolean {
    if (this.#queue.length > 0) return false
    const longCount = this.#slots.filter(slot => slot.isLong).length
    return longCount < Math.max(1, this.#limits.readersMax - 1)
  }

  #wantsReader(nowMs: number): boolean {
    const { readersMax, shortReadersMax, growMs } = this.#limits
    if (this.#isHeld || nowMs < this.#startAfterMs) return false
    if (this.#slots.length >= readersMax) return false
    if (this.#slots.length === 0) return true
    if (this.#slots.some(slot => !slot.isReady)) return false
    if (this.#longQueue.length > 0 && this.#mayRunLong()) return true
    const [oldest] = this.#queue
    if (oldest === undefined) return false
    const shortCount = this.#slots.filter(slot => !slot.isLong).length
    if (shortCount === 0) return true
    return shortCount < shortReadersMax && nowMs - oldest.queuedMs >= growMs
  }

  #wakeAt(nowMs: number): void {
    const isBusy =
      this.#queue.length > 0 ||
      this.#longQueue.length > 0 ||
      this.#slots.length === 0 ||
      this.#slots.some(slot => slot.inFlight.length > 0)
    if (!isBusy && this.#slots.length === 1) return
    const dueMs = nowMs + (isBusy ? TICK_MS : IDLE_TICK_MS)
    if (this.#timer !== undefined && this.#timerMs <= dueMs) return
    this.#timer?.cancel()
    this.#timerMs = dueMs
    this.#timer = this.#clock.setTimer(dueMs - nowMs, () => this.#onTick())
  }

  #onTick(): void {
    this.#timer = undefined
    const nowMs = this.#clock.monotonicMs()
    for (const slot of this.#slots) this.#lookAt(slot, nowMs)
    this.#expire(nowMs)
    this.#makeRoom()
    this.#dispatch(nowMs)
  }

  #lookAt(slot: Slot, nowMs: number): void {
    const ranMs = nowMs - slot.sinceMs
    if (slot.inFlight.length === 0) {
      const isSpare = slot.isReady && this.#slots.length > 1 && ranMs >= this.#limits.idleMs
      if (isSpare) this.#retire(slot)
      return
    }
    const [job] = slot.inFlight
    if (job !== undefined && nowMs >= job.deadlineMs) {
      end(job, timedOut(job))
      this.#retire(slot)
    } else if (ranMs >= this.#limits.longMs) {
      // What runs was given to another reader long ago: nobody waits for it here.
      if (job === undefined) this.#retire(slot)
      else if (!slot.isLong) this.#becomeLong(slot, job)
    }
    this.#expireWaiting(slot, nowMs)
  }

  /** Reads that are at their deadline and wait behind another one: nothing need be killed. */
  #expireWaiting(slot: Slot, nowMs: number): void {
    for (let at = 1; at < slot.inFlight.length; at++) {
      const job = slot.inFlight[at]
      if (job === undefined || nowMs < job.deadlineMs) continue
      slot.inFlight[at] = undefined
      end(job, timedOut(job))
    }
  }

  #becomeLong(slot: Slot, job: Job): void {
    slot.isLong = true
    job.isLong = true
    this.#takeBack(slot, 1)
  }

  /** Short reads wait, long ones have all the places: the youngest of these has to start over. */
  #makeRoom(): void {
    const { readersMax } = this.#limits
    const isStuck = this.#slots.length >= readersMax && this.#slots.every(slot => slot.isLong)
    if (this.#queue.length === 0 || readersMax === 1 || !isStuck) return
    const youngest = this.#slots.reduce((best, slot) => (slot.sinceMs > best.sinceMs ? slot : best))
    this.#retire(youngest)
  }

  /** Kills the reader; what is in it and has not ended goes back to the queue. */
  #retire(slot: Slot): void {
    this.#slots = this.#slots.filter(other => other !== slot)
    this.#dying.add(slot)
    if (this.#onStopped === undefined) this.#takeBack(slot, 0)
    slot.reader.kill()
  }

  /** Reads of `slot` from the position `from` on go back to the head of the queue, in order. */
  #takeBack(slot: Slot, from: number): void {
    const jobs: Job[] = []
    for (let i = from; i < slot.inFlight.length; i++) {
      const job = slot.inFlight[i]
      slot.inFlight[i] = undefined
      if (job === undefined || job.hasEnded) continue
      this.#queueBytes += job.message.length
      if (job.isLong) this.#longQueue.push(job)
      else jobs.push(job)
    }
    if (jobs.length > 0) this.#queue.unshift(...jobs)
  }

  #enqueue(job: Job): void {
    this.#queue.push(job)
    this.#queueBytes += job.message.length
  }

  #dequeue(queue: Job[]): Job {
    const job = queue.shift()
    assert(job !== undefined, 'a read is taken from an empty queue')
    this.#queueBytes -= job.message.length
    return job
  }

  /** Ends what waits beyond its deadline. The callbacks may queue more, so they come last. */
  #expire(nowMs: number): void {
    const isLate = (job: Job): boolean => nowMs >= job.deadlineMs
    const late = [...this.#queue.filter(isLate), ...this.#longQueue.filter(isLate)]
    if (late.length === 0) return
    this.#queue = this.#queue.filter(job => !isLate(job))
    this.#longQueue = this.#longQueue.filter(job => !isLate(job))
    for (const job of late) this.#queueBytes -= job.message.length
    for (const job of late) end(job, timedOut(job))
  }
}

function end(job: Job, result: ReadResult): void {
  if (job.hasEnded) return
  job.hasEnded = true
  job.done(result)
}

function later(done: (result: ReadResult) => void, result: ReadResult): void {
  queueMicrotask(() => done(result))
}

function failure(code: RequestError['code'], message: string): ReadResult {
  return { type: 'failed', error: { code, message } }
}

function timedOut(job: Job): ReadResult {
  // What is left of a deadline has fractions, which nobody asked for.
  const timeoutMs = Math.round(job.timeoutMs)
  const message = `the read was stopped at its deadline of ${timeoutMs} ms`
  return {
    type: 'failed',
    error: { code: 'QUERY_TIMEOUT', message, details: { timeoutMs } },
  }
}

function restarted(reason: string): ReadResult {
  return failure('ENGINE_RESTARTED', `the process that ran the read ended by itself (${reason})`)
}
