/**
 * Whether a failed request is sent again, where and when. It reads the error's row of the table:
 * what may have been applied is never written twice, unless it carries a request id.
 */
import { unreachable } from '../base/assert.ts'
import type { DbError } from '../base/errors.ts'

/**
 * What a request does. A read can be asked again whatever became of it, a `named-write` too,
 * because its request id lets it take effect only once. A `step` of a transaction is a write whose
 * loss costs no more than the transaction, so that nobody waits for a node that is not there.
 */
export type RequestKind = 'read' | 'write' | 'named-write' | 'step'

export type NextStep =
  | { readonly type: 'give-up' }
  | {
      readonly type: 'again'
      readonly target: 'leader' | 'other-node'
      readonly delayMs: number
    }

const BACKOFF_MS_MIN = 20
const BACKOFF_MS_MAX = 1000
const GIVE_UP: NextStep = { type: 'give-up' }

/** `attempt` counts from 1; `chance` is from 0 to 1 and spreads clients apart. */
export function nextStep(
  error: DbError,
  kind: RequestKind,
  attempt: number,
  chance: number,
): NextStep {
  const delayMs = backoffMs(attempt, chance)
  switch (error.retry) {
    case 'never':
    // Sending one request of a transaction again would not bring back those before it.
    case 'transaction':
      return GIVE_UP
    case 'same':
      return { type: 'again', target: 'other-node', delayMs }
    case 'leader':
      // The first time its address is news, so it is asked at once.
      return { type: 'again', target: 'leader', delayMs: attempt === 1 ? 0 : delayMs }
    case 'same-id':
      // A bug would only be met again: of a named write the fate is asked for instead.
      if (kind === 'write' || kind === 'step' || error.code === 'INTERNAL') return GIVE_UP
      return { type: 'again', target: 'other-node', delayMs: attempt === 1 ? 0 : delayMs }
    default:
      return unreachable(error.retry)
  }
}

/** Doubles from 20 ms to 1 s; half of it is chance. */
export function backoffMs(attempt: number, chance: number): number {
  const most = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** Math.min(attempt - 1, 10))
  return most / 2 + (most / 2) * chance
}
