/**
 * The Engine of a simulated node: the real SQLite writer and reader behind the same messages as in
 * production, where they are processes. They take their time, die alone between any two messages,
 * and lose with the power what they had not made durable.
 */
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
} from '../src/engine/engine.ts'
import type { RequestLimits } from '../src/engine/limits.ts'
import type { AlterSql } from '../src/engine/sqlite/request-runner.ts'
import { jsonOutcome } from '../src/engine/result-codec.ts'
import { LocalSnapshots } from '../src/engine/sqlite/local-snapshots.ts'
import { removeSnapshots } from '../src/engine/sqlite/snapshot-taker.ts'
import { SqliteReader } from '../src/engine/sqlite/sqlite-reader.ts'
import { SqliteWriter } from '../src/engine/sqlite/sqlite-writer.ts'
import type { Clock } from '../src/base/ports.ts'
import type { RowFormat } from '../src/base/result-json.ts'
import { assert } from '../src/base/assert.ts'
import type { EngineDisk } from './engine-disk.ts'
import { SimProcess } from './sim-process.ts'
import type { SimRandom } from './sim-random.ts'
import type { World } from './world.ts'

export interface SimEngineOptions {
  /** Mean time that the writer takes for a message, and a reader for a read. */
  readonly writerMsMean: number
  readonly readerMsMean: number
  /** Time that a message or a reply is on its way. */
  readonly pipeMs: number
  /** The writer dies instead of taking a message, or after it and before its reply. */
  readonly deathProbability: number
  /** The writer can't do what a message asks, for its disk is full, says so and ends. */
  readonly faultProbability: number
  /** Pages in WALs at which a checkpoint is due, when the writer looks at them. */
  readonly walPagesMax: number
  /** How long followers gather entries. */
  readonly applyDelayMs: number
  /** How much is remembered of requests; the same on all nodes. */
  readonly requestLimits: RequestLimits
  /** A checkpoint before a message, as if one were due: the writer itself looks seldom. */
  readonly checkpointProbability: number
}

export interface SimEngineParts {
  readonly world: World
  readonly node: number
  readonly random: SimRandom
  readonly disk: EngineDisk
  /** The node's main process, in which callbacks happen. */
  readonly process: SimProcess
  readonly options: () => SimEngineOptions
  readonly clock: Clock
  /** An entry took effect in the engine's files. */
  readonly onApplied: (index: number, data: Uint8Array) => void
  /** The replica was found wrong. */
  readonly onCondemned: () => void
  /** Makes this replica compute something else. */
  readonly alterSql: AlterSql | undefined
}

type Failed = Extract<ReadOutcome, { type: 'failed' }>

export class SimEngine implements Engine {
  readonly repeatsCheaply = true
  readonly #parts: SimEngineParts
  readonly snapshots: LocalSnapshots
  readonly applyDelayMs: number
  #writer: SimWriter | undefined
  #reader: SqliteReader | undefined
  #isStopped = false

  constructor(parts: SimEngineParts) {
    this.#parts = parts
    const { disk, process, random, options } = parts
    this.applyDelayMs = options().applyDelayMs
    removeSnapshots(disk.root, disk.fileSystem)
    this.snapshots = new LocalSnapshots({
      directory: disk.root,
      fileSystem: disk.fileSystem,
      later: step => process.after(random.exponential(options().writerMsMean * 5), step),
      closeReaders: () => {
        parts.world.note('snapshot adopted', parts.node)
        this.#closeReader()
      },
    })
  }

  startWriter(handler: WriterHandler): Writer {
    assert(this.#writer === undefined, 'the last writer is not gone yet')
    const writer = new SimWriter(this.#parts, handler, sqlite => this.#bury(sqlite))
    this.#writer = writer
    return writer
  }

  query(request: ReadRequest, timeoutMs: number, done: (outcome: ReadOutcome) => void): void {
    this.#read<ReadOutcome>(timeoutMs, done, reader => reader.handle(request))
  }

  queryJson(
    request: ReadRequest,
    rows: RowFormat,
    timeoutMs: number,
    done: (outcome: JsonReadOutcome) => void,
  ): void {
    this.#read<JsonReadOutcome>(timeoutMs, done, reader =>
      jsonOutcome(reader.handle(request), rows),
    )
  }

  digest(request: DigestRequest, timeoutMs: number, done: (outcome: DigestOutcome) => void): void {
    this.#read<DigestOutcome>(timeoutMs, done, reader => reader.digest(request))
  }

  databases(done: (names: readonly string[]) => void): void {
    const { process, random, options } = this.#parts
    process.after(random.exponential(options().readerMsMean), () => {
      done(this.#openReader().databases())
    })
  }

  stop(done: () => void): void {
    this.#isStopped = true
    this.#writer?.kill()
    this.#parts.process.after(1, done)
  }

  killWriter(): void {
    this.#writer?.kill()
  }

  /** All processes of the engine are gone; the system lives on. */
  processDeath(): void {
    this.#parts.disk.processDeath(() => this.#closeAll())
  }

  powerCut(): void {
    this.#parts.disk.powerCut(() => this.#closeAll())
  }

  #closeAll(): void {
    this.#isStopped = true
    this.#writer?.close()
    this.#writer = undefined
    this.snapshots.close()
    this.#closeReader()
  }

  /** The writer alone has died. Its readers may live on, and then SQLite cleans up less. */
  #bury(sqlite: SqliteWriter): void {
    this.#writer = undefined
    const { disk, random } = this.#parts
    const isRead = this.#reader !== undefined && random.chance(0.5)
    if (isRead || this.snapshots.isTaking) {
      sqlite.close()
      disk.noteClosed()
      return
    }
    disk.processDeath(() => {
      sqlite.close()
      this.#closeReader()
    })
  }

  #read<Outcome>(
    timeoutMs: number,
    done: (outcome: Outcome | Failed) => void,
    read: (reader: SqliteReader) => Outcome,
  ): void {
    const { process, random, options } = this.#parts
    const takesMs = random.exponential(options().readerMsMean)
    process.after(Math.min(takesMs, timeoutMs), () => {
      if (takesMs > timeoutMs || this.#isStopped) {
        const message = 'the read ran past its deadline'
        done({ type: 'failed', error: { code: 'QUERY_TIMEOUT', message } })
      } else {
        done(read(this.#openReader()))
      }
    })
  }

  #openReader(): SqliteReader {
    const { disk, clock, random } = this.#parts
    this.#reader ??= new SqliteReader({
      directory: disk.root,
      nowMs: () => clock.wallMs(),
      seed: () => random.bytes(16),
    })
    return this.#reader
  }

  #closeReader(): void {
    this.#reader?.close()
    this.#reader = undefined
  }
}

/** One life of the writer. */
class SimWriter implements Writer {
  readonly #parts: SimEngineParts
  readonly #handler: WriterHandler
  readonly #bury: (sqlite: SqliteWriter) => void
  readonly #sqlite: SqliteWriter
  /** The writer's own process: it works on while the node's main process is paused. */
  readonly #process: SimProcess
  readonly #messages: WriterMessage[] = []
  /** Entry of the open batch. */
  #executed: Uint8Array | undefined
  #isBusy = false
  #isGone = false

  constructor(parts: SimEngineParts, handler: WriterHandler, bury: (sqlite: SqliteWriter) => void) {
    const { world, disk, options, alterSql } = parts
    this.#parts = parts
    this.#handler = handler
    this.#bury = bury
    this.#process = new SimProcess(world)
    this.#sqlite = new SqliteWriter({
      directory: disk.root,
      fileSystem: disk.fileSystem,
      walPagesMax: options().walPagesMax,
      requestLimits: options().requestLimits,
      onFlushed: path => disk.onFlushed(path),
      ...(alterSql === undefined ? {} : { alterSqlForTests: alterSql }),
    })
  }

  send(message: WriterMessage): void {
    if (this.#isGone) return
    if (message.type === 'condemn') this.#parts.onCondemned()
    // Pipes keep their order; so does a constant delay.
    this.#process.after(this.#parts.options().pipeMs, () => {
      this.#messages.push(message)
      this.#next()
    })
  }

  kill(): void {
    this.#die('killed')
  }

  /** The node is gone as a whole: nobody is to be told. */
  close(): void {
    this.#isGone = true
    this.#process.kill()
    this.#sqlite.close()
  }

  #next(): void {
    const message = this.#isBusy ? undefined : this.#messages.shift()
    if (message === undefined) return
    this.#isBusy = true
    const { random, options } = this.#parts
    this.#process.after(random.exponential(options().writerMsMean), () => {
      this.#isBusy = false
      this.#handle(message)
      this.#next()
    })
  }

  #handle(message: WriterMessage): void {
    const { world, node, random, options } = this.#parts
    const { deathProbability, faultProbability, checkpointProbability } = options()
    if (random.chance(deathProbability)) return this.#die('died before it took a message')
    if (random.chance(faultProbability)) {
      const error = { code: 'DISK_FULL', message: 'the simulated disk is full' } as const
      this.#reply({ type: 'fault', error })
      return this.#die('a local fault')
    }
    // While a batch is open it does nothing.
    const isDue = message.type !== 'open' && random.chance(checkpointProbability)
    if (isDue) this.#sqlite.handle({ type: 'checkpoint' })
    const reply = this.#sqlite.handle(message)
    this.#noteApplied(message, reply)
    world.note(`sql ${kindOf(message)}`, node, indexOf(message), 0, () => describe(message, reply))
    if (random.chance(deathProbability)) return this.#die('died before its reply was sent')
    this.#reply(reply)
    if (reply.type === 'fault') this.#die('a local fault')
  }

  /** A reply that was sent arrives even if the writer died since; one that was killed is not heard. */
  #reply(reply: WriterReply): void {
    const { process, options } = this.#parts
    process.after(options().pipeMs, () => {
      if (!this.#isGone) this.#handler.onReply(reply)
    })
  }

  #noteApplied(message: WriterMessage, reply: WriterReply): void {
    const { onApplied } = this.#parts
    if (reply.type === 'executed') {
      this.#executed = reply.entry
    } else if (reply.type === 'committed' && this.#executed !== undefined) {
      onApplied(reply.index, this.#executed)
    } else if (reply.type === 'applied' && message.type === 'apply') {
      for (const { index, data } of message.entries) {
        if (index <= reply.index) onApplied(index, data)
      }
    }
  }

  #die(reason: string): void {
    if (!this.#process.isAlive) return
    const { world, node, process, options } = this.#parts
    world.note('sql death', node, 0, 0, reason)
    this.#process.kill()
    this.#bury(this.#sqlite)
    process.after(options().pipeMs, () => {
      this.#isGone = true
      this.#handler.onExit(reason)
    })
  }
}

/** Steps that give way at once, and commits of several, are told from the others. */
function kindOf(message: WriterMessage): string {
  if (message.type === 'step' && message.givesWay === true) return 'step giving way'
  return message.type === 'finish' && message.others !== undefined
    ? 'finish of several'
    : message.type
}

function indexOf(message: WriterMessage): number {
  switch (message.type) {
    case 'commit':
      return message.index
    case 'execute':
    case 'rollback':
      return message.batch
    case 'apply':
      return message.entries.at(-1)?.index ?? 0
    case 'open':
    case 'checkpoint':
      return 0
    default:
      return 0
  }
}

function describe(message: WriterMessage, reply: WriterReply): string {
  const plain = (_key: string, value: unknown): unknown => {
    if (typeof value === 'bigint') return Number(value)
    return value instanceof Uint8Array ? `${value.length} bytes` : value
  }
  return `${JSON.stringify(message, plain)} -> ${JSON.stringify(reply, plain)}`.slice(0, 600)
}
