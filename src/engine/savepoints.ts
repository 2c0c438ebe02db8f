/**
 * Savepoints that a client sets in its interactive transaction. The engine keeps them under names
 * of ours, by their depth, so that a client's name can't meet those of the server.
 */
import { DbError } from '../base/errors.ts'

/** What a statement asks of a savepoint. */
export interface SavepointCommand {
  readonly type: 'set' | 'release' | 'rollback-to'
  readonly name: string
}

/** What is to be done with the savepoint that has so many others around it. */
export interface SavepointMove {
  readonly type: SavepointCommand['type']
  readonly depth: number
  /** How many steps of the transaction are to be logged then. */
  readonly loggedCount: number
}

interface Savepoint {
  readonly name: string
  /** How many steps of the transaction were to be logged when it was set. */
  readonly loggedCount: number
}

/** Savepoints nest, and databases look through all of them for a name. */
const DEPTH_MAX = 1000

export class SavepointStack {
  readonly #open: Savepoint[] = []

  /**
   * Does what a command says, with `loggedCount` steps to be logged so far. Throws `DbError` if
   * there is no such savepoint.
   */
  move({ type, name }: SavepointCommand, loggedCount: number): SavepointMove {
    if (type === 'set') {
      const depth = this.#open.length
      if (depth >= DEPTH_MAX) {
        throw new DbError('TOO_LARGE', `a transaction has at most ${DEPTH_MAX} savepoints`)
      }
      this.#open.push({ name, loggedCount })
      return { type, depth, loggedCount }
    }
    const depth = this.#open.findLastIndex(savepoint => savepoint.name === name)
    const found = this.#open[depth]
    if (found === undefined) {
      throw new DbError('SQL_ERROR', `the transaction has no savepoint ${name}`)
    }
    if (type === 'release') {
      this.#open.length = depth
      return { type, depth, loggedCount }
    }
    this.#open.length = depth + 1
    return { type, depth, loggedCount: found.loggedCount }
  }
}

/** The words that a command may consist of before the name, in capitals and with single blanks. */
export const SAVEPOINT_WORDS: ReadonlyMap<string, SavepointCommand['type']> = new Map([
  ['SAVEPOINT', 'set'],
  ['RELEASE', 'release'],
  ['RELEASE SAVEPOINT', 'release'],
  ['ROLLBACK TO', 'rollback-to'],
  ['ROLLBACK TO SAVEPOINT', 'rollback-to'],
  ['ROLLBACK TRANSACTION TO', 'rollback-to'],
  ['ROLLBACK TRANSACTION TO SAVEPOINT', 'rollback-to'],
] as const)
