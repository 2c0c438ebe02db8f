/**
 * The engine over a MySQL or MariaDB server: SQL runs there, in a process of its own, so that
 * consensus never waits for it here either. One connection writes, a few read.
 */
import { assert } from '../../base/assert.ts'
import type { Clock } from '../../base/ports.ts'
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
} from '../engine.ts'
import { jsonOutcome } from '../result-codec.ts'
import { MysqlReader } from './mysql-reader.ts'
import { MysqlWriter, type MysqlWriterOptions } from './mysql-writer.ts'
import { MysqlSnapshots } from './mysql-snapshots.ts'
import { ReadPool } from './read-pool.ts'
import { TableChanges } from './table-changes.ts'

export interface MysqlEngineOptions extends Omit<MysqlWriterOptions, 'changes'> {
  readonly clock: Clock
  /** Connections that read. */
  readonly readersMax: number
  /** Where files of snapshots are; the current directory if none is given. */
  readonly directory?: string
}

const DATABASES_TIMEOUT_MS = 5000
const DATABASES_RETRY_MS = 100

/**
 * What nodes of one cluster must have in common. The server's own version is not known before it
 * answers; what it computes is compared entry by entry.
 */
export const MYSQL_BUILD = 'mysql 1'

/** A transaction costs the node and its server several times what one more entry in it does. */
const APPLY_DELAY_MS = 10

export class MysqlEngine implements Engine {
  /** Each step is several ways to the server and back. */
  readonly repeatsCheaply = false
  readonly #options: MysqlEngineOptions
  readonly #pool: ReadPool
  readonly #reader: MysqlReader
  readonly #changes = new TableChanges()
  readonly snapshots: MysqlSnapshots
  readonly applyDelayMs = APPLY_DELAY_MS
  #writer: MysqlWriter | undefined
  #isStopped = false

  constructor(options: MysqlEngineOptions) {
    const { address, owner, clock, readersMax, directory = '.' } = options
    this.#options = options
    this.#pool = new ReadPool({ address, clock, connectionsMax: readersMax })
    const [build, readers, changes] = [MYSQL_BUILD, this.#pool, this.#changes]
    const parts = { address, owner, clock, directory, build, readers, changes }
    this.snapshots = new MysqlSnapshots(parts)
    this.#reader = new MysqlReader(address.prefix, changes, () => clock.monotonicMs())
  }

  startWriter(handler: WriterHandler): Writer {
    if (this.#isStopped) {
      queueMicrotask(() => handler.onExit('the engine is stopping'))
      return { send: () => {}, kill: () => {} }
    }
    assert(this.#writer === undefined || this.#writer.isGone, 'the last writer is not gone yet')
    this.#writer = new MysqlWriter({ ...this.#options, changes: this.#changes }, handler)
    return this.#writer
  }

  query(request: ReadRequest, timeoutMs: number, done: (outcome: ReadOutcome) => void): void {
    this.#pool.run<ReadOutcome>(
      connection => this.#reader.query(connection, request),
      timeoutMs,
      done,
    )
  }

  queryJson(
    request: ReadRequest,
    rows: RowFormat,
    timeoutMs: number,
    done: (outcome: JsonReadOutcome) => void,
  ): void {
    this.query(request, timeoutMs, outcome => done(jsonOutcome(outcome, rows)))
  }

  digest(request: DigestRequest, timeoutMs: number, done: (outcome: DigestOutcome) => void): void {
    this.#pool.run<DigestOutcome>(
      connection => this.#reader.digest(connection, request),
      timeoutMs,
      done,
    )
  }

  databases(done: (names: readonly string[]) => void): void {
    this.#pool.run<readonly string[]>(
      connection => this.#reader.databases(connection),
      DATABASES_TIMEOUT_MS,
      result => {
        if (!('type' in result)) done(result)
        else if (this.#isStopped) done([])
        else this.#options.clock.setTimer(DATABASES_RETRY_MS, () => this.databases(done))
      },
    )
  }

  stop(done: () => void): void {
    this.#isStopped = true
    this.#pool.stop()
    this.snapshots.stop()
    this.#writer?.kill()
    // After the end of the writer is told, which it does in its next turn.
    setImmediate(() => setImmediate(done))
  }
}
