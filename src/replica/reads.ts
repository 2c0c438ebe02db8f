/**
 * Reads by level. Each level is a condition on the applied index; once it holds, the engine's
 * readers answer, and they see only what is committed. A read that can't be served as fresh as it
 * asks fails, and is never quietly served staler.
 */
import { DbError } from '../base/errors.ts'
import type { Clock } from '../base/ports.ts'
import type { RowFormat } from '../base/result-json.ts'
import type { DigestRequest, Engine, ReadRequest, RequestError } from '../engine/engine.ts'
import type { ReplicatedLog } from '../log/log.ts'
import type {
  DigestAnswer,
  JsonReadAnswer,
  ReadAnswer,
  ReadCallback,
  ReadOptions,
} from './types.ts'

interface Waiter {
  readonly index: number
  readonly deadlineMs: number
  readonly go: (error: DbError | undefined) => void
}

export interface ReadsParts {
  readonly log: ReplicatedLog
  readonly engine: Engine
  readonly clock: Clock
  readonly maxWaiting: number
  readonly appliedIndex: () => number
  /** Milliseconds ago at which this node's data was surely the newest, undefined if unknown. */
  readonly lagMs: () => number | undefined
  /** A read waits for an entry that is not applied yet. */
  readonly onWaiting: () => void
  /** Why this node can't serve reads at all, if it can't. */
  readonly refusal: () => DbError | undefined
  /** Why nothing is applied now, as the engine has told. */
  readonly outage: () => DbError | undefined
  /** SQLite met something in this node's files that can't be. */
  readonly onCorrupt: (reason: string) => void
}

export class Reads {
  readonly #parts: ReadsParts
  #waiters: Waiter[] = []
  #asking = 0

  constructor(parts: ReadsParts) {
    this.#parts = parts
  }

  get waitingCount(): number {
    return this.#waiters.length + this.#asking
  }

  /** Some wait until more is applied. */
  get isWaiting(): boolean {
    return this.#waiters.length > 0
  }

  query(request: ReadRequest, options: ReadOptions, done: ReadCallback<ReadAnswer>): void {
    this.#whenFresh(options, done, (remainingMs, from) => {
      this.#parts.engine.query(request, remainingMs, outcome => {
        if (outcome.type === 'failed') return this.#failed(outcome.error, options, done)
        const index = Math.max(from, outcome.appliedIndex)
        done({ type: 'ok', value: { index, results: outcome.results } })
      })
    })
  }

  queryJson(
    request: ReadRequest,
    rows: RowFormat,
    options: ReadOptions,
    done: ReadCallback<JsonReadAnswer>,
  ): void {
    this.#whenFresh(options, done, (remainingMs, from) => {
      this.#parts.engine.queryJson(request, rows, remainingMs, outcome => {
        if (outcome.type === 'failed') return this.#failed(outcome.error, options, done)
        const index = Math.max(from, outcome.appliedIndex)
        done({ type: 'ok', value: { index, json: outcome.json } })
      })
    })
  }

  digest(request: DigestRequest, options: ReadOptions, done: ReadCallback<DigestAnswer>): void {
    this.#whenFresh(options, done, (remainingMs, from) => {
      this.#parts.engine.digest(request, remainingMs, outcome => {
        if (outcome.type === 'failed') return this.#failed(outcome.error, options, done)
        const { rows, digest } = outcome
        const index = Math.max(from, outcome.appliedIndex)
        done({ type: 'ok', value: { index, rows, digest } })
      })
    })
  }

  /** The applied index rose. */
  onApplied(): void {
    if (this.#waiters.length === 0) return
    const applied = this.#parts.appliedIndex()
    const ready = this.#waiters.filter(({ index }) => index <= applied)
    if (ready.length === 0) return
    this.#waiters = this.#waiters.filter(({ index }) => index > applied)
    for (const waiter of ready) waiter.go(undefined)
  }

  sweep(): void {
    const now = this.#parts.clock.monotonicMs()
    const late = this.#waiters.filter(({ deadlineMs }) => deadlineMs <= now)
    if (late.length === 0) return
    this.#waiters = this.#waiters.filter(({ deadlineMs }) => deadlineMs > now)
    const applied = this.#parts.appliedIndex()
    const outage = this.#parts.outage()
    for (const waiter of late) {
      const [from, to] = [applied, waiter.index]
      const what = `this node has applied entry ${from} and did not reach ${to} in time`
      const message = outage === undefined ? what : `${what}: ${outage.message}`
      waiter.go(new DbError('STALE_READ', message, { details: { appliedIndex: applied } }))
    }
  }

  /** Ends all waiting. */
  fail(error: DbError): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter.go(error)
  }

  /** Calls `go` once the level's condition holds, or `done` with the reason why it never will. */
  #whenFresh(
    options: ReadOptions,
    done: (outcome: { type: 'failed'; error: DbError }) => void,
    go: (remainingMs: number, fromIndex: number) => void,
  ): void {
    const { clock, log, refusal, lagMs } = this.#parts
    const deadlineMs = clock.monotonicMs() + options.timeoutMs
    const refused = refusal() ?? (this.#isFull() ? overloaded(this.waitingCount) : undefined)
    if (refused !== undefined) return done({ type: 'failed', error: refused })
    const goWhenApplied = (index: number): void => {
      // While the round was under way this replica may have stopped, or found that it is wrong.
      const error = refusal()
      if (error !== undefined) return done({ type: 'failed', error })
      this.#whenApplied(index, deadlineMs, error => {
        if (error !== undefined) return done({ type: 'failed', error })
        go(Math.max(1, deadlineMs - clock.monotonicMs()), this.#parts.appliedIndex())
      })
    }
    switch (options.consistency) {
      case 'linearizable': {
        this.#asking += 1
        log.readIndex(options.timeoutMs, outcome => {
          this.#asking -= 1
          if (typeof outcome === 'number')
            goWhenApplied(Math.max(outcome, options.atLeastIndex ?? 0))
          else done({ type: 'failed', error: outcome })
        })
        return
      }
      case 'session':
        goWhenApplied(options.atLeastIndex ?? 0)
        return
      case 'local': {
        const error = tooOld(lagMs(), options.maxLagMs)
        if (error !== undefined) return done({ type: 'failed', error })
        goWhenApplied(options.atLeastIndex ?? 0)
        return
      }
    }
  }

  #failed(
    { code, message, details = {} }: RequestError,
    { consistency }: ReadOptions,
    done: (outcome: { type: 'failed'; error: DbError }) => void,
  ): void {
    if (code === 'CORRUPT') this.#parts.onCorrupt(message)
    // Who has never had all there was, as one that has just joined, can't say what there is not.
    const hasCaughtUp = consistency !== 'local' || this.#parts.lagMs() !== undefined
    if (code === 'UNKNOWN_DATABASE' && !hasCaughtUp) {
      const error = new DbError('NOT_READY', `this node is still catching up: ${message}`)
      return done({ type: 'failed', error })
    }
    done({ type: 'failed', error: new DbError(code, message, { details }) })
  }

  #isFull(): boolean {
    return this.waitingCount >= this.#parts.maxWaiting
  }

  #whenApplied(index: number, deadlineMs: number, go: Waiter['go']): void {
    if (index <= this.#parts.appliedIndex()) return go(undefined)
    this.#waiters.push({ index, deadlineMs, go })
    this.#parts.onWaiting()
  }
}

function tooOld(lagMs: number | undefined, maxLagMs: number | undefined): DbError | undefined {
  if (maxLagMs === undefined || (lagMs !== undefined && lagMs <= maxLagMs)) return undefined
  const age = lagMs === undefined ? 'not known to be current at any time' : `${lagMs} ms old`
  const message = `this node's data is ${age}, the read allows ${maxLagMs} ms`
  return new DbError('STALE_READ', message, { details: { lagMs, maxLagMs } })
}

function overloaded(count: number): DbError {
  return new DbError('OVERLOADED', `${count} reads are waiting already; back off and ask again`)
}
