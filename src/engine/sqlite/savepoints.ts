/** The savepoints of a client in SQLite, and the statements that ask for them. */
import { SAVEPOINT_WORDS, type SavepointCommand, SavepointStack } from '../savepoints.ts'
import type { DatabaseFile } from './database-file.ts'
import { nextToken, skipToStatement, unquote } from './tokens.ts'

export class Savepoints {
  readonly #file: DatabaseFile
  readonly #stack = new SavepointStack()

  constructor(file: DatabaseFile) {
    this.#file = file
  }

  /**
   * Does what a command says, with `loggedCount` steps to be logged so far; gives how many are to
   * be logged then. Throws `DbError` if there is no such savepoint.
   */
  run(command: SavepointCommand, loggedCount: number): number {
    const move = this.#stack.move(command, loggedCount)
    if (move.type === 'set') this.#file.setSavepoint(move.depth)
    else if (move.type === 'release') this.#file.releaseSavepointAt(move.depth)
    else this.#file.rollbackToSavepointAt(move.depth)
    return move.loggedCount
  }
}

/**
 * Reads `SAVEPOINT name`, `RELEASE [SAVEPOINT] name` and `ROLLBACK [TRANSACTION] TO [SAVEPOINT]
 * name`, alone in a text; undefined for every other text. SQLite's names know no capitals.
 */
export function readSavepointCommand(sql: string): SavepointCommand | undefined {
  const words: string[] = []
  let name = ''
  let token = nextToken(sql, skipToStatement(sql, 0))
  for (; token !== undefined; token = nextToken(sql, token.end)) {
    const text = sql.slice(token.start, token.end)
    if (text === ';') {
      if (nextToken(sql, token.end) !== undefined) return undefined
      break
    }
    // A savepoint may be named like a keyword if it is quoted.
    const isName = token.type === 'quoted' || token.type === 'string'
    if (token.type !== 'word' && !isName) return undefined
    name = token.type === 'word' ? text : unquote(sql, token)
    words.push(isName ? '""' : text.toUpperCase())
    if (words.length > 5) return undefined
  }
  const before = words.slice(0, -1).join(' ')
  const type = SAVEPOINT_WORDS.get(before)
  return type === undefined ? undefined : { type, name: name.toLowerCase() }
}
