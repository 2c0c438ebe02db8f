/** What a load generator counts: of the whole measured time, and of each interval in it. */
import { latencies } from '../latencies.ts'
import type { Latencies } from '../latencies.ts'
import type { Answered } from './answers.ts'

export interface Spread {
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
  readonly maxMs: number
}

/** Of requests that were to leave, or were answered, within some time. */
export interface Summary {
  readonly seconds: number
  /** Requests that were to leave, and those that did not because all connections were full. */
  readonly offered: number
  readonly held: number
  readonly acknowledged: number
  /** How many failed, by error code. */
  readonly failed: Readonly<Record<string, number>>
  /** From the moment at which a request was to leave. */
  readonly latency: Spread
  readonly refusalLatency: Spread
  /** How much later than they were to they left. */
  readonly lateness: Spread
}

export class Tally {
  readonly #startedMs: number
  readonly #acknowledged = latencies()
  readonly #refused = latencies()
  readonly #late = latencies()
  readonly #failed: Record<string, number> = {}
  #offered = 0
  #held = 0
  #answeredWell = 0
  #endedMs = 0

  constructor(startedMs: number) {
    this.#startedMs = startedMs
  }

  left(lateMs: number): void {
    this.#offered += 1
    this.#late.add(lateMs)
  }

  held(): void {
    this.#offered += 1
    this.#held += 1
  }

  /** A request was answered within the time. */
  answered({ code }: Answered): void {
    if (code === undefined) this.#answeredWell += 1
    else this.#failed[code] = (this.#failed[code] ?? 0) + 1
  }

  /** One that was to leave within the time was answered, however late. */
  took({ code, fate }: Answered, latencyMs: number): void {
    if (code === undefined) this.#acknowledged.add(latencyMs)
    else if (fate === 'not-applied') this.#refused.add(latencyMs)
  }

  end(endedMs: number): void {
    this.#endedMs = endedMs
  }

  summary(): Summary {
    return {
      seconds: (this.#endedMs - this.#startedMs) / 1000,
      offered: this.#offered,
      held: this.#held,
      acknowledged: this.#answeredWell,
      failed: { ...this.#failed },
      latency: spreadOf(this.#acknowledged),
      refusalLatency: spreadOf(this.#refused),
      lateness: spreadOf(this.#late),
    }
  }
}

function spreadOf(recorded: Latencies): Spread {
  return {
    p50Ms: recorded.percentile(50),
    p99Ms: recorded.percentile(99),
    p999Ms: recorded.percentile(99.9),
    maxMs: recorded.percentile(100),
  }
}
