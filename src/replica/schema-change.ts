/**
 * Tells requests that change a schema from those that change data, for the rule `--forward data`.
 */
import type { WriteRequest } from '../engine/engine.ts'

const COMMENTS_AND_SPACE = /^(?:\s+|--[^\n]*(?:\n|$)|\/\*[\s\S]*?(?:\*\/|$)|;)+/

/** True for databases, and for SQL whose text anywhere begins a statement with a schema verb. */
export function changesSchema(request: WriteRequest): boolean {
  if (request.type !== 'statements') return true
  return request.statements.some(({ sql }) => {
    const text = sql.replace(COMMENTS_AND_SPACE, '')
    return (
      /^(?:create|drop|alter|reindex)\b/i.test(text) || /;\s*(?:create|drop|alter)\b/i.test(text)
    )
  })
}
