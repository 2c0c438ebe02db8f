/**
 * The window of append messages that were sent to one follower and not yet answered, bounded by
 * count and by bytes, so that a slow follower can't make the leader buffer without end.
 */
import { assert } from '../base/assert.ts'

interface Inflight {
  /** Index of the last entry in the message. */
  readonly index: number
  readonly sizeBytes: number
}

/** A first-in first-out window over messages, each known by the index of its last entry. */
export class Inflights {
  readonly #countMax: number
  readonly #bytesMax: number
  #messages: Inflight[] = []
  /** Messages before this position are answered; they are dropped in bulk, not one by one. */
  #head = 0
  #bytes = 0

  constructor(countMax: number, bytesMax: number) {
    this.#countMax = countMax
    this.#bytesMax = bytesMax
  }

  /** Messages in the window. */
  get count(): number {
    return this.#messages.length - this.#head
  }

  /**
   * True when no further message may be sent. The byte limit may be passed by the one message that
   * reaches it: otherwise an entry larger than the limit could never be sent.
   */
  get isFull(): boolean {
    return this.count >= this.#countMax || this.#bytes >= this.#bytesMax
  }

  /** Adds a message; indexes must come in order, and the window must not be full. */
  add(index: number, sizeBytes: number): void {
    assert(!this.isFull, `a full window of ${this.count} messages can't take index ${index}`)
    const last = this.#messages.at(-1)
    assert(
      this.count === 0 || last === undefined || last.index <= index,
      `window got index ${index} after ${last?.index}`,
    )
    this.#messages.push({ index, sizeBytes })
    this.#bytes += sizeBytes
  }

  /** Removes every message whose last entry is at or before `index`. */
  freeUpTo(index: number): void {
    let head = this.#head
    for (; head < this.#messages.length; head++) {
      const message = this.#messages[head]
      if (message === undefined || message.index > index) break
      this.#bytes -= message.sizeBytes
    }
    this.#head = head
    if (head === this.#messages.length) this.clear()
    else if (head > 64 && head * 2 > this.#messages.length) {
      this.#messages = this.#messages.slice(head)
      this.#head = 0
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#messages = []
    this.#head = 0
    this.#bytes = 0
  }
}
