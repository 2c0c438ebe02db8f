/**
 * One simulated run: a seed, virtual time, streams of chance and the trace. Everything that is
 * simulated gets its world; nothing in it may ask the real one.
 */
import type { Logger, Timer } from '../src/base/ports.ts'
import { Scheduler, type EventOwner } from './scheduler.ts'
import { SimRandom } from './sim-random.ts'
import { Trace, type Detail, type TraceOptions } from './trace.ts'

/** An invariant of the whole cluster is broken: what the simulator is there to find. */
export class Violation extends Error {
  override readonly name = 'Violation'
}

export interface WorldOptions extends TraceOptions {
  /** Keeps what the nodes write to their logger in the trace, for `--trace` and small replays. */
  readonly isVerbose: boolean
}

/** How a run is made when nobody watches: the last events are kept, nothing is printed. */
export const QUIET: WorldOptions = { keptCount: 200, isVerbose: false }

export class World {
  readonly seed: number
  readonly scheduler = new Scheduler()
  readonly trace: Trace
  readonly #random: SimRandom
  readonly #isVerbose: boolean

  constructor(seed: number, options: WorldOptions = QUIET) {
    this.seed = seed
    this.trace = new Trace(options)
    this.#random = new SimRandom(seed, 'world')
    this.#isVerbose = options.isVerbose
  }

  get nowMs(): number {
    return this.scheduler.nowMs
  }

  /** A stream of chance of its own for each part, named `network`, `disk/1`, `workload`, … */
  random(stream: string): SimRandom {
    return this.#random.stream(stream)
  }

  after(delayMs: number, callback: () => void, owner?: EventOwner): Timer {
    return this.scheduler.after(delayMs, callback, owner)
  }

  note(kind: string, node: number, a = 0, b = 0, detail?: Detail): void {
    this.trace.add(this.nowMs, kind, node, a, b, detail)
  }

  /** A logger whose lines go into the trace of a verbose run; otherwise only errors do. */
  logger(node: number): Logger {
    const write = (level: string, facts: Readonly<Record<string, unknown>>, text: string): void => {
      this.note(level, node, 0, 0, () => `${text} ${JSON.stringify(facts, plain)}`)
    }
    const silent = (): void => {}
    return {
      debug: this.#isVerbose ? (facts, text) => write('debug', facts, text) : silent,
      info: this.#isVerbose ? (facts, text) => write('info', facts, text) : silent,
      warn: this.#isVerbose ? (facts, text) => write('warn', facts, text) : silent,
      error: (facts, text) => write('error', facts, text),
    }
  }
}

/** Fails the run unless `condition` holds. The message is made only when it doesn't. */
export function check(condition: boolean, message: () => string): void {
  if (!condition) throw new Violation(message())
}

function plain(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return `${value}n`
  return value instanceof Error ? value.message : value
}
