/** A batch of requests from its execution to its answers, and the errors in which it may end. */
import type { BoundedQueue } from '../base/bounded-queue.ts'
import { DbError } from '../base/errors.ts'
import type { Divergence, RequestResult } from '../engine/engine.ts'
import type { ProposalNumber } from '../log/log.ts'
import type { TransactionCommit } from './transactions.ts'
import type { WriteCallback } from './types.ts'
import type { BatchTimes } from './write-stages.ts'

/** A request on its way. `done` is emptied when it was answered. */
export interface Pending {
  readonly body: Uint8Array
  /** When it came. */
  readonly arrivedMs: number
  readonly deadlineMs: number
  /** It was in a batch that ran too long: next time it runs by itself. */
  isAlone: boolean
  done: WriteCallback | undefined
}

/** Requests that are executed and replicated together. */
export interface Batch extends BatchTimes {
  readonly number: number
  readonly term: number
  requests: Pending[]
  results: readonly RequestResult[]
  /** What the requests gave is known only when the engine has committed them. */
  isProvisional: boolean
  state: 'executing' | 'replicating' | 'settling'
  proposal: ProposalNumber
  index: number
  sizeBytes: number
  /** If it is of interactive transactions that end: one for each request. */
  readonly commits?: TransactionCommit[]
  /** If it only marks a place for digests: nothing was executed, and nobody waits for it. */
  readonly isDigestPoint?: boolean
}

/** A frame between nodes holds 32 MiB: a larger entry would stay in the leader's log for ever. */
export const ENTRY_BYTES_MAX = 31 * 1024 * 1024

/**
 * Everything that waits, up to the limits; a request over a limit goes alone. Those that waited
 * past their deadline are answered.
 */
export function gather(
  queue: BoundedQueue<Pending>,
  limits: { readonly maxBatchRequests: number; readonly maxBatchBytes: number },
  now: number,
): Pending[] {
  const requests: Pending[] = []
  let sizeBytes = 0
  while (requests.length < limits.maxBatchRequests) {
    const next = queue.peek()
    if (next === undefined) break
    sizeBytes += queue.peekSizeBytes()
    if (requests.length > 0 && (next.isAlone || sizeBytes > limits.maxBatchBytes)) break
    queue.shift()
    if (next.deadlineMs <= now) answerOverdue(next)
    else requests.push(next)
    if (next.isAlone && requests.length > 0) break
  }
  return requests
}

/** Answers with an error. */
export function fail(done: WriteCallback, error: DbError): void {
  done({ type: 'failed', error })
}

/** Ends a request, unless it was answered already. */
export function end(pending: Pending, error: DbError): void {
  const { done } = pending
  pending.done = undefined
  if (done !== undefined) fail(done, error)
}

/** Ends what is left of a batch. */
export function failBatch(batch: Batch, error: DbError): void {
  for (const request of batch.requests) end(request, error)
}

/** Ends those whose deadline has passed; their entry is committed, or may still be. */
export function endOverdue(batch: Batch, now: number): void {
  const why = batch.state === 'settling' ? NOT_APPLIED_HERE : NOT_CONFIRMED
  for (const request of batch.requests) {
    if (request.done === undefined || request.deadlineMs > now) continue
    end(request, new DbError('COMMIT_TIMEOUT', why))
  }
}

/** What every sentence about a write of unknown fate ends with. */
export const MAY_TAKE_EFFECT =
  'it may still take effect: ask POST /cancel by its request id what became of it, or look ' +
  'before you write it again'
const NOT_CONFIRMED = `no majority confirmed the write before its deadline; ${MAY_TAKE_EFFECT}`
/** As a rule its disk is full, or its writer has just died. */
const NOT_APPLIED_HERE =
  'a majority has stored the write, but this node did not apply it before its deadline; ' +
  MAY_TAKE_EFFECT

/** Ends those whose deadline passes while a batch of which nothing is logged waits for proof. */
export function endUnconfirmed(batch: Batch, now: number): void {
  for (const request of batch.requests) {
    if (request.deadlineMs > now) continue
    const message = 'no majority confirmed in time that this node leads; nothing was applied'
    end(request, new DbError('NO_LEADER', message))
  }
}

/** Ends a request that waited too long to be executed. `outage`: why nothing could be, if so. */
export function answerOverdue(pending: Pending, outage?: DbError): void {
  const what = 'the write waited in the queue past its deadline and was not executed'
  const message = outage === undefined ? what : `${what}: ${outage.message}`
  end(pending, new DbError(outage?.code ?? 'OVERLOADED', message))
}

/** For what was never sent to the others. */
export function notLeader(): DbError {
  return new DbError('NOT_LEADER', 'this node does not lead any more; nothing was applied')
}

/** For whatever waits, or comes, while a node stops. */
export function stopping(): DbError {
  return new DbError('SHUTTING_DOWN', 'this node is stopping; ask another one')
}

/** For what was stopped because it ran too long. */
export function statementTimeout(limitMs: number, maxExecuteMs: number): DbError {
  const took = `it ran longer than ${Math.round(limitMs)} ms`
  const message = `${took} and was stopped; nothing was logged`
  return new DbError('STATEMENT_TIMEOUT', message, { details: { maxExecuteMs } })
}

/** For a write whose entry could not be sent to the others. */
export function tooLarge(sizeBytes: number): DbError {
  const message = `the write takes ${sizeBytes} bytes of the log, the limit is ${ENTRY_BYTES_MAX}`
  return new DbError('TOO_LARGE', message, { details: { limitBytes: ENTRY_BYTES_MAX } })
}

/** For everything that is asked of a replica that computed something else. */
export function diverged(divergence: Divergence): DbError {
  const what = `this replica computed something else at entry ${divergence.index}`
  const message = `${what} and serves nothing`
  return new DbError('DIVERGED', message, { details: { ...divergence } })
}
