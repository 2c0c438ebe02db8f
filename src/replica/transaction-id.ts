/**
 * The name of an interactive transaction. To its client it is opaque and can't be guessed; to the
 * nodes it says who led when it began, and which database it is for.
 *
 *   <raft id>.<term>.<number>.<birth>.<32 hex digits of chance>.<database>
 */
import { DbError } from '../base/errors.ts'

export interface TransactionId {
  /** The leader that it began on, and the term in which it led. */
  readonly leader: number
  readonly term: number
  /** From 1, in their order, within the life of the leader's process. */
  readonly number: number
  /** An entry that was committed when it began: no commit of it is in an earlier one. */
  readonly birth: number
  readonly secret: string
  readonly database: string
}

const FORMAT =
  /^(\d{1,15})\.(\d{1,15})\.(\d{1,15})\.(\d{1,15})\.([0-9a-f]{32})\.([A-Za-z_][A-Za-z0-9_-]{0,62})$/

/** Writes a name. */
export function formatTransactionId(id: TransactionId): string {
  return [id.leader, id.term, id.number, id.birth, id.secret, id.database].join('.')
}

/** Reads a name. Throws `DbError` INVALID_REQUEST if it is none. */
export function parseTransactionId(text: string): TransactionId {
  const parts = FORMAT.exec(text)
  if (parts === null) {
    throw new DbError('INVALID_REQUEST', 'the name of the transaction is none that a node gave')
  }
  const [, leader, term, number, birth, secret = '', database = ''] = parts
  const numbers = { leader: Number(leader), term: Number(term), number: Number(number) }
  return { ...numbers, birth: Number(birth), secret, database }
}
