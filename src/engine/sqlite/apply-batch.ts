/**
 * One committed entry on a follower, or on any node that replays: its requests run again and each
 * outcome is compared with the leader's. All of the entry is applied, or nothing. An entry that the
 * replicas agreed to be otherwise than it says is applied with the outcomes that they agreed on.
 */
import { assert } from '../../base/assert.ts'
import type { Statement } from '../../base/sql.ts'
import type { Divergence, RequestError, WriteRequest } from '../engine.ts'
import type { Entry, EntryRequest, StatementOutcome } from '../entry.ts'
import type { DatabaseFile } from './database-file.ts'
import type { FileSet } from './file-set.ts'
import { formatDigest, RowHash } from '../hash.ts'
import type { RequestBook } from './request-book.ts'
import { hasId, identitiesOf, RequestIds } from '../request-ids.ts'
import { describeError, describeOutcome, isSameOutcome } from '../outcomes.ts'
import { LocalFault } from '../request-errors.ts'
import type { RequestRunner, RunOutcome } from './request-runner.ts'
import { isRebuild } from './solo.ts'

/** What became of a request here. */
type OwnOutcome =
  | { readonly type: 'ok'; readonly outcomes: readonly StatementOutcome[] }
  | { readonly type: 'failed'; readonly error: RequestError }
  /** Its file held the entry already: it is not known any more what it gave. */
  | { readonly type: 'held' }
  /** There was nothing to do, because the database is there, or isn't. */
  | { readonly type: 'void' }

type CatalogueRequest = Exclude<WriteRequest, { readonly type: 'statements' }>

export class ApplyBatch {
  readonly #files: FileSet
  readonly #runner: RequestRunner
  readonly #index: number
  readonly #entry: Entry
  readonly #begun = new Set<DatabaseFile>()
  readonly #isRebuild: boolean
  /** Requests that failed and took the whole transaction with them, by their position. */
  readonly #destroyers = new Map<number, RequestError>()
  #own: OwnOutcome[] = []
  #ids: RequestIds
  /** The create or drop that this entry is. */
  #catalogueChange: CatalogueRequest | undefined
  #difference: Omit<Divergence, 'index' | 'digest'> | undefined

  constructor(files: FileSet, runner: RequestRunner, index: number, entry: Entry) {
    this.#files = files
    this.#runner = runner
    this.#index = index
    this.#entry = entry
    const first = entry.requests[0]
    this.#isRebuild = first !== undefined && isRebuild(first.request)
    this.#ids = new RequestIds(files.catalogue)
  }

  /** Applies the entry; a divergence leaves everything as it was. */
  run(): Divergence | undefined {
    while (!this.#runAll());
    const divergence = this.#judge()
    if (divergence === undefined) {
      // File by file: after a crash in between, each one knows for itself that it has this entry.
      for (const file of this.#begun) {
        this.#files.noteChange(file, this.#index)
        file.commit(this.#index, this.#entry.nowMs, this.#ids.recordsOf(file.requests))
      }
      this.#commitCatalogue()
    } else {
      for (const file of this.#begun) file.rollback()
    }
    this.#end()
    return divergence
  }

  /** False if a request destroyed what others had done: all must run again, without it. */
  #runAll(): boolean {
    this.#own = []
    this.#ids = new RequestIds(this.#files.catalogue)
    this.#difference = undefined
    for (const [position, request] of this.#entry.requests.entries()) {
      const own = this.#runRequest(request, position)
      if (own === undefined) {
        for (const file of this.#begun) file.rollback()
        this.#end()
        this.#begun.clear()
        return false
      }
      this.#own.push(own)
    }
    return true
  }

  #judge(): Divergence | undefined {
    const agreed = this.#files.catalogue.verdicts.digestOf(this.#index)
    if (this.#difference === undefined && agreed === undefined) return undefined
    const digest = this.#digest()
    // What a file holds already was agreed on before a crash.
    if (agreed === digest || (agreed !== undefined && this.#holdsSome())) return undefined
    const difference = this.#difference ?? {
      database: this.#entry.requests[0]?.request.database ?? '',
      sql: '',
      expected: `outcomes of digest ${agreed}, as the others agreed`,
      actual: 'what the entry says',
    }
    return { index: this.#index, ...difference, digest }
  }

  #holdsSome(): boolean {
    return this.#own.some(({ type }) => type === 'held')
  }

  #end(): void {
    if (this.#isRebuild) for (const file of this.#begun) file.setForeignKeys(true)
  }

  #runRequest(entryRequest: EntryRequest, position: number): OwnOutcome | undefined {
    const { request, bytes, outcomes } = entryRequest
    if (request.type !== 'statements' && request.type !== 'transaction') {
      return this.#inCatalogue(request, bytes)
    }
    const file = this.#files.find(request.database)
    if (file === undefined) return this.#withoutDatabase(request.database)
    if (file.applied >= this.#index) return { type: 'held' }
    if (!this.#isNew(request, file.requests)) return this.#appliedBefore(request)
    const destroyer = this.#destroyers.get(position)
    if (destroyer !== undefined) return this.#failed(request.database, '', destroyer)
    this.#begin(file)
    if (request.type === 'transaction') {
      return this.#runTransaction(file, entryRequest, request, position)
    }
    // They are part of the answer that is remembered under its id.
    const keepsRows = hasId(request)
    const actual = this.#run(file, request.statements, position, keepsRows)
    if (actual.type === 'failed') return this.#fail(actual, request.database, position)
    this.#compare(request.database, request.statements, outcomes, actual)
    if (hasId(request)) {
      this.#ids.noteApplied(request, bytes, file.requests, actual.results, actual.outcomes)
    }
    return { type: 'ok', outcomes: actual.outcomes }
  }

  /**
   * Its steps stand where requests stand in other entries: it is alone in its own, or has a moment
   * and chance of its own.
   */
  #runTransaction(
    file: DatabaseFile,
    { bytes, outcomes: expected }: EntryRequest,
    request: WriteRequest & { readonly type: 'transaction' },
    position: number,
  ): OwnOutcome | undefined {
    const { database, steps, moment } = request
    const isAlone = this.#entry.requests.length === 1
    assert(isAlone || moment !== undefined, 'a transaction among others has its own moment')
    if (moment !== undefined) file.determinism.beginEntry(moment.nowMs, moment.seed)
    const outcomes: StatementOutcome[] = []
    file.savepoint()
    for (const [step, statements] of steps.entries()) {
      const actual = this.#run(file, statements, step, false)
      if (actual.type === 'failed') {
        if (!actual.isTransactionLost) file.rollbackToSavepoint()
        return this.#fail(actual, database, position)
      }
      const from = outcomes.length
      outcomes.push(...actual.outcomes)
      this.#compare(database, statements, expected.slice(from, outcomes.length), actual)
    }
    file.releaseSavepoint()
    if (outcomes.length < expected.length) {
      const what = `${expected.length} outcomes in all`
      this.#differ(database, '', what, `${outcomes.length} outcomes in all`)
    }
    for (const identity of identitiesOf(request)) {
      this.#ids.noteApplied(identity, bytes, file.requests, [], [])
    }
    return { type: 'ok', outcomes }
  }

  #run(
    file: DatabaseFile,
    statements: readonly Statement[],
    position: number,
    keepsRows: boolean,
  ): RunOutcome {
    return this.#runner.run(file, statements, {
      position,
      ordinal: 0,
      keepsRows,
      isRebuild: this.#isRebuild,
      refusesLastRowid: false,
      runsPlain: !this.#isRebuild && this.#destroyers.size === 0,
    })
  }

  #fail(
    actual: RunOutcome & { readonly type: 'failed' },
    database: string,
    position: number,
  ): OwnOutcome | undefined {
    const { failure, sql } = actual
    // It went well on the leader, so that a full file can only be full here.
    if (failure.type !== 'statement') throw new LocalFault(failure.error)
    if (!actual.isTransactionLost) return this.#failed(database, sql, failure.error)
    this.#destroyers.set(position, failure.error)
    return undefined
  }

  #begin(file: DatabaseFile): void {
    if (this.#begun.has(file)) return
    if (this.#isRebuild) file.setForeignKeys(false)
    this.#begun.add(file)
    file.begin()
    file.determinism.beginEntry(this.#entry.nowMs, this.#entry.seed)
  }

  #failed(database: string, sql: string, error: RequestError): OwnOutcome {
    this.#differ(database, sql, 'success', describeError(error))
    return { type: 'failed', error }
  }

  #compare(
    database: string,
    statements: readonly { readonly sql: string }[],
    expected: readonly StatementOutcome[],
    actual: { readonly outcomes: readonly StatementOutcome[]; readonly texts: readonly number[] },
  ): void {
    const count = Math.max(expected.length, actual.outcomes.length)
    for (let i = 0; i < count; i++) {
      const theirs = expected[i]
      const ours = actual.outcomes[i]
      if (theirs !== undefined && ours !== undefined && isSameOutcome(theirs, ours)) continue
      const sql = statements[actual.texts[i] ?? 0]?.sql ?? ''
      this.#differ(database, sql, describeOutcome(theirs), describeOutcome(ours))
      return
    }
  }

  /** An entry for a database that isn't there: it was dropped later, or it should be here. */
  #withoutDatabase(database: string): OwnOutcome {
    if (this.#files.catalogue.applied >= this.#index) return { type: 'held' }
    this.#differ(database, '', `a database ${database}`, 'no such database')
    return { type: 'void' }
  }

  /** Changes of the catalogue are noted, and made when all files are committed. */
  #inCatalogue(request: CatalogueRequest, bytes: Uint8Array): OwnOutcome {
    const { type, database } = request
    const { catalogue } = this.#files
    if (catalogue.applied >= this.#index) return { type: 'held' }
    if (!this.#isNew(request, catalogue.requests)) return this.#appliedBefore(request)
    const exists = catalogue.madeBy(database) !== undefined
    if (type === 'create-database' && exists) {
      this.#differ(database, type, 'no such database', `a database ${database}`)
      return { type: 'void' }
    }
    if (type === 'drop-database' && !exists) {
      this.#differ(database, type, `a database ${database}`, 'no such database')
      return { type: 'void' }
    }
    if (type === 'cancel') this.#ids.noteCancelled(request)
    else {
      this.#catalogueChange = request
      if (hasId(request)) this.#ids.noteApplied(request, bytes, catalogue.requests, [], [])
    }
    return { type: 'ok', outcomes: [] }
  }

  #commitCatalogue(): void {
    const { catalogue } = this.#files
    const records = this.#ids.recordsOf(catalogue.requests)
    const change = this.#catalogueChange
    if (change?.type === 'create-database') {
      this.#files.create(change.database, this.#index, records)
    } else if (change?.type === 'drop-database') {
      this.#files.drop(change.database, this.#index, records)
    } else if (records !== undefined) catalogue.cancel(this.#index, records)
  }

  /** The leader was right to execute a request if nobody had heard of its id. */
  #isNew(request: WriteRequest, book: RequestBook): boolean {
    if (request.type !== 'transaction') return !hasId(request) || this.#ids.isNew(request, book)
    return identitiesOf(request).every(identity => this.#ids.isNew(identity, book))
  }

  #appliedBefore({ type, database }: WriteRequest): OwnOutcome {
    this.#differ(database, type, 'a new request id', 'one that is known already')
    return { type: 'void' }
  }

  /** The first difference is the one that is told. */
  #differ(database: string, sql: string, expected: string, actual: string): void {
    this.#difference ??= { database, sql, expected, actual }
  }

  /** Over what every request gave here. What isn't known any more was as the entry says. */
  #digest(): string {
    const hash = new RowHash()
    hash.reset()
    for (const [position, own] of this.#own.entries()) {
      if (own.type === 'failed') {
        const { code, details = {} } = own.error
        hash.row(['failed', code, Number(details['sqliteCode'] ?? 0)])
      } else if (own.type === 'void') {
        hash.row(['void'])
      } else {
        const written = this.#entry.requests[position]?.outcomes ?? []
        for (const outcome of own.type === 'ok' ? own.outcomes : written) addOutcome(hash, outcome)
        hash.row([])
      }
    }
    return formatDigest(hash.digest())
  }
}

function addOutcome(hash: RowHash, { rowsAffected, lastInsertId, rowsDigest }: StatementOutcome) {
  const { low, high } = rowsDigest ?? { low: -1, high: -1 }
  hash.row([rowsAffected, lastInsertId ?? null, low, high])
}
