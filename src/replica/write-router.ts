/**
 * Brings a write of this node's clients to whoever leads: to the own executor, or to the leader's
 * by the forwarder. While nobody leads, or leadership changes hands, it holds the write and passes
 * it on once a leader is known, up to the write's deadline, so that a planned hand-over fails
 * nobody. What may have been executed already is sent again only under its request id.
 */
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Clock } from '../base/ports.ts'
import type { WriteCallback, WriteOutcome } from './types.ts'

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

export interface RoutedWrite {
  readonly body: Uint8Array
  /** It carries a request id, so that sending it twice executes it once. */
  readonly hasId: boolean
  /** False if this node may only execute it itself, by its `forward` rule. */
  readonly mayForward: boolean
}

interface Routed extends RoutedWrite {
  readonly deadlineMs: number
  readonly done: WriteCallback
  /** Set once an attempt ended unknown: from then on no refusal of a later one proves anything. */
  unknown: DbError | undefined
}

interface Held {
  readonly write: Routed
  readonly error: DbError
  readonly againAtMs: number
}

type Leader = 'self' | number | undefined

export interface WriteRouterParts {
  readonly clock: Clock
  readonly leader: () => Leader
  /** Bounds of what is held. */
  readonly maxHeld: number
  readonly maxHeldBytes: number
  readonly executeHere: (body: Uint8Array, timeoutMs: number, done: WriteCallback) => void
  readonly forward: (
    leader: number,
    write: { readonly body: Uint8Array; readonly hasId: boolean },
    timeoutMs: number,
    done: WriteCallback,
  ) => void
}

export class WriteRouter {
  readonly #parts: WriteRouterParts
  #held: Held[] = []
  #heldBytes = 0
  #end: DbError | undefined

  constructor(parts: WriteRouterParts) {
    this.#parts = parts
  }

  /** Writes that wait for a leader. */
  get heldCount(): number {
    return this.#held.length
  }

  /** Answered exactly once, at the deadline at the latest. */
  route(write: RoutedWrite, timeoutMs: number, done: WriteCallback): void {
    const deadlineMs = this.#parts.clock.monotonicMs() + timeoutMs
    this.#send({ ...write, deadlineMs, done, unknown: undefined })
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
      ({ write, againAtMs }) => write.deadlineMs <= now || (hasLeader && againAtMs <= now),
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
    for (const { write } of due) this.#heldBytes -= write.body.byteLength
    for (const { write, error } of due) {
      if (this.#end !== undefined) this.#fail(write, this.#end)
      else if (write.deadlineMs <= this.#parts.clock.monotonicMs()) this.#fail(write, error)
      else this.#send(write)
    }
  }

  #send(write: Routed): void {
    const leader = this.#parts.leader()
    if (leader === undefined) return this.#hold(write, noLeader())
    const leftMs = Math.max(1, write.deadlineMs - this.#parts.clock.monotonicMs())
    const done = (outcome: WriteOutcome): void => this.#onOutcome(write, leader, outcome)
    if (leader === 'self') this.#parts.executeHere(write.body, leftMs, done)
    else this.#parts.forward(leader, write, leftMs, done)
  }

  #onOutcome(write: Routed, asked: Leader, outcome: WriteOutcome): void {
    if (outcome.type === 'ok') return write.done(outcome)
    const { error } = outcome
    if (PROOFS.has(error.code)) return write.done(outcome)
    if (write.hasId && UNDER_WAY.has(error.code)) write.unknown ??= error
    else if (!ELSEWHERE.has(error.code)) return this.#fail(write, error)
    const isNewLeader = this.#parts.leader() !== asked && this.#parts.leader() !== undefined
    if (isNewLeader && this.#mayGoOn(write)) this.#send(write)
    else this.#hold(write, error)
  }

  #mayGoOn({ mayForward, deadlineMs }: Routed): boolean {
    return mayForward && deadlineMs > this.#parts.clock.monotonicMs() && this.#end === undefined
  }

  #hold(write: Routed, error: DbError): void {
    const { maxHeld, maxHeldBytes, clock } = this.#parts
    const sizeBytes = this.#heldBytes + write.body.byteLength
    const isFull = this.#held.length >= maxHeld || sizeBytes > maxHeldBytes
    if (isFull || !this.#mayGoOn(write)) return this.#fail(write, error)
    this.#heldBytes = sizeBytes
    this.#held.push({ write, error, againAtMs: clock.monotonicMs() + AGAIN_MS })
  }

  /**
   * After an attempt of unknown fate the refusal of a later one is no proof: the first may still be
   * on its way to a leader.
   */
  #fail(write: Routed, error: DbError): void {
    write.done({ type: 'failed', error: write.unknown ?? error })
  }
}

function noLeader(): DbError {
  return new DbError('NO_LEADER', 'nobody leads right now; an election takes about a second')
}
