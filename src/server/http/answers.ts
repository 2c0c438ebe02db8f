/** What the handlers of all routes share: their context, JSON bodies in, answers about data out. */
import type { z } from 'zod'
import { DbError } from '../../base/errors.ts'
import { parseShape } from '../../protocol/parse-shape.ts'
import { encodeToken, tokenPrefix } from '../../protocol/token.ts'
import type { JsonReadAnswer } from '../../replica/types.ts'
import type { NodeIdentity, Service } from '../service.ts'
import type { Crowd } from './crowd.ts'
import type { Asker, Exchange } from './exchange.ts'
import type { Metrics } from './metrics.ts'
import { parseBody, readBody, type ReceiveBudget } from './read-body.ts'
import type { SendRate } from './send-rate.ts'
import type { UnreadAnswers } from './unread.ts'
import type { Turns } from './turns.ts'

export interface HandlerOptions {
  readonly maxBodyBytes: number
  /** Bytes of all bodies that are being received. */
  readonly maxReceivingBytes: number
  /** Deadline of a write, or read, that names none itself. */
  readonly writeTimeoutMs: number
  readonly readTimeoutMs: number
  readonly maxResultRows: number
  readonly maxResultBytes: number
  /** Within this time a request must have arrived whole, and a long answer move on. */
  readonly receiveTimeoutMs: number
  /** Who sends on without waiting is not read for so long at most, while too many writes wait. */
  readonly maxQueuedMs: number
  /** An unused connection is closed after this time. */
  readonly keepAliveMs: number
  /** What all snapshots that are read from this node may take together. */
  readonly snapshotBytesPerSecond: number
}

/** A stream of requests, as far as the listener knows it. */
export interface OpenStream {
  /** Takes no more lines, and ends its answer when all that were taken are answered. */
  stop(): void
}

/** What handlers work with. */
export interface HandlerContext {
  readonly service: Service
  readonly options: HandlerOptions
  readonly metrics: Metrics
  readonly budget: ReceiveBudget
  readonly connections: () => number
  readonly snapshotRate: SendRate
  readonly turns: Turns
  readonly crowd: Crowd
  readonly unread: UnreadAnswers
  /** Streams that are open. */
  readonly streams: Set<OpenStream>
  /** No new stream is begun: the clients are to go. */
  readonly isDraining: () => boolean
  /** Has the connection of a write wait if it must; why the write is refused, if it is. */
  readonly beginWrite: (exchange: Exchange) => DbError | undefined
  /** Runs `action`; what it throws becomes the error answer. */
  readonly guard: (asker: Asker, action: () => void) => void
}

/** Bodies that hold a deadline, if anything. */
const SHORT_BODY_BYTES_MAX = 4096

/** Answers one request. */
export type Handler = (exchange: Exchange, context: HandlerContext, search: URLSearchParams) => void

/** Reads a body that must be JSON, and hands it on; what `handle` throws becomes the answer. */
export function withJson(
  exchange: Exchange,
  context: HandlerContext,
  handle: (json: unknown) => void,
): void {
  requireJson(exchange)
  readBody(exchange, context.options.maxBodyBytes, context.budget, body =>
    context.guard(exchange, () => handle(parseBody(body))),
  )
}

/** Reads a short body that may also be empty, and hands on what `schema` makes of it. */
export function withOptionalBody<Schema extends z.ZodType>(
  exchange: Exchange,
  context: HandlerContext,
  schema: Schema,
  handle: (fields: z.output<Schema>) => void,
): void {
  readBody(exchange, SHORT_BODY_BYTES_MAX, context.budget, body =>
    context.guard(exchange, () =>
      handle(parseShape(schema, body.length === 0 ? {} : parseBody(body), '')),
    ),
  )
}

/**
 * A page in a browser may send text or a form to any address without being asked; JSON it may not.
 * So this line keeps strange web sites from writing to a node on the reader's own machine.
 */
function requireJson(exchange: Exchange): void {
  const type = exchange.request.headers['content-type'] ?? ''
  if (type !== 'application/json' && !/^application\/json\s*(;|$)/i.test(type)) {
    throw new DbError('INVALID_REQUEST', 'send the header content-type: application/json')
  }
  refuseEncoding(exchange)
}

/** What is packed can't be read. Throws INVALID_REQUEST. */
export function refuseEncoding({ request: { headers } }: Exchange): void {
  const encoding = headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') {
    throw new DbError(
      'INVALID_REQUEST',
      `content-encoding ${encoding} is not understood; send it plain`,
    )
  }
}

/** Answers with results, as they are at `index`; `more` as `,"name":value`. */
export function sendResults(
  asker: Asker,
  identity: NodeIdentity,
  results: string,
  index: number,
  more = '',
): void {
  asker.sendJson(`{"results":${results},${proof(asker, identity, index)}${more}}`)
}

/** Up to here one text of head and body costs less than pieces. */
const SHORT_JSON_BYTES = 16 * 1024

/** Answers with the results of a read. Many rows are passed through as the bytes that they are. */
export function sendRows(
  asker: Asker,
  identity: NodeIdentity,
  { json, index }: JsonReadAnswer,
): void {
  const bytes = Buffer.from(json.buffer, json.byteOffset, json.length)
  if (bytes.length <= SHORT_JSON_BYTES) sendResults(asker, identity, bytes.toString(), index)
  else asker.sendJson([RESULTS, bytes, Buffer.from(`,${proof(asker, identity, index)}}`)])
}

const RESULTS = Buffer.from('{"results":')

/** What every answer about data ends with: token, index, node, durationMs. */
export function proof(asker: Asker, identity: NodeIdentity, index: number): string {
  const token = encodeToken(tokenPrefix(identity.historyId, identity.groupId), index)
  const durationMs = roundedMs(asker)
  const node = JSON.stringify(identity.nodeId)
  return `"token":"${token}","index":${index},"node":${node},"durationMs":${durationMs}`
}

/** How long an answer took, in microseconds: more digits say nothing. */
export function roundedMs({ durationMs }: Asker): number {
  return Math.round(durationMs * 1000) / 1000
}

/** An entry that is committed: what is first sent from now on takes effect by a later one. */
export function entryNow(service: Service): number {
  const status = service.status()
  // After a restart a node knows only later how far the log is committed.
  return Math.max(status?.log.commitIndex ?? 0, status?.appliedIndex ?? 0)
}

/** Who the node is. Throws NOT_READY while it isn't anybody. */
export function founded(service: Service): NodeIdentity {
  const identity = service.identity()
  if (identity !== undefined) return identity
  const message = `node ${service.nodeId} is starting or waits for its cluster to be founded`
  throw new DbError('NOT_READY', message)
}
