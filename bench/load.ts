/**
 * The load that a generator makes, whatever its operations are: so many connections, each with one
 * operation on its way. The next one begins when it is answered.
 */
import { latencies } from './latencies.ts'

export interface Failure {
  readonly text: string
  /** A conflict with another one; it has surely not taken effect and is done again. */
  readonly isConflict: boolean
}

/** Something that does one operation after the other. */
export interface LoadConnection<Operation> {
  /** Begins nothing before the operation before is done. */
  perform(operation: Operation, done: (failure: Failure | undefined) => void): void
  close(): void
}

/** Where operations come from, and what becomes of each. */
export interface LoadSource<Operation> {
  next(): Operation
  onAcknowledged(operation: Operation): void
  /** Nobody knows whether it took effect. */
  onFailed(operation: Operation): void
}

export interface LoadTimes {
  readonly warmUpMs: number
  readonly durationMs: number
}

export interface LoadMeasured {
  /** Operations that were answered well in the measured time. */
  readonly operations: number
  /** All that were answered well, those of the warm-up too: what the servers' work is shared by. */
  readonly operationsInAll: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
  readonly maxMs: number
  /** Of this process in the measured time. */
  readonly cpuMicros: number
  /** Conflicts with others; the operation was done again. */
  readonly conflicts: number
  readonly errors: number
  /** Texts of some different errors. */
  readonly samples: readonly string[]
}

const ERROR_PAUSE_MS = 20
const ANSWERS_MS_MAX = 30_000
const SAMPLES_MAX = 3

export class Load<Operation> {
  readonly #source: LoadSource<Operation>
  readonly #recorded = latencies()
  readonly #samples = new Set<string>()
  /** What each connection is at; undefined when it has ended. */
  readonly #current = new Map<LoadConnection<Operation>, Operation | undefined>()
  #fromMs = Infinity
  #isStopped = false
  #operationsInAll = 0
  #conflicts = 0
  #errors = 0

  constructor(source: LoadSource<Operation>) {
    this.#source = source
  }

  /** Resolves when all is answered, or given up. */
  async run(
    connections: readonly LoadConnection<Operation>[],
    { warmUpMs, durationMs }: LoadTimes,
  ): Promise<LoadMeasured> {
    const ends = connections.map(
      connection => new Promise<void>(resolve => this.#next(connection, resolve)),
    )
    await pause(warmUpMs)
    this.#fromMs = performance.now()
    const before = process.cpuUsage()
    await pause(durationMs)
    const cpu = process.cpuUsage(before)
    const seconds = (performance.now() - this.#fromMs) / 1000
    this.#fromMs = Infinity
    const operations = this.#recorded.count
    this.#isStopped = true
    await Promise.race([Promise.all(ends), pause(ANSWERS_MS_MAX)])
    for (const [connection, operation] of this.#current) {
      if (operation !== undefined) this.#fail(operation, 'not answered in time')
      connection.close()
    }
    return {
      operations,
      operationsInAll: this.#operationsInAll,
      seconds,
      p50Ms: this.#recorded.percentile(50),
      p99Ms: this.#recorded.percentile(99),
      p999Ms: this.#recorded.percentile(99.9),
      maxMs: this.#recorded.percentile(100),
      cpuMicros: cpu.user + cpu.system,
      conflicts: this.#conflicts,
      errors: this.#errors,
      samples: [...this.#samples],
    }
  }

  #next(connection: LoadConnection<Operation>, onEnd: () => void): void {
    if (this.#isStopped) {
      this.#current.set(connection, undefined)
      return onEnd()
    }
    const operation = this.#source.next()
    this.#current.set(connection, operation)
    this.#attempt(connection, operation, performance.now(), onEnd)
  }

  #attempt(
    connection: LoadConnection<Operation>,
    operation: Operation,
    startedMs: number,
    onEnd: () => void,
  ): void {
    connection.perform(operation, failure => {
      if (failure === undefined) {
        this.#operationsInAll += 1
        this.#source.onAcknowledged(operation)
        const nowMs = performance.now()
        if (nowMs >= this.#fromMs) this.#recorded.add(nowMs - startedMs)
        return this.#next(connection, onEnd)
      }
      if (failure.isConflict && !this.#isStopped) {
        this.#conflicts += 1
        return this.#attempt(connection, operation, startedMs, onEnd)
      }
      this.#fail(operation, failure.text)
      // A server that refuses everything is not to be asked as fast as the loop turns.
      setTimeout(() => this.#next(connection, onEnd), ERROR_PAUSE_MS)
    })
  }

  #fail(operation: Operation, text: string): void {
    this.#errors += 1
    if (this.#samples.size < SAMPLES_MAX) this.#samples.add(text)
    this.#source.onFailed(operation)
  }
}

/** Numbers from 0 to below 1, the same for a seed. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

async function pause(ms: number): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, ms))
}
