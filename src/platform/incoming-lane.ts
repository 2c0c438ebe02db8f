/** The receiving end of one lane: reads frames, confirms bytes, notices silence. */
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { DbError } from '../base/errors.ts'
import type { Clock, Timer } from '../base/ports.ts'
import { FrameReader } from './frame.ts'
import type { PeerLimits } from './peer-limits.ts'

export interface IncomingLaneOptions {
  readonly socket: Duplex
  readonly limits: PeerLimits
  readonly clock: Clock
  /** The peer showed life: some bytes came, whatever they are. */
  readonly onContact: () => void
  readonly onFrame: (body: Uint8Array) => void
  /** Called once; nothing is delivered afterwards. Not called by `close`. */
  readonly onClosed: (error: DbError) => void
}

export class IncomingLane {
  readonly #options: IncomingLaneOptions
  readonly #reader: FrameReader
  #receivedBytes = 0
  #confirmedBytes = 0
  #lastContactMs: number
  #timer: Timer | undefined
  #isClosed = false

  constructor(options: IncomingLaneOptions) {
    const { clock } = options
    this.#options = options
    this.#lastContactMs = clock.monotonicMs()
    this.#reader = new FrameReader(body => {
      // A frame may make the handler close this very lane; what follows in the chunk is void.
      if (!this.#isClosed) options.onFrame(body)
    })
  }

  /** Begins to read. `rest`: bytes of the stream that have been read already. */
  start(rest: Uint8Array): void {
    const { socket } = this.#options
    if (socket instanceof Socket) socket.setNoDelay(true).setTimeout(0)
    let cause = 'the peer closed the connection'
    socket.on('data', (chunk: Uint8Array) => this.#receive(chunk))
    socket.on('end', () => socket.destroy())
    socket.on('error', error => {
      cause = error.message
    })
    socket.on('close', () => this.#fail(new DbError('NOT_READY', cause)))
    this.#watch()
    if (rest.length > 0) this.#receive(rest)
  }

  /** Ends the connection; nothing is delivered afterwards. */
  close(): void {
    this.#isClosed = true
    this.#timer?.cancel()
    this.#options.socket.destroy()
  }

  #receive(chunk: Uint8Array): void {
    if (this.#isClosed) return
    this.#receivedBytes += chunk.length
    this.#lastContactMs = this.#options.clock.monotonicMs()
    this.#options.onContact()
    const error = this.#reader.push(chunk)
    if (error !== undefined) this.#fail(error)
  }

  #watch(): void {
    const { clock, limits, socket } = this.#options
    const dueMs = clock.monotonicMs() + limits.confirmMs
    this.#timer = clock.setTimer(limits.confirmMs, () => {
      const nowMs = clock.monotonicMs()
      // After a stall of this very process the peer's pings wait unread: judge the next time.
      const wasAwake = nowMs - dueMs < limits.confirmMs
      if (wasAwake && nowMs - this.#lastContactMs > limits.idleMs) {
        this.#fail(new DbError('NOT_READY', `nothing came for ${limits.idleMs} ms`))
        return
      }
      if (this.#confirmedBytes < this.#receivedBytes) {
        this.#confirmedBytes = this.#receivedBytes
        const count = Buffer.allocUnsafe(8)
        count.writeBigUInt64BE(BigInt(this.#receivedBytes))
        socket.write(count)
      }
      this.#watch()
    })
  }

  #fail(error: DbError): void {
    if (this.#isClosed) return
    this.close()
    this.#options.onClosed(error)
  }
}
