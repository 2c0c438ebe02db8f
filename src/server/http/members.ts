/** The routes about members: who belongs to the cluster, and changes of it. */
import { membersSchema, trustSchema, type TrustResponse } from '../../protocol/http-api.ts'
import { parseShape } from '../../protocol/parse-shape.ts'
import { founded, type Handler, type HandlerContext, withJson } from './answers.ts'
import type { Exchange } from './exchange.ts'

/** The header by which a node says that it passes a request on, which is done once. */
export const FORWARDED_HEADER = 'lockstep-forwarded'

/** One handler for each route of members. */
export const MEMBER_HANDLERS: Readonly<Record<'members' | 'changeMembers' | 'trust', Handler>> = {
  members: (exchange, { service }) => {
    const refusal = service.refusal()
    if (refusal !== undefined) throw refusal
    founded(service)
    exchange.sendJson(JSON.stringify(service.members()))
  },
  changeMembers: (exchange, context) =>
    withJson(exchange, context, json => change(exchange, context, json)),
  trust: (exchange, context) =>
    withJson(exchange, context, json => {
      const { node } = parseShape(trustSchema, json, '')
      founded(context.service)
      const error = context.service.trust(node)
      const answer: TrustResponse = { node: context.service.nodeId, trusted: node }
      if (error === undefined) exchange.sendJson(JSON.stringify(answer))
      else exchange.sendError(error)
    }),
}

function change(exchange: Exchange, context: HandlerContext, json: unknown): void {
  const { service, options } = context
  const request = parseShape(membersSchema, json, '')
  founded(service)
  const timeoutMs = request.timeoutMs ?? options.writeTimeoutMs
  const asked = { timeoutMs, isForwarded: isForwarded(exchange) }
  service.changeMembers(request, asked, outcome => {
    if (outcome.type === 'failed') exchange.sendError(outcome.error)
    else exchange.sendJson(JSON.stringify(outcome.value))
  })
}

/** Whether another node passed the request on. */
export function isForwarded(exchange: Exchange): boolean {
  return exchange.request.headers[FORWARDED_HEADER] !== undefined
}
