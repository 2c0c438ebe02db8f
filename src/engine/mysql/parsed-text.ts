/**
 * What the text of a request tells before the server sees it: its statements one by one, what each
 * does, where its parameters stand, and forms that a replicated database must refuse. The text that
 * is sent is put together from the tokens that were seen here and holds no comments, so that the
 * server reads what was read here and one client's text never reaches into another's.
 */
import { DbError } from '../../base/errors.ts'
import { SQL_LENGTH_MAX } from '../limits.ts'
import { type ParsedStatement, StatementParser } from './statement-parser.ts'
import { nextToken, type Token } from './tokens.ts'

/** Texts longer than this are used once, as a rule, and not kept. */
const CACHED_LENGTH_MAX = 8 * 1024
/** Each of two generations holds at most so many texts. */
const GENERATION_TEXTS = 1000

let young = new Map<string, readonly ParsedStatement[]>()
let old = new Map<string, readonly ParsedStatement[]>()

/**
 * The statements of a text, at least one. Throws `DbError` TOO_LARGE, or SQL_SYNTAX for a text that
 * holds none or whose quotes are not closed.
 */
export function parseText(sql: string): readonly ParsedStatement[] {
  const known = young.get(sql) ?? old.get(sql)
  const parsed = known ?? parse(sql)
  if (sql.length <= CACHED_LENGTH_MAX && !young.has(sql)) keep(sql, parsed)
  return parsed
}

function keep(sql: string, parsed: readonly ParsedStatement[]): void {
  if (young.size >= GENERATION_TEXTS) {
    old = young
    young = new Map()
  }
  young.set(sql, parsed)
}

function parse(sql: string): readonly ParsedStatement[] {
  if (sql.length > SQL_LENGTH_MAX) {
    throw new DbError('TOO_LARGE', `a text has at most ${SQL_LENGTH_MAX} characters`, {
      details: { limit: SQL_LENGTH_MAX },
    })
  }
  const statements: ParsedStatement[] = []
  let tokens: Token[] = []
  for (let token = nextToken(sql); token !== undefined; token = nextToken(sql, token)) {
    if (token.end > sql.length) throw syntax('a quote is not closed')
    if (token.type === 'symbol' && sql.charAt(token.start) === ';') {
      if (tokens.length > 0) statements.push(new StatementParser(sql, tokens).parse())
      tokens = []
    } else tokens.push(token)
  }
  if (tokens.length > 0) statements.push(new StatementParser(sql, tokens).parse())
  if (statements.length === 0) throw syntax('the text holds no statement')
  return statements
}

function syntax(message: string): DbError {
  return new DbError('SQL_SYNTAX', message)
}
