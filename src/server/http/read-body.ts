/** Reads the body of a request, bounded in bytes. Its time is bounded by the server's own limit. */
import { isUtf8 } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { DbError } from '../../base/errors.ts'
import { parseJson, type Json } from '../../protocol/json.ts'
import type { Exchange } from './exchange.ts'
import { Gathered } from './gathered.ts'

/** What is read and thrown away of a body that is too large, so that its sender sees the answer. */
const DISCARD_BYTES_MAX = 64 * 1024 * 1024

/** Bounds the bytes of all bodies that are being received, however many clients send. */
export class ReceiveBudget {
  readonly #limitBytes: number
  #usedBytes = 0

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  /** False if there is no room; then nothing was taken. */
  take(bytes: number): boolean {
    if (this.#usedBytes + bytes > this.#limitBytes) return false
    this.#usedBytes += bytes
    return true
  }

  give(bytes: number): void {
    this.#usedBytes -= bytes
  }
}

/** What the client says its body has; 0 if it doesn't say. */
export function announcedBytes(request: IncomingMessage): number {
  return Number(request.headers['content-length'] ?? 0)
}

/** Gives the whole body to `done`, or answers the client itself if that can't be. */
export function readBody(
  exchange: Exchange,
  maxBytes: number,
  budget: ReceiveBudget,
  done: (body: Buffer) => void,
): void {
  const { request } = exchange
  if (announcedBytes(request) > maxBytes) {
    refuse(exchange, tooLarge(maxBytes))
    return
  }
  const gathered = new Gathered()
  const letGo = (): void => {
    budget.give(gathered.sizeBytes)
    gathered.clear()
  }
  request.on('data', (chunk: Buffer) => {
    if (exchange.isEnded) return
    // What has arrived counts, not what was announced: a promise takes no memory.
    const isTooLarge = gathered.sizeBytes + chunk.length > maxBytes
    if (isTooLarge || !budget.take(chunk.length)) {
      letGo()
      refuse(exchange, isTooLarge ? tooLarge(maxBytes) : tooMuch())
      return
    }
    gathered.push(chunk)
  })
  request.on('end', () => {
    if (exchange.isEnded) return
    budget.give(gathered.sizeBytes)
    done(gathered.take())
  })
  request.on('close', () => {
    letGo()
    if (!request.complete) exchange.abandon()
  })
}

/** For a body, or a line of a stream, that is over the limit. */
export function tooLarge(limitBytes: number, what = 'body'): DbError {
  const message = `the ${what} is over the limit of ${limitBytes} bytes; send it in smaller parts`
  return new DbError('TOO_LARGE', message, { details: { limitBytes } })
}

/** For what came when the {@link ReceiveBudget} was used up. */
export function tooMuch(): DbError {
  const message = 'the node is receiving too many large bodies at once; send it again later'
  return new DbError('OVERLOADED', message)
}

/** Answers, and reads on: to close at once would reset the connection before the client knows. */
function refuse(exchange: Exchange, error: DbError): void {
  exchange.sendError(error)
  let discardedBytes = 0
  exchange.request.on('data', (chunk: Buffer) => {
    discardedBytes += chunk.length
    if (discardedBytes > DISCARD_BYTES_MAX) exchange.request.socket.destroy()
  })
}

/** The JSON of a body, or of a line of a stream. Throws INVALID_REQUEST. */
export function parseBody(body: Buffer, what = 'body'): Json {
  if (!isUtf8(body)) throw new DbError('INVALID_REQUEST', `the ${what} is not UTF-8`)
  try {
    return parseJson(body.toString())
  } catch (error) {
    const problem = error instanceof SyntaxError ? error.message : 'it is nested too deeply'
    throw new DbError('INVALID_REQUEST', `the ${what} is not JSON: ${problem}`, { cause: error })
  }
}
