/** One HTTP request and its answer: sends exactly one, and none to a client that has gone. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { pipeline } from 'node:stream'
import { ERRORS, type DbError } from '../../base/errors.ts'
import type { ErrorResponse } from '../../protocol/http-api.ts'
import type { RouteName } from '../../protocol/routes.ts'

/** Whoever asked for something and gets one answer: an HTTP request, or a line of a stream. */
export interface Asker {
  /** Undefined for a path that is no route. */
  readonly route: RouteName | undefined
  /** Milliseconds since it asked. */
  readonly durationMs: number
  /** JSON as text, or as pieces of UTF-8 that stay as they are. */
  sendJson(json: string | readonly Buffer[]): void
  /** `headers`, where the answer has its own: name, value, name, value. */
  sendError(error: DbError, headers?: readonly string[]): void
}

/** Told once per request, when it is answered or its client has gone (`status` 0). */
type ExchangeEnd = (exchange: Exchange, status: number) => void

/** What the exchanges of one server have in common. */
export interface ExchangeSettings {
  /** For every answer: name, value, name, value. */
  readonly headers: readonly string[]
  /** A client that takes nothing of a long answer for so long is cut off. */
  readonly sendTimeoutMs: number
  readonly onEnd: ExchangeEnd
  /** An answer must wait for those before it on its connection, or waits no more (less than 0). */
  readonly onHeld: (exchange: Exchange, sizeBytes: number) => void
}

/** Seconds, for clients that know nothing of the error's own words. */
const RETRY_AFTER = ['retry-after', '1']
/** What the system takes off our hands at once; only a longer answer can be held up. */
const SHORT_ANSWER_BYTES = 64 * 1024

export class Exchange implements Asker {
  readonly request: IncomingMessage
  readonly route: RouteName | undefined
  readonly startedMs: number = performance.now()
  readonly #response: ServerResponse
  readonly #settings: ExchangeSettings
  /** Of its answer, what is kept here because answers before it are not out yet. */
  heldBytes = 0
  #isEnded = false
  #isPiecewise = false
  #sentBytes = 0

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    route: RouteName | undefined,
    settings: ExchangeSettings,
  ) {
    this.request = request
    this.route = route
    this.#response = response
    this.#settings = settings
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  /** Its answer is written piece by piece, while the body may still be coming in. */
  get isPiecewise(): boolean {
    return this.#isPiecewise
  }

  get durationMs(): number {
    return performance.now() - this.startedMs
  }

  /** Bytes of its answer. */
  get sentBytes(): number {
    return this.#sentBytes
  }

  sendJson(json: string | readonly Buffer[]): void {
    this.send(200, 'application/json', json)
  }

  /** The error's row of the table decides the status. */
  sendError(error: DbError, headers: readonly string[] = []): void {
    const all = error.code === 'OVERLOADED' ? [...RETRY_AFTER, ...headers] : headers
    this.send(ERRORS[error.code].http, 'application/json', errorText(error), all)
  }

  send(
    status: number,
    contentType: string,
    body: string | readonly Buffer[],
    headers: readonly string[] = [],
  ): void {
    if (this.#isEnded) return
    const sizeBytes =
      typeof body === 'string'
        ? Buffer.byteLength(body)
        : body.reduce((sum, piece) => sum + piece.length, 0)
    const head = [
      'content-type',
      contentType,
      'content-length',
      String(sizeBytes),
      ...headers,
      ...this.#settings.headers,
    ]
    if (sizeBytes > SHORT_ANSWER_BYTES) {
      this.request.socket.setTimeout(this.#settings.sendTimeoutMs)
    }
    if (!this.#response.destroyed && !this.request.socket.destroyed) {
      this.#sentBytes = sizeBytes
      if (this.#response.socket === null) this.#holdAnswer(sizeBytes)
      this.#write(this.#response.writeHead(status, head), body)
    }
    this.#end(status)
  }

  /**
   * Sends `sizeBytes` bytes of a stream, as fast as the client takes them; `admit` may hold each
   * piece back. The connection breaks if the stream does, or ends too soon.
   */
  stream(sizeBytes: number, pieces: AsyncIterable<Uint8Array>): void {
    const response = this.#response
    this.request.socket.setTimeout(this.#settings.sendTimeoutMs)
    response.writeHead(200, [
      'content-type',
      'application/octet-stream',
      'content-length',
      String(sizeBytes),
      ...this.#settings.headers,
    ])
    pipeline(pieces, response, error => {
      if (error !== undefined && error !== null) response.destroy()
      if (!this.#isEnded) this.#end(error === undefined || error === null ? 200 : 0)
    })
  }

  /**
   * Begins an answer of unknown length and sends its head at once, so that the client knows that it
   * may go on sending. The caller writes and ends it, calls {@link finish}, and closes the
   * connection where it is to be closed: what the client still sends must be read before.
   */
  beginPieces(contentType: string): ServerResponse {
    this.#isPiecewise = true
    // A proxy between that would gather pieces is asked not to.
    const head = ['content-type', contentType, 'x-accel-buffering', 'no', ...this.#settings.headers]
    this.#response.writeHead(200, [...head, 'connection', 'keep-alive']).flushHeaders()
    return this.#response
  }

  /** An answer in pieces is complete. */
  finish(): void {
    if (!this.#isEnded) this.#end(200)
  }

  /** The client has gone before its request was complete: nobody is left to answer. */
  abandon(): void {
    if (!this.#isEnded) this.#end(0)
  }

  /** All of it leaves in one write with the head, which was not flushed yet. */
  #write(response: ServerResponse, body: string | readonly Buffer[]): void {
    if (typeof body === 'string') {
      response.end(body)
      return
    }
    for (const piece of body) response.write(piece)
    response.end()
  }

  /** Until it is its turn on a connection whose answers go out in order. */
  #holdAnswer(sizeBytes: number): void {
    this.#settings.onHeld(this, sizeBytes)
    this.#response.once('close', () => this.#settings.onHeld(this, -sizeBytes))
  }

  #end(status: number): void {
    this.#isEnded = true
    this.#settings.onEnd(this, status)
  }
}

/** Of errors that many are answered with, while too many ask. */
const texts = new WeakMap<DbError, string>()

/** The body of every error answer. */
export function errorText(error: DbError): string {
  if (error.code !== 'OVERLOADED') return toText(error)
  const known = texts.get(error)
  if (known !== undefined) return known
  const text = toText(error)
  texts.set(error, text)
  return text
}

function toText({ code, message, fate, retry, details }: DbError): string {
  const answer: ErrorResponse = { error: { code, message, fate, retry, details } }
  return JSON.stringify(answer)
}
