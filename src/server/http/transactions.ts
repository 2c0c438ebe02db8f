/** The routes of interactive transactions: begin one, run statements in it, and end it. */
import { DbError } from '../../base/errors.ts'
import type { RowFormat } from '../../base/result-json.ts'
import { beginSchema, endSchema } from '../../protocol/http-api.ts'
import type { TransactionResponse } from '../../protocol/http-api.ts'
import { parseExecute, parseQuery } from '../../protocol/parse-request.ts'
import { parseShape } from '../../protocol/parse-shape.ts'
import { KEY_HEADER, REQUEST_HEADER } from '../../protocol/request-id.ts'
import { type RouteName, transactionIn } from '../../protocol/routes.ts'
import type { TransactionOutcome } from '../../replica/transaction-call.ts'
import { parseTransactionId } from '../../replica/transaction-id.ts'
import {
  entryNow,
  founded,
  type Handler,
  type HandlerContext,
  roundedMs,
  sendResults,
  withJson,
  withOptionalBody,
} from './answers.ts'
import { encodeResults, toItemError } from './encode-results.ts'
import type { Exchange } from './exchange.ts'
import { requestIdOf } from './request-header.ts'

type TransactionRoute = Extract<RouteName, 'begin' | 'step' | 'look' | 'commit' | 'rollback'>

export const TRANSACTION_HANDLERS: Readonly<Record<TransactionRoute, Handler>> = {
  begin: (exchange, context) => withJson(exchange, context, json => begin(exchange, context, json)),
  step: (exchange, context) => withJson(exchange, context, json => step(exchange, context, json)),
  look: (exchange, context) => withJson(exchange, context, json => look(exchange, context, json)),
  commit: (exchange, context) => end(exchange, context, 'commit'),
  rollback: (exchange, context) => end(exchange, context, 'rollback'),
}

function begin(exchange: Exchange, context: HandlerContext, json: unknown): void {
  const { service, options } = context
  const { database, timeoutMs: maxMs } = parseShape(beginSchema, json, '')
  const { nodeId } = founded(service)
  const deadline = { timeoutMs: options.writeTimeoutMs }
  service.transact({ type: 'begin', database, maxMs }, deadline, outcome => {
    if (outcome.type === 'failed') return exchange.sendError(outcome.error)
    const { transaction } = outcome.value
    const durationMs = roundedMs(exchange)
    const answer: TransactionResponse = { transaction, node: nodeId, durationMs }
    exchange.sendJson(JSON.stringify(answer))
  })
}

function step(exchange: Exchange, context: HandlerContext, json: unknown): void {
  refuseId(exchange)
  const { transaction, database } = called(exchange)
  const request = parseExecute(inDatabase(json, database), context.service.dialect)
  const { operation, timeoutMs, rows, statementCounts, isRead } = request
  if (operation.type !== 'statements') {
    const message = 'databases are made and dropped outside of transactions; send it to /execute'
    throw new DbError('UNSUPPORTED', message)
  }
  const { statements } = operation
  requireDatabase(operation.database, database)
  const deadline = { timeoutMs: timeoutMs ?? context.options.writeTimeoutMs }
  const call = { type: isRead ? 'query' : 'execute', transaction, database, statements } as const
  const { nodeId } = founded(context.service)
  context.service.transact(call, deadline, outcome =>
    sendStep(exchange, nodeId, outcome, rows, statementCounts),
  )
}

/** A program that sends an id believes that a step which it sends twice runs once. */
function refuseId({ request: { headers } }: Exchange): void {
  const name = [KEY_HEADER, REQUEST_HEADER].find(each => headers[each] !== undefined)
  if (name === undefined) return
  const message =
    `${name}: a step takes no request id, only the commit does; after a step whose answer was ` +
    'lost begin the transaction anew'
  throw new DbError('INVALID_REQUEST', message)
}

function look(exchange: Exchange, context: HandlerContext, json: unknown): void {
  const { transaction, database } = called(exchange)
  const request = parseQuery(inDatabase(json, database), context.service.dialect)
  const { statements, consistency, token, maxLagMs, timeoutMs, rows } = request
  if (consistency !== 'linearizable' || token !== undefined || maxLagMs !== undefined) {
    const message = 'consistency: the reads of a transaction see its own state; leave it out'
    throw new DbError('INVALID_REQUEST', message)
  }
  requireDatabase(request.database, database)
  const deadline = { timeoutMs: timeoutMs ?? context.options.readTimeoutMs }
  const { nodeId } = founded(context.service)
  context.service.transact(
    { type: 'query', transaction, database, statements },
    deadline,
    outcome => sendStep(exchange, nodeId, outcome, rows, undefined),
  )
}

function end(exchange: Exchange, context: HandlerContext, type: 'commit' | 'rollback'): void {
  const { service, options } = context
  withOptionalBody(exchange, context, endSchema, fields => {
    const { transaction } = called(exchange)
    const identity = founded(service)
    const deadline = { timeoutMs: fields.timeoutMs ?? options.writeTimeoutMs }
    const id = requestIdOf(exchange.request, identity.historyId, () => entryNow(service))
    const call = type === 'commit' ? { type, transaction, id } : ({ type, transaction } as const)
    service.transact(call, deadline, outcome => {
      if (outcome.type === 'failed') exchange.sendError(outcome.error)
      else if (type === 'rollback')
        sendStep(exchange, identity.nodeId, outcome, 'arrays', undefined)
      else {
        const { index, isRepeat } = outcome.value
        sendResults(exchange, identity, '[]', index, isRepeat === true ? ',"repeated":true' : '')
      }
    })
  })
}

/** The transaction that the path names, and its database. Throws INVALID_REQUEST. */
function called(exchange: Exchange): { readonly transaction: string; readonly database: string } {
  const transaction = transactionIn(exchange.request.url ?? '')
  return { transaction, database: parseTransactionId(transaction).database }
}

/** A step may leave out the database: the transaction has one. */
function inDatabase(json: unknown, database: string): unknown {
  if (Array.isArray(json)) return { statements: json, database }
  const isObject = typeof json === 'object' && json !== null
  return isObject && !('database' in json) ? { ...json, database } : json
}

function requireDatabase(given: string, database: string): void {
  if (given === database) return
  const message = `database: the transaction works on "${database}", not on "${given}"`
  throw new DbError('INVALID_REQUEST', message)
}

function sendStep(
  exchange: Exchange,
  nodeId: string,
  outcome: TransactionOutcome,
  rows: RowFormat,
  statementCounts: readonly number[] | undefined,
): void {
  if (outcome.type === 'failed') {
    exchange.sendError(toItemError(outcome.error, statementCounts))
    return
  }
  const results = encodeResults(outcome.value.results, statementCounts, rows)
  const node = JSON.stringify(nodeId)
  exchange.sendJson(`{"results":${results},"node":${node},"durationMs":${roundedMs(exchange)}}`)
}
