/** Keeps a long piece of work to a rate, by waiting wherever it got ahead of it. */
import { setTimeout as wait } from 'node:timers/promises'

/** Shorter waits are not worth it: they are made up for later. */
const WAIT_MS_MIN = 5

export class Pace {
  readonly #unitsPerMs: number
  #units = 0
  #sinceMs: number | undefined

  constructor(unitsPerSecond: number) {
    this.#unitsPerMs = unitsPerSecond / 1000
  }

  /** `units` more are done. Resolves when the next may begin. */
  async after(units: number): Promise<void> {
    const now = performance.now()
    this.#sinceMs ??= now
    this.#units += units
    const aheadMs = this.#units / this.#unitsPerMs - (now - this.#sinceMs)
    if (aheadMs >= WAIT_MS_MIN) await wait(aheadMs)
  }
}
