/**
 * Interactive transactions that ask to be committed: mostly one, and several of one database if
 * they ask at the same time. Each runs again on what those before it have done, and one that gives
 * something else than before is left out. What they did stays open until the log has decided.
 */
import { assert, must } from '../../base/assert.ts'
import type {
  FinishedTransaction,
  RequestResult,
  TransactionStart,
  WriteRequest,
} from '../engine.ts'
import { EntryBuilder } from '../entry.ts'
import { isSameOutcome } from '../outcomes.ts'
import { identitiesOf, RequestIds } from '../request-ids.ts'
import { encodeRequest } from '../request.ts'
import type { TransactionIds } from '../transaction-steps.ts'
import type { FileSet } from './file-set.ts'
import { InteractiveTransaction } from './interactive.ts'
import type { RequestRunner } from './request-runner.ts'

/** What became of those that asked. */
export interface GroupEnd {
  /** How many of them were looked at, from the first on. */
  readonly taken: number
  readonly results: readonly RequestResult[]
  /** Undefined if there is nothing that others must repeat. */
  readonly entry: Uint8Array | undefined
}

/** What one of them adds to the entry. */
type Added = WriteRequest & { readonly type: 'transaction' }

const DONE: RequestResult = { type: 'ok', results: [] }

const builder = new EntryBuilder()

export class TransactionGroup {
  readonly number: number
  readonly #files: FileSet
  readonly #runner: RequestRunner
  /** The first one, which was open already. */
  readonly #first: InteractiveTransaction
  readonly #ids: RequestIds
  readonly #commitIndex: number
  #added: { readonly transaction: InteractiveTransaction; readonly bytes: Uint8Array }[] = []

  constructor(
    files: FileSet,
    runner: RequestRunner,
    first: InteractiveTransaction,
    commitIndex: number,
  ) {
    this.#files = files
    this.#runner = runner
    this.number = first.number
    this.#first = first
    this.#ids = new RequestIds(files.catalogue)
    this.#commitIndex = commitIndex
  }

  /** The moment of the entry. */
  get nowMs(): number {
    return Math.max(...this.#added.map(({ transaction }) => transaction.nowMs))
  }

  /**
   * Ends the first one and then the others, up to one that took all the rest with it: those behind
   * that are to ask again.
   */
  end(ids: TransactionIds, others: readonly FinishedTransaction[]): GroupEnd {
    const isGroup = others.length > 0
    const results = [this.#add(this.#first, ids, isGroup)]
    // What the first one did can't be undone alone: nothing else may stand upon it.
    const isFirstIn = this.#added.length === 1 || this.#first.isReadOnly
    for (const other of isFirstIn ? others : []) {
      if (other.start.database !== this.#first.database) break
      const result = this.#join(other)
      if (result === undefined) break
      results.push(result)
    }
    return { taken: results.length, results, entry: this.#entry() }
  }

  commit(index: number): void {
    const { file } = this.#first
    this.#files.noteChange(file, index)
    file.commit(index, this.nowMs, this.#ids.recordsOf(file.requests))
  }

  rollback(): void {
    this.#first.rollback()
  }

  /** Undefined if it could not be run beside those before it. */
  #join({ start, ...ids }: FinishedTransaction): RequestResult | undefined {
    const { file } = this.#first
    file.savepoint()
    const transaction = this.#begin(start)
    const conflict = transaction.repeat(start.earlier)
    if (transaction.hasLostAll) {
      // It took with it what the others had done, and may do so again: it is not to be among them.
      this.#runAgain()
      return undefined
    }
    const count = this.#added.length
    const result: RequestResult =
      conflict === undefined
        ? this.#add(transaction, ids, true)
        : { type: 'failed', error: conflict }
    if (this.#added.length > count) file.releaseSavepoint()
    else file.rollbackToSavepoint()
    return result
  }

  #begin(start: TransactionStart): InteractiveTransaction {
    return new InteractiveTransaction(this.#files, this.#runner, this.number, {
      ...start,
      isPart: true,
    })
  }

  /** It adds nothing if it only read, or if its id is known. */
  #add(transaction: InteractiveTransaction, ids: TransactionIds, isGroup: boolean): RequestResult {
    if (transaction.isReadOnly) return DONE
    const { file, database, nowMs, seed, logged } = transaction
    const { id, ownId } = ids
    const request: Added = {
      type: 'transaction',
      database,
      steps: logged.map(({ statements }) => statements),
      ...(id && { id }),
      ...(ownId && { ownId }),
      ...(isGroup && { moment: { nowMs, seed } }),
    }
    const bytes = encodeRequest(request)
    const identities = identitiesOf(request)
    for (const identity of identities) {
      const known = this.#ids.answer(identity, bytes, file, this.#commitIndex)
      if (known !== undefined) return known
    }
    for (const identity of identities) {
      this.#ids.noteApplied(identity, bytes, file.requests, [], [])
    }
    this.#added.push({ transaction, bytes })
    return DONE
  }

  #entry(): Uint8Array | undefined {
    if (this.#added.length === 0) return undefined
    const { transaction: first } = must(this.#added[0])
    builder.begin(this.nowMs, first.seed)
    for (const { transaction, bytes } of this.#added) {
      const outcomes = transaction.logged.flatMap(step => step.outcomes)
      builder.add(bytes, outcomes)
    }
    return builder.finish()
  }

  /** What those that are in the entry did is done once more, as every follower does it. */
  #runAgain(): void {
    const { file } = this.#first
    file.rollback()
    file.begin()
    for (const { transaction } of this.#added) {
      file.determinism.beginEntry(transaction.nowMs, transaction.seed)
      for (const [position, { statements, outcomes }] of transaction.logged.entries()) {
        const again = this.#runner.run(file, statements, {
          position,
          ordinal: 0,
          keepsRows: false,
          isRebuild: false,
          refusesLastRowid: false,
        })
        assert(again.type === 'ok', `step ${position} failed when it ran again`)
        const isSame = again.outcomes.every((outcome, at) => {
          const first = outcomes[at]
          return first !== undefined && isSameOutcome(first, outcome)
        })
        assert(isSame, `step ${position} gave something else when it ran again`)
      }
    }
  }
}
