/** How a client speaks to one node: the port behind which `fetch` stands, and what answers mean. */
import { DbError, ERRORS } from '../base/errors.ts'
import type { ErrorResponse } from '../protocol/http-api.ts'

/** A request as it goes out. */
export interface OutgoingRequest {
  readonly url: string
  /** Without one it is a GET. */
  readonly body?: string
  /** All of them matter: the id of a write is one. */
  readonly headers: Readonly<Record<string, string>>
}

/** Sends a request and gives the JSON of its answer, or throws the `DbError` that it holds. */
export interface Transport {
  /** `signal` ends the wait. */
  send(request: OutgoingRequest, signal: AbortSignal): Promise<unknown>
  /**
   * Begins a POST whose body is written while its answer comes in, and resolves as soon as the head
   * of the answer is there; with `undefined` if that says anything but that lines are answered by
   * lines. Absent where it can't be done: writes then always go as single requests. `signal` ends
   * all of it.
   */
  openStream?(
    request: Omit<OutgoingRequest, 'body'>,
    signal: AbortSignal,
  ): Promise<LineStream | undefined>
}

/** A POST under way in both directions. */
export interface LineStream {
  /** Sends whole lines, each with its newline. */
  write(lines: string): void
  /** No more lines will come; their answers still do. It may be said more than once. */
  end(): void
  /** The answer, in pieces of any size. It throws unless it came to its proper end. */
  readonly answer: AsyncIterable<string>
}

/** System codes with which a connection fails before a byte of the request was sent. */
const NOT_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
])

/** The error of a connection that failed: surely before the request was sent, or perhaps not. */
export function connectionError(url: string, error: unknown): DbError {
  const code = systemCode(error)
  const { host } = new URL(url)
  if (code !== undefined && NOT_SENT.has(code)) {
    return new DbError('NOT_READY', `can not connect to ${host}: ${code}`, {
      cause: error,
      details: { isReachable: false },
    })
  }
  const reason = code ?? innermost(error)
  return new DbError('CONNECTION_LOST', `no answer from ${host}: ${reason}`, { cause: error })
}

/** The code of the innermost cause; several addresses of one name give several causes. */
function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  if ('code' in error && typeof error.code === 'string') return error.code
  const [first] = error instanceof AggregateError ? error.errors : [error.cause]
  return systemCode(first)
}

/** `fetch` says "fetch failed" of everything; what it means is in the cause. */
function innermost(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? innermost(error.cause) : error.message
}

/** The JSON of an answer. Throws the `DbError` that it holds, or that it is none of a node. */
export function readAnswer(url: string, text: string): unknown {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw strangeAnswer(url, error)
  }
  if (typeof json !== 'object' || json === null) throw strangeAnswer(url, undefined)
  if ('error' in json) throw toDbError(url, json as ErrorResponse)
  return json
}

function toDbError(url: string, answer: ErrorResponse): DbError {
  const { code, message, fate, details } = answer.error
  // A newer server may know errors that this table doesn't, or know better what one leaves behind:
  // their fate is taken for unknown.
  if (!Object.hasOwn(ERRORS, code) || ERRORS[code].fate !== fate) {
    return new DbError('INTERNAL', `${code}: ${message}`, { details: { ...details, url } })
  }
  return new DbError(code, message, { details: details ?? {} })
}

function strangeAnswer(url: string, cause: unknown): DbError {
  const message = `${new URL(url).host} did not answer in the way of Lockstep; is a proxy between?`
  return new DbError('CONNECTION_LOST', message, { cause })
}
