/** One HTTP request to one node, by `fetch`, in Node and in browsers alike. */
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

/** The transport of every client that is given no other. */
export function fetchTransport(): Transport {
  return {
    async send({ url, body, headers }, signal) {
      let text: string
      try {
        const method = body === undefined ? 'GET' : 'POST'
        const answer = await fetch(url, {
          method,
          headers,
          signal,
          ...(body !== undefined && { body }),
        })
        text = await answer.text()
      } catch (error) {
        throw connectionError(url, error)
      }
      return readAnswer(url, text)
    },
  }
}

function connectionError(url: string, error: unknown): DbError {
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

function readAnswer(url: string, text: string): unknown {
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
