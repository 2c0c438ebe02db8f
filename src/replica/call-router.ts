/**
 * Brings a call of this node's clients (a write, or the beginning of a transaction) to whoever
 * leads. While nobody leads, or leadership changes hands, it holds the call and passes it on once a
 * leader is known, up to the call's deadline, so that a planned hand-over fails nobody. What may
 * have been executed already is sent again only under its request id.
 */
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Clock } from '../base/ports.ts'

/** Refusals of one who does not lead (any more): nothing was executed, and another one will. */
const ELSEWHERE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'NOT_LEADER',
  'NO_LEADER',
  'SHUTTING_DOWN',
  'DIVERGED',
])

/** The leader was lost with the write under way: under its id it can be sent to the next one. */
const UNDER_WAY: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['LEADERSHIP_LOST', 'CONNECTION_LOST'])

/** Said of the id itself, so that no earlier attempt can take effect any more either. */
const PROOFS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'REQUEST_CANCELLED',
  'REQUEST_ID_REUSED',
])

/** A leader that refused, or could not be reached, is asked again after this time. */
const AGAIN_MS = 100

interface Failed {
  readonly type: 'failed'
  readonly error: DbError
}

/** A call, and its two ways. */
export interface RoutedCall<Answer extends { readonly type: 'ok' }> {
  readonly sizeBytes: number
  /** It carries a request id, so that sending it twice executes it once, or does no harm so. */
  readonly hasId: boolean
  /** False if this node may only execute it itself, by its `forward` rule. */
  readonly mayForward: boolean
  readonly here: (timeoutMs: number, done: (answer: Answer | Failed) => void) => void
  readonly there: (
    leader: number,
    timeoutMs: number,
    done: (answer: Answer | Failed) => void,
  ) => void
  readonly done: (answer: Answer | Failed) => void
}

interface Routed {
  readonly sizeBytes: number
  readonly hasId: boolean
  readonly mayForward: boolean
  readonly deadlineMs: number
  /** Answers the client, or says why it could not. */
  readonly send: (
    leader: 'self' | number,
    timeoutMs: number,
    failed: (error: DbError) => void,
  ) => void
  readonly fail: (error: DbError) => void
  /** Set once an attempt ended unknown: from then on no refusal of a later one proves anything. */
  unknown: DbError | undefined
}

interface Held {
  readonly call: Routed
  readonly error: DbError
  readonly againAtMs: number
}

type Leader = 'self' | number | undefined

export interface CallRouterParts {
  readonly clock: Clock
  readonly leader: () => Leader
  /** Bounds of what is held. */
  readonly maxHeld: number
  readonly maxHeldBytes: number
}

export class CallRouter {
  readonly #parts: CallRouterParts
  #held: Held[] = []
  #heldBytes = 0
  #end: DbError | undefined

  constructor(parts: CallRouterParts) {
    this.#parts = parts
  }

  /** Calls that wait for a leader. */
  get heldCount(): number {
    return this.#held.length
  }

  /** Answered exactly once, at the deadline at the latest. */
  route<Answer extends { readonly type: 'ok' }>(call: RoutedCall<Answer>, timeoutMs: number): void {
    const { sizeBytes, hasId, mayForward, done } = call
    const deadlineMs = this.#parts.clock.monotonicMs() + timeoutMs
    const send: Routed['send'] = (leader, leftMs, failed) => {
      const answered = (answer: Answer | Failed): void => {
        if (answer.type === 'failed') failed(answer.error)
        else done(answer)
      }
      if (leader === 'self') call.here(leftMs, answered)
      else call.there(leader, leftMs, answered)
    }
    const fail = (error: DbError): void => done({ type: 'failed', error })
    this.#send({ sizeBytes, hasId, mayForward, deadlineMs, send, fail, unknown: undefined })
  }

  /** Somebody else leads, or nobody: what is held may go on. */
  leaderChanged(): void {
    if (this.#parts.leader() !== undefined) this.#release(() => true)
  }

  sweep(): void {
    if (this.#held.length === 0) return
    const now = this.#parts.clock.monotonicMs()
    const hasLeader = this.#parts.leader() !== undefined
    this.#release(
      ({ call, againAtMs }) => call.deadlineMs <= now || (hasLeader && againAtMs <= now),
    )
  }

  /** Ends all that is held, and holds nothing from now on: the node stops. */
  stop(error: DbError): void {
    this.#end = error
    this.#release(() => true)
  }

  #release(isDue: (held: Held) => boolean): void {
    const due = this.#held.filter(isDue)
    if (due.length === 0) return
    this.#held = this.#held.filter(held => !isDue(held))
    for (const { call } of due) this.#heldBytes -= call.sizeBytes
    for (const { call, error } of due) {
      if (this.#end !== undefined) this.#fail(call, this.#end)
      else if (call.deadlineMs <= this.#parts.clock.monotonicMs()) this.#fail(call, error)
      else this.#send(call)
    }
  }

  #send(call: Routed): void {
    const leader = this.#parts.leader()
    if (leader === undefined) return this.#hold(call, noLeader())
    const leftMs = Math.max(1, call.deadlineMs - this.#parts.clock.monotonicMs())
    return call.send(leader, leftMs, error => this.#onFailed(call, leader, error))
  }

  #onFailed(call: Routed, asked: Leader, error: DbError): void {
    if (PROOFS.has(error.code)) return call.fail(error)
    if (call.hasId && UNDER_WAY.has(error.code)) call.unknown ??= error
    else if (!ELSEWHERE.has(error.code)) return this.#fail(call, error)
    const isNewLeader = this.#parts.leader() !== asked && this.#parts.leader() !== undefined
    if (isNewLeader && this.#mayGoOn(call)) this.#send(call)
    else this.#hold(call, error)
  }

  #mayGoOn({ mayForward, deadlineMs }: Routed): boolean {
    return mayForward && deadlineMs > this.#parts.clock.monotonicMs() && this.#end === undefined
  }

  #hold(call: Routed, error: DbError): void {
    const { maxHeld, maxHeldBytes, clock } = this.#parts
    const sizeBytes = this.#heldBytes + call.sizeBytes
    const isFull = this.#held.length >= maxHeld || sizeBytes > maxHeldBytes
    if (isFull || !this.#mayGoOn(call)) return this.#fail(call, error)
    this.#heldBytes = sizeBytes
    this.#held.push({ call, error, againAtMs: clock.monotonicMs() + AGAIN_MS })
  }

  /**
   * After an attempt of unknown fate the refusal of a later one is no proof: the first may still be
   * on its way to a leader.
   */
  #fail(call: Routed, error: DbError): void {
    call.fail(call.unknown ?? error)
  }
}

function noLeader(): DbError {
  const message =
    'nobody leads right now, and nothing was written: an election takes about a second, unless a ' +
    'majority of the voters is away'
  return new DbError('NO_LEADER', message)
}
