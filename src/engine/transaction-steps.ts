/**
 * What the steps of interactive transactions have in common, whatever engine runs them: what
 * becomes of one, what its proof says, and what is refused.
 */
import { ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { RequestError, RequestId, RequestResult } from './engine.ts'
import { toRequestError, withDetails } from './request-errors.ts'

/** What became of one step. */
export interface StepOutcome {
  readonly result: RequestResult
  /** All that its client could learn from it, as bytes to compare. */
  readonly proof: Uint8Array
  /** The transaction is rolled back: its state is not what its client thinks, or it is lost. */
  readonly isOver: boolean
}

/** What became of the whole transaction. */
export interface TransactionEnd {
  readonly entry: Uint8Array | undefined
  readonly result: RequestResult
}

/** By what the commit of a transaction is to be known. */
export interface TransactionIds {
  readonly id?: RequestId
  readonly ownId?: RequestId
}

/** The first byte of the proof of a step that was run. */
export const PROOF_OK = 0
const PROOF_FAILED = 1

const proofs = new ByteWriter(1024)

/** A step that failed. `isOver`: and with it the whole transaction. */
export function failedStep(error: RequestError, isOver: boolean): StepOutcome {
  proofs.reset()
  proofs.u8(PROOF_FAILED)
  proofs.utf8(error.code)
  proofs.utf8(error.message)
  // They tell which statement of the step failed, and so what the ones before it have met.
  proofs.utf8(JSON.stringify(error.details ?? {}))
  const told = isOver ? withDetails(error, { transaction: 'over' }) : error
  return { result: { type: 'failed', error: told }, proof: proofs.finish(), isOver }
}

/** Why a transaction is over of which a step, by its number, gives something else than before. */
export function conflictAt(step: number): RequestError {
  const message =
    `step ${step} gives something else than before, because others changed its data; the ` +
    'transaction is rolled back: run it again from its beginning'
  return toRequestError(new DbError('TRANSACTION_CONFLICT', message, { details: { step } }))
}

/** Whether two steps gave the same. */
export function isSameProof(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, at) => byte === right[at])
}

const TRANSACTION_WORDS = new Set(['BEGIN', 'COMMIT', 'END', 'ROLLBACK', 'SAVEPOINT', 'RELEASE'])

/** Whether a statement that begins with this word, in capitals, is about transactions. */
export function isTransactionWord(word: string): boolean {
  return TRANSACTION_WORDS.has(word)
}

/** For a statement about transactions that can be no step. */
export function refusedWords(): DbError {
  const message =
    'a transaction is begun, committed and rolled back by calls of its own; in it there are ' +
    'SAVEPOINT, RELEASE and ROLLBACK TO, each sent alone'
  return new DbError('UNSUPPORTED', message)
}
