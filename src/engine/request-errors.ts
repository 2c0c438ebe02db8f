/**
 * Errors of requests as data, and the fault that ends a writer: what every engine needs to tell a
 * client's mistake from this node's trouble.
 */
import type { DbError } from '../base/errors.ts'
import type { RequestError } from './engine.ts'

/** A `DbError` as data. */
export function toRequestError(error: DbError): RequestError {
  const { code, message, details } = error
  return Object.keys(details).length === 0 ? { code, message } : { code, message, details }
}

/** The same error with more facts. */
export function withDetails(
  error: RequestError,
  details: Readonly<Record<string, unknown>>,
): RequestError {
  return { ...error, details: { ...error.details, ...details } }
}

/** Ends what a writer does: this node's fault, after which its process must begin anew. */
export class LocalFault extends Error {
  override readonly name = 'LocalFault'
  readonly error: RequestError

  constructor(error: RequestError) {
    super(error.message)
    this.error = error
  }
}
