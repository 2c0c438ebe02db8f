/**
 * Gathering says when the next batch begins. A batch has a fixed cost on every node, many times
 * that of one more request in it. Most clients that are answered ask again at once; a batch that
 * began without waiting for them would take only those who asked meanwhile, and two halves of the
 * clients would take turns for ever. So the next batch waits for the answers of the last one, and
 * then for as many requests as were answered. Clients that don't ask again at once are not waited
 * for: after two waits in vain none is made for a growing number of batches.
 */
import type { Clock, Timer } from '../base/ports.ts'

/** With so many there is little to gain from more, and other nodes' time to lose. */
const WAITING_MAX = 64
/** A wait takes at most as long as the last batch took, and this time. */
const WAIT_MS_MAX = 4
/** A wait was in vain if more than this part of those who were answered did not come. */
const MISSING_SHARE_MAX = 0.25
/** After many waits in vain one in so many batches tries again. */
const RESTING_BATCHES_MAX = 64

export class Gathering {
  readonly #clock: Clock
  readonly #onOver: () => void
  /** Requests of the batch that was committed last, and how many fewer have come since. */
  #expected = 0
  #missing = 0
  /** That batch is not answered yet. */
  #isSettling = false
  #untilMs = 0
  #timer: Timer | undefined
  /** So many batches begin without a wait; and so many after the next wait in vain. */
  #resting = 0
  #restingNext = 0

  /** `onOver` is called when a wait ends because of its time. */
  constructor(clock: Clock, onOver: () => void) {
    this.#clock = clock
    this.#onOver = onOver
  }

  /** A batch of so many requests is committed: once answered, their clients may come again. */
  committed(requestCount: number): void {
    this.#expected = requestCount
    this.#missing = requestCount
    this.#isSettling = true
  }

  /** Its clients were answered. */
  answered(startedMs: number): void {
    const nowMs = this.#clock.monotonicMs()
    this.#isSettling = false
    this.#untilMs = nowMs + Math.min(WAIT_MS_MAX, nowMs - startedMs)
  }

  /** A request has come. */
  arrived(): void {
    this.#missing -= 1
  }

  /** Whether the next batch is to wait for more than the `waitingCount` requests that are there. */
  holds(waitingCount: number): boolean {
    if (waitingCount >= WAITING_MAX || this.#resting > 0) return false
    if (this.#isSettling) return true
    const leftMs = this.#untilMs - this.#clock.monotonicMs()
    if (this.#missing <= 0 || leftMs <= 0) return false
    this.#timer ??= this.#clock.setTimer(leftMs, () => {
      this.#timer = undefined
      this.#onOver()
    })
    return true
  }

  /** A batch begins. */
  began(): void {
    const isInVain =
      !this.#isSettling &&
      this.#missing > this.#expected * MISSING_SHARE_MAX &&
      this.#clock.monotonicMs() >= this.#untilMs
    if (this.#resting > 0) {
      this.#resting -= 1
    } else if (isInVain) {
      this.#resting = this.#restingNext
      this.#restingNext = Math.min(2 * this.#restingNext, RESTING_BATCHES_MAX) || 1
    } else {
      this.#restingNext = 0
    }
    this.stop()
  }

  /** Nobody is waited for any more. */
  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#expected = 0
    this.#missing = 0
    this.#isSettling = false
  }
}
