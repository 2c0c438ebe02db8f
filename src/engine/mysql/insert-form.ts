/**
 * An INSERT of one row of plain values: such rows of several requests can go in one statement. What
 * is in the row can't look at other rows, at the connection or at chance, so that it gives the same
 * beside others as alone.
 */
import { nameOf, type Token } from './tokens.ts'

/** What such a statement says before its row. */
export interface InsertForm {
  /** Its name as it stands in the text, without quotes. */
  readonly table: string
  /** Columns that get a value, in small letters; undefined if the text doesn't list its columns. */
  readonly given: readonly string[] | undefined
  /** Number of the token with which the row begins. */
  readonly rowToken: number
}

const PLAIN_VALUES = new Set(['<parameter>', '<string>', '<number>', 'NULL', 'DEFAULT'])
/** In a column that counts by itself they mean the next number. */
const NOTHING_GIVEN = new Set(['NULL', 'DEFAULT'])

/** `words`: of the tokens, in capitals, other tokens as a sign of their kind. */
export function readInsertForm(
  sql: string,
  tokens: readonly Token[],
  words: readonly string[],
): InsertForm | undefined {
  if (words[0] !== 'INSERT') return undefined
  const tableAt = words[1] === 'INTO' ? 2 : 1
  const table = nameAt(sql, tokens, tableAt)
  if (table === undefined) return undefined
  const hasColumns = words[tableAt + 1] === '('
  const columns = hasColumns ? listFrom(words, tableAt + 1, at => isName(tokens[at])) : undefined
  if (hasColumns && columns === undefined) return undefined
  const valuesAt = columns === undefined ? tableAt + 1 : columns.end
  if (words[valuesAt] !== 'VALUES' && words[valuesAt] !== 'VALUE') return undefined
  const rowToken = valuesAt + 1
  const row = listFrom(words, rowToken, at => PLAIN_VALUES.has(words[at] ?? ''))
  if (row === undefined || row.end !== words.length) return undefined
  if (columns === undefined) return { table, given: undefined, rowToken }
  if (columns.items.length !== row.items.length) return undefined
  const given = columns.items
    .filter((_, place) => !NOTHING_GIVEN.has(words[row.items[place] ?? 0] ?? ''))
    .map(at => (nameAt(sql, tokens, at) ?? '').toLowerCase())
  return { table, given, rowToken }
}

/** The tokens of a list in brackets, and the token behind it; undefined if it is another one. */
function listFrom(
  words: readonly string[],
  start: number,
  isItem: (at: number) => boolean,
): { readonly items: readonly number[]; readonly end: number } | undefined {
  if (words[start] !== '(') return undefined
  const items: number[] = []
  for (let at = start + 1; ; at += 2) {
    if (!isItem(at)) return undefined
    items.push(at)
    if (words[at + 1] === ')') return { items, end: at + 2 }
    if (words[at + 1] !== ',') return undefined
  }
}

function isName(token: Token | undefined): boolean {
  return token?.type === 'word' || token?.type === 'quoted'
}

function nameAt(sql: string, tokens: readonly Token[], at: number): string | undefined {
  const token = tokens[at]
  return token !== undefined && isName(token) ? nameOf(sql, token) : undefined
}
