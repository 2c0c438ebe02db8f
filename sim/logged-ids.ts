/**
 * The request ids of the committed log, and what clients were told of them: each takes effect once
 * or never, and whatever was said of one stays true.
 */
import { isDeepStrictEqual } from 'node:util'
import type { RequestId, WriteRequest } from '../src/engine/engine.ts'
import type { WriteOutcome } from '../src/replica/types.ts'
import { check } from './world.ts'

interface LoggedId {
  readonly type: 'applied' | 'cancelled'
  readonly index: number
}

/** How an answer is to be taken. */
export interface Asked {
  readonly id: RequestId
  readonly database: string
  /** It only asked for the fate. */
  readonly isCancel: boolean
  /** No other request with this id was ever sent, or will be after a failure. */
  readonly isOnly: boolean
}

export class LoggedIds {
  readonly #logged = new Map<string, LoggedId>()
  /** First results that were told, by id. */
  readonly #answers = new Map<string, WriteOutcome & { readonly type: 'ok' }>()
  /** Ids of which was said that they were executed just then. */
  readonly #executed = new Set<string>()
  /** Ids of which was said that they were not applied and never will be. */
  readonly #denied = new Set<string>()
  repeats = 0
  cancels = 0

  /** A request of a committed entry. */
  committed(request: WriteRequest, index: number): void {
    const ownId = request.type === 'transaction' ? request.ownId : undefined
    for (const id of [request.id, ownId]) {
      if (id !== undefined) this.#committed(id, request, index)
    }
  }

  #committed(id: RequestId, { type, database }: WriteRequest, index: number): void {
    const text = textOf(id, database)
    const before = this.#logged.get(text)
    check(
      before === undefined,
      () => `${text} was ${before?.type} at ${before?.index}, and there is a ${type} at ${index}`,
    )
    check(
      type === 'cancel' || !this.#denied.has(text),
      () => `${text} was said never to be applied, and was at ${index}`,
    )
    this.#logged.set(text, { type: type === 'cancel' ? 'cancelled' : 'applied', index })
  }

  /**
   * An answer to a request with an id: whether it settles the fate of the id for good. `mayBeWrong`:
   * somebody computed something else meanwhile, so that what was returned proves nothing.
   */
  answered(asked: Asked, outcome: WriteOutcome, mayBeWrong = false): boolean {
    const text = textOf(asked.id, asked.database)
    if (outcome.type === 'ok') {
      this.#judgeOk(text, asked, outcome, mayBeWrong)
      return true
    }
    const { code, fate } = outcome.error
    check(code !== 'REQUEST_ID_REUSED', () => `${text} is said to be used for another request`)
    const isNever = code === 'REQUEST_CANCELLED'
    // Who never sent it before knows that it was not executed now.
    const isFirst = asked.isOnly && !asked.isCancel
    const isDenied = isNever || (isFirst && (fate === 'not-applied' || code === 'REQUEST_EXPIRED'))
    if (!isDenied) return code === 'REQUEST_EXPIRED'
    const logged = this.#logged.get(text)
    check(
      logged?.type !== 'applied',
      () => `${text} is said not to be applied (${code}), and was at ${logged?.index}`,
    )
    check(
      !isNever || logged?.type === 'cancelled',
      () => `${text} is said to be cancelled, and that is not in the log`,
    )
    this.#denied.add(text)
    return true
  }

  #judgeOk(
    text: string,
    asked: Asked,
    outcome: WriteOutcome & { readonly type: 'ok' },
    mayBeWrong: boolean,
  ): void {
    const logged = this.#logged.get(text)
    check(
      logged?.type === 'applied' && logged.index <= outcome.index,
      () => `${text} is ok at ${outcome.index}, but ${logged?.type} at ${logged?.index}`,
    )
    const isRepeat = outcome.isRepeat === true
    check(isRepeat || !asked.isOnly || !asked.isCancel, () => `${text}: a cancel was executed`)
    if (isRepeat) this.repeats++
    else {
      check(!this.#executed.has(text), () => `${text} was executed twice, by what is said of it`)
      this.#executed.add(text)
    }
    // What a leader that computes something else has returned is wrong, though the write is applied.
    if (mayBeWrong) return
    const first = this.#answers.get(text)
    if (first === undefined) this.#answers.set(text, outcome)
    check(
      first === undefined || isDeepStrictEqual(first.results, outcome.results),
      () => `${text} was answered twice, and not with the same`,
    )
  }
}

/** A key belongs to its database; a session's numbers to everything. */
function textOf(id: RequestId, database: string): string {
  if (id.type === 'key') return `key ${id.key} of ${database}`
  return `${id.session.name}/${id.sequence}`
}
