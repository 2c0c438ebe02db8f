/** Writes and reads: for single requests and for the lines of a stream alike. */
import { DbError } from '../../base/errors.ts'
import type { ExecuteRequest, QueryRequest } from '../../protocol/parse-request.ts'
import type { RequestId } from '../../protocol/request-id.ts'
import type { JsonReadAnswer, Outcome, ReadOptions, WriteOutcome } from '../../replica/types.ts'
import type { NodeIdentity } from '../service.ts'
import {
  founded,
  type HandlerContext,
  type HandlerOptions,
  sendResults,
  sendRows,
} from './answers.ts'
import { encodeResults, toItemError } from './encode-results.ts'
import type { Asker } from './exchange.ts'

/** Carries out a checked request. `idOf` gives the id of its write, and may throw. */
export function execute(
  asker: Asker,
  context: HandlerContext,
  request: ExecuteRequest,
  idOf: (historyId: string) => RequestId | undefined,
): void {
  const { service, options } = context
  const { operation, timeoutMs, rows, statementCounts } = request
  if (request.isRead && operation.type === 'statements') {
    const { database, statements } = operation
    const read = { database, statements, timeoutMs, rows, maxLagMs: undefined, token: undefined }
    query(asker, context, { ...read, consistency: 'linearizable' })
    return
  }
  const identity = founded(service)
  const id = idOf(identity.historyId)
  const asked = {
    timeoutMs: timeoutMs ?? options.writeTimeoutMs,
    receiveMs: asker.durationMs,
  }
  service.execute(id === undefined ? operation : { ...operation, id }, asked, outcome => {
    if (outcome.type === 'failed') {
      asker.sendError(toItemError(outcome.error, statementCounts))
      return
    }
    // A database is made or dropped without a statement; its Command has a result all the same.
    const results =
      operation.type === 'statements'
        ? encodeResults(outcome.results, statementCounts, rows)
        : '[{"rowsAffected":0}]'
    if (outcome.isRepeat === true) context.metrics.countRepeatedAnswer()
    sendResults(asker, identity, results, outcome.index, repetition(outcome))
  })
}

/** Says of a write whose id came before that nothing was done now. */
export function repetition({
  isRepeat,
  rowsDropped,
}: WriteOutcome & { readonly type: 'ok' }): string {
  if (isRepeat !== true) return ''
  return `,"repeated":true${rowsDropped === true ? ',"rowsDropped":true' : ''}`
}

/** Reads. */
export function query(asker: Asker, context: HandlerContext, request: QueryRequest): void {
  const { service, options } = context
  const { database, statements, rows } = request
  const identity = founded(service)
  const { maxResultRows: maxRows, maxResultBytes: maxBytes } = options
  const done = (outcome: Outcome<JsonReadAnswer>): void => {
    if (outcome.type === 'failed') asker.sendError(outcome.error)
    else sendRows(asker, identity, outcome.value)
  }
  const read = { database, statements, maxRows, maxBytes, rows }
  service.query(read, toReadOptions(request, identity, options), done)
}

/** What a read asks of the node. Throws WRONG_HISTORY. */
export function toReadOptions(
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
