import type { Clock, Timer } from '../../../src/base/ports.ts'

interface Alarm {
  readonly dueMs: number
  readonly callback: () => void
}

/** Time that moves only when a test says so. */
export class ManualClock implements Clock {
  #nowMs = 1_000
  #alarms: Alarm[] = []

  get alarmCount(): number {
    return this.#alarms.length
  }

  wallMs(): number {
    return this.#nowMs
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const alarm = { dueMs: this.#nowMs + delayMs, callback }
    this.#alarms.push(alarm)
    return { cancel: () => this.#drop(alarm) }
  }

  advance(byMs: number): void {
    const untilMs = this.#nowMs + byMs
    for (;;) {
      const [next] = this.#alarms.filter(a => a.dueMs <= untilMs).sort((a, b) => a.dueMs - b.dueMs)
      if (next === undefined) break
      this.#drop(next)
      this.#nowMs = Math.max(this.#nowMs, next.dueMs)
      next.callback()
    }
    this.#nowMs = untilMs
  }

  #drop(alarm: Alarm): void {
    this.#alarms = this.#alarms.filter(other => other !== alarm)
  }
}
