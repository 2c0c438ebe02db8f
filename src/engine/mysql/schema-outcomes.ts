/**
 * What schema changes came to, as a request of a later entry: they can't be compared in their own,
 * because nobody knows before it is committed what comes of them. The leader adds it to the next
 * entry that it makes.
 */
import { assert } from '../../base/assert.ts'
import type { WriteRequest } from '../engine.ts'
import { encodeRequest } from '../request.ts'
import { isPositional } from '../value-codec.ts'
import type { SchemaOutcome } from './node-tables.ts'

/** No client can send this: it is no statement. */
const SQL = 'LOCKSTEP OUTCOMES'
/** A name that no database has. */
const DATABASE = 'lockstep'

/** The request's bytes. */
export function encodeOutcomes(outcomes: readonly SchemaOutcome[]): Uint8Array {
  const params = outcomes.flatMap(({ index, digest }) => [BigInt(index), digest])
  return encodeRequest({
    type: 'statements',
    database: DATABASE,
    statements: [{ sql: SQL, params }],
  })
}

/** What a request says of schema changes, undefined if it is an ordinary one. */
export function readOutcomes(request: WriteRequest): readonly SchemaOutcome[] | undefined {
  if (request.type !== 'statements' || request.database !== DATABASE) return undefined
  const [statement] = request.statements
  if (statement?.sql !== SQL || !isPositional(statement.params)) return undefined
  const { params } = statement
  assert(params.length % 2 === 0, 'each outcome has an entry and a digest')
  const outcomes: SchemaOutcome[] = []
  for (let at = 0; at < params.length; at += 2) {
    outcomes.push({ index: Number(params[at]), digest: String(params[at + 1]) })
  }
  return outcomes
}
