/**
 * The ticks of a node, and what becomes of them when its process stood still: one tick a call,
 * however late it is, because after a stall a node first has to read what waits in its sockets
 * before it may believe that its leader is silent, or that it leads. What is late is not made up
 * for: a timeout is a number of turns in which the leader could have been heard, so that on a
 * machine that starves all of them leaders and followers become slower alike, and nobody campaigns
 * for want of a processor. No promise rests on how long a tick takes.
 */
import type { Clock, Timer } from '../base/ports.ts'

export interface PulseParts {
  readonly clock: Clock
  readonly tickMs: number
  /** A tick that comes later than this is told as a stall first. */
  readonly patienceMs: number
  readonly onTick: () => void
  /** Called once the sockets were read; the late tick follows. */
  readonly onStall: (lateMs: number) => void
}

export class Pulse {
  readonly #parts: PulseParts
  #timer: Timer | undefined
  #stallTimer: Timer | undefined
  #dueMs = 0

  constructor(parts: PulseParts) {
    this.#parts = parts
  }

  start(): void {
    const { clock, tickMs, patienceMs, onTick, onStall } = this.#parts
    this.#dueMs = clock.monotonicMs() + tickMs
    this.#timer = clock.setTimer(tickMs, () => {
      const lateMs = clock.monotonicMs() - this.#dueMs
      this.start()
      if (lateMs <= patienceMs) return onTick()
      this.#stallTimer = clock.setTimer(0, () => {
        onStall(lateMs)
        onTick()
      })
    })
  }

  stop(): void {
    this.#timer?.cancel()
    this.#stallTimer?.cancel()
  }
}
