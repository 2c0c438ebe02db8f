/**
 * Definitions as the server shows them, as lines of a snapshot: each in one line, and without what
 * is a node's own.
 */
import { DbError } from '../../base/errors.ts'
import { nextToken, type Token } from './tokens.ts'

/** The next id of a table: rolled back inserts move it, so that nodes have different ones. */
const COUNTER = /^(\) ENGINE=\w+) AUTO_INCREMENT=\d+/m
/** Whose view it is: the account of one node. */
const DEFINER = /DEFINER=`[^`]*`@`[^`]*` /

/**
 * A definition without line breaks, which means the same. Throws SNAPSHOT_FAILED if a name has one
 * in it.
 */
export function inOneLine(definition: string): string {
  let text = ''
  let last: Token | undefined
  for (;;) {
    const token = nextToken(definition, last)
    text += definition.slice(last?.end ?? 0, token?.start).replaceAll(/[\r\n]+/g, ' ')
    if (token === undefined) return text
    const part = definition.slice(token.start, token.end)
    if (token.type !== 'string' && /[\r\n]/.test(part)) {
      const message = `a name with a line break in it can't be in a snapshot: ${part}`
      throw new DbError('SNAPSHOT_FAILED', message)
    }
    text += withoutBreaks(part)
    last = token
  }
}

/** A text in quotes, with its line breaks as escapes. */
export function withoutBreaks(quoted: string): string {
  return quoted.replaceAll('\n', '\\n').replaceAll('\r', '\\r')
}

export function withoutCounter(definition: string): string {
  return definition.replace(COUNTER, '$1')
}

/** A view that belongs to whoever makes it. */
export function withoutDefiner(definition: string): string {
  return definition.replace(DEFINER, '')
}
