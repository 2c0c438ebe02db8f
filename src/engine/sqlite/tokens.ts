/**
 * SQLite's own tokens, as far as they matter here: what is a word, a quoted name, a string, a
 * parameter. It finds what the engine's interface doesn't tell: which parameters a statement has,
 * and forms that must not reach a shared transaction.
 */

export type TokenType = 'word' | 'quoted' | 'string' | 'number' | 'parameter' | 'symbol'

export interface Token {
  readonly type: TokenType
  readonly start: number
  readonly end: number
}

const TAB = 9
const LINE_FEED = 10
const FORM_FEED = 12
const RETURN = 13
const SPACE = 32
const DOUBLE_QUOTE = 34
const HASH = 35
const DOLLAR = 36
const QUOTE = 39
const OPEN = 40
const CLOSE = 41
const STAR = 42
const MINUS = 45
const DOT = 46
const SLASH = 47
const COLON = 58
const SEMICOLON = 59
const QUESTION = 63
const AT = 64
const OPEN_BRACKET = 91
const UNDERSCORE = 95
const BACKTICK = 96

/** Where the first token at or after `offset` begins; the text's length if there is none. */
export function skipBlank(sql: string, offset: number): number {
  let at = offset
  for (;;) {
    const unit = sql.charCodeAt(at)
    if (isSpace(unit)) at++
    else if (unit === MINUS && sql.charCodeAt(at + 1) === MINUS) {
      const end = sql.indexOf('\n', at)
      if (end < 0) return sql.length
      at = end + 1
    } else if (unit === SLASH && sql.charCodeAt(at + 1) === STAR && at + 2 < sql.length) {
      const end = sql.indexOf('*/', at + 2)
      if (end < 0) return sql.length
      at = end + 2
    } else return Math.min(at, sql.length)
  }
}

/** Like {@link skipBlank}, but passes over semicolons too: where the next statement begins. */
export function skipToStatement(sql: string, offset: number): number {
  let at = skipBlank(sql, offset)
  while (sql.charCodeAt(at) === SEMICOLON) at = skipBlank(sql, at + 1)
  return at
}

/** The token that begins at or after `offset`, undefined at the end of the text. */
export function nextToken(sql: string, offset: number): Token | undefined {
  const start = skipBlank(sql, offset)
  if (start >= sql.length) return undefined
  const unit = sql.charCodeAt(start)
  switch (unit) {
    case QUOTE:
      return { type: 'string', start, end: quotedEnd(sql, start, unit) }
    case DOUBLE_QUOTE:
    case BACKTICK:
      return { type: 'quoted', start, end: quotedEnd(sql, start, unit) }
    case OPEN_BRACKET: {
      const close = sql.indexOf(']', start)
      return { type: 'quoted', start, end: close < 0 ? sql.length : close + 1 }
    }
    case QUESTION:
      return { type: 'parameter', start, end: digitsEnd(sql, start + 1) }
    case COLON:
    case AT:
    case HASH:
    case DOLLAR:
      return parameter(sql, start)
    default:
  }
  if (isDigit(unit) || (unit === DOT && isDigit(sql.charCodeAt(start + 1)))) {
    return { type: 'number', start, end: numberEnd(sql, start) }
  }
  if (!isWordUnit(unit)) return { type: 'symbol', start, end: start + 1 }
  const end = wordEnd(sql, start)
  const isBlob = end === start + 1 && (unit | 32) === 120 && sql.charCodeAt(end) === QUOTE
  if (isBlob) return { type: 'string', start, end: quotedEnd(sql, end, QUOTE) }
  return { type: 'word', start, end }
}

/** The name that a word, quoted name or string stands for. */
export function unquote(sql: string, token: Token): string {
  const text = sql.slice(token.start, token.end)
  if (token.type !== 'quoted' && token.type !== 'string') return text
  const mark = text.charAt(0)
  const body = text.slice(1, -1)
  return mark === '[' ? body : body.replaceAll(mark + mark, mark)
}

function parameter(sql: string, start: number): Token {
  let at = start + 1
  let count = 0
  for (;;) {
    const unit = sql.charCodeAt(at)
    if (isWordUnit(unit)) count++
    else if (unit === OPEN && count > 0) {
      // A Tcl array element: its index reaches to the bracket, spaces end it.
      do at++
      while (at < sql.length && !isSpace(sql.charCodeAt(at)) && sql.charCodeAt(at) !== CLOSE)
      if (sql.charCodeAt(at) === CLOSE) at++
      break
    } else if (unit === COLON && sql.charCodeAt(at + 1) === COLON) at++
    else break
    at++
  }
  return { type: count === 0 ? 'symbol' : 'parameter', start, end: Math.min(at, sql.length) }
}

function quotedEnd(sql: string, start: number, mark: number): number {
  let at = start + 1
  for (; at < sql.length; at++) {
    if (sql.charCodeAt(at) !== mark) continue
    if (sql.charCodeAt(at + 1) !== mark) return at + 1
    at++
  }
  return sql.length
}

function digitsEnd(sql: string, start: number): number {
  let at = start
  while (isDigit(sql.charCodeAt(at))) at++
  return at
}

function numberEnd(sql: string, start: number): number {
  let at = start
  while (isWordUnit(sql.charCodeAt(at)) || sql.charCodeAt(at) === DOT) at++
  return at
}

function wordEnd(sql: string, start: number): number {
  let at = start
  while (isWordUnit(sql.charCodeAt(at))) at++
  return at
}

function isSpace(unit: number): boolean {
  return (
    unit === SPACE || unit === TAB || unit === LINE_FEED || unit === FORM_FEED || unit === RETURN
  )
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
