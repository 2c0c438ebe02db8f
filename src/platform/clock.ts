/** The real clock behind the Clock port. */
import type { Clock, Timer } from '../base/ports.ts'

/** Time and timers of the machine. A timer keeps the process alive while it waits. */
export class SystemClock implements Clock {
  wallMs(): number {
    return Date.now()
  }

  monotonicMs(): number {
    return performance.now()
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const timer = setTimeout(callback, delayMs)
    return { cancel: () => clearTimeout(timer) }
  }
}
