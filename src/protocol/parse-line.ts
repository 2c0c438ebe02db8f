/**
 * A line of a stream: the body of a `POST /execute`, and beside its fields the id of the
 * write, which a single request has in its headers.
 */
import { lineIdSchema } from './http-api.ts'
import { type ExecuteRequest, parseExecute } from './parse-request.ts'
import type { Dialect } from './dialect.ts'
import { parseShape } from './parse-shape.ts'

/** The id of a write, as text. */
export interface LineId {
  readonly request?: string | undefined
  readonly idempotencyKey?: string | undefined
  readonly since?: string | undefined
}

/** A checked line. Throws INVALID_REQUEST. */
export function parseLine(
  json: unknown,
  dialect: Dialect = 'sqlite',
): {
  readonly id: LineId
  readonly request: ExecuteRequest
} {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    return { id: {}, request: parseExecute(json, dialect) }
  }
  const { request, idempotencyKey, since, ...body } = json as Readonly<Record<string, unknown>>
  const id = parseShape(lineIdSchema, { request, idempotencyKey, since }, '')
  return { id, request: parseExecute(body, dialect) }
}
