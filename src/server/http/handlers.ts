/** What each route does: check the request, hand it to the node, encode the answer. */
import { randomBytes } from 'node:crypto'
import { DbError } from '../../base/errors.ts'
import {
  cancelSchema,
  digestSchema,
  sessionsSchema,
  backupSchema,
  transferSchema,
} from '../../protocol/http-api.ts'
import type {
  FateResponse,
  HealthResponse,
  SessionResponse,
  TransferResponse,
} from '../../protocol/http-api.ts'
import { parseShape } from '../../protocol/parse-shape.ts'
import { parseExecute, parseQuery, readOptions } from '../../protocol/parse-request.ts'
import type { ExecuteRequest, QueryRequest } from '../../protocol/parse-request.ts'
import {
  encodeSession,
  KEY_HEADER,
  REQUEST_HEADER,
  SESSION_WINDOW,
} from '../../protocol/request-id.ts'
import type { RouteName } from '../../protocol/routes.ts'
import type { Outcome, ReadAnswer, ReadOptions, WriteOutcome } from '../../replica/types.ts'
import type { NodeIdentity, Service } from '../service.ts'
import {
  entryNow,
  founded,
  type Handler,
  type HandlerContext,
  type HandlerOptions,
  proof,
  sendResults,
  withJson,
  withOptionalBody,
} from './answers.ts'
import { encodeResults, toItemError } from './encode-results.ts'
import type { Exchange } from './exchange.ts'
import { readBody } from './read-body.ts'
import { requestIdOf } from './request-header.ts'
import { backup, snapshot } from './snapshot.ts'
import { nodesJson, statusJson, whyNotReady } from './status-json.ts'
import { isForwarded, MEMBER_HANDLERS } from './members.ts'
import { TRANSACTION_HANDLERS } from './transactions.ts'

/** A founding message is a few hundred bytes. */
const JOIN_BYTES_MAX = 64 * 1024
const DATABASES_MS_MAX = 250

/** One handler for each route that is answered here; `/replicate` is an Upgrade (server.ts). */
export const HANDLERS: Readonly<Record<RouteName, Handler>> = {
  execute: (exchange, context) =>
    withJson(exchange, context, json => execute(exchange, context, parseExecute(json))),
  query: (exchange, context) =>
    withJson(exchange, context, json => query(exchange, context, parseQuery(json))),
  ...TRANSACTION_HANDLERS,
  ...MEMBER_HANDLERS,
  sessions: (exchange, context) =>
    withOptionalBody(exchange, context, sessionsSchema, () => openSession(exchange, context)),
  cancel: (exchange, context) =>
    withJson(exchange, context, json => cancel(exchange, context, json)),
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
  backup: (exchange, context) =>
    withOptionalBody(exchange, context, backupSchema, ({ atLeast = 0 }) =>
      backup(exchange, context, atLeast),
    ),
  readBackup: snapshot,
  transfer: (exchange, context) =>
    withOptionalBody(exchange, context, transferSchema, () => transfer(exchange, context.service)),
  join: (exchange, { service, budget, guard }) =>
    readBody(exchange, JOIN_BYTES_MAX, budget, body =>
      guard(exchange, () =>
        service.join({ body, isForwarded: isForwarded(exchange) }, answer => {
          if (answer.type === 'failed') exchange.sendError(answer.error)
          else exchange.sendJson(answer.text)
        }),
      ),
    ),
  snapshot,
  replicate: exchange => {
    const message = 'nodes speak to /replicate by an HTTP Upgrade; clients use /execute and /query'
    exchange.sendError(new DbError('INVALID_REQUEST', message))
  },
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
  const id = requestIdOf(exchange.request, identity.historyId, () => entryNow(service))
  const deadline = { timeoutMs: timeoutMs ?? options.writeTimeoutMs }
  service.execute(id === undefined ? operation : { ...operation, id }, deadline, outcome => {
    if (outcome.type === 'failed') {
      exchange.sendError(toItemError(outcome.error, statementCounts))
      return
    }
    // A database is made or dropped without a statement; its Command has a result all the same.
    const results =
      operation.type === 'statements'
        ? encodeResults(outcome.results, statementCounts, rows)
        : '[{"rowsAffected":0}]'
    if (outcome.isRepeat === true) context.metrics.countRepeatedAnswer()
    sendResults(exchange, identity, results, outcome.index, repetition(outcome))
  })
}

/** Says of a write whose id came before that nothing was done now. */
function repetition({ isRepeat, rowsDropped }: WriteOutcome & { readonly type: 'ok' }): string {
  if (isRepeat !== true) return ''
  return `,"repeated":true${rowsDropped === true ? ',"rowsDropped":true' : ''}`
}

function openSession(exchange: Exchange, { service }: HandlerContext): void {
  const { historyId, nodeId } = founded(service)
  const birth = entryNow(service)
  const session = encodeSession(historyId, { birth, name: randomBytes(6).readUIntBE(0, 6) })
  const answer: SessionResponse = { session, window: SESSION_WINDOW, node: nodeId }
  exchange.sendJson(JSON.stringify(answer))
}

function cancel(exchange: Exchange, context: HandlerContext, json: unknown): void {
  const { service, options, metrics } = context
  const { database, timeoutMs, rows } = parseShape(cancelSchema, json, '')
  const identity = founded(service)
  const id = requestIdOf(exchange.request, identity.historyId)
  if (id === undefined) {
    const message = `name the write by the header ${KEY_HEADER} or ${REQUEST_HEADER}`
    throw new DbError('INVALID_REQUEST', message)
  }
  // Without `Lockstep-Since` nobody knows when the write was sent.
  const deadline = { timeoutMs: timeoutMs ?? options.writeTimeoutMs }
  service.execute({ type: 'cancel', database, id }, deadline, outcome => {
    if (outcome.type === 'ok') {
      const results = encodeResults(outcome.results, undefined, rows)
      const fate = `,"fate":"applied"${repetition(outcome)}`
      sendResults(exchange, identity, results, outcome.index, fate)
      return
    }
    if (outcome.error.code !== 'REQUEST_CANCELLED') {
      exchange.sendError(outcome.error)
      return
    }
    metrics.countCancelled()
    const { durationMs } = exchange
    const answer: FateResponse = { fate: 'not-applied', node: identity.nodeId, durationMs }
    exchange.sendJson(JSON.stringify(answer))
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
      throw new DbError('WRONG_HISTORY', `${message}; forget it and read linearizable`)
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
