/** Counts the connections of clients. Over the limit they are heard, but only told so. */
import type { Duplex } from 'node:stream'
import type { Socket } from 'node:net'

import type { Exchange } from './exchange.ts'

interface ConnectionState {
  readonly isOverLimit: boolean
  /** Exchanges without an answer yet: more than one only if the client pipelines. */
  open: number
  latest: Exchange | undefined
}

export class Connections {
  readonly #limit: number
  readonly #states = new Map<Duplex, ConnectionState>()
  #overLimit = 0
  /** Called whenever the last connection within the limit has gone. */
  onEmpty: (() => void) | undefined

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Connections within the limit. */
  get count(): number {
    return this.#states.size - this.#overLimit
  }

  /** False if the connection is over the limit. */
  add(socket: Socket): boolean {
    const isOverLimit = this.count >= this.#limit
    if (isOverLimit) this.#overLimit += 1
    this.#states.set(socket, { isOverLimit, open: 0, latest: undefined })
    socket.once('close', () => this.release(socket))
    return !isOverLimit
  }

  /** The connection is closed, or no client's any more: an Upgrade made it a peer's. */
  release(socket: Duplex): void {
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
