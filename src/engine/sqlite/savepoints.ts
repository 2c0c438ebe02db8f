/**
 * Savepoints that a client sets in its interactive transaction. SQLite keeps them, under names of
 * ours, so that a client's name can't meet those of the server.
 */
import { DbError } from '../../base/errors.ts'
import type { DatabaseFile } from './database-file.ts'
import { nextToken, skipToStatement, unquote } from './tokens.ts'

/** What a statement asks of a savepoint. */
export interface SavepointCommand {
  readonly type: 'set' | 'release' | 'rollback-to'
  readonly name: string
}

interface Savepoint {
  readonly name: string
  /** How many steps of the transaction were to be logged when it was set. */
  readonly loggedCount: number
}

/** Savepoints nest, and SQLite looks through all of them for a name. */
const DEPTH_MAX = 1000

export class Savepoints {
  readonly #file: DatabaseFile
  readonly #open: Savepoint[] = []

  constructor(file: DatabaseFile) {
    this.#file = file
  }

  /**
   * Does what a command says, with `loggedCount` steps to be logged so far; gives how many are to
   * be logged then. Throws `DbError` if there is no such savepoint.
   */
  run(command: SavepointCommand, loggedCount: number): number {
    const { type, name } = command
    if (type === 'set') {
      if (this.#open.length >= DEPTH_MAX) {
        throw new DbError('TOO_LARGE', `a transaction has at most ${DEPTH_MAX} savepoints`)
      }
      this.#file.setSavepoint(this.#open.length)
      this.#open.push({ name, loggedCount })
      return loggedCount
    }
    const depth = this.#open.findLastIndex(savepoint => savepoint.name === name)
    const found = this.#open[depth]
    if (found === undefined) {
      throw new DbError('SQL_ERROR', `the transaction has no savepoint ${name}`)
    }
    if (type === 'release') {
      this.#file.releaseSavepointAt(depth)
      this.#open.length = depth
      return loggedCount
    }
    this.#file.rollbackToSavepointAt(depth)
    this.#open.length = depth + 1
    return found.loggedCount
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
  const type = COMMANDS.get(before)
  return type === undefined ? undefined : { type, name: name.toLowerCase() }
}

const COMMANDS: ReadonlyMap<string, SavepointCommand['type']> = new Map([
  ['SAVEPOINT', 'set'],
  ['RELEASE', 'release'],
  ['RELEASE SAVEPOINT', 'release'],
  ['ROLLBACK TO', 'rollback-to'],
  ['ROLLBACK TO SAVEPOINT', 'rollback-to'],
  ['ROLLBACK TRANSACTION TO', 'rollback-to'],
  ['ROLLBACK TRANSACTION TO SAVEPOINT', 'rollback-to'],
] as const)
