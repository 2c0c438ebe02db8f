/**
 * Reads over a few connections. Each read has one for as long as it runs; what waits does so in
 * order. A read at its deadline is ended on the server, with its connection.
 */
import { DbError } from '../../base/errors.ts'
import type { Clock, Timer } from '../../base/ports.ts'
import type { RequestError } from '../engine.ts'
import { toRequestError } from '../request-errors.ts'
import { Connection } from './connection.ts'
import { killOnServer } from './kill-on-server.ts'
import type { ServerAddress } from './server-address.ts'

/** What a read does with a connection. */
export type Work<Result> = (connection: Connection) => Promise<Result>

/** What a read is ended with that gave way to a schema change: it goes once more by itself. */
export class GaveWay extends DbError {
  constructor() {
    super('OVERLOADED', 'schema changes needed what was read, again and again; read it once more')
  }
}

interface Failed {
  readonly type: 'failed'
  readonly error: RequestError
}

interface Job {
  readonly work: Work<unknown>
  readonly timeoutMs: number
  readonly done: (result: unknown) => void
  timer: Timer | undefined
  connection: Connection | undefined
  hasEnded: boolean
}

const WAITING_MAX = 10_000
/** How often a read that gave way goes again. */
const TRIES_MAX = 5

export interface ReadPoolOptions {
  readonly address: ServerAddress
  readonly clock: Clock
  readonly connectionsMax: number
}

export class ReadPool {
  readonly #options: ReadPoolOptions
  readonly #idle: Connection[] = []
  #waiting: Job[] = []
  readonly #running = new Set<Job>()
  #isHeld = false
  #isStopped = false

  constructor(options: ReadPoolOptions) {
    this.#options = options
  }

  /** `done` is called once, later. */
  run<Result>(
    work: Work<Result>,
    timeoutMs: number,
    done: (result: Result | Failed) => void,
  ): void {
    if (this.#isStopped) {
      return queueMicrotask(() => done(failure('SHUTTING_DOWN', 'the engine is stopping')))
    }
    if (this.#waiting.length >= WAITING_MAX) {
      return queueMicrotask(() => done(failure('OVERLOADED', 'too many reads wait already')))
    }
    const job: Job = {
      work,
      timeoutMs,
      done: result => done(result as Result | Failed),
      timer: undefined,
      connection: undefined,
      hasEnded: false,
    }
    job.timer = this.#options.clock.setTimer(timeoutMs, () => this.#expire(job))
    this.#waiting.push(job)
    queueMicrotask(() => this.#next())
  }

  /** Ends what runs, with NOT_READY, and lets nothing begin until {@link release}. */
  hold(): void {
    this.#isHeld = true
    const error = failure('NOT_READY', 'the data of this node are being replaced')
    for (const job of this.#running) this.#abort(job, error)
  }

  /** What waits goes on. */
  release(): void {
    this.#isHeld = false
    this.#next()
  }

  /** What runs and what waits is answered with SHUTTING_DOWN. */
  stop(): void {
    this.#isStopped = true
    const error = failure('SHUTTING_DOWN', 'the engine is stopping')
    for (const job of [...this.#running, ...this.#waiting]) {
      job.connection?.close()
      this.#end(job, error)
    }
    this.#waiting = []
    for (const connection of this.#idle) connection.close()
  }

  #next(): void {
    const { connectionsMax } = this.#options
    while (!this.#isHeld && this.#running.size < connectionsMax) {
      const job = this.#waiting.shift()
      if (job === undefined) return
      if (job.hasEnded) continue
      this.#running.add(job)
      void this.#run(job)
    }
  }

  async #run(job: Job): Promise<void> {
    for (let tries = 1; !job.hasEnded; tries++) await this.#try(job, tries === TRIES_MAX)
    this.#running.delete(job)
    const { connection } = job
    if (connection !== undefined && !connection.isLost) this.#idle.push(connection)
    if (this.#isStopped) for (const each of this.#idle.splice(0)) each.close()
    this.#next()
  }

  async #try(job: Job, isLast: boolean): Promise<void> {
    try {
      const connection = await this.#connection()
      job.connection = connection
      if (job.hasEnded) connection.close()
      else this.#end(job, await job.work(connection))
    } catch (thrown) {
      // What is left open on the connection is not known.
      const { connection } = job
      connection?.close()
      if (thrown instanceof GaveWay) {
        job.connection = undefined
        if (connection !== undefined) this.#endOnServer(connection)
        if (!isLast) return
      }
      this.#end(job, { type: 'failed', error: toError(thrown) })
    }
  }

  #endOnServer({ id }: Connection): void {
    const { address, clock } = this.#options
    void killOnServer(address, clock, id)
  }

  async #connection(): Promise<Connection> {
    for (;;) {
      const idle = this.#idle.pop()
      if (idle === undefined) return Connection.open(this.#options.address)
      if (!idle.isLost) return idle
    }
  }

  #expire(job: Job): void {
    // What is left of a deadline has fractions, which nobody asked for.
    const timeoutMs = Math.round(job.timeoutMs)
    const message = `the read was stopped at its deadline of ${timeoutMs} ms`
    const error = new DbError('QUERY_TIMEOUT', message, { details: { timeoutMs } })
    this.#waiting = this.#waiting.filter(waiting => waiting !== job)
    this.#abort(job, { type: 'failed', error: toRequestError(error) })
  }

  /** Answers it, and ends what it does on the server. */
  #abort(job: Job, error: Failed): void {
    this.#end(job, error)
    const { connection } = job
    if (connection === undefined) return
    connection.close()
    this.#endOnServer(connection)
  }

  #end(job: Job, result: unknown): void {
    if (job.hasEnded) return
    job.hasEnded = true
    job.timer?.cancel()
    job.done(result)
  }
}

function failure(code: RequestError['code'], message: string): Failed {
  return { type: 'failed', error: { code, message } }
}

function toError(thrown: unknown): RequestError {
  if (thrown instanceof DbError) return toRequestError(thrown)
  const message = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)
  return { code: 'INTERNAL', message }
}
