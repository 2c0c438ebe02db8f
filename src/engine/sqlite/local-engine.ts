/**
 * The engine in this process: the same writer and reader as behind processes, with every message
 * and every reply given to a scheduler in between. For tests and the simulator, where it can be
 * ended between any two of them as a process can.
 */
import { assert } from '../../base/assert.ts'
import type { RowFormat } from '../../base/result-json.ts'
import type {
  DigestOutcome,
  DigestRequest,
  Engine,
  JsonReadOutcome,
  ReadOutcome,
  ReadRequest,
  Writer,
  WriterHandler,
  WriterMessage,
  WriterReply,
} from '../engine.ts'
import { jsonOutcome } from '../result-codec.ts'
import { nodeFileSystem } from './file-system.ts'
import { LocalSnapshots } from './local-snapshots.ts'
import type { SqliteReaderOptions } from './sqlite-reader.ts'
import { SqliteReader } from './sqlite-reader.ts'
import type { SqliteWriterOptions } from './sqlite-writer.ts'
import { SqliteWriter } from './sqlite-writer.ts'

export interface LocalEngineOptions extends SqliteWriterOptions, SqliteReaderOptions {
  /** Calls back later, never inside the call. Each message and each reply passes through it. */
  readonly later: (callback: () => void) => void
  /** True if not given. */
  readonly repeatsCheaply?: boolean
}

const STOPPED = {
  type: 'failed',
  error: { code: 'SHUTTING_DOWN', message: 'the engine is stopping' },
} as const

export class LocalEngine implements Engine {
  readonly repeatsCheaply: boolean
  readonly #options: LocalEngineOptions
  readonly #reader: SqliteReader
  #writer: LocalWriter | undefined
  readonly snapshots: LocalSnapshots
  readonly applyDelayMs = 0
  #isStopped = false

  constructor(options: LocalEngineOptions) {
    this.#options = options
    this.repeatsCheaply = options.repeatsCheaply ?? true
    this.#reader = new SqliteReader(options)
    this.snapshots = new LocalSnapshots({
      directory: options.directory,
      fileSystem: options.fileSystem ?? nodeFileSystem,
      later: options.later,
      closeReaders: () => this.#reader.close(),
    })
  }

  startWriter(handler: WriterHandler): Writer {
    assert(!this.#isStopped, 'the engine is stopped')
    assert(this.#writer === undefined || this.#writer.isGone, 'there is a writer already')
    this.#writer = new LocalWriter(this.#options, handler)
    return this.#writer
  }

  /** The deadline is not kept: in one process, nothing can stop a statement. */
  query(request: ReadRequest, _timeoutMs: number, done: (outcome: ReadOutcome) => void): void {
    this.#ask(() => this.#reader.handle(request), STOPPED, done)
  }

  queryJson(
    request: ReadRequest,
    rows: RowFormat,
    _timeoutMs: number,
    done: (outcome: JsonReadOutcome) => void,
  ): void {
    this.#ask<JsonReadOutcome>(() => jsonOutcome(this.#reader.handle(request), rows), STOPPED, done)
  }

  digest(request: DigestRequest, _timeoutMs: number, done: (outcome: DigestOutcome) => void): void {
    this.#ask(() => this.#reader.digest(request), STOPPED, done)
  }

  databases(done: (names: readonly string[]) => void): void {
    this.#ask(() => this.#reader.databases(), [], done)
  }

  stop(done: () => void): void {
    this.#isStopped = true
    this.#writer?.kill()
    this.#reader.close()
    this.snapshots.close()
    this.#options.later(done)
  }

  #ask<T>(read: () => T, ifStopped: T, done: (outcome: T) => void): void {
    this.#options.later(() => {
      const outcome = this.#isStopped ? ifStopped : read()
      this.#options.later(() => done(outcome))
    })
  }
}

class LocalWriter implements Writer {
  readonly #later: (callback: () => void) => void
  readonly #handler: WriterHandler
  readonly #core: SqliteWriter
  /** Messages not yet taken, and replies not yet heard: both are lost when it is killed. */
  #inbox: WriterMessage[] = []
  #outbox: WriterReply[] = []
  #isEnded = false
  #isGone = false

  constructor(options: LocalEngineOptions, handler: WriterHandler) {
    this.#later = options.later
    this.#handler = handler
    this.#core = new SqliteWriter(options)
  }

  /** Its `onExit` was called. */
  get isGone(): boolean {
    return this.#isGone
  }

  send(message: WriterMessage): void {
    if (this.#isEnded) return
    this.#inbox.push(message)
    this.#later(() => this.#take())
  }

  kill(): void {
    this.#end('it was killed')
  }

  #take(): void {
    if (this.#isEnded) return
    // In the order they were sent, whatever the scheduler does with its callbacks.
    const message = this.#inbox.shift()
    if (message === undefined) return
    this.#outbox.push(this.#core.handle(message))
    this.#core.maintain()
    this.#later(() => this.#reply())
  }

  #reply(): void {
    if (this.#isEnded) return
    const reply = this.#outbox.shift()
    if (reply === undefined) return
    this.#handler.onReply(reply)
    if (reply.type === 'fault') this.#end(reply.error.message)
  }

  #end(reason: string): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#inbox = []
    this.#outbox = []
    this.#core.close()
    this.#later(() => {
      this.#isGone = true
      this.#handler.onExit(reason)
    })
  }
}
