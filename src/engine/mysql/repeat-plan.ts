/** The plan of a request that is in an entry already: what it gives must be what the entry says. */
import { assert } from '../../base/assert.ts'
import type { WriteRequest } from '../engine.ts'
import type { Entry, StatementOutcome } from '../entry.ts'
import type { Command } from './commands.ts'
import { RequestPlan } from './request-plan.ts'
import type { Session } from './session.ts'

/** A request of an entry. */
export interface Repeat {
  readonly entry: Entry
  readonly request: WriteRequest & { readonly type: 'statements' | 'transaction' }
  readonly outcomes: readonly StatementOutcome[]
  /** Its number in the entry. */
  readonly position: number
}

export interface PlannedRequest {
  /** One; or of a transaction, one for each step. */
  readonly plans: readonly RequestPlan[]
  readonly commands: readonly Command[]
  /** What the entry says. */
  readonly expected: readonly StatementOutcome[]
}

/** Throws `DbError` for what this node refuses. */
export function planRepeat(session: Session, repeat: Repeat): PlannedRequest {
  const { entry, request, outcomes, position } = repeat
  const { chance, isMariaDb } = session
  chance.setSeed(entry.seed)
  // The steps of a transaction stand where requests stand in other entries.
  const isTransaction = request.type === 'transaction'
  assert(!isTransaction || request.moment === undefined, 'a transaction is alone in its entry')
  const lists = isTransaction ? request.steps : [request.statements]
  let from = 0
  const plans = lists.map((statements, step) => {
    const plan = new RequestPlan(statements, {
      database: request.database,
      position: isTransaction ? step : position,
      ordinal: 0,
      chance,
      isMariaDb,
      before: outcomes.slice(from),
      leavesOutReads: true,
      // What the leader let pass is not judged by names that only this server has.
      isForeign: () => false,
    })
    from += plan.texts.length
    return plan
  })
  return { plans, commands: plans.flatMap(({ commands }) => commands), expected: outcomes }
}
