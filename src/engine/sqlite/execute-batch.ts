/**
 * A batch on the leader: its requests run one after another in one transaction for each database
 * they touch, and the transactions stay open until the log has decided.
 */
import { assert } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import type { Statement } from '../../base/sql.ts'
import type { RequestError, RequestResult, WriteRequest, WriterMessage } from '../engine.ts'
import type { StatementOutcome } from '../entry.ts'
import { EntryBuilder } from '../entry.ts'
import { decodeRequest } from '../request.ts'
import type { DatabaseFile } from './database-file.ts'
import type { FileSet } from './file-set.ts'
import { DATABASES_MAX, ENTRY_DATABASES_MAX } from '../limits.ts'
import { hasId, RequestIds } from '../request-ids.ts'
import { isSameOutcome } from '../outcomes.ts'
import { LocalFault, toRequestError } from '../request-errors.ts'
import { refuseName } from '../names.ts'
import type { RequestRunner, RunOptions, RunOutcome } from './request-runner.ts'
import { isSolo } from './solo.ts'
import type { SqlFailure } from './sql-errors.ts'

type StatementsRequest = WriteRequest & { readonly type: 'statements' }
type CatalogueChange = WriteRequest & { readonly type: 'create-database' | 'drop-database' }

/** A request that succeeded and is in the entry, kept in case it must run again. */
interface Logged {
  readonly file: DatabaseFile
  readonly statements: readonly Statement[]
  readonly position: number
  readonly ordinal: number
  readonly outcomes: readonly StatementOutcome[]
}

interface BatchResults {
  /** Requests that were run, from the first on. */
  readonly taken: number
  readonly results: readonly RequestResult[]
}

/** What a batch has done in one file. */
interface Begun {
  /** Something in the transaction is to stay. */
  hasChanges: boolean
  /** Tables and views that were inserted into or updated. */
  readonly tables: Set<string>
}

const builder = new EntryBuilder()

export class ExecuteBatch {
  /** Number of the batch. */
  readonly number: number
  readonly #files: FileSet
  readonly #runner: RequestRunner
  /** The moment of its entry. */
  readonly nowMs: number
  readonly #seed: Uint8Array
  readonly #requests: readonly Uint8Array[]
  /** Files with an open transaction. */
  readonly #begun = new Map<DatabaseFile, Begun>()
  #logged: Logged[] = []
  #refusesLastRowid = false
  /** Plain statements run without a savepoint, until one of them took the transaction with it. */
  #runsPlain = true
  /** The create or drop that this batch is. */
  #catalogueChange: CatalogueChange | undefined
  #isRebuild = false
  #ids: RequestIds
  readonly #commitIndex: number

  constructor(files: FileSet, runner: RequestRunner, message: WriterMessage & { type: 'execute' }) {
    this.#files = files
    this.#runner = runner
    this.number = message.batch
    this.nowMs = message.nowMs
    this.#seed = message.seed
    this.#requests = message.requests
    this.#ids = new RequestIds(files.catalogue)
    this.#commitIndex = message.commitIndex
  }

  /** Runs requests up to the first that must be alone; all of them, if there is none. */
  run(): BatchResults {
    const results = this.#runAll()
    if (!this.#holdsLastRowid()) return results
    // Which request was it? All run again, to the same outcomes, and each is asked.
    for (const file of this.#begun.keys()) file.rollback()
    this.#end()
    this.#logged = []
    this.#ids = new RequestIds(this.#files.catalogue)
    this.#refusesLastRowid = true
    this.#runsPlain = false
    return this.#runAll()
  }

  #runAll(): BatchResults {
    builder.begin(this.nowMs, this.#seed)
    const results: RequestResult[] = []
    for (const [ordinal, bytes] of this.#requests.entries()) {
      const request = decode(bytes)
      if (request instanceof DbError) {
        results.push(failed(toRequestError(request)))
        continue
      }
      const answer = this.#answerKnown(request, bytes)
      if (answer !== undefined) {
        results.push(answer)
        continue
      }
      if (request.type === 'cancel') {
        results.push(this.#cancel(request, bytes))
        continue
      }
      if (request.type === 'transaction') {
        results.push(failed({ code: 'INVALID_REQUEST', message: 'no request is a transaction' }))
        continue
      }
      if (isSolo(request)) {
        if (ordinal > 0) break
        results.push(this.#runSolo(request, bytes))
        break
      }
      assert(request.type === 'statements', 'what is not solo has statements')
      if (this.#isOneDatabaseTooMany(request.database)) break
      results.push(this.#runRequest(request, bytes, ordinal))
    }
    return { taken: results.length, results }
  }

  /** A batch that touches many databases goes into several entries: each file of one stays open. */
  #isOneDatabaseTooMany(database: string): boolean {
    if (this.#begun.size < ENTRY_DATABASES_MAX) return false
    const madeBy = this.#files.catalogue.madeBy(database)
    if (madeBy === undefined) return false
    for (const file of this.#begun.keys()) if (file.madeBy === madeBy) return false
    return true
  }

  /** The entry's bytes, undefined if nothing is to be repeated by others. */
  entry(): Uint8Array | undefined {
    return builder.count === 0 ? undefined : builder.finish()
  }

  commit(index: number): void {
    for (const [file, { hasChanges }] of this.#begun) {
      if (hasChanges) {
        this.#files.noteChange(file, index)
        file.commit(index, this.nowMs, this.#ids.recordsOf(file.requests))
      } else file.rollback()
    }
    const { catalogue } = this.#files
    const records = this.#ids.recordsOf(catalogue.requests)
    const change = this.#catalogueChange
    if (change?.type === 'create-database') this.#files.create(change.database, index, records)
    else if (change?.type === 'drop-database') this.#files.drop(change.database, index, records)
    else if (records !== undefined) catalogue.cancel(index, records)
    this.#end()
  }

  rollback(): void {
    for (const file of this.#begun.keys()) file.rollback()
    this.#end()
  }

  #end(): void {
    if (this.#isRebuild) for (const file of this.#begun.keys()) file.setForeignKeys(true)
    this.#begun.clear()
  }

  /** The answer to a request that must not be executed, because its id is known. */
  #answerKnown(request: WriteRequest, bytes: Uint8Array): RequestResult | undefined {
    if (!hasId(request)) return undefined
    const file = this.#files.find(request.database)
    return this.#ids.answer(request, bytes, file, this.#commitIndex)
  }

  #cancel(request: WriteRequest & { readonly type: 'cancel' }, bytes: Uint8Array): RequestResult {
    const refusal = refuseName(request.database)
    if (refusal !== undefined) return failed(toRequestError(refusal))
    builder.add(bytes, [])
    return this.#ids.noteCancelled(request)
  }

  #runSolo(request: StatementsRequest | CatalogueChange, bytes: Uint8Array): RequestResult {
    if (request.type === 'statements') {
      this.#isRebuild = true
      this.#runsPlain = false
      return this.#runRequest(request, bytes, 0)
    }
    const error = this.#refuseCatalogueChange(request)
    if (error !== undefined) return failed(toRequestError(error))
    this.#catalogueChange = request
    builder.add(bytes, [])
    if (hasId(request)) {
      this.#ids.noteApplied(request, bytes, this.#files.catalogue.requests, [], [])
    }
    return { type: 'ok', results: [] }
  }

  #refuseCatalogueChange(request: CatalogueChange): DbError | undefined {
    const { type, database } = request
    const exists = this.#files.catalogue.madeBy(database) !== undefined
    if (type === 'drop-database') return exists ? undefined : nothingToDrop(database)
    const refusal = refuseName(database)
    if (refusal !== undefined) return refusal
    if (exists) return new DbError('DATABASE_EXISTS', `there is a database ${database} already`)
    return this.#files.catalogue.size < DATABASES_MAX ? undefined : tooManyDatabases()
  }

  #runRequest(request: StatementsRequest, bytes: Uint8Array, ordinal: number): RequestResult {
    const { database, statements } = request
    const file = this.#files.find(database)
    if (file === undefined) return failed(toRequestError(unknownDatabase(database)))
    if (statements.length === 0) {
      return failed({ code: 'INVALID_REQUEST', message: 'the request holds no statement' })
    }
    this.#begin(file)
    const position = builder.count
    const outcome = this.#runner.run(file, statements, this.#options(position, ordinal))
    if (outcome.type === 'failed') return this.#fail(file, outcome)
    const { results, outcomes, isReadOnly } = outcome
    if (!isReadOnly) {
      builder.add(bytes, outcomes)
      this.#logged.push({ file, statements, position, ordinal, outcomes })
      this.#stay(file, outcome.tables)
      if (hasId(request)) {
        this.#ids.noteApplied(request, bytes, file.requests, results, outcomes)
      }
    }
    return { type: 'ok', results }
  }

  #options(position: number, ordinal: number): RunOptions {
    return {
      position,
      ordinal,
      keepsRows: true,
      isRebuild: this.#isRebuild,
      refusesLastRowid: this.#refusesLastRowid,
      runsPlain: this.#runsPlain,
    }
  }

  #begin(file: DatabaseFile): void {
    if (this.#begun.has(file)) return
    if (this.#isRebuild) file.setForeignKeys(false)
    this.#begun.set(file, { hasChanges: false, tables: new Set() })
    file.begin()
    file.determinism.beginEntry(this.nowMs, this.#seed)
  }

  #stay(file: DatabaseFile, tables: ReadonlySet<string>): void {
    const begun = this.#begun.get(file)
    assert(begun !== undefined, 'a request ran in a transaction')
    begun.hasChanges = true
    for (const table of tables) begun.tables.add(table)
  }

  /** Asked once for all requests of a batch, because one look costs nearly as much as an insert. */
  #holdsLastRowid(): boolean {
    for (const [file, { tables }] of this.#begun) {
      if (file.lastRowid.find(tables) !== undefined) return true
    }
    return false
  }

  #fail(file: DatabaseFile, outcome: RunOutcome & { type: 'failed' }): RequestResult {
    const { failure, isTransactionLost } = outcome
    // A corrupt page fails who asks for it: a writer that ended would only meet it again.
    if (failure.type === 'local') throw new LocalFault(failure.error)
    if (failure.type === 'full') this.#files.requireSpace(failure.error)
    // After a corrupt page SQLite refuses to write until the whole transaction is rolled back.
    if (isTransactionLost || failure.type === 'corrupt') this.#runAgain(file)
    return failed(verdict(failure))
  }

  /**
   * A statement has taken the whole transaction with it: whatever else was in it runs again, from
   * the same moment and chance, to the same outcomes.
   */
  #runAgain(file: DatabaseFile): void {
    // Whoever does so may do it many times in a batch; with a savepoint it is mostly undone alone.
    this.#runsPlain = false
    file.rollback()
    file.begin()
    for (const logged of this.#logged) {
      if (logged.file !== file) continue
      const { statements, position, ordinal, outcomes } = logged
      const again = this.#runner.run(file, statements, this.#options(position, ordinal))
      assert(again.type === 'ok', `request ${ordinal} failed when it ran again`)
      const isSame = again.outcomes.every((outcome, i) => {
        const first = outcomes[i]
        return first !== undefined && isSameOutcome(first, outcome)
      })
      assert(isSame, `request ${ordinal} gave something else when it ran again`)
    }
  }
}

function decode(bytes: Uint8Array): WriteRequest | DbError {
  try {
    return decodeRequest(bytes)
  } catch (error) {
    if (!(error instanceof DbError)) throw error
    return new DbError('INVALID_REQUEST', `the request can't be read: ${error.message}`)
  }
}

function failed(error: RequestError): RequestResult {
  return { type: 'failed', error }
}

function tooManyDatabases(): DbError {
  return new DbError(
    'TOO_LARGE',
    `a cluster has at most ${DATABASES_MAX} databases; drop one, or use tables of one database`,
    { details: { limit: DATABASES_MAX } },
  )
}

function unknownDatabase(database: string): DbError {
  return new DbError('UNKNOWN_DATABASE', `there is no database ${database}; create it first`)
}

/** Who wants to be rid of it is not to be told to create it. */
function nothingToDrop(database: string): DbError {
  return new DbError('UNKNOWN_DATABASE', `there is no database ${database}`)
}

/** The disk has space, so that a table was full: the client's to hear. */
function verdict(failure: SqlFailure): RequestError {
  if (failure.type !== 'full') return failure.error
  return {
    ...failure.error,
    code: 'SQL_ERROR',
    message: 'the table has used its last rowid, or the disk was full for a moment',
  }
}
