/**
 * Pieces of a dump's statements: what stands between commas, names, literals. Each character is a
 * byte of the dump, until it is sent.
 */
import { DbError } from '../base/errors.ts'

const SIGNS = /['"`(),]/g
const STRING_ENDS = { "'": /['\\]/g, '"': /["\\]/g, '`': /`/g } as const
const ESCAPED: Readonly<Record<string, string>> = {
  '0': '\0',
  b: '\b',
  n: '\n',
  r: '\r',
  t: '\t',
  Z: '\u001a',
}
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const NAME = /\s*(?:`((?:[^`]|``)+)`|([\w$\u0080-\u00ff]+))/y

/** The text that these bytes are. Throws INVALID_REQUEST if they are none. */
export function toText(bytes: string): string {
  try {
    return UTF8.decode(Buffer.from(bytes, 'latin1'))
  } catch {
    const problem = `the dump is not in UTF-8, near: ${bytes.slice(0, 200)}`
    const advice = 'make it with --default-character-set=utf8mb4'
    throw new DbError('INVALID_REQUEST', `${problem}; ${advice}`)
  }
}

/** Beyond the closing mark of the quote that begins at `start`. */
export function quoteEnd(text: string, start: number): number {
  const mark = text.charAt(start) as keyof typeof STRING_ENDS
  const sign = STRING_ENDS[mark]
  sign.lastIndex = start + 1
  for (let found = sign.exec(text); found !== null; found = sign.exec(text)) {
    if (found[0] === '\\') sign.lastIndex = found.index + 2
    else if (text.charAt(found.index + 1) === mark) sign.lastIndex = found.index + 2
    else return found.index + 1
  }
  throw new DbError('INVALID_REQUEST', `a quote is not closed: ${text.slice(0, 200)}`)
}

/** Where the value that begins at `start` ends: at a comma or bracket that is not inside of it. */
export function valueEnd(text: string, start: number): number {
  let depth = 0
  SIGNS.lastIndex = start
  for (let found = SIGNS.exec(text); found !== null; found = SIGNS.exec(text)) {
    const [sign] = found
    if (sign === '(') depth += 1
    else if (sign === ')') {
      if (depth === 0) return found.index
      depth -= 1
    } else if (sign === ',') {
      if (depth === 0) return found.index
    } else {
      const end = quoteEnd(text, found.index)
      SIGNS.lastIndex = end
    }
  }
  return text.length
}

/** What stands between the brackets that open at `start`, in its parts, and where they close. */
export function bracketed(
  text: string,
  start: number,
): { readonly parts: readonly string[]; readonly end: number } {
  const parts: string[] = []
  for (let at = start + 1; at <= text.length;) {
    const end = valueEnd(text, at)
    parts.push(text.slice(at, end).trim())
    if (text.charAt(end) === ')') return { parts, end: end + 1 }
    at = end + 1
  }
  throw new DbError('INVALID_REQUEST', `a bracket is not closed: ${text.slice(0, 200)}`)
}

/** The bytes that a string literal with its marks stands for. */
export function unquote(literal: string): string {
  const mark = literal.charAt(0)
  return literal
    .slice(1, -1)
    .replaceAll(/\\([\s\S])|''|""/g, (whole, escaped: string | undefined) => {
      if (escaped !== undefined) return ESCAPED[escaped] ?? escaped
      return whole === mark + mark ? mark : whole
    })
}

/** A name at a place, without its marks, and where it ends; of a.b it is b. */
export function nameAt(
  text: string,
  start: number,
): { readonly name: string; readonly end: number } {
  NAME.lastIndex = start
  const found = NAME.exec(text)
  if (found === null) {
    const near = text.slice(0, 200)
    const isAnsi = /\s*"/y.test(text.slice(start))
    const advice = isAnsi ? 'make the dump without --compatible=ansi, ' : ''
    throw new DbError('INVALID_REQUEST', `${advice}no name where one is: ${near}`)
  }
  const end = NAME.lastIndex
  if (text.charAt(end) === '.') return nameAt(text, end + 1)
  const name = found[1]?.replaceAll('``', '`') ?? found[2] ?? ''
  return { name: toText(name), end }
}
