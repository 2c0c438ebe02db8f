/** What is refused while the node has more to do than it can. */
import type { HandlerContext } from './answers.ts'
import type { Asker, Exchange } from './exchange.ts'

/**
 * True if it was refused because too many writes wait: before the body is read, so that a refusal
 * costs as little as it can when there is least to spare. A read that was sent as a write is
 * refused with the others. Nothing is thrown: that would cost as much as the rest of it.
 */
export function refuseOverload(asker: Asker, { service }: HandlerContext): boolean {
  const overload = service.overload()
  if (overload !== undefined) asker.sendError(overload)
  return overload !== undefined
}

/** The same for a write by an exchange of its own, which may have come without waiting. */
export function refuseWrite(exchange: Exchange, context: HandlerContext): boolean {
  const refusal = context.beginWrite(exchange)
  if (refusal === undefined) return refuseOverload(exchange, context)
  exchange.sendError(refusal)
  return true
}
