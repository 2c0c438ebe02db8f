/**
 * Forwarding: a call that arrives at a follower goes to the leader as the request it is, once, with
 * the time that is left to it. It is never sent again from here: only a request with an id can be,
 * and call-router.ts does that. A lost connection therefore means `unknown`, unless the frame
 * never left.
 *
 *   forward       => life varint, id varint, timeoutMs varint, kind u8, request bytes (the rest)
 *   forward-reply => life varint, id varint, answer bytes of that kind (the rest)
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { Clock, Random } from '../base/ports.ts'
import type { Peers } from '../log/peers.ts'
import { MAY_TAKE_EFFECT } from './batch.ts'

/** What is asked of the leader: a write, or something of an interactive transaction. */
const CALL_KINDS = ['write', 'transaction'] as const
export type CallKind = (typeof CALL_KINDS)[number]

export interface ForwardedCall {
  readonly kind: CallKind
  readonly body: Uint8Array
  /** It carries a request id, or does no harm when it is sent twice. */
  readonly hasId: boolean
}

/** The leader's answer as its bytes, or why there is none. */
export type CallAnswer =
  | { readonly type: 'answered'; readonly answer: ByteReader }
  | { readonly type: 'failed'; readonly error: DbError }

/** Carries out a call on the leader; `done` takes the bytes of its answer. */
export type CallHandler = (
  request: Uint8Array,
  timeoutMs: number,
  done: (answer: Uint8Array) => void,
) => void

interface Waiting {
  readonly leader: number
  readonly hasId: boolean
  readonly deadlineMs: number
  readonly done: (answer: CallAnswer) => void
}

/** Newest request heard of a peer's life: an older number is a frame that came twice. */
interface Heard {
  readonly life: number
  readonly id: number
}

/**
 * The leader's own deadline is kept by the leader; this much later its silence is taken as lost.
 */
const GRACE_MS = 500

export interface ForwarderParts {
  readonly peers: Peers
  readonly clock: Clock
  readonly random: Random
  readonly maxWaiting: number
  /** What carries out the calls that followers forwarded. */
  readonly handlers: Readonly<Record<CallKind, CallHandler>>
}

export class Forwarder {
  readonly #parts: ForwarderParts
  readonly #life: number
  readonly #waiting = new Map<number, Waiting>()
  readonly #heard = new Map<number, Heard>()
  #nextId = 1
  /** For calls that come while it {@link isFull}. */
  readonly full: DbError

  constructor(parts: ForwarderParts) {
    this.#parts = parts
    const message = 'too many calls wait for the leader; back off and send it again'
    const { maxWaiting: maxForwardedRequests } = parts
    this.full = new DbError('OVERLOADED', message, { details: { maxForwardedRequests } })
    this.#life = parts.random.below(2 ** 32)
    const { peers } = parts
    peers.on('forward', readHead, (from, head) => this.#onRequest(from, head))
    peers.on('forward-reply', readHead, (from, head) => this.#onReply(from, head))
    parts.peers.onLink((peer, lane, isConnected) => {
      if (lane === 'data' && !isConnected) this.#onCut(peer)
    })
  }

  get waitingCount(): number {
    return this.#waiting.size
  }

  get isFull(): boolean {
    return this.#waiting.size >= this.#parts.maxWaiting
  }

  /** Sends a call to `leader`. Answered exactly once. */
  forward(
    leader: number,
    call: ForwardedCall,
    timeoutMs: number,
    done: (answer: CallAnswer) => void,
  ): void {
    const { kind, body, hasId } = call
    if (this.isFull) return done({ type: 'failed', error: this.full })
    const id = this.#nextId
    this.#nextId += 1
    const writer = new ByteWriter()
    writer.varint(this.#life)
    writer.varint(id)
    writer.varint(Math.max(1, Math.floor(timeoutMs)))
    writer.u8(CALL_KINDS.indexOf(kind))
    writer.raw(body)
    if (!this.#parts.peers.send(leader, 'data', 'forward', writer.finish())) {
      const message = 'the leader can not be reached from this node; nothing was sent'
      return done({ type: 'failed', error: new DbError('NO_LEADER', message) })
    }
    const deadlineMs = this.#parts.clock.monotonicMs() + timeoutMs + GRACE_MS
    this.#waiting.set(id, { leader, hasId, deadlineMs, done })
  }

  /**
   * `leader` leads now. Whoever was asked before may never answer, and what has an id can be sent
   * again; the others wait on, because their answer may be on its way.
   */
  leaderChanged(leader: number): void {
    for (const [id, waiting] of this.#waiting) {
      if (!waiting.hasId || waiting.leader === leader) continue
      const message = `another leader was elected before the last one answered; ${MAY_TAKE_EFFECT}`
      this.#end(id, new DbError('LEADERSHIP_LOST', message))
    }
  }

  sweep(): void {
    const now = this.#parts.clock.monotonicMs()
    for (const [id, { deadlineMs }] of this.#waiting) {
      if (deadlineMs > now) continue
      const message = `the leader did not answer within the deadline; ${MAY_TAKE_EFFECT}`
      this.#end(id, new DbError('COMMIT_TIMEOUT', message))
    }
  }

  /** Ends all waiting: the node stops. */
  fail(): void {
    const message = 'this node stopped before the leader answered'
    for (const id of this.#waiting.keys()) this.#end(id, new DbError('CONNECTION_LOST', message))
  }

  #end(id: number, error: DbError): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    waiting?.done({ type: 'failed', error })
  }

  #onCut(peer: number): void {
    for (const [id, { leader }] of this.#waiting) {
      if (leader !== peer) continue
      const message = 'the connection to the leader broke before it answered'
      this.#end(id, new DbError('CONNECTION_LOST', message))
    }
  }

  #onRequest(from: number, { life, id, reader }: Head): void {
    const timeoutMs = reader.varint()
    const last = this.#heard.get(from)
    // Numbers of one life only grow on their ordered lane; anything else was heard before.
    if (last?.life === life && id <= last.id) return
    this.#heard.set(from, { life, id })
    const kind = CALL_KINDS[reader.u8()]
    // Of a newer release: it is silent for that node, which hears so at its deadline.
    if (kind === undefined) return
    // The transport may reuse its buffer once this call returns, and the request waits in a queue.
    const request = reader.raw(reader.remaining).slice()
    this.#parts.handlers[kind](request, timeoutMs, answer => {
      const writer = new ByteWriter()
      writer.varint(life)
      writer.varint(id)
      writer.raw(answer)
      this.#parts.peers.send(from, 'data', 'forward-reply', writer.finish())
    })
  }

  #onReply(from: number, { life, id, reader }: Head): void {
    if (life !== this.#life) return
    const waiting = this.#waiting.get(id)
    if (waiting?.leader !== from) return
    this.#waiting.delete(id)
    waiting.done({ type: 'answered', answer: reader })
  }
}

/** What each frame begins with: who waits for the answer, and as which of its calls. */
interface Head {
  readonly life: number
  readonly id: number
  readonly reader: ByteReader
}

function readHead(body: Uint8Array): Head {
  const reader = new ByteReader(body)
  return { life: reader.varint(), id: reader.varint(), reader }
}
