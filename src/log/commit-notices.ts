/**
 * An append without entries to a follower that is being fed only tells the commit index. Under load
 * the next entries tell it a moment later; sending both costs each side a message, an answer and a
 * wake-up for nothing. So such a notice waits a little, and is dropped when entries overtake it.
 */
import type { Clock, Timer } from '../base/ports.ts'
import type { Message } from '../raft/types.ts'

/** How long a follower may hear later of a commit index, if no entries follow anyway. */
const DELAY_MS = 2
/** The same while proposals come so fast that the next one is sure to be there before. */
const DELAY_MS_BUSY = 8

export class CommitNotices {
  readonly #clock: Clock
  readonly #send: (notice: Message) => void
  /** By follower, until the timer or an append takes them. */
  readonly #notices = new Map<number, Message>()
  #timer: Timer | undefined
  #proposedAtMs = 0
  /** Between the last two proposals of this node. */
  #intervalMs = Infinity

  constructor(clock: Clock, send: (notice: Message) => void) {
    this.#clock = clock
    this.#send = send
  }

  /** This node proposed something, and entries will go out. */
  proposed(): void {
    const now = this.#clock.monotonicMs()
    this.#intervalMs = now - this.#proposedAtMs
    this.#proposedAtMs = now
  }

  hold(notice: Message): void {
    this.#notices.set(notice.to, notice)
    const delayMs = this.#intervalMs < DELAY_MS_BUSY ? DELAY_MS_BUSY : DELAY_MS
    this.#timer ??= this.#clock.setTimer(delayMs, () => {
      this.#timer = undefined
      const notices = [...this.#notices.values()]
      this.#notices.clear()
      // A notice of a term that is over would be refused as what it is.
      for (const each of notices) this.#send(each)
    })
  }

  /** Something else tells `to` the commit index. */
  drop(to: number): void {
    if (this.#notices.delete(to) && this.#notices.size === 0) this.stop()
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#notices.clear()
  }
}
