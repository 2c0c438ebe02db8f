/** What each route does: check the request, hand it to the node, encode the answer. */
import { DbError } from '../../base/errors.ts'
import { digestSchema, transferSchema } from '../../protocol/http-api.ts'
import type { HealthResponse, TransferResponse } from '../../protocol/http-api.ts'
import { parseShape } from '../../protocol/parse-shape.ts'
import { parseExecute, parseQuery, readOptions } from '../../protocol/parse-request.ts'
import type { ExecuteRequest, QueryRequest } from '../../protocol/parse-request.ts'
import type { RouteName } from '../../protocol/routes.ts'
import { encodeToken, tokenPrefix } from '../../protocol/token.ts'
import type { Outcome, ReadAnswer, ReadOptions } from '../../replica/types.ts'
import type { NodeIdentity, Service } from '../service.ts'
import { encodeResults, toItemError } from './encode-results.ts'
import type { Exchange } from './exchange.ts'
import type { Metrics } from './metrics.ts'
import { parseBody, readBody, type ReceiveBudget } from './read-body.ts'
import { nodesJson, statusJson, whyNotReady } from './status-json.ts'

export interface HandlerOptions {
  readonly maxBodyBytes: number
  /** Bytes of all bodies that are being received. */
  readonly maxReceivingBytes: number
  /** Deadline of a write, or read, that names none itself. */
  readonly writeTimeoutMs: number
  readonly readTimeoutMs: number
  readonly maxResultRows: number
  readonly maxResultBytes: number
}

/** What handlers work with. */
export interface HandlerContext {
  readonly service: Service
  readonly options: HandlerOptions
  readonly metrics: Metrics
  readonly budget: ReceiveBudget
  readonly connections: () => number
  /** Runs `action`; what it throws becomes the exchange's error answer. */
  readonly guard: (exchange: Exchange, action: () => void) => void
}

type Handler = (exchange: Exchange, context: HandlerContext, search: URLSearchParams) => void

/** A founding message is a few hundred bytes. */
const JOIN_BYTES_MAX = 64 * 1024
const DATABASES_MS_MAX = 250

/** One handler for each route that is answered here; `/replicate` is an Upgrade (server.ts). */
export const HANDLERS: Readonly<Record<RouteName, Handler>> = {
  execute: (exchange, context) =>
    withJson(exchange, context, json => execute(exchange, context, parseExecute(json))),
  query: (exchange, context) =>
    withJson(exchange, context, json => query(exchange, context, parseQuery(json))),
  digest,
  status: (exchange, { service, connections }) => {
    const send = (names: readonly string[] | null): void =>
      exchange.sendJson(JSON.stringify(statusJson(service, names, connections())))
    if (service.status()?.engine !== 'ready') {
      send(null)
      return
    }
    // The names come from an engine, which may be busy. The status must not wait for it.
    const timer = setTimeout(send, DATABASES_MS_MAX, null)
    service.databases(names => {
      clearTimeout(timer)
      send(names)
    })
  },
  nodes: (exchange, { service }) => exchange.sendJson(JSON.stringify(nodesJson(service))),
  live: (exchange, { service }) => sendHealth(exchange, { status: 'live', node: service.nodeId }),
  ready: (exchange, { service }) => {
    const reason = whyNotReady(service)
    if (reason !== undefined) exchange.sendError(reason)
    else sendHealth(exchange, { status: 'ready', node: service.nodeId })
  },
  metrics: (exchange, { metrics }) => {
    metrics.text().then(
      text => exchange.send(200, metrics.contentType, text),
      (error: unknown) =>
        exchange.sendError(new DbError('INTERNAL', 'metrics could not be read', { cause: error })),
    )
  },
  transfer: (exchange, context) =>
    readBody(exchange, JOIN_BYTES_MAX, context.budget, body =>
      context.guard(exchange, () => {
        parseShape(transferSchema, body.length === 0 ? {} : parseBody(body), '')
        transfer(exchange, context.service)
      }),
    ),
  join: (exchange, { service, budget }) =>
    readBody(exchange, JOIN_BYTES_MAX, budget, body => {
      service.join({ body, headers: exchange.request.headers }, answer => {
        if (answer.type === 'failed') exchange.sendError(answer.error)
        else exchange.sendJson(JSON.stringify(answer.json))
      })
    }),
  replicate: exchange => {
    const message = 'nodes speak to /replicate by an HTTP Upgrade; clients use /execute and /query'
    exchange.sendError(new DbError('INVALID_REQUEST', message))
  },
}

function withJson(
  exchange: Exchange,
  context: HandlerContext,
  handle: (json: unknown) => void,
): void {
  requireJson(exchange)
  readBody(exchange, context.options.maxBodyBytes, context.budget, body =>
    context.guard(exchange, () => handle(parseBody(body))),
  )
}

/**
 * A page in a browser may send text or a form to any address without being asked; JSON it may not.
 * So this line keeps strange web sites from writing to a node on the reader's own machine.
 */
function requireJson(exchange: Exchange): void {
  const { headers } = exchange.request
  const type = headers['content-type'] ?? ''
  if (type !== 'application/json' && !/^application\/json\s*(;|$)/i.test(type)) {
    throw new DbError('INVALID_REQUEST', 'send the header content-type: application/json')
  }
  const encoding = headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') {
    throw new DbError(
      'INVALID_REQUEST',
      `content-encoding ${encoding} is not understood; send it plain`,
    )
  }
}

function execute(exchange: Exchange, context: HandlerContext, request: ExecuteRequest): void {
  const { service, options } = context
  const { operation, timeoutMs, rows, statementCounts } = request
  if (request.isRead && operation.type === 'statements') {
    const { database, statements } = operation
    const read = { database, statements, timeoutMs, rows, maxLagMs: undefined, token: undefined }
    query(exchange, context, { ...read, consistency: 'linearizable' })
    return
  }
  const identity = founded(service)
  const deadline = { timeoutMs: timeoutMs ?? options.writeTimeoutMs }
  service.execute(operation, deadline, outcome => {
    if (outcome.type === 'failed') {
      exchange.sendError(toItemError(outcome.error, statementCounts))
      return
    }
    // A database is made or dropped without a statement; its Command has a result all the same.
    const results =
      operation.type === 'statements'
        ? encodeResults(outcome.results, statementCounts, rows)
        : '[{"rowsAffected":0}]'
    sendResults(exchange, identity, results, outcome.index)
  })
}

function query(exchange: Exchange, context: HandlerContext, request: QueryRequest): void {
  const { service, options } = context
  const { database, statements, rows } = request
  const identity = founded(service)
  const { maxResultRows: maxRows, maxResultBytes: maxBytes } = options
  const done = (outcome: Outcome<ReadAnswer>): void => {
    if (outcome.type === 'failed') {
      exchange.sendError(outcome.error)
      return
    }
    const results = encodeResults(outcome.value.results, undefined, rows)
    sendResults(exchange, identity, results, outcome.value.index)
  }
  const read = { database, statements, maxRows, maxBytes }
  service.query(read, toReadOptions(request, identity, options), done)
}

function toReadOptions(
  request: Pick<QueryRequest, 'consistency' | 'token' | 'maxLagMs' | 'timeoutMs'>,
  identity: NodeIdentity,
  options: HandlerOptions,
): ReadOptions {
  const { consistency, token, maxLagMs } = request
  const timeoutMs = request.timeoutMs ?? options.readTimeoutMs
  if (token !== undefined) {
    const { historyId, groupId } = identity
    if (token.historyId !== historyId || token.groupId !== groupId) {
      const message = 'atLeast is a token of another cluster or of an earlier history of this one'
      throw new DbError('INVALID_REQUEST', `${message}; forget it and read linearizable`)
    }
    return { consistency, atLeastIndex: token.index, timeoutMs }
  }
  return maxLagMs === undefined ? { consistency, timeoutMs } : { consistency, maxLagMs, timeoutMs }
}

function digest(exchange: Exchange, context: HandlerContext, search: URLSearchParams): void {
  const { service, options } = context
  const fields = Object.fromEntries(search)
  const { database, table, ...given } = parseShape(digestSchema, fields, '')
  const identity = founded(service)
  const request = table === undefined ? { database } : { database, table }
  const read = toReadOptions(readOptions(given), identity, options)
  service.digest(request, read, outcome => {
    if (outcome.type === 'failed') {
      exchange.sendError(outcome.error)
      return
    }
    const { index, rows, digest } = outcome.value
    const text = JSON.stringify({ ...request, digest, rowCount: rows })
    exchange.sendJson(`${text.slice(0, -1)},${proof(exchange, identity, index)}}`)
  })
}

function transfer(exchange: Exchange, service: Service): void {
  const isTransferring = service.status()?.log.role === 'leader'
  if (isTransferring) service.transferLeadership()
  const answer: TransferResponse = { node: service.nodeId, isTransferring }
  exchange.sendJson(JSON.stringify(answer))
}

function sendHealth(exchange: Exchange, answer: HealthResponse): void {
  exchange.sendJson(JSON.stringify(answer))
}

function sendResults(
  exchange: Exchange,
  identity: NodeIdentity,
  results: string,
  index: number,
): void {
  exchange.sendJson(`{"results":${results},${proof(exchange, identity, index)}}`)
}

/** What every answer about data ends with: token, index, node, durationMs. */
function proof(exchange: Exchange, identity: NodeIdentity, index: number): string {
  const token = encodeToken(tokenPrefix(identity.historyId, identity.groupId), index)
  const durationMs = Math.round(exchange.durationMs * 1000) / 1000
  const node = JSON.stringify(identity.nodeId)
  return `"token":"${token}","index":${index},"node":${node},"durationMs":${durationMs}`
}

function founded(service: Service): NodeIdentity {
  const identity = service.identity()
  if (identity !== undefined) return identity
  const message = `node ${service.nodeId} is starting or waits for its cluster to be founded`
  throw new DbError('NOT_READY', message)
}
