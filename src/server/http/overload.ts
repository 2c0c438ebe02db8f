/** What is refused while the node has more to do than it can. */
import type { HandlerContext } from './answers.ts'

/**
 * Throws if too many writes wait: before the body is read, so that a refusal costs as little as it
 * can when there is least to spare. A read that was sent as a write is refused with the others.
 */
export function refuseOverload({ service }: HandlerContext): void {
  const overload = service.overload()
  if (overload !== undefined) throw overload
}
