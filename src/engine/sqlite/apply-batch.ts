/**
 * One committed entry on a follower, or on any node that replays: its requests run again and each
 * outcome is compared with the leader's. All of the entry is applied, or nothing.
 */
import { assert } from '../../base/assert.ts'
import type { Divergence } from '../engine.ts'
import type { Entry, EntryRequest } from '../entry.ts'
import type { DatabaseFile } from './database-file.ts'
import type { FileSet } from './file-set.ts'
import type { RequestRunner, RunOutcome } from './request-runner.ts'
import { describeError, describeOutcome, isSameOutcome } from './request-runner.ts'
import { isRebuild } from './solo.ts'
import { LocalFault } from './sql-errors.ts'

export class ApplyBatch {
  readonly #files: FileSet
  readonly #runner: RequestRunner
  readonly #index: number
  readonly #entry: Entry
  readonly #begun = new Set<DatabaseFile>()
  readonly #isRebuild: boolean

  constructor(files: FileSet, runner: RequestRunner, index: number, entry: Entry) {
    this.#files = files
    this.#runner = runner
    this.#index = index
    this.#entry = entry
    const first = entry.requests[0]
    this.#isRebuild = first !== undefined && isRebuild(first.request)
  }

  /** Applies the entry; a divergence leaves everything as it was. */
  run(): Divergence | undefined {
    for (const [position, request] of this.#entry.requests.entries()) {
      const divergence = this.#runRequest(request, position)
      if (divergence === undefined) continue
      for (const file of this.#begun) file.rollback()
      this.#end()
      return divergence
    }
    // File by file: after a crash in between, each one knows for itself that it has this entry.
    for (const file of this.#begun) {
      this.#files.noteChange(file)
      file.commit(this.#index, this.#entry.nowMs)
    }
    this.#end()
    return undefined
  }

  #end(): void {
    if (this.#isRebuild) for (const file of this.#begun) file.setForeignKeys(true)
  }

  #runRequest(entryRequest: EntryRequest, position: number): Divergence | undefined {
    const { request } = entryRequest
    assert(request.type !== 'cancel', 'no entry holds a cancel')
    if (request.type !== 'statements') return this.#changeCatalogue(request.type, request.database)
    const file = this.#files.find(request.database)
    if (file === undefined) return this.#withoutDatabase(request.database)
    if (file.applied >= this.#index) return undefined
    this.#begin(file)
    const options = {
      position,
      ordinal: 0,
      keepsRows: false,
      isRebuild: this.#isRebuild,
      refusesLastRowid: false,
    }
    const actual = this.#runner.run(file, request.statements, options)
    if (actual.type === 'ok') return this.#compare(entryRequest, actual)
    const { failure, sql } = actual
    // It went well on the leader, so that a full file can only be full here.
    if (failure.type !== 'statement') throw new LocalFault(failure.error)
    return this.#divergence(request.database, sql, 'success', describeError(failure.error))
  }

  #begin(file: DatabaseFile): void {
    if (this.#begun.has(file)) return
    if (this.#isRebuild) file.setForeignKeys(false)
    this.#begun.add(file)
    file.begin()
    file.determinism.beginEntry(this.#entry.nowMs, this.#entry.seed)
  }

  #compare(expected: EntryRequest, actual: RunOutcome & { type: 'ok' }): Divergence | undefined {
    const { request, outcomes } = expected
    const count = Math.max(outcomes.length, actual.outcomes.length)
    for (let i = 0; i < count; i++) {
      const theirs = outcomes[i]
      const ours = actual.outcomes[i]
      if (theirs !== undefined && ours !== undefined && isSameOutcome(theirs, ours)) continue
      const text = actual.texts[i] ?? 0
      const sql = request.type === 'statements' ? (request.statements[text]?.sql ?? '') : ''
      return this.#divergence(request.database, sql, describeOutcome(theirs), describeOutcome(ours))
    }
    return undefined
  }

  /** An entry for a database that isn't there: it was dropped later, or it should be here. */
  #withoutDatabase(database: string): Divergence | undefined {
    if (this.#files.catalogue.applied >= this.#index) return undefined
    return this.#divergence(database, '', `a database ${database}`, 'no such database')
  }

  #changeCatalogue(
    type: 'create-database' | 'drop-database',
    database: string,
  ): Divergence | undefined {
    const { catalogue } = this.#files
    if (catalogue.applied >= this.#index) return undefined
    const exists = catalogue.madeBy(database) !== undefined
    if (type === 'create-database') {
      if (exists)
        return this.#divergence(database, type, 'no such database', `a database ${database}`)
      this.#files.create(database, this.#index)
      return undefined
    }
    if (!exists)
      return this.#divergence(database, type, `a database ${database}`, 'no such database')
    this.#files.drop(database, this.#index)
    return undefined
  }

  #divergence(database: string, sql: string, expected: string, actual: string): Divergence {
    return { index: this.#index, database, sql, expected, actual }
  }
}
