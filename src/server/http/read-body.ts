/** Reads the body of a request, bounded in bytes. Its time is bounded by the server's own limit. */
import { isUtf8 } from 'node:buffer'
import { DbError } from '../../base/errors.ts'
import { parseJson, type Json } from '../../protocol/json.ts'
import type { Exchange } from './exchange.ts'

/** What is read and thrown away of a body that is too large, so that its sender sees the answer. */
const DISCARD_BYTES_MAX = 64 * 1024 * 1024

/** Gives the whole body to `done`, or answers the client itself if that can't be. */
export function readBody(exchange: Exchange, maxBytes: number, done: (body: Buffer) => void): void {
  const { request } = exchange
  const announced = Number(request.headers['content-length'] ?? 0)
  if (announced > maxBytes) {
    refuse(exchange, maxBytes)
    return
  }
  const chunks: Buffer[] = []
  let sizeBytes = 0
  request.on('data', (chunk: Buffer) => {
    sizeBytes += chunk.length
    if (sizeBytes <= maxBytes) chunks.push(chunk)
    else if (!exchange.isEnded) refuse(exchange, maxBytes)
  })
  request.on('end', () => {
    const [first] = chunks
    if (sizeBytes <= maxBytes) {
      done(chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks, sizeBytes))
    }
  })
  request.on('close', () => {
    if (!request.complete) exchange.abandon()
  })
}

function refuse(exchange: Exchange, maxBytes: number): void {
  const message = `the body is over the limit of ${maxBytes} bytes; send it in smaller parts`
  exchange.sendError(new DbError('TOO_LARGE', message, { details: { limitBytes: maxBytes } }))
  // Closing at once would reset the connection before the client has read why.
  let discardedBytes = 0
  exchange.request.on('data', (chunk: Buffer) => {
    discardedBytes += chunk.length
    if (discardedBytes > DISCARD_BYTES_MAX) exchange.request.socket.destroy()
  })
}

/** The JSON of a body. Throws INVALID_REQUEST. */
export function parseBody(body: Buffer): Json {
  if (!isUtf8(body)) throw new DbError('INVALID_REQUEST', 'the body is not UTF-8')
  try {
    return parseJson(body.toString())
  } catch (error) {
    const problem = error instanceof SyntaxError ? error.message : 'it is nested too deeply'
    throw new DbError('INVALID_REQUEST', `the body is not JSON: ${problem}`, { cause: error })
  }
}
