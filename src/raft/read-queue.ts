/**
 * Reads that wait for a round of heartbeats (thesis 6.4). Rounds are numbered by how many reads
 * were asked for: a heartbeat carries the number of the last read before it, and an answer confirms
 * that read and all before it, whatever contexts the reads themselves have. Two reads with the same
 * context therefore can't be taken for each other.
 */
import type { JointVoters } from './quorum.ts'
import { committedIndex } from './quorum.ts'
import { EMPTY_BYTES, type Message, type RaftId } from './types.ts'

/** A read and the commit index it was asked at. */
export interface WaitingRead {
  readonly request: Message
  readonly index: number
}

/** First in, first out; valid for one leadership only. */
export class ReadQueue {
  /** The number of the last read each node has answered a heartbeat for. */
  readonly #acks = new Map<RaftId, number>()
  #waiting: WaitingRead[] = []
  #confirmedCount = 0

  get waitingCount(): number {
    return this.#waiting.length
  }

  /** Adds a read. Heartbeats sent from now on confirm it. */
  add(request: Message, commitIndex: number): void {
    this.#waiting.push({ request, index: commitIndex })
  }

  /** What heartbeats carry; nothing when no read waits. */
  heartbeatContext(): Uint8Array {
    if (this.#waiting.length === 0) return EMPTY_BYTES
    const context = new Uint8Array(8)
    new DataView(context.buffer).setFloat64(0, this.#confirmedCount + this.#waiting.length, true)
    return context
  }

  /** A node answered a heartbeat with this context, at this leader's term. */
  acknowledge(from: RaftId, context: Uint8Array): void {
    if (context.length !== 8) return
    const view = new DataView(context.buffer, context.byteOffset, context.byteLength)
    const readNumber = view.getFloat64(0, true)
    // Answers may come late and out of order; an older one takes nothing back.
    this.#acks.set(from, Math.max(this.#acks.get(from) ?? 0, readNumber))
  }

  /** Removes the reads that a quorum of the present voters has confirmed. */
  takeConfirmed(group: JointVoters): readonly WaitingRead[] {
    const confirmed = committedIndex(group, id => this.#acks.get(id))
    const count = Math.min(confirmed - this.#confirmedCount, this.#waiting.length)
    if (!(count > 0)) return []
    const taken = this.#waiting.slice(0, count)
    this.#waiting = this.#waiting.slice(count)
    this.#confirmedCount += count
    return taken
  }
}
