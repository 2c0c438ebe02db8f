/**
 * The writer: the one that changes databases. It answers each message with one reply and does
 * nothing by itself, so that it runs the same in a process of its own, in a test and in the
 * simulator. Its state is what its files hold, and one open batch.
 */
import { assert, must, unreachable } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import type {
  AcceptedEntry,
  Divergence,
  EngineEntry,
  RequestError,
  RequestResult,
  TransactionStart,
  WriterMessage,
  WriterReply,
} from '../engine.ts'
import { decodeEntry } from '../entry.ts'
import { ApplyBatch } from './apply-batch.ts'
import { engineBuild } from './build.ts'
import { ExecuteBatch } from './execute-batch.ts'
import { FileSet } from './file-set.ts'
import type { FileSystem } from './file-system.ts'
import { nodeFileSystem } from './file-system.ts'
import { openGeneration } from './generation.ts'
import { InteractiveTransaction } from './interactive.ts'
import type { RequestLimits } from '../limits.ts'
import { REQUEST_LIMITS } from '../limits.ts'
import { toRequestError, withDetails } from '../request-errors.ts'
import type { AlterSql } from './request-runner.ts'
import { RequestRunner } from './request-runner.ts'
import { localFaultOf } from './sql-errors.ts'
import { TransactionGroup } from './transaction-group.ts'

/** Pages of 4096 bytes that the WALs may hold together before they are checkpointed. */
const WAL_PAGES_MAX = 10_000
/** Databases that stay open: some 300 KB of memory each, and what pages of them are kept. */
export const OPEN_FILES_MAX = 1024

export interface SqliteWriterOptions {
  /** The engine's directory; made if it isn't there. */
  readonly directory: string
  readonly fileSystem?: FileSystem
  /** Pages in WALs at which a checkpoint is due. */
  readonly walPagesMax?: number
  /**
   * Databases that stay open, 1024 if not given; the longest unused is flushed and closed. There
   * are more only while one entry writes to so many, or readers keep them from being flushed.
   */
  readonly openFilesMax?: number
  /** How much is remembered of requests; only tests give it, for it is the same on all nodes. */
  readonly requestLimits?: RequestLimits
  /** Called with each path once everything in it survives a power cut. */
  readonly onFlushed?: (path: string) => void
  /** Only for tests of divergence: what this replica runs in place of a text. */
  readonly alterSqlForTests?: AlterSql
}

type State = 'new' | 'open' | 'diverged' | 'ended'

export class SqliteWriter {
  readonly #options: SqliteWriterOptions
  readonly #fileSystem: FileSystem
  readonly #runner: RequestRunner
  #state: State = 'new'
  /** Undefined until `open` came. */
  #openFiles: FileSet | undefined
  #batch: ExecuteBatch | InteractiveTransaction | TransactionGroup | undefined
  #divergence: Divergence | undefined
  /** Entries up to here are in their files. */
  #appliedIndex = 0
  /** Newest moment of an entry. A leader's clock may be behind that of the one before it. */
  #nowMs = 0
  #fault: RequestError | undefined

  constructor(options: SqliteWriterOptions) {
    this.#options = options
    this.#fileSystem = options.fileSystem ?? nodeFileSystem
    this.#runner = new RequestRunner(options.alterSqlForTests)
  }

  /**
   * Answers a message. After a `fault` it holds nothing any more and answers everything with it;
   * what it throws is a broken invariant, and it must not be used again.
   */
  handle(message: WriterMessage): WriterReply {
    this.maintain()
    const reply = this.#guard(() => this.#answer(message))
    return reply ?? { type: 'fault', error: must(this.#fault) }
  }

  /**
   * Checkpoints if one is due. `handle` does it first of all; a host that calls it after it has
   * sent a reply keeps the next message from waiting for it.
   */
  maintain(): void {
    if (this.#state !== 'open' || this.#batch !== undefined) return
    this.#guard(() => this.#files.checkpointIfDue(this.#appliedIndex, this.#nowMs))
  }

  /** Undefined if there is a fault, or was one before: then nothing is done any more. */
  #guard<T>(act: () => T): T | undefined {
    if (this.#fault !== undefined) return undefined
    try {
      return act()
    } catch (thrown) {
      const error = localFaultOf(thrown)
      if (error === undefined) throw thrown
      this.#fault = error
      this.close()
      return undefined
    }
  }

  /** How many databases' files are open now. */
  get openFiles(): number {
    return this.#openFiles?.openCount ?? 0
  }

  /** Lets go of all files; open transactions are rolled back. */
  close(): void {
    this.#openFiles?.close()
    this.#batch = undefined
    this.#state = 'ended'
  }

  #answer(message: WriterMessage): WriterReply {
    switch (message.type) {
      case 'open':
        return this.#open()
      case 'execute':
        return this.#execute(message)
      case 'step':
        return this.#step(message)
      case 'finish':
        return this.#finish(message)
      case 'commit':
        return this.#commit(message.batch, message.index)
      case 'rollback':
        this.#rollback()
        return { type: 'rolled-back', batch: message.batch }
      case 'apply':
        return this.#apply(message.entries)
      case 'accept':
        return this.#accept(message)
      case 'condemn':
        return this.#condemn(message.divergence)
      case 'checkpoint':
        if (this.#batch === undefined && this.#state === 'open') {
          this.#files.checkpoint(this.#appliedIndex, this.#nowMs)
        }
        return { type: 'checkpointed', durableIndex: this.#files.durableIndex }
      default:
        return unreachable(message)
    }
  }

  #open(): WriterReply {
    assert(this.#state === 'new', `open came to a writer that is ${this.#state}`)
    const directory = openGeneration(this.#options.directory, this.#fileSystem, this.#onFlushed)
    this.#openFiles = new FileSet({
      directory,
      fileSystem: this.#fileSystem,
      walPagesMax: this.#options.walPagesMax ?? WAL_PAGES_MAX,
      openFilesMax: this.#options.openFilesMax ?? OPEN_FILES_MAX,
      requestLimits: this.#options.requestLimits ?? REQUEST_LIMITS,
      onFlushed: this.#onFlushed,
    })
    this.#state = 'open'
    this.#files.open()
    this.#appliedIndex = this.#files.floor
    this.#nowMs = this.#files.nowMs
    const { past } = this.#files.catalogue.verdicts
    if (past.condemned !== undefined) this.#diverged(past.condemned)
    return {
      type: 'opened',
      appliedIndex: this.#appliedIndex,
      durableIndex: this.#files.durableIndex,
      nowMs: this.#nowMs,
      build: engineBuild(),
      past,
    }
  }

  get #files(): FileSet {
    return must(this.#openFiles, 'the set of open files')
  }

  readonly #onFlushed = (path: string): void => this.#options.onFlushed?.(path)

  #execute(message: WriterMessage & { type: 'execute' }): WriterReply {
    assert(this.#state !== 'new', 'execute came before open')
    assert(this.#batch === undefined, `batch ${message.batch} came while one is open`)
    assert(message.requests.length > 0, `batch ${message.batch} holds no request`)
    const { batch, requests } = message
    if (this.#state === 'diverged') {
      const result: RequestResult = { type: 'failed', error: this.#divergedError() }
      const results = requests.map(() => result)
      return { type: 'executed', batch, taken: requests.length, entry: undefined, results }
    }
    const nowMs = Math.max(message.nowMs, this.#nowMs)
    const open = new ExecuteBatch(this.#files, this.#runner, { ...message, nowMs })
    // Known before it runs: if it throws, closing the files undoes what it did.
    this.#batch = open
    const { taken, results } = open.run()
    const entry = open.entry()
    if (entry === undefined) {
      open.rollback()
      this.#batch = undefined
    }
    return { type: 'executed', batch, taken, entry, results }
  }

  #step(message: WriterMessage & { type: 'step' }): WriterReply {
    const { batch, start, request, isQuery, givesWay = false } = message
    const open = this.#transaction(batch, start)
    if (!(open instanceof InteractiveTransaction)) {
      const result = { type: 'failed', error: withDetails(open, { transaction: 'over' }) } as const
      const proof = new Uint8Array()
      const nowMs = this.#nowMs
      return { type: 'stepped', batch, nowMs, result, proof, isReadOnly: true, isOver: true }
    }
    const { nowMs } = open
    const { result, proof, isOver } = open.step(request, isQuery)
    const { isReadOnly } = open
    if (isOver || givesWay) this.#rollback()
    return { type: 'stepped', batch, nowMs, result, proof, isReadOnly, isOver }
  }

  #finish(message: WriterMessage & { type: 'finish' }): WriterReply {
    const { batch, start, commitIndex, others = [] } = message
    const open = this.#transaction(batch, start)
    if (!(open instanceof InteractiveTransaction)) {
      const results = [{ type: 'failed', error: open }] as const
      return { type: 'executed', batch, taken: 1, entry: undefined, results }
    }
    const group = new TransactionGroup(this.#files, this.#runner, open, commitIndex)
    // Known before it runs: if it throws, closing the files undoes what it did.
    this.#batch = group
    const { taken, results, entry } = group.end(message, others)
    if (entry === undefined) this.#rollback()
    return { type: 'executed', batch, taken, entry, results }
  }

  /** The transaction of a turn, brought to where it was; or why it can't be. */
  #transaction(
    batch: number,
    start: TransactionStart | undefined,
  ): InteractiveTransaction | RequestError {
    assert(this.#state !== 'new', 'a step came before open')
    const open = this.#batch
    if (start === undefined) {
      assert(open instanceof InteractiveTransaction && open.number === batch, `no turn ${batch}`)
      return open
    }
    assert(open === undefined, `turn ${batch} came while a batch is open`)
    if (this.#state === 'diverged') return this.#divergedError()
    // Once its client has seen a moment, it keeps it.
    const isNew = start.earlier.length === 0
    const nowMs = isNew ? Math.max(start.nowMs, this.#nowMs) : start.nowMs
    try {
      const options = { ...start, nowMs }
      const begun = new InteractiveTransaction(this.#files, this.#runner, batch, options)
      this.#batch = begun
      const conflict = begun.repeat(start.earlier)
      if (conflict === undefined) return begun
      this.#rollback()
      return conflict
    } catch (error) {
      if (!(error instanceof DbError) || error.code !== 'UNKNOWN_DATABASE') throw error
      return toRequestError(error)
    }
  }

  #rollback(): void {
    this.#batch?.rollback()
    this.#batch = undefined
  }

  #commit(batch: number, index: number): WriterReply {
    const open = this.#batch
    assert(open?.number === batch, `batch ${batch} isn't the open one`)
    assert(!(open instanceof InteractiveTransaction), `turn ${batch} has not asked to be committed`)
    assert(index > this.#appliedIndex, `entry ${index} came after ${this.#appliedIndex}`)
    open.commit(index)
    // A transaction keeps its moment while others pass it by.
    this.#nowMs = Math.max(this.#nowMs, open.nowMs)
    this.#batch = undefined
    this.#appliedIndex = index
    return { type: 'committed', batch, index, durableIndex: this.#files.durableIndex }
  }

  #apply(entries: readonly EngineEntry[]): WriterReply {
    assert(this.#state !== 'new', 'apply came before open')
    assert(this.#batch === undefined, 'apply came while a batch is open')
    for (const { index, data } of entries) {
      if (this.#divergence !== undefined) break
      assert(index > this.#appliedIndex, `entry ${index} came after ${this.#appliedIndex}`)
      const entry = decodeEntry(data)
      const divergence = new ApplyBatch(this.#files, this.#runner, index, entry).run()
      if (divergence === undefined) {
        this.#appliedIndex = index
        this.#nowMs = Math.max(this.#nowMs, entry.nowMs)
      } else {
        this.#diverged(divergence)
      }
    }
    const reply = {
      type: 'applied' as const,
      index: this.#appliedIndex,
      durableIndex: this.#files.durableIndex,
    }
    return this.#divergence === undefined ? reply : { ...reply, divergence: this.#divergence }
  }

  #diverged(divergence: Divergence): void {
    this.#divergence = divergence
    this.#state = 'diverged'
  }

  #accept({ index, digest }: AcceptedEntry): WriterReply {
    this.#files.noteVerdict(verdicts => verdicts.accept({ index, digest }))
    const { condemned } = this.#files.catalogue.verdicts.past
    if (this.#divergence?.index === index && condemned === undefined) {
      this.#divergence = undefined
      this.#state = 'open'
    }
    return { type: 'accepted', index, appliedIndex: this.#appliedIndex }
  }

  #condemn(divergence: Divergence): WriterReply {
    this.#rollback()
    this.#files.noteVerdict(verdicts => verdicts.condemn(divergence))
    this.#diverged(divergence)
    return { type: 'condemned' }
  }

  #divergedError(): RequestError {
    const { index, database, sql } = this.#divergence ?? { index: 0, database: '', sql: '' }
    return toRequestError(
      new DbError('DIVERGED', `this replica gave something else for entry ${index}`, {
        details: { index, database, sql },
      }),
    )
  }
}
