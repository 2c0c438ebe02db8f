/**
 * The Clock port over virtual time. A machine's clock runs a little too fast or too slow, and its
 * wall time may jump either way; the monotonic time never goes back.
 */
import type { Clock, Timer } from '../src/base/ports.ts'
import type { SimProcess } from './sim-process.ts'
import type { World } from './world.ts'

/** 2026-01-01 in milliseconds since 1970: where simulated wall clocks begin. */
const EPOCH_MS = 1_767_225_600_000

/** The clock of one machine; it lives on when the process dies. */
export class SimClock {
  readonly #world: World
  /** Milliseconds of this clock in one true millisecond. */
  readonly #rate: number
  readonly #originMs: number
  #wallOffsetMs: number

  constructor(
    world: World,
    options: { readonly rate: number; readonly originMs: number; readonly wallOffsetMs: number },
  ) {
    this.#world = world
    this.#rate = options.rate
    this.#originMs = options.originMs
    this.#wallOffsetMs = options.wallOffsetMs
  }

  /** Sets the wall clock forward or back, as an operator or NTP would. */
  jump(byMs: number): void {
    this.#wallOffsetMs += byMs
  }

  /** The port for one life of the process. */
  portFor(process: SimProcess): Clock {
    return {
      wallMs: () => Math.floor(EPOCH_MS + this.#wallOffsetMs + this.#world.nowMs * this.#rate),
      monotonicMs: () => this.#originMs + this.#world.nowMs * this.#rate,
      setTimer: (delayMs, callback): Timer =>
        process.after(Math.max(0, delayMs) / this.#rate, callback),
    }
  }
}
