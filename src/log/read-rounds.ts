/**
 * Shared rounds of ReadIndex (thesis 6.4). All reads that wait when a round begins are answered by
 * it; those that come while it is under way wait for the next, because a round proves leadership
 * only after its own beginning. Rounds are unique over all nodes and lives: a leader must not take
 * an answer to one round for another (a published bug of the first implementations).
 */
import { DbError } from '../base/errors.ts'
import type { Clock, Random } from '../base/ports.ts'

interface Waiter {
  readonly deadlineMs: number
  readonly done: (outcome: number | DbError) => void
}

interface Round {
  readonly context: Uint8Array
  /** When it is asked again, since request or answer may have been lost. */
  readonly againAtMs: number
  readonly waiters: Waiter[]
}

export interface ReadRoundsParts {
  readonly raftId: number
  readonly clock: Clock
  readonly random: Random
  readonly retryMs: number
  /** Starts a round; its answer comes through `answer`. */
  readonly ask: (context: Uint8Array) => void
}

export class ReadRounds {
  readonly #parts: ReadRoundsParts
  readonly #life: number
  #counter = 0
  #waiting: Waiter[] = []
  #round: Round | undefined

  constructor(parts: ReadRoundsParts) {
    this.#parts = parts
    this.#life = parts.random.below(2 ** 32)
  }

  wait(timeoutMs: number, done: Waiter['done']): void {
    this.#waiting.push({ deadlineMs: this.#parts.clock.monotonicMs() + timeoutMs, done })
    if (this.#round === undefined) this.#begin([])
  }

  /** The answer to a round, if it is still asked for. */
  answer(context: Uint8Array, index: number): void {
    const round = this.#round
    if (round === undefined || !isEqual(round.context, context)) return
    this.#round = undefined
    for (const waiter of round.waiters) waiter.done(index)
    if (this.#waiting.length > 0) this.#begin([])
  }

  /** Who was asked is leader no more: ask the new one, with those who came since. */
  leaderChanged(): void {
    if (this.#round !== undefined) this.#begin(this.#round.waiters)
  }

  /** Drops what waited too long, and asks again what got no answer. */
  tick(): void {
    const now = this.#parts.clock.monotonicMs()
    const round = this.#round
    const late: Waiter[] = []
    const isLate = (waiter: Waiter): boolean => {
      if (waiter.deadlineMs > now) return false
      late.push(waiter)
      return true
    }
    this.#waiting = this.#waiting.filter(waiter => !isLate(waiter))
    if (round !== undefined) {
      const waiters = round.waiters.filter(waiter => !isLate(waiter))
      this.#round = waiters.length === 0 ? undefined : { ...round, waiters }
      if (this.#round === undefined ? this.#waiting.length > 0 : round.againAtMs <= now) {
        this.#begin(waiters)
      }
    }
    for (const waiter of late) waiter.done(noLeader())
  }

  /** Ends all waiting. */
  fail(error: DbError): void {
    const all = [...(this.#round?.waiters ?? []), ...this.#waiting]
    this.#round = undefined
    this.#waiting = []
    for (const waiter of all) waiter.done(error)
  }

  #begin(earlier: readonly Waiter[]): void {
    const { clock, raftId, retryMs, ask } = this.#parts
    const context = new Uint8Array(16)
    const view = new DataView(context.buffer)
    this.#counter += 1
    view.setUint32(0, raftId)
    view.setUint32(4, this.#life)
    view.setFloat64(8, this.#counter)
    const waiters = [...earlier, ...this.#waiting]
    this.#waiting = []
    this.#round = { context, againAtMs: clock.monotonicMs() + retryMs, waiters }
    ask(context)
  }
}

function isEqual(left: Uint8Array, right: Uint8Array): boolean {
  return left.byteLength === right.byteLength && left.every((byte, at) => byte === right[at])
}

function noLeader(): DbError {
  return new DbError('NO_LEADER', 'no leader was confirmed by a majority in time; try again')
}
