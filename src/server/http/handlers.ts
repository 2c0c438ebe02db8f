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
import {
  encodeSession,
  KEY_HEADER,
  REQUEST_HEADER,
  SESSION_WINDOW,
} from '../../protocol/request-id.ts'
import type { RouteName } from '../../protocol/routes.ts'
import type { Service } from '../service.ts'
import {
  entryNow,
  founded,
  type Handler,
  type HandlerContext,
  proof,
  roundedMs,
  sendResults,
  withJson,
  withOptionalBody,
} from './answers.ts'
import { encodeResults } from './encode-results.ts'
import type { Exchange } from './exchange.ts'
import { execute, query, repetition, toReadOptions } from './execute.ts'
import { executeStream, isStream } from './stream.ts'
import { refuseWrite } from './overload.ts'
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
  execute: (exchange, context) => {
    if (isStream(exchange.request)) executeStream(exchange, context)
    else if (!refuseWrite(exchange, context)) {
      withJson(exchange, context, json => executeOne(exchange, context, json))
    }
  },
  query: (exchange, context) =>
    withJson(exchange, context, json =>
      query(exchange, context, parseQuery(json, context.service.dialect)),
    ),
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

function executeOne(exchange: Exchange, context: HandlerContext, json: unknown): void {
  const { service } = context
  execute(exchange, context, parseExecute(json, service.dialect), historyId =>
    requestIdOf(exchange.request, historyId, () => entryNow(service)),
  )
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
  const asked = {
    timeoutMs: timeoutMs ?? options.writeTimeoutMs,
    receiveMs: exchange.durationMs,
  }
  service.execute({ type: 'cancel', database, id }, asked, outcome => {
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
    const durationMs = roundedMs(exchange)
    const answer: FateResponse = { fate: 'not-applied', node: identity.nodeId, durationMs }
    exchange.sendJson(JSON.stringify(answer))
  })
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
