/**
 * The engine in production: SQL runs in child processes, one that writes and a few that read, so
 * that consensus never waits for SQL and whatever runs away can be ended.
 */
import { randomBytes } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { assert } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import type { Clock, Logger } from '../../base/ports.ts'
import type { RowFormat } from '../../base/result-json.ts'
import type {
  DigestOutcome,
  DigestRequest,
  Engine,
  JsonReadOutcome,
  ReadOutcome,
  ReadRequest,
  RequestError,
  Writer,
  WriterHandler,
} from '../engine.ts'
import { EngineChild, type EngineChildOptions } from './engine-child.ts'
import { nodeFileSystem } from './file-system.ts'
import { ChildRegister, endOrphans } from './orphans.ts'
import {
  decodeDatabases,
  decodeDigestOutcome,
  decodeJsonOutcome,
  decodeReadOutcome,
  encodeReaderMessage,
  type ReaderMessage,
} from './reader-codec.ts'
import { READER_POOL_LIMITS, ReaderPool, type ReaderPoolLimits } from './reader-pool.ts'
import { SnapshotProcesses } from './snapshot-process.ts'
import { removeSnapshots } from './snapshot-taker.ts'
import { WriterProcess } from './writer-process.ts'

export interface ProcessEngineOptions {
  /** Directory of the SQLite files. */
  readonly directory: string
  /** File that names the living children of this node, so that orphans can be ended. */
  readonly childrenPath: string
  readonly clock: Clock
  readonly logger: Logger
  /** See {@link EngineChildOptions}; true if not given. */
  readonly watchParent?: boolean
  readonly pool?: Partial<ReaderPoolLimits>
}

interface Failed {
  readonly type: 'failed'
  readonly error: RequestError
}

const TOKEN_BYTES = 16
const DATABASES_TIMEOUT_MS = 5_000
const DATABASES_RETRY_MS = 100

export class ProcessEngine implements Engine {
  readonly repeatsCheaply = true
  readonly #child: Omit<EngineChildOptions, 'kind'>
  readonly #pool: ReaderPool
  readonly snapshots: SnapshotProcesses
  readonly applyDelayMs = 0
  readonly #clock: Clock
  #writer: WriterProcess | undefined
  #isStopping = false
  #onWriterGone: (() => void) | undefined

  private constructor(options: ProcessEngineOptions) {
    const { directory, clock, logger } = options
    const token = randomBytes(TOKEN_BYTES).toString('hex')
    const register = new ChildRegister(options.childrenPath, token)
    const child = { directory, register, watchParent: options.watchParent ?? true }
    this.#child = child
    this.#clock = clock
    this.#pool = new ReaderPool({
      startReader: handler => new EngineChild({ ...child, kind: 'reader' }, handler),
      clock,
      logger,
      limits: { ...READER_POOL_LIMITS, shortReadersMax: shortReadersMax(), ...options.pool },
    })
    this.snapshots = new SnapshotProcesses({ child, clock, logger, readers: this.#pool })
  }

  /**
   * Ends what an earlier run left behind, and only then makes the engine. Rejects with WRONG_DATA
   * if that is not possible.
   */
  static open(options: ProcessEngineOptions): Promise<ProcessEngine> {
    return new Promise((resolve, reject) => {
      endOrphans(options.childrenPath, options.clock, (error, count) => {
        if (error !== undefined) return reject(error)
        if (count > 0)
          options.logger.warn({ count }, 'ended processes left behind by an earlier run')
        // Nobody reads them any more: who did will ask again.
        removeSnapshots(options.directory, nodeFileSystem)
        resolve(new ProcessEngine(options))
      })
    })
  }

  startWriter(handler: WriterHandler): Writer {
    if (this.#isStopping) {
      queueMicrotask(() => handler.onExit('the engine is stopping'))
      return { send: () => {}, kill: () => {} }
    }
    assert(this.#writer === undefined, 'the last writer is not gone yet')
    const writer = new WriterProcess(this.#child, {
      onReply: reply => handler.onReply(reply),
      onExit: reason => {
        this.#writer = undefined
        handler.onExit(reason)
        this.#onWriterGone?.()
      },
    })
    this.#writer = writer
    return writer
  }

  query(request: ReadRequest, timeoutMs: number, done: (outcome: ReadOutcome) => void): void {
    this.#run({ type: 'query', request }, timeoutMs, decodeReadOutcome, done)
  }

  queryJson(
    request: ReadRequest,
    rows: RowFormat,
    timeoutMs: number,
    done: (outcome: JsonReadOutcome) => void,
  ): void {
    this.#run({ type: 'query', request, rows }, timeoutMs, decodeJsonOutcome, done)
  }

  digest(request: DigestRequest, timeoutMs: number, done: (outcome: DigestOutcome) => void): void {
    this.#run({ type: 'digest', request }, timeoutMs, decodeDigestOutcome, done)
  }

  databases(done: (names: readonly string[]) => void): void {
    const message = encodeReaderMessage({ type: 'databases' })
    this.#pool.run(message, DATABASES_TIMEOUT_MS, result => {
      if (result.type === 'reply') done(decodeDatabases(result.body))
      else if (this.#isStopping) done([])
      // The catalogue is there as long as the engine is: ask again.
      else this.#clock.setTimer(DATABASES_RETRY_MS, () => this.databases(done))
    })
  }

  stop(done: () => void): void {
    assert(!this.#isStopping, 'the engine is stopped twice')
    this.#isStopping = true
    let left = 3
    const oneIsGone = (): void => {
      left -= 1
      if (left === 0) done()
    }
    this.#pool.stop(oneIsGone)
    this.snapshots.stop(oneIsGone)
    if (this.#writer === undefined) return queueMicrotask(oneIsGone)
    this.#onWriterGone = oneIsGone
    this.#writer.kill()
  }

  #run<Outcome>(
    message: ReaderMessage,
    timeoutMs: number,
    decode: (body: Uint8Array) => Outcome,
    done: (outcome: NoInfer<Outcome> | Failed) => void,
  ): void {
    let bytes: Uint8Array
    try {
      bytes = encodeReaderMessage(message)
    } catch (error) {
      // A parameter that is no SQL value.
      if (!(error instanceof DbError)) throw error
      const { code, message } = error
      return queueMicrotask(() => done({ type: 'failed', error: { code, message } }))
    }
    this.#pool.run(bytes, timeoutMs, result => {
      done(result.type === 'reply' ? decode(result.body) : result)
    })
  }
}

/** One processor is for the main process and the writer, if there are more than two. */
function shortReadersMax(): number {
  return Math.max(2, availableParallelism() - 1)
}
