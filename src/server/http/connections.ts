/**
 * Counts the connections of clients. Over the limit they are heard, but only told so. Those that
 * send on without waiting for their answers are read only as far as a turn of the event loop has
 * time for them.
 */
import type { Duplex } from 'node:stream'
import type { Socket } from 'node:net'

import type { Exchange } from './exchange.ts'
import type { Turns } from './turns.ts'

/** In a turn that has lasted so long nobody is read any more, not even who waits for answers. */
const TURN_MS_MAX = 50
/** For so many turns a client that did not wait for answers is taken for one that doesn't. */
const PIPELINING_TURNS = 100

interface ConnectionState {
  readonly socket: Socket
  readonly isOverLimit: boolean
  /** Exchanges without an answer yet: more than one only if the client pipelines. */
  open: number
  latest: Exchange | undefined
  /** The last turn in which a request came, and the last in which more than one did. */
  turn: number
  pipelinedTurn: number
}

export class Connections {
  readonly #limit: number
  readonly #turns: Turns
  readonly #states = new Map<Duplex, ConnectionState>()
  /** Those that send on, who was served last at the end. */
  readonly #pipelining = new Set<Socket>()
  /** Those that are not read until the next turn; undefined if it has not come to that. */
  #held: Set<Socket> | undefined
  #isHolding = false
  #overLimit = 0
  /** Called whenever the last connection within the limit has gone. */
  onEmpty: (() => void) | undefined

  constructor(limit: number, turns: Turns) {
    this.#limit = limit
    this.#turns = turns
  }

  /** Connections within the limit. */
  get count(): number {
    return this.#states.size - this.#overLimit
  }

  /** False if the connection is over the limit. */
  add(socket: Socket): boolean {
    const isOverLimit = this.count >= this.#limit
    if (isOverLimit) this.#overLimit += 1
    this.#states.set(socket, {
      socket,
      isOverLimit,
      open: 0,
      latest: undefined,
      turn: -1,
      pipelinedTurn: -Infinity,
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

  /** Reads no more of those that send on, or of anybody, until the next turn. */
  #hold(isEverybody: boolean): void {
    const count = isEverybody ? this.#states.size : this.#pipelining.size
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
        if (held.has(socket)) continue
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
