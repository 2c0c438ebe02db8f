/** WaitingWrites: the requests that a leader has taken and not executed yet, bounded. */
import { BoundedQueue } from '../base/bounded-queue.ts'
import { DbError } from '../base/errors.ts'
import { answerOverdue, end, gather, type Pending } from './batch.ts'
import type { ReplicaOptions } from './types.ts'

export class WaitingWrites {
  readonly #options: ReplicaOptions
  readonly #queue: BoundedQueue<Pending>

  constructor(options: ReplicaOptions) {
    this.#options = options
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

  /** The error why there is no room for it, if there is none. */
  add(pending: Pending): DbError | undefined {
    if (this.#queue.push(pending, pending.body.byteLength)) return undefined
    const limits = { maxQueuedRequests: this.#options.maxQueuedRequests }
    const message = `${this.#queue.count} writes are waiting already; back off and send it again`
    return new DbError('OVERLOADED', message, { details: limits })
  }

  /** Takes what goes into one batch. */
  take(now: number): Pending[] {
    return gather(this.#queue, this.#options, now)
  }

  /** Puts requests back that were taken and not executed. */
  putBack(requests: readonly Pending[]): void {
    this.#queue.unshift(requests.map(value => ({ value, sizeBytes: value.body.byteLength })))
  }

  /** Answers those whose deadline has passed. */
  sweep(now: number): void {
    // Behind one with more time they keep their place, and are passed over when they are gathered.
    for (const waiting of this.#queue.values())
      if (waiting.deadlineMs <= now) answerOverdue(waiting)
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
