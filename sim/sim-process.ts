/**
 * One life of a simulated process: what it planned dies with it, and waits while it is paused (a
 * long garbage collection, a stopped virtual machine).
 */
import type { Timer } from '../src/base/ports.ts'
import type { EventOwner } from './scheduler.ts'
import type { World } from './world.ts'

export class SimProcess implements EventOwner {
  readonly #world: World
  #isAlive = true
  #pausedUntilMs = 0
  #pausedMs = 0

  constructor(world: World) {
    this.#world = world
  }

  get isAlive(): boolean {
    return this.#isAlive
  }

  get pausedUntilMs(): number {
    return this.#pausedUntilMs
  }

  get isPaused(): boolean {
    return this.#pausedUntilMs > this.#world.nowMs
  }

  /** Plans `callback`, unless the process is dead by then. */
  after(delayMs: number, callback: () => void): Timer {
    return this.#world.after(delayMs, callback, this)
  }

  /** For how long it has been paused, all in all. */
  get pausedMs(): number {
    return this.#pausedMs - Math.max(0, this.#pausedUntilMs - this.#world.nowMs)
  }

  pause(durationMs: number): void {
    const fromMs = Math.max(this.#pausedUntilMs, this.#world.nowMs)
    this.#pausedUntilMs = Math.max(fromMs, this.#world.nowMs + durationMs)
    this.#pausedMs += this.#pausedUntilMs - fromMs
  }

  kill(): void {
    this.#isAlive = false
  }
}
