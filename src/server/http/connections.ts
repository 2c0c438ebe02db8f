/**
 * Counts the connections of clients. Over the limit they are heard, but only told so. Those that
 * send on without waiting for their answers are read only as far as a turn of the event loop has
 * time for them.
 */
import type { Duplex } from 'node:stream'
import type { Socket } from 'node:net'

import type { DbError } from '../../base/errors.ts'
import type { Comer, Crowd } from './crowd.ts'
import type { Exchange } from './exchange.ts'
import type { Holder } from './unread.ts'
import type { Turns } from './turns.ts'

/** In a turn that has lasted so long nobody is read any more, not even who waits for answers. */
const TURN_MS_MAX = 50
/** For so many turns a client that did not wait for answers is taken for one that doesn't. */
const PIPELINING_TURNS = 100

interface ConnectionState extends Comer, Holder {
  readonly socket: Socket
  readonly isOverLimit: boolean
  /** Exchanges without an answer yet: more than one only if the client pipelines. */
  open: number
  latest: Exchange | undefined
  /** The last turn in which a request came, and the last in which more than one did. */
  turn: number
  pipelinedTurn: number
  /** Writes that began since it was last let in. */
  expectedCount: number
  /** It is in the crowd, and not read. */
  isWaiting: boolean
  /** Answers that wait for those before them. */
  queuedBytes: number
  /** The answer to what it had sent when it was let in. */
  refusal: DbError | undefined
}

export class Connections {
  readonly #limit: number
  readonly #turns: Turns
  readonly #crowd: Crowd
  readonly #states = new Map<Duplex, ConnectionState>()
  /** Those that send on and are not in the crowd, who was served last at the end. */
  readonly #pipelining = new Set<Socket>()
  /** Those that are not read until the next turn; undefined if it has not come to that. */
  #held: Set<Socket> | undefined
  #isHolding = false
  #overLimit = 0
  /** Called whenever the last connection within the limit has gone. */
  onEmpty: (() => void) | undefined

  constructor(limit: number, turns: Turns, crowd: Crowd) {
    this.#limit = limit
    this.#turns = turns
    this.#crowd = crowd
  }

  /** Connections within the limit. */
  get count(): number {
    return this.#states.size - this.#overLimit
  }

  /** False if the connection is over the limit. */
  add(socket: Socket): boolean {
    const isOverLimit = this.count >= this.#limit
    if (isOverLimit) this.#overLimit += 1
    const state: ConnectionState = {
      socket,
      isOverLimit,
      open: 0,
      latest: undefined,
      turn: -1,
      pipelinedTurn: -Infinity,
      expectedCount: 0,
      isWaiting: false,
      queuedBytes: 0,
      get heldBytes() {
        return socket.writableLength + this.queuedBytes + (this.latest?.heldBytes ?? 0)
      },
      refusal: undefined,
      letIn: refusal => this.#letIn(state, refusal),
    }
    this.#states.set(socket, state)
    // The HTTP server resumes a connection whenever it has room for more answers.
    socket.on('resume', () => {
      if (state.isWaiting || this.#held?.has(socket) === true) socket.pause()
    })
    socket.once('close', () => this.release(socket))
    return !isOverLimit
  }

  /** The connection is closed, or no client's any more: an Upgrade made it a peer's. */
  release(socket: Duplex): void {
    const state = this.#states.get(socket)
    if (state !== undefined) {
      this.#pipelining.delete(state.socket)
      this.#held?.delete(state.socket)
      this.#crowd.leave(state)
    }
    if (this.isOverLimit(socket)) this.#overLimit -= 1
    if (this.#states.delete(socket) && this.count === 0) this.onEmpty?.()
  }

  isOverLimit(socket: Duplex): boolean {
    return this.#states.get(socket)?.isOverLimit ?? false
  }

  begin(exchange: Exchange): void {
    const state = this.#states.get(exchange.request.socket)
    if (state === undefined) return
    state.open += 1
    state.latest = exchange
    const { elapsedMs, isSpent, number } = this.#turns
    if (state.turn === number) {
      // Nobody who waits for the answer asks twice in a turn.
      state.pipelinedTurn = number
      this.#pipelining.delete(state.socket)
      this.#pipelining.add(state.socket)
    }
    state.turn = number
    if (isSpent) this.#hold(elapsedMs > TURN_MS_MAX)
  }

  /**
   * A write has come by this exchange. One that came without waiting for the answer to another has
   * its connection wait if there are too many. Gives why the write is refused, if it is.
   */
  beginWrite(exchange: Exchange): DbError | undefined {
    const state = this.#states.get(exchange.request.socket)
    if (state === undefined) return undefined
    state.expectedCount += 1
    // One that is refused at once has nothing open: it counts, too, that two came in one turn.
    const sendsOn = state.open > 1 || this.#pipelining.has(state.socket)
    if (sendsOn && !state.isWaiting && this.#crowd.isFull) {
      state.isWaiting = true
      // Not at once: the rest of the piece is read in any case, and would have it read on.
      queueMicrotask(() => this.#wait(state))
    }
    return state.refusal
  }

  #wait(state: ConnectionState): void {
    state.refusal = undefined
    if (!this.#states.has(state.socket)) return
    this.#pipelining.delete(state.socket)
    this.#held?.delete(state.socket)
    state.socket.pause()
    this.#crowd.join(state)
  }

  #letIn(state: ConnectionState, refusal: DbError | undefined): void {
    state.isWaiting = false
    state.expectedCount = 0
    state.refusal = refusal
    // By then all is read that it had sent before, up to what is read at once.
    if (refusal !== undefined) setImmediate(() => (state.refusal = undefined))
    // It is known to send on, however little of it comes in one turn.
    state.pipelinedTurn = this.#turns.number
    this.#pipelining.add(state.socket)
    state.socket.resume()
  }

  /** Reads no more of those that send on, or of anybody, until the next turn. */
  #hold(isEverybody: boolean): void {
    // Of those who are read.
    const readCount = this.#states.size - this.#crowd.count
    const count = isEverybody ? readCount : this.#pipelining.size
    if (this.#isHolding || count <= (this.#held?.size ?? 0)) return
    if (this.#held === undefined) this.#turns.later(() => this.#release())
    const held = (this.#held ??= new Set())
    this.#isHolding = true
    // Not at once: other requests out of the same piece would have their connection read on.
    queueMicrotask(() => {
      this.#isHolding = false
      const sockets = isEverybody
        ? [...this.#states.values()].map(({ socket }) => socket)
        : this.#pipelining
      for (const socket of sockets) {
        if (held.has(socket) || this.#states.get(socket)?.isWaiting === true) continue
        held.add(socket)
        socket.pause()
      }
    })
  }

  #release(): void {
    const held = this.#held ?? []
    this.#held = undefined
    for (const socket of held) {
      const lastTurn = this.#states.get(socket)?.pipelinedTurn ?? -Infinity
      if (this.#turns.number - lastTurn > PIPELINING_TURNS) this.#pipelining.delete(socket)
      socket.resume()
    }
  }

  /** Whose answers may wait to be read. */
  get holders(): Iterable<Holder> {
    return this.#states.values()
  }

  /** So much more of answers waits for those before them on its connection; less if below 0. */
  queued(exchange: Exchange, sizeBytes: number): void {
    const state = this.#states.get(exchange.request.socket)
    if (state !== undefined) state.queuedBytes += sizeBytes
  }

  end(exchange: Exchange): void {
    const state = this.#states.get(exchange.request.socket)
    if (state === undefined) return
    state.open -= 1
    if (state.latest === exchange) state.latest = undefined
  }

  /**
   * True if bytes may be written past the exchanges: none is open, or only one that is still being
   * received. Else they could land in the middle of an answer.
   */
  isQuiet(socket: Duplex): boolean {
    const state = this.#states.get(socket)
    if (state === undefined || state.open === 0) return true
    const { open, latest } = state
    return open === 1 && latest?.request.complete === false && !latest.isPiecewise
  }

  /** True while the answer to a stream of requests is being written. */
  isStreaming(socket: Duplex): boolean {
    return this.#states.get(socket)?.latest?.isPiecewise ?? false
  }
}
