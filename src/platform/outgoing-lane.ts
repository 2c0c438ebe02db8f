/**
 * One lane to one peer: dials, shakes hands, sends, notices that the other side is gone, and dials
 * again. A lane only sends. The other way flow confirmations, u64 counts of the bytes received, by
 * which a dead peer is told from a slow one even if the machine vanished without a word.
 */
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import type { Duplex } from 'node:stream'
import { Socket } from 'node:net'
import { assert } from '../base/assert.ts'
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Clock, Lane, Logger, PeerMember, Random, Timer } from '../base/ports.ts'
import { parseAddress } from './address.ts'
import { encodeFrames, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, PING } from './frame.ts'
import { DialerHandshake, type NodeFacts } from './handshake.ts'
import { runHandshake } from './handshake-socket.ts'
import { type PeerLimits, UPGRADE_PROTOCOL } from './peer-limits.ts'

export interface OutgoingLaneOptions {
  readonly facts: NodeFacts
  readonly peer: PeerMember
  readonly lane: Lane
  readonly limits: PeerLimits
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** The lane is open; `retries` attempts failed before. */
  readonly onOpen: (retries: number) => void
  readonly onClosed: (reason: string) => void
  /** The peer's machine says that nobody listens at the address. */
  readonly onAbsent: () => void
  /** The peer showed life. */
  readonly onContact: () => void
  /** An attempt failed, and not only because the peer is away. */
  readonly onRefused: (error: DbError) => void
}

/** Codes of refusals that may pass by themselves. */
const PASSING: readonly ErrorCode[] = ['NOT_READY', 'OVERLOADED', 'SHUTTING_DOWN']

export class OutgoingLane {
  readonly #options: OutgoingLaneOptions
  #isStarted = false
  #socket: Duplex | undefined
  /** Gives up the attempt under way, present while there is one. */
  #giveUp: (() => void) | undefined
  #redialTimer: Timer | undefined
  #watchTimer: Timer | undefined
  #retries = 0
  /** Failures and short lives in a row, from which the pause before the next attempt grows. */
  #backoffSteps = 0
  #openedMs = 0
  #lastError: DbError | undefined

  #pending: Uint8Array[] = []
  #pendingBytes = 0
  #flush: NodeJS.Immediate | undefined

  /** Bytes written to the socket and confirmed by the peer, since the lane is open. */
  #sentBytes = 0
  #confirmedBytes = 0
  #confirmation = Buffer.alloc(0)
  /** When the oldest unconfirmed byte began to wait, or the last confirmation came. */
  #waitingSinceMs = 0
  #lastSendMs = 0

  constructor(options: OutgoingLaneOptions) {
    this.#options = options
  }

  get isOpen(): boolean {
    return this.#socket !== undefined
  }

  /** Failed attempts since the lane was last open. */
  get retries(): number {
    return this.#retries
  }

  /** Why the last attempt or connection ended; undefined if the lane is open. */
  get lastError(): DbError | undefined {
    return this.#lastError
  }

  /** Bytes accepted and not yet handed to the operating system. */
  get queuedBytes(): number {
    return this.#pendingBytes + (this.#socket?.writableLength ?? 0)
  }

  start(): void {
    assert(!this.#isStarted, 'a lane is started once')
    this.#isStarted = true
    this.#dial()
  }

  stop(): void {
    this.#isStarted = false
    this.#redialTimer?.cancel()
    this.#giveUp?.()
    this.#giveUp = undefined
    this.#close()
  }

  /** The peer has just shown life: a pause that waits for it to come back ends. */
  wake(): void {
    if (this.#redialTimer === undefined || !this.#isPassing()) return
    this.#redialTimer.cancel()
    this.#redialTimer = undefined
    this.#dial()
  }

  /** False if the frame was dropped. The bytes belong to the lane and must not change any more. */
  send(body: Uint8Array): boolean {
    assert(body.length > 0, 'a frame holds at least one byte')
    const socket = this.#socket
    if (socket === undefined) return false
    const { lane, limits, peer, logger } = this.#options
    if (body.length > FRAME_BODY_BYTES_MAX) {
      const facts = { peer: peer.nodeId, lane, sizeBytes: body.length, max: FRAME_BODY_BYTES_MAX }
      logger.error(facts, 'a frame is larger than any may be and was dropped')
      return false
    }
    const sizeBytes = FRAME_HEADER_BYTES + body.length
    if (this.queuedBytes + sizeBytes > limits.laneBytesMax[lane]) return false
    this.#pending.push(body)
    this.#pendingBytes += sizeBytes
    // Everything that this turn of the event loop sends goes out in one system call.
    this.#flush ??= setImmediate(() => this.#flushPending(socket))
    return true
  }

  #flushPending(socket: Duplex): void {
    this.#flush = undefined
    const bodies = this.#pending
    this.#pending = []
    this.#pendingBytes = 0
    this.#write(socket, encodeFrames(bodies))
  }

  #write(socket: Duplex, chunks: readonly Uint8Array[]): void {
    const nowMs = this.#options.clock.monotonicMs()
    if (this.#sentBytes === this.#confirmedBytes) this.#waitingSinceMs = nowMs
    this.#lastSendMs = nowMs
    socket.cork()
    for (const chunk of chunks) {
      this.#sentBytes += chunk.length
      socket.write(chunk)
    }
    socket.uncork()
  }

  #dial(): void {
    const { facts, peer, lane, limits, clock, random } = this.#options
    const { host, port } = parseAddress(peer.address)
    const startedMs = clock.monotonicMs()
    const call: ClientRequest = request({
      host,
      port,
      path: '/replicate',
      headers: { connection: 'Upgrade', upgrade: UPGRADE_PROTOCOL },
      agent: false,
    })
    let isOver = false
    let upgraded: Duplex | undefined
    let detach: (() => void) | undefined
    const end = (): void => {
      isOver = true
      deadline.cancel()
      detach?.()
      upgraded?.destroy()
      call.destroy()
    }
    const fail = (error: DbError): void => {
      if (isOver) return
      end()
      this.#giveUp = undefined
      this.#failed(error)
    }
    const deadline = clock.setTimer(limits.handshakeTimeoutMs, () => {
      fail(new DbError('NOT_READY', `no answer within ${limits.handshakeTimeoutMs} ms`))
    })
    this.#giveUp = end
    call.on('error', (error: NodeJS.ErrnoException) => {
      fail(new DbError('NOT_READY', error.message, { cause: error }))
      if (error.code === 'ECONNREFUSED' && this.#isStarted) this.#options.onAbsent()
    })
    call.on('response', response => fail(answerError(response)))
    call.on('upgrade', (_response, socket, head) => {
      deadline.cancel()
      upgraded = socket
      // An error without a listener would end the process; what broke is told by 'close'.
      socket.on('error', () => {})
      const handshake = new DialerHandshake(facts, peer, lane, random.bytes(32))
      detach = runHandshake({
        socket,
        head,
        handshake,
        hello: handshake.hello,
        timeoutMs: limits.handshakeTimeoutMs - (clock.monotonicMs() - startedMs),
        clock,
        onFailed: fail,
        onDone: (_step, rest) => {
          isOver = true
          this.#giveUp = undefined
          this.#opened(socket, rest)
        },
      })
    })
    call.end()
  }

  #failed(error: DbError): void {
    const { peer, lane, logger } = this.#options
    const facts = { peer: peer.nodeId, address: peer.address, lane, retries: this.#retries, error }
    const isNews = this.#lastError?.message !== error.message
    this.#lastError = error
    this.#retries += 1
    this.#backoffSteps += 1
    if (isNews && !this.#isPassing()) logger.warn(facts, 'a peer can not be used')
    else if (isNews) logger.info(facts, 'a peer can not be reached')
    this.#redialLater()
    if (!this.#isPassing()) this.#options.onRefused(error)
  }

  #redialLater(): void {
    const { limits, clock, random } = this.#options
    const exponent = Math.min(Math.max(this.#backoffSteps - 1, 0), 20)
    const backoffMs = Math.min(limits.backoffMsMin * 2 ** exponent, limits.backoffMsMax)
    const pauseMs = this.#isPassing() ? backoffMs : limits.refusedMs
    // Between half and all of the pause, so that nodes which lost each other don't dial in step.
    const jitteredMs = pauseMs / 2 + (random.below(1001) / 1000) * (pauseMs / 2)
    this.#redialTimer = clock.setTimer(jitteredMs, () => {
      this.#redialTimer = undefined
      this.#dial()
    })
  }

  #isPassing(): boolean {
    return this.#lastError === undefined || PASSING.includes(this.#lastError.code)
  }

  #opened(socket: Duplex, rest: Uint8Array): void {
    const { clock, peer, lane, logger } = this.#options
    if (socket instanceof Socket) socket.setNoDelay(true)
    const retries = this.#retries
    this.#socket = socket
    this.#retries = 0
    this.#lastError = undefined
    this.#sentBytes = 0
    this.#confirmedBytes = 0
    this.#confirmation = Buffer.alloc(0)
    this.#openedMs = clock.monotonicMs()
    this.#lastSendMs = this.#openedMs
    let cause = 'the peer closed the connection'
    socket.on('data', (chunk: Uint8Array) => this.#confirmed(chunk))
    socket.on('end', () => socket.destroy())
    socket.on('error', error => {
      cause = error.message
    })
    socket.on('close', () => this.#lost(socket, cause))
    logger.info({ peer: peer.nodeId, address: peer.address, lane, retries }, 'a lane is open')
    this.#options.onContact()
    this.#watch(socket)
    if (rest.length > 0) this.#confirmed(rest)
    this.#options.onOpen(retries)
  }

  #confirmed(chunk: Uint8Array): void {
    const bytes = Buffer.concat([this.#confirmation, chunk])
    const end = bytes.length - (bytes.length % 8)
    this.#confirmation = bytes.subarray(end)
    this.#options.onContact()
    if (end === 0) return
    const count = Number(bytes.readBigUInt64BE(end - 8))
    if (count <= this.#confirmedBytes) return
    this.#confirmedBytes = count
    this.#waitingSinceMs = this.#options.clock.monotonicMs()
  }

  /** Looks once per ping interval whether the lane is idle or dead. */
  #watch(socket: Duplex): void {
    const { clock, limits } = this.#options
    const dueMs = clock.monotonicMs() + limits.pingMs
    this.#watchTimer = clock.setTimer(limits.pingMs, () => {
      const nowMs = clock.monotonicMs()
      // After a stall of this very process the confirmations wait unread: judge the next time.
      const wasAwake = nowMs - dueMs < limits.pingMs
      const isWaiting = this.#confirmedBytes < this.#sentBytes
      if (wasAwake && isWaiting && nowMs - this.#waitingSinceMs > limits.stallMs) {
        this.#lost(socket, `nothing was confirmed for ${limits.stallMs} ms`)
        return
      }
      if (nowMs - this.#lastSendMs >= limits.pingMs) this.#write(socket, [PING])
      this.#watch(socket)
    })
  }

  #lost(socket: Duplex, reason: string): void {
    if (this.#socket !== socket) return
    this.#close()
    const { peer, lane, logger, clock, limits } = this.#options
    const livedMs = clock.monotonicMs() - this.#openedMs
    // A lane that opens and breaks again and again is not dialled faster than one that never opens.
    this.#backoffSteps = livedMs > limits.backoffMsMax ? 0 : this.#backoffSteps + 1
    this.#lastError = new DbError('NOT_READY', `the connection was lost: ${reason}`)
    logger.info({ peer: peer.nodeId, address: peer.address, lane, reason }, 'a lane is lost')
    if (this.#isStarted) this.#redialLater()
    this.#options.onClosed(reason)
  }

  #close(): void {
    const socket = this.#socket
    this.#socket = undefined
    this.#watchTimer?.cancel()
    clearImmediate(this.#flush)
    this.#flush = undefined
    this.#pending = []
    this.#pendingBytes = 0
    socket?.destroy()
  }
}

function answerError(response: IncomingMessage): DbError {
  response.resume()
  return new DbError(
    'NOT_READY',
    `the address answers with HTTP status ${response.statusCode} instead of opening a lane`,
  )
}
