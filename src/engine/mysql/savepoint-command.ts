/** Which step of a transaction is about savepoints, in MySQL's SQL. */
import type { Statement } from '../../base/sql.ts'
import { SAVEPOINT_WORDS, type SavepointCommand } from '../savepoints.ts'
import { isTransactionWord, refusedWords } from '../transaction-steps.ts'
import { nameOf, nextToken, type Token } from './tokens.ts'

const WORDS_MAX = 5

/**
 * The savepoint command that a step is, alone; undefined for every other step. Throws UNSUPPORTED
 * for a step that begins with a word about transactions and is no such command.
 */
export function readSavepoint(statements: readonly Statement[]): SavepointCommand | undefined {
  const [first] = statements
  const token = first && nextToken(first.sql)
  if (first === undefined || token?.type !== 'word') return undefined
  if (!isTransactionWord(first.sql.slice(token.start, token.end).toUpperCase())) return undefined
  const command = statements.length === 1 ? readCommand(first.sql, token) : undefined
  if (command === undefined) throw refusedWords()
  return command
}

/** Names of savepoints know no capitals. */
function readCommand(sql: string, first: Token): SavepointCommand | undefined {
  const words: string[] = []
  let name = ''
  for (let token: Token | undefined = first; token; token = nextToken(sql, token)) {
    const text = sql.slice(token.start, token.end)
    if (text === ';') {
      if (nextToken(sql, token) !== undefined) return undefined
      break
    }
    const isQuoted = token.type === 'quoted'
    if ((token.type !== 'word' && !isQuoted) || token.end > sql.length) return undefined
    name = nameOf(sql, token)
    words.push(isQuoted ? '``' : text.toUpperCase())
    if (words.length > WORDS_MAX) return undefined
  }
  const before = words.slice(0, -1).join(' ').replace('ROLLBACK WORK', 'ROLLBACK')
  const type = SAVEPOINT_WORDS.get(before)
  return type === undefined ? undefined : { type, name: name.toLowerCase() }
}
