/**
 * Writes that take effect once: each carries a request id, is sent again under it for as long as
 * its fate is unknown, and in the end the cluster is asked what became of it, which settles it.
 */
import { DbError } from '../base/errors.ts'
import type { FateResponse, ResultsResponse, SessionResponse } from '../protocol/http-api.ts'
import { KEY_HEADER, REQUEST_HEADER, SINCE_HEADER } from '../protocol/request-id.ts'
import { readResultsResponse, strangeAnswer } from './requests.ts'
import type { Sender, Shot } from './sender.ts'
import { type RequestSlot, Sessions } from './sessions.ts'

/** By what the fate of a write can be asked for, now or by another process. It is plain JSON. */
export interface WriteReference {
  readonly database: string
  /** Of the client's own session, … */
  readonly request?: string
  /** … or the key that the caller gave. */
  readonly idempotencyKey?: string
  /** A session from before it was first sent under the key, if that is known. */
  readonly since?: string
}

/** What became of a write, for good. */
export type SettledFate =
  /** With the answer as the cluster remembers it. */
  { readonly type: 'applied'; readonly answer: ResultsResponse } | { readonly type: 'not-applied' }

export interface WriteShot {
  readonly path: string
  readonly database: string
  readonly deadlineMs: number
  readonly signal: AbortSignal | undefined
  readonly idempotencyKey: string | undefined
  readonly isStreamable?: boolean
  readonly body: (timeoutMs: number) => string
}

export interface WritesParts {
  readonly sender: Sender
  /** False: writes go out without an id, and none of unknown fate is sent again. */
  readonly requestIds: boolean
  /** How long after its deadline the fate of a write is asked for. */
  readonly fateTimeoutMs: number
  readonly sessionTimeoutMs: number
}

interface Referring {
  readonly reference: WriteReference
}

/** With 64 numbers each it is the number of writes that one client has on their way at once. */
const SESSIONS_MAX = 16

/** A node that lags may name sessions that are too old from the beginning. */
const SESSIONS_TRIED_MAX = 3

export class Writes {
  readonly #parts: WritesParts
  readonly #sessions: Sessions

  constructor(parts: WritesParts) {
    this.#parts = parts
    this.#sessions = new Sessions({
      maxSessions: SESSIONS_MAX,
      open: () => this.#openSession(),
    })
  }

  /** Sends a write until its fate is known. Throws what it failed with, or why it is unknown. */
  async send(write: WriteShot): Promise<ResultsResponse> {
    const { database, idempotencyKey } = write
    if (!this.#parts.requestIds) {
      return idempotencyKey === undefined
        ? this.#parts.sender.send({ ...write, ...WRITE, kind: 'write' })
        : this.#sendNamed(write, { database, idempotencyKey })
    }
    for (let attempt = 1; ; attempt += 1) {
      const slot = await this.#slot(write)
      let isUnknown = false
      try {
        return await this.#sendNamed(write, slot.reference)
      } catch (error) {
        if (error instanceof NeverKnown) {
          // Nothing of it was executed, and the next session may be known.
          slot.forget()
          if (attempt < SESSIONS_TRIED_MAX) continue
          const message = 'the cluster forgets sessions before their first write'
          throw new DbError('NOT_READY', message, { cause: error.cause })
        }
        isUnknown = error instanceof DbError && error.fate === 'unknown'
        throw error
      } finally {
        if (isUnknown) slot.leave()
        else slot.settle()
      }
    }
  }

  /**
   * By what the write is known from now on. A key goes with a session from before it was sent here:
   * if it was forgotten when this client sends it again, it is not taken for a new one.
   */
  async #slot(write: WriteShot): Promise<Omit<RequestSlot, 'request'> & Referring> {
    const { database, idempotencyKey, deadlineMs, signal } = write
    if (idempotencyKey === undefined) {
      const slot = await this.#sessions.take(deadlineMs, signal)
      return { ...slot, reference: { database, request: slot.request } }
    }
    const { session, forget } = await this.#sessions.any(deadlineMs, signal)
    const nothing = (): void => {}
    const reference = { database, idempotencyKey, since: session }
    return { reference, settle: nothing, leave: nothing, forget }
  }

  /**
   * What became of a write. The answer "not applied" is for good: the write is refused if it still
   * arrives.
   */
  async fate(
    reference: WriteReference,
    deadlineMs: number,
    signal: AbortSignal | undefined,
  ): Promise<SettledFate> {
    const { database } = reference
    const answer = await this.#parts.sender.send<FateResponse>({
      kind: 'read',
      path: '/cancel',
      headers: headersOf(reference),
      isAnyNode: false,
      deadlineMs,
      signal,
      body: timeoutMs => JSON.stringify({ database, timeoutMs }),
      read: readFate,
    })
    return answer.fate === 'applied' ? { type: 'applied', answer } : { type: 'not-applied' }
  }

  async #sendNamed(write: WriteShot, reference: WriteReference): Promise<ResultsResponse> {
    let unknown: DbError | undefined
    const shot: Shot<ResultsResponse> = {
      ...write,
      ...WRITE,
      kind: 'named-write',
      headers: headersOf(reference),
      onFailure: error => {
        if (error.fate === 'unknown' && !isWordOnId(error)) unknown ??= error
      },
    }
    try {
      return await this.#parts.sender.send(shot)
    } catch (error) {
      // Later refusals say nothing of the first attempt, which may still be on its way.
      if (unknown === undefined) throw asFirst(error, reference)
      if (error instanceof DbError && isProof(error)) throw error
      return await this.#settle(shot, reference, unknown, error)
    }
  }

  /** Finds out what became of a write that may have been executed. */
  async #settle(
    shot: Shot<ResultsResponse>,
    reference: WriteReference,
    unknown: DbError,
    last: unknown,
  ): Promise<ResultsResponse> {
    const deadlineMs = performance.now() + this.#parts.fateTimeoutMs
    let fate: SettledFate
    try {
      shot.signal?.throwIfAborted()
      if (this.#parts.fateTimeoutMs === 0) throw unknown
      fate = await this.fate(reference, deadlineMs, shot.signal)
    } catch (cause) {
      throw unknownFate(unknown, reference, cause)
    }
    if (fate.type === 'not-applied') throw cancelled(last, reference)
    try {
      // The first answer as this very request gives it, its results added up where it asked so.
      return await this.#parts.sender.send({ ...shot, deadlineMs })
    } catch {
      return fate.answer
    }
  }

  async #openSession(): Promise<SessionResponse> {
    try {
      return await this.#parts.sender.send<SessionResponse>({
        kind: 'read',
        path: '/sessions',
        isAnyNode: false,
        deadlineMs: performance.now() + this.#parts.sessionTimeoutMs,
        signal: undefined,
        body: () => '{}',
        read: readSession,
      })
    } catch (cause) {
      if (!(cause instanceof DbError) || cause.fate === 'not-applied') throw cause
      // It is the fate of the session, not of the write: that has not been sent.
      const message = `no session for request ids could be opened: ${cause.message}`
      throw new DbError('NOT_READY', message, { cause })
    }
  }
}

const WRITE = { isAnyNode: false, read: readResultsResponse } as const

/** The id could not be told from one that was forgotten, and was never sent before. */
class NeverKnown extends Error {}

/**
 * Of the first attempt "too old" is no mystery: the session is, not the write. A key without one is
 * the caller's own, who alone knows whether it was sent before.
 */
function asFirst(error: unknown, { request, since }: WriteReference): unknown {
  if (!(error instanceof DbError) || (request ?? since) === undefined) return error
  return isWordOnId(error) ? new NeverKnown(undefined, { cause: error }) : error
}

/** Said of the id itself, not of this attempt. */
function isWordOnId({ code }: DbError): boolean {
  return code === 'REQUEST_EXPIRED' || code === 'WRONG_HISTORY'
}

/** True if no attempt can have taken effect. */
function isProof({ code }: DbError): boolean {
  return code === 'REQUEST_CANCELLED' || code === 'REQUEST_ID_REUSED'
}

function headersOf({ request, idempotencyKey, since }: WriteReference): Record<string, string> {
  if (request !== undefined) return { [REQUEST_HEADER]: request }
  if (idempotencyKey === undefined) return {}
  return { [KEY_HEADER]: idempotencyKey, ...(since !== undefined && { [SINCE_HEADER]: since }) }
}

function unknownFate(error: DbError, request: WriteReference, cause: unknown): DbError {
  const message = `${error.message}; ask fate() with details.request what became of the write`
  return new DbError(error.code, message, { cause, details: { ...error.details, request } })
}

/** The error of a write that is surely not applied, now that it can't be any more. */
function cancelled(last: unknown, request: WriteReference): unknown {
  if (!(last instanceof DbError) || last.fate === 'not-applied') return last
  const message = `${last.message}; the write was cancelled and will not take effect`
  return new DbError('REQUEST_CANCELLED', message, { cause: last, details: { request } })
}

function readFate(json: unknown): FateResponse {
  const answer = json as FateResponse
  if (answer.fate === 'applied') readResultsResponse(answer)
  else if (answer.fate !== 'not-applied') throw strangeAnswer()
  return answer
}

function readSession(json: unknown): SessionResponse {
  const answer = json as SessionResponse
  if (typeof answer.session === 'string' && answer.window > 0) return answer
  throw strangeAnswer()
}
