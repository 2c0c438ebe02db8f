/** The routes about members: who belongs to the cluster, and changes of it. */
import { membersSchema } from '../../protocol/http-api.ts'
import { parseShape } from '../../protocol/parse-shape.ts'
import { founded, type Handler, type HandlerContext, withJson } from './answers.ts'
import type { Exchange } from './exchange.ts'

/** The header by which a node says that it passes a request on, which is done once. */
export const FORWARDED_HEADER = 'lockstep-forwarded'

/** One handler for each route of members. */
export const MEMBER_HANDLERS: Readonly<Record<'members' | 'changeMembers', Handler>> = {
  members: (exchange, { service }) => {
    const refusal = service.refusal()
    if (refusal !== undefined) throw refusal
    founded(service)
    exchange.sendJson(JSON.stringify(service.members()))
  },
  changeMembers: (exchange, context) =>
    withJson(exchange, context, json => change(exchange, context, json)),
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
