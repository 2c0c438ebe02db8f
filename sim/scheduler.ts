/**
 * Virtual time: events in a priority queue, by time and then by the order in which they were
 * planned. Nothing in a simulated run happens but through here, one event after another.
 */
import type { Timer } from '../src/base/ports.ts'
import { assert, must } from '../src/base/assert.ts'

/**
 * Whose event it is. When the owner is dead its events are dropped, as a killed process's timers
 * are; while it is paused they wait.
 */
export interface EventOwner {
  readonly isAlive: boolean
  /** Events before this time happen at this time; 0 when it is not paused. */
  readonly pausedUntilMs: number
}

class Event implements Timer {
  readonly sequence: number
  readonly owner: EventOwner | undefined
  timeMs: number
  callback: (() => void) | undefined

  constructor(timeMs: number, sequence: number, owner: EventOwner | undefined, run: () => void) {
    this.timeMs = timeMs
    this.sequence = sequence
    this.owner = owner
    this.callback = run
  }

  cancel(): void {
    this.callback = undefined
  }
}

export class Scheduler {
  readonly #heap: Event[] = []
  #nowMs = 0
  #sequence = 0
  #executedCount = 0

  /** Called after each event with its owner: where invariants are looked at. */
  onExecuted: (owner: EventOwner | undefined) => void = () => undefined

  get nowMs(): number {
    return this.#nowMs
  }

  /** Events that ran; cancelled and dropped ones don't count. */
  get executedCount(): number {
    return this.#executedCount
  }

  /** Plans `callback` for `delayMs` from now, never inside the call, also for a delay of 0. */
  after(delayMs: number, callback: () => void, owner?: EventOwner): Timer {
    assert(delayMs >= 0, `delay ${delayMs} is negative`)
    const event = new Event(this.#nowMs + delayMs, this.#sequence++, owner, callback)
    this.#push(event)
    return event
  }

  /** Runs the next event. False if there is none. */
  runNext(): boolean {
    const event = this.#settle()
    if (event === undefined) return false
    this.#pop()
    const callback = must(event.callback)
    event.callback = undefined
    this.#nowMs = event.timeMs
    this.#executedCount++
    callback()
    this.onExecuted(event.owner)
    return true
  }

  /** Runs events until `isDone`, but none after `untilMs`. True if `isDone` became true. */
  runUntil(untilMs: number, isDone: () => boolean): boolean {
    while (!isDone()) {
      const event = this.#settle()
      if (event === undefined || event.timeMs > untilMs) {
        this.#nowMs = Math.max(this.#nowMs, untilMs)
        return false
      }
      this.runNext()
    }
    return true
  }

  /** The event that is next for sure: dropped ones are gone, those of paused owners put back. */
  #settle(): Event | undefined {
    for (;;) {
      const event = this.#heap[0]
      if (event === undefined) return undefined
      const { callback, owner } = event
      const isDropped = callback === undefined || owner?.isAlive === false
      const isLate = owner !== undefined && owner.pausedUntilMs > event.timeMs
      if (!isDropped && !isLate) return event
      this.#pop()
      if (isDropped) continue
      event.timeMs = must(owner).pausedUntilMs
      this.#push(event)
    }
  }

  #push(event: Event): void {
    const heap = this.#heap
    let position = heap.length
    heap.push(event)
    while (position > 0) {
      const parent = (position - 1) >> 1
      const above = must(heap[parent])
      if (!isBefore(event, above)) break
      heap[position] = above
      position = parent
    }
    heap[position] = event
  }

  #pop(): Event | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let position = 0
    for (;;) {
      let child = 2 * position + 1
      if (child >= heap.length) break
      const right = heap[child + 1]
      if (right !== undefined && isBefore(right, must(heap[child]))) child++
      const below = must(heap[child])
      if (!isBefore(below, last)) break
      heap[position] = below
      position = child
    }
    heap[position] = last
    return first
  }
}

function isBefore(left: Event, right: Event): boolean {
  if (left.timeMs !== right.timeMs) return left.timeMs < right.timeMs
  return left.sequence < right.sequence
}
