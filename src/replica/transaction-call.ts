/**
 * What can be asked of an interactive transaction, and its bytes on the way from the node that was
 * asked to the leader.
 *
 *   call   => type u8 (0 begin, 1 execute, 2 query, 3 commit, 4 rollback)
 *   begin  => database text, maxMs varint (0: the node's own limit)
 *   others => transaction text; for execute and query: request bytes (the rest); for commit: its
 *             request id (request-id.ts)
 *   answer => transaction text, outcome (outcome-codec.ts)
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { Statement, StatementResult } from '../base/sql.ts'
import type { RequestId } from '../engine/engine.ts'
import { decodeRequestId, encodeRequestId } from '../engine/request-id.ts'
import { encodeRequest } from '../engine/request.ts'
import { decodeOutcome, encodeOutcome } from './outcome-codec.ts'
import type { Outcome } from './types.ts'

/** What a client asks. */
export type TransactionOperation =
  | BeginOrEnd
  /** Runs statements, all of them or none; `query` refuses those that write. */
  | {
      readonly type: 'execute' | 'query'
      readonly transaction: string
      readonly database: string
      readonly statements: readonly Statement[]
    }

/** The same on its way: the statements are the bytes of `encodeRequest`. */
export type TransactionCall =
  | BeginOrEnd
  | {
      readonly type: 'execute' | 'query'
      readonly transaction: string
      readonly request: Uint8Array
    }

type BeginOrEnd =
  /** `maxMs`: how long it may be open in all, up to the node's own limit. */
  | { readonly type: 'begin'; readonly database: string; readonly maxMs: number | undefined }
  /** `id`: by which the fate of the commit can be asked for later. */
  | {
      readonly type: 'commit'
      readonly transaction: string
      readonly id: RequestId | undefined
    }
  | { readonly type: 'rollback'; readonly transaction: string }

export interface TransactionAnswer {
  /** The name that `begin` gave, or that the call named. */
  readonly transaction: string
  /** Of a commit: an index of the log at which it has surely taken effect; else 0. */
  readonly index: number
  readonly results: readonly StatementResult[]
  /** Of a commit with a request id: it was committed before, and this is its first answer. */
  readonly isRepeat?: true
}

export type TransactionOutcome = Outcome<TransactionAnswer>

export type TransactionCallback = (outcome: TransactionOutcome) => void

const TYPES = ['begin', 'execute', 'query', 'commit', 'rollback'] as const

/** Throws `DbError` INVALID_REQUEST for a value that SQL doesn't have. */
export function toCall(operation: TransactionOperation): TransactionCall {
  if (!('statements' in operation)) return operation
  const { type, transaction, database, statements } = operation
  return { type, transaction, request: encodeRequest({ type: 'statements', database, statements }) }
}

export function encodeCall(call: TransactionCall): Uint8Array {
  const writer = new ByteWriter()
  writer.u8(TYPES.indexOf(call.type))
  if (call.type === 'begin') {
    writer.utf8(call.database)
    writer.varint(call.maxMs ?? 0)
    return writer.finish()
  }
  writer.utf8(call.transaction)
  if (call.type === 'commit') encodeRequestId(writer, call.id)
  else if (call.type !== 'rollback') writer.raw(call.request)
  return writer.finish()
}

/** Reads what {@link encodeCall} wrote. Throws `DbError` CORRUPT. */
export function decodeCall(bytes: Uint8Array): TransactionCall {
  const reader = new ByteReader(bytes)
  const tag = reader.u8()
  const type = TYPES[tag]
  if (type === undefined) throw new DbError('CORRUPT', `${tag} is no call of a transaction`)
  if (type === 'begin') {
    const database = reader.utf8()
    const maxMs = reader.varint()
    return { type, database, maxMs: maxMs === 0 ? undefined : maxMs }
  }
  const transaction = reader.utf8()
  if (type === 'rollback') return { type, transaction }
  if (type === 'commit') return { type, transaction, id: decodeRequestId(reader) }
  return { type, transaction, request: reader.raw(reader.remaining).slice() }
}

export function encodeTransactionOutcome(outcome: TransactionOutcome): Uint8Array {
  const writer = new ByteWriter()
  if (outcome.type === 'failed') {
    writer.utf8('')
    encodeOutcome(writer, outcome)
  } else {
    const { transaction, ...rest } = outcome.value
    writer.utf8(transaction)
    encodeOutcome(writer, { type: 'ok', ...rest })
  }
  return writer.finish()
}

export function decodeTransactionOutcome(reader: ByteReader): TransactionOutcome {
  const transaction = reader.utf8()
  const outcome = decodeOutcome(reader)
  if (outcome.type === 'failed') return outcome
  const { index, results, isRepeat } = outcome
  const answer = { transaction, index, results }
  return { type: 'ok', value: isRepeat === true ? { ...answer, isRepeat } : answer }
}
