/**
 * The read token: says "at least as new as this" to any node. Clients carry it and never look
 * inside; it names the history, so that a token can't be mistaken for one of another cluster.
 */
import { DbError } from '../base/errors.ts'

/** What a token means to a node. */
export interface ReadToken {
  /** Id of the cluster's history: changes when a cluster is restored to an earlier state. */
  readonly historyId: string
  readonly groupId: number
  readonly index: number
}

const FORMAT = /^1\.([A-Za-z0-9_-]{1,64})\.([0-9a-z]{1,7})\.([0-9a-z]{1,11})$/

/** What all tokens of one node begin with; its index follows. Made once, since answers are many. */
export function tokenPrefix(historyId: string, groupId: number): string {
  return `1.${historyId}.${groupId.toString(36)}.`
}

/** The token for `index`, to stand behind {@link tokenPrefix}. */
export function encodeToken(prefix: string, index: number): string {
  return prefix + index.toString(36)
}

/** Reads a token. Throws INVALID_REQUEST if it is none. */
export function decodeToken(text: string): ReadToken {
  const token = readToken(text)
  if (token !== undefined) return token
  throw new DbError('INVALID_REQUEST', 'atLeast is not a token that a node of Lockstep gave')
}

function readToken(text: string): ReadToken | undefined {
  const [, historyId, groupId, index] = FORMAT.exec(text) ?? []
  if (historyId === undefined || groupId === undefined || index === undefined) return undefined
  const token = { historyId, groupId: parseInt(groupId, 36), index: parseInt(index, 36) }
  return Number.isSafeInteger(token.index) ? token : undefined
}

/**
 * True if a client should keep `next` instead of `last`: it is newer, or of another history. One
 * that this version can't read is of a newer server, and kept.
 */
export function isNewerToken(next: string, last: string | undefined): boolean {
  const a = readToken(next)
  const b = readToken(last ?? '')
  if (a === undefined || b === undefined) return true
  return a.historyId !== b.historyId || a.groupId !== b.groupId || a.index > b.index
}
