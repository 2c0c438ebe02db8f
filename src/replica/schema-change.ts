/**
 * Tells requests that change a schema from those that change data, for the rule `--forward data`.
 */
import type { Statement } from '../base/sql.ts'
import type { WriteRequest } from '../engine/engine.ts'

const SPACE_OR_COMMENT = /[\s;]+|--[^\n]*|\/\*[^]*?(?:\*\/|$)/y
const SCHEMA_VERB = /(?:create|drop|alter|reindex)\b/iy

/** True for databases, and for SQL whose text anywhere begins a statement with a schema verb. */
export function changesSchema(request: WriteRequest): boolean {
  if (request.type === 'cancel') return false
  if (request.type === 'transaction') return request.steps.some(step => anyChangesSchema(step))
  return request.type !== 'statements' || anyChangesSchema(request.statements)
}

function anyChangesSchema(statements: readonly Statement[]): boolean {
  return statements.some(({ sql }) => beginsWithVerb(sql))
}

/** Looks behind each semicolon, those in strings too: to refuse one too many does no harm. */
function beginsWithVerb(sql: string): boolean {
  // One expression for all of it would take a time that grows with the square of the text.
  for (let at = 0; at >= 0; at = sql.indexOf(';', at)) {
    at = endOfGap(sql, at)
    SCHEMA_VERB.lastIndex = at
    if (SCHEMA_VERB.test(sql)) return true
  }
  return false
}

function endOfGap(sql: string, start: number): number {
  let at = start
  for (;;) {
    SPACE_OR_COMMENT.lastIndex = at
    if (!SPACE_OR_COMMENT.test(sql)) return at
    at = SPACE_OR_COMMENT.lastIndex
  }
}
