/** WaitingWrites: the requests that a leader has taken and not executed yet, bounded. */
import { BoundedQueue } from '../base/bounded-queue.ts'
import { DbError } from '../base/errors.ts'
import { answerOverdue, end, gather, type Pending } from './batch.ts'
import type { ReplicaOptions } from './types.ts'

/** So many that wait keep the writer busy until more have come, whatever holds these up. */
const ENOUGH_BATCHES = 4
/** At most this part of what may wait, so that those who wait for their answers find room. */
const ENOUGH_PART = 1 / 2

type EnoughOptions = Pick<ReplicaOptions, 'maxBatchRequests' | 'maxQueuedRequests'>

/** From so many on, waiting writes don't make the writer any faster. */
export function enoughWrites({ maxBatchRequests, maxQueuedRequests }: EnoughOptions): number {
  return Math.ceil(Math.min(ENOUGH_BATCHES * maxBatchRequests, ENOUGH_PART * maxQueuedRequests))
}

export class WaitingWrites {
  readonly #options: ReplicaOptions
  readonly #queue: BoundedQueue<Pending>
  /** Made once: under overload there are thousands in a second. */
  readonly #full: DbError
  readonly #slow: DbError

  constructor(options: ReplicaOptions) {
    this.#options = options
    const { maxQueuedRequests, maxQueuedBytes, maxQueuedMs } = options
    this.#full = new DbError('OVERLOADED', 'too many writes wait; back off and send it again', {
      details: { maxQueuedRequests, maxQueuedBytes },
    })
    const message = 'writes wait longer than they may; back off and send it again'
    this.#slow = new DbError('OVERLOADED', message, { details: { maxQueuedMs } })
    this.#queue = new BoundedQueue({
      countMax: options.maxQueuedRequests,
      sizeBytesMax: options.maxQueuedBytes,
    })
  }

  get count(): number {
    return this.#queue.count
  }

  get sizeBytes(): number {
    return this.#queue.sizeBytes
  }

  /** How many more keep the writer busy; 0 while enough of them wait. */
  get wantedCount(): number {
    const { maxBatchBytes, maxQueuedBytes } = this.#options
    const enoughBytes = Math.min(ENOUGH_BATCHES * maxBatchBytes, ENOUGH_PART * maxQueuedBytes)
    if (this.#queue.sizeBytes >= enoughBytes) return 0
    return Math.max(0, enoughWrites(this.#options) - this.#queue.count)
  }

  /**
   * Why whatever comes now is refused, if so. Counts and bytes bound the memory; that the oldest
   * has waited long bounds the time, because one who came now would wait as long. A single slow
   * batch is no overload: those who wait for it fit into the next one.
   */
  refusal(nowMs: number): DbError | undefined {
    const { maxQueuedRequests, maxQueuedBytes, maxQueuedMs, maxBatchRequests } = this.#options
    const { count, sizeBytes } = this.#queue
    if (count >= maxQueuedRequests || sizeBytes >= maxQueuedBytes) return this.#full
    const oldest = count > maxBatchRequests ? this.#queue.peek() : undefined
    return oldest !== undefined && nowMs - oldest.arrivedMs > maxQueuedMs ? this.#slow : undefined
  }

  /** The error why there is no room for it, if there is none. */
  add(pending: Pending): DbError | undefined {
    const refusal = this.refusal(pending.arrivedMs)
    if (refusal !== undefined) return refusal
    return this.#queue.push(pending, pending.body.byteLength) ? undefined : this.#full
  }

  /** Takes what goes into one batch. */
  take(now: number): Pending[] {
    return gather(this.#queue, this.#options, now)
  }

  /** Puts requests back that were taken and not executed. */
  putBack(requests: readonly Pending[]): void {
    this.#queue.unshift(requests.map(value => ({ value, sizeBytes: value.body.byteLength })))
  }

  /** Answers those whose deadline has passed. `outage`: why nothing can be executed now. */
  sweep(now: number, outage?: DbError): void {
    // Behind one with more time they keep their place, and are passed over when they are gathered.
    for (const waiting of this.#queue.values())
      if (waiting.deadlineMs <= now) answerOverdue(waiting, outage)
    while ((this.#queue.peek()?.deadlineMs ?? Infinity) <= now) this.#queue.shift()
  }

  /** Ends those that are meant; the others keep their order. */
  failThose(isMeant: (body: Uint8Array) => boolean, error: DbError): void {
    const others: Pending[] = []
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      if (isMeant(next.body)) end(next, error)
      else others.push(next)
    }
    this.putBack(others)
  }

  fail(error: DbError): void {
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      end(next, error)
    }
  }
}
