/**
 * A client whose writes have ids, and who wants to know what became of each: it asks again, at any
 * node, until it knows; sometimes it sends the same to two nodes at once, gives up and cancels, or
 * comes back long after.
 */
import type { RequestId, SessionId, WriteRequest } from '../src/engine/engine.ts'
import type { WriteCallback, WriteOutcome } from '../src/replica/types.ts'
import type { Action } from './model.ts'
import type { Operation, Oracle } from './oracle.ts'
import { requestOf } from './requests.ts'
import type { SimNode } from './sim-node.ts'
import type { SimRandom } from './sim-random.ts'
import type { World } from './world.ts'

const ATTEMPTS_MAX = 8
const BACKOFF_MS_MEAN = 20
/** Writes that are kept, to be sent once more when nobody expects it. */
const KEPT_MAX = 20

/** One write, from its first attempt to when its fate is known. */
interface Write {
  readonly request: WriteRequest
  readonly id: RequestId
  readonly operation: Operation
  attempts: number
  /** Requests under its id that were sent. */
  sent: number
  isSettled: boolean
  /** It failed for a reason that may be gone: sent once more, it would be a new attempt. */
  isOver: boolean
  readonly next: (index: number) => void
}

/** What the workload does for its clients. */
export interface Requester {
  readonly parts: { readonly oracle: Oracle; readonly world: World }
  readonly isStopped: boolean
  pickNode(): SimNode | undefined
  execute(
    node: SimNode,
    request: WriteRequest,
    next: (index: number) => void,
    judge: WriteCallback,
  ): void
}

export class IdentifiedClient {
  readonly #workload: Requester
  readonly #random: SimRandom
  #session: SessionId | undefined
  #sequence = 0
  readonly #kept: Write[] = []

  constructor(workload: Requester, random: SimRandom) {
    this.#workload = workload
    this.#random = random
  }

  write(node: SimNode, database: string, action: Action, next: (index: number) => void): void {
    const operation = this.#workload.parts.oracle.begin(database, action)
    this.#begin(node, requestOf(action, operation.number, database), operation, next)
  }

  changeDatabases(
    node: SimNode,
    type: 'create-database' | 'drop-database',
    database: string,
    next: (index: number) => void,
  ): void {
    const operation = this.#workload.parts.oracle.begin(database, undefined)
    this.#begin(node, { type, database }, operation, next)
  }

  #begin(
    node: SimNode,
    request: WriteRequest,
    operation: Operation,
    next: (index: number) => void,
  ): void {
    const id = this.#newId(node)
    const identified = { ...request, id }
    const counts = { attempts: 0, sent: 0, isSettled: false, isOver: false }
    const write = { request: identified, id, operation, next, ...counts }
    if (this.#random.chance(0.1) && this.#kept.length > 0) this.#sendOldOnce()
    this.#attempt(write, node)
  }

  #newId(node: SimNode): RequestId {
    if (this.#random.chance(0.1)) {
      const birth = node.replica.status().log.commitIndex
      return { type: 'key', key: `key ${this.#random.below(2 ** 32)}`, birth }
    }
    if (this.#session === undefined || this.#random.chance(0.02)) {
      const birth = node.replica.status().log.commitIndex
      this.#session = { birth, name: this.#random.below(2 ** 32) }
      this.#sequence = 0
    }
    this.#sequence++
    return { type: 'session', session: this.#session, sequence: this.#sequence }
  }

  #attempt(write: Write, node: SimNode): void {
    write.attempts++
    const isCancel = write.attempts > 1 && this.#random.chance(0.3)
    const also = this.#random.chance(0.1) ? this.#workload.pickNode() : undefined
    // Two requests at once: neither answer says what the other will do.
    if (also !== undefined) this.#send(write, also, false, () => {})
    this.#send(write, node, isCancel, index => {
      if (write.isSettled) this.#end(write, index)
      else if (write.attempts >= ATTEMPTS_MAX) this.#end(write, 0)
      else this.#retry(write)
    })
  }

  #retry(write: Write): void {
    const { world } = this.#workload.parts
    world.after(this.#random.exponential(BACKOFF_MS_MEAN), () => {
      const node = this.#workload.pickNode()
      if (node === undefined || this.#workload.isStopped) this.#end(write, 0)
      else this.#attempt(write, node)
    })
  }

  #end(write: Write, index: number): void {
    if (this.#kept.length >= KEPT_MAX) this.#kept.shift()
    if (!write.isOver) this.#kept.push(write)
    write.next(index)
  }

  /** What was settled long ago, or given up, once more. */
  #sendOldOnce(): void {
    const node = this.#workload.pickNode()
    if (node !== undefined) this.#send(this.#random.pick(this.#kept), node, false, () => {})
  }

  #send(write: Write, node: SimNode, isCancel: boolean, next: (index: number) => void): void {
    const { id, operation, request } = write
    const { database } = operation
    write.sent++
    const sent = isCancel ? ({ type: 'cancel', database, id } as const) : request
    this.#workload.execute(node, sent, next, outcome => {
      this.#hear(write, outcome, isCancel)
    })
  }

  #hear(write: Write, outcome: WriteOutcome, isCancel: boolean): void {
    const { id, operation, sent } = write
    // A first failure is often not taken for the last word, and then it says nothing.
    const isOnly = sent === 1 && (outcome.type === 'ok' || this.#random.chance(0.3))
    const asked = { id, database: operation.database, isCancel, isOnly }
    const isSettled = this.#workload.parts.oracle.identified(operation, asked, outcome)
    write.isSettled ||= isSettled
    const code = outcome.type === 'failed' ? outcome.error.code : undefined
    const isExpired = code === 'REQUEST_EXPIRED'
    write.isOver ||= isSettled && code !== undefined && code !== 'REQUEST_CANCELLED'
    if (isExpired && id.type === 'session' && id.session === this.#session)
      this.#session = undefined
  }
}
