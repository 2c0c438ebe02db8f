/**
 * The tokens of MySQL's SQL, as far as they matter here: what is a word, a quoted name, a string, a
 * parameter. Comments that the server would execute are read as what is in them, because what is in
 * them counts.
 */

export type TokenType =
  | 'word'
  | 'quoted'
  | 'string'
  | 'number'
  | 'parameter'
  | 'variable'
  | 'symbol'

export interface Token {
  readonly type: TokenType
  readonly start: number
  /** Beyond the end of the text if a quote is not closed. */
  readonly end: number
  /** It stands in a comment that the server executes. */
  readonly isInComment: boolean
}

type Unplaced = Omit<Token, 'isInComment'>

const TAB = 9
const RETURN = 13
const SPACE = 32
const BANG = 33
const DOUBLE_QUOTE = 34
const HASH = 35
const DOLLAR = 36
const QUOTE = 39
const STAR = 42
const MINUS = 45
const DOT = 46
const SLASH = 47
const COLON = 58
const QUESTION = 63
const AT = 64
const CAPITAL_M = 77
const BACKSLASH = 92
const UNDERSCORE = 95
const BACKTICK = 96
const DELETE = 127

/** For a version that no server will have nothing is executed: dumps begin with such a comment. */
const NO_VERSION = 500_000

/** Letters that make a string of another kind of the quotes behind them: x'..', b'..', N'..'. */
const STRING_LETTERS = new Set(['x', 'b', 'n'])

/** The token that begins behind `last`, or the first one; undefined at the end of the text. */
export function nextToken(sql: string, last?: Token): Token | undefined {
  const { at: start, isInComment } = skipBlank(sql, last?.end ?? 0, last?.isInComment ?? false)
  if (start >= sql.length) return undefined
  const { type, end } = tokenAt(sql, start)
  return { type, start, end, isInComment }
}

function tokenAt(sql: string, start: number): Unplaced {
  const unit = sql.charCodeAt(start)
  switch (unit) {
    case QUOTE:
    case DOUBLE_QUOTE:
      return { type: 'string', start, end: stringEnd(sql, start, unit) }
    case BACKTICK:
      return { type: 'quoted', start, end: quotedEnd(sql, start) }
    case QUESTION:
      return { type: 'parameter', start, end: start + 1 }
    case COLON: {
      const end = wordEnd(sql, start + 1)
      return { type: end > start + 1 ? 'parameter' : 'symbol', start, end }
    }
    case AT:
      return { type: 'variable', start, end: variableEnd(sql, start) }
    default:
  }
  if (isDigit(unit) || (unit === DOT && isDigit(sql.charCodeAt(start + 1)))) {
    return number(sql, start)
  }
  if (!isWordUnit(unit)) return { type: 'symbol', start, end: start + 1 }
  const end = wordEnd(sql, start)
  const isString =
    sql.charCodeAt(end) === QUOTE && STRING_LETTERS.has(sql.slice(start, end).toLowerCase())
  if (isString) return { type: 'string', start, end: stringEnd(sql, end, QUOTE) }
  return { type: 'word', start, end }
}

/**
 * Where the first token at or after `offset` begins; the text's length if there is none. The end of
 * a comment is one only where a comment is open: elsewhere it is a star and a slash, of which the
 * slash may begin a comment.
 */
function skipBlank(
  sql: string,
  offset: number,
  wasInComment: boolean,
): { readonly at: number; readonly isInComment: boolean } {
  let at = offset
  let isInComment = wasInComment
  for (;;) {
    const unit = sql.charCodeAt(at)
    if (isSpace(unit)) at++
    else if (unit === HASH || (unit === MINUS && isDashComment(sql, at))) {
      const end = sql.indexOf('\n', at)
      if (end < 0) return { at: sql.length, isInComment }
      at = end + 1
    } else if (unit === SLASH && sql.charCodeAt(at + 1) === STAR) {
      const opened = openedComment(sql, at)
      const end = opened ?? sql.indexOf('*/', at + 2) + 2
      if (end < 2) return { at: sql.length, isInComment }
      isInComment ||= opened !== undefined
      at = end
    } else if (isInComment && unit === STAR && sql.charCodeAt(at + 1) === SLASH) {
      // The end of a comment that the server executes.
      isInComment = false
      at += 2
    } else return { at: Math.min(at, sql.length), isInComment }
  }
}

/** The name that a word or a quoted name stands for. */
export function nameOf(sql: string, token: Token): string {
  const text = sql.slice(token.start, token.end)
  return token.type === 'quoted' ? text.slice(1, -1).replaceAll('``', '`') : text
}

/** Where the inside of a comment begins that the server executes: `/*!50100 ..`, `/*M! ..`. */
function openedComment(sql: string, start: number): number | undefined {
  const isMariaDb = sql.charCodeAt(start + 2) === CAPITAL_M
  let at = start + (isMariaDb ? 3 : 2)
  if (sql.charCodeAt(at) !== BANG) return undefined
  const digits = at + 1
  do at++
  while (isDigit(sql.charCodeAt(at)))
  return Number(sql.slice(digits, at)) < NO_VERSION ? at : undefined
}

/** Two dashes begin a comment only if a space, a control character or the end follows. */
function isDashComment(sql: string, start: number): boolean {
  if (sql.charCodeAt(start + 1) !== MINUS) return false
  const after = sql.charCodeAt(start + 2)
  return Number.isNaN(after) || after <= SPACE || after === DELETE
}

/** Beyond the closing mark; a backslash takes the next character with it, two marks are one. */
function stringEnd(sql: string, start: number, mark: number): number {
  for (let at = start + 1; at < sql.length; at++) {
    const unit = sql.charCodeAt(at)
    if (unit === BACKSLASH) at++
    else if (unit === mark) {
      if (sql.charCodeAt(at + 1) !== mark) return at + 1
      at++
    }
  }
  return sql.length + 1
}

function quotedEnd(sql: string, start: number): number {
  for (let at = start + 1; at < sql.length; at++) {
    if (sql.charCodeAt(at) !== BACKTICK) continue
    if (sql.charCodeAt(at + 1) !== BACKTICK) return at + 1
    at++
  }
  return sql.length + 1
}

function variableEnd(sql: string, start: number): number {
  let at = start + 1
  while (sql.charCodeAt(at) === AT) at++
  const unit = sql.charCodeAt(at)
  if (unit === QUOTE || unit === DOUBLE_QUOTE) return stringEnd(sql, at, unit)
  if (unit === BACKTICK) return quotedEnd(sql, at)
  while (isWordUnit(sql.charCodeAt(at)) || sql.charCodeAt(at) === DOT) at++
  return at
}

const NUMBER = /0x[0-9a-f]+|0b[01]+|(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?/iy

/** A number; or a name, which may begin with a digit. */
function number(sql: string, start: number): Unplaced {
  NUMBER.lastIndex = start
  NUMBER.test(sql)
  const end = Math.max(NUMBER.lastIndex, start + 1)
  if (!isWordUnit(sql.charCodeAt(end))) return { type: 'number', start, end }
  return { type: 'word', start, end: wordEnd(sql, start) }
}

function wordEnd(sql: string, start: number): number {
  let at = start
  while (isWordUnit(sql.charCodeAt(at))) at++
  return at
}

function isSpace(unit: number): boolean {
  return unit === SPACE || (unit >= TAB && unit <= RETURN)
}

function isDigit(unit: number): boolean {
  return unit >= 48 && unit <= 57
}

function isWordUnit(unit: number): boolean {
  const lower = unit | 32
  return (
    (lower >= 97 && lower <= 122) ||
    isDigit(unit) ||
    unit === UNDERSCORE ||
    unit === DOLLAR ||
    unit > 127
  )
}
