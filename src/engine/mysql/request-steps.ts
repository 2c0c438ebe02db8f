/**
 * The statements of a request one by one, and what kind of request they make: what reads, what can
 * be undone, and what changes tables and can not. What no node may run is refused here.
 */
import { DbError } from '../../base/errors.ts'
import type { SqlParams, Statement } from '../../base/sql.ts'
import { STATEMENTS_MAX } from '../limits.ts'
import { parseText } from './parsed-text.ts'
import type { ParsedStatement } from './statement-parser.ts'

/** One statement of a request, and which of its texts it stands in. */
export interface Step {
  readonly statement: ParsedStatement
  readonly params: SqlParams
  readonly text: number
}

/** Whether a name that stands before a dot is one of a database that is not the client's. */
export type IsForeign = (name: string) => boolean

/** What kind of request a list of statements is. Throws `DbError` for what is refused. */
export function readSteps(
  statements: readonly Statement[],
  isForeign: IsForeign,
): { readonly steps: readonly Step[]; readonly type: 'read' | 'write' | 'schema' } {
  if (statements.length === 0) {
    throw new DbError('INVALID_REQUEST', 'the request holds no statement')
  }
  const steps: Step[] = []
  for (const [text, { sql, params }] of statements.entries()) {
    try {
      const parsed = parseText(sql)
      if (parsed.length > 1 && Object.keys(params).length > 0) throw manyWithParams()
      for (const statement of parsed) {
        refuse(statement, isForeign)
        steps.push({ statement, params, text })
      }
    } catch (error) {
      throw atStatement(error, text)
    }
  }
  if (steps.length > STATEMENTS_MAX) {
    throw new DbError('TOO_LARGE', `a request has at most ${STATEMENTS_MAX} statements`)
  }
  if (steps.some(({ statement }) => statement.kind === 'schema')) {
    if (steps.length > 1) throw new DbError('UNSUPPORTED', SCHEMA_ALONE)
    return { steps, type: 'schema' }
  }
  const isRead = steps.every(({ statement }) => statement.kind === 'read')
  return { steps, type: isRead ? 'read' : 'write' }
}

const SCHEMA_ALONE =
  'MySQL commits a schema change by itself, so that it can not be undone together with others: ' +
  'send each as a request of its own'

/** Throws UNSUPPORTED for what no node may run. */
export function refuse(statement: ParsedStatement, isForeign: IsForeign): void {
  const { refusal, qualifiers } = statement
  if (refusal !== undefined) throw new DbError('UNSUPPORTED', refusal)
  for (const name of qualifiers) {
    if (!isForeign(name)) continue
    const message = `a request is about one database; ${name} is another one of the server`
    throw new DbError('UNSUPPORTED', `${message}. A table of that name needs an alias`)
  }
}

function manyWithParams(): DbError {
  return new DbError(
    'INVALID_REQUEST',
    'parameters go with a single statement; send a script without them, or in pieces',
  )
}

/** The same error with the number of the text that it is about. */
export function atStatement(error: unknown, statement: number): unknown {
  if (!(error instanceof DbError)) return error
  return new DbError(error.code, error.message, { details: { ...error.details, statement } })
}
