/** An engine as tests drive it: promises instead of callbacks, and the log's part of counting. */
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import type { SqlParams, StatementResult } from '../../src/base/sql.ts'
import type {
  DigestOutcome,
  Engine,
  EngineEntry,
  ReadOutcome,
  RequestResult,
  Writer,
  WriterMessage,
  WriterReply,
  WriteRequest,
} from '../../src/engine/engine.ts'
import { encodeRequest } from '../../src/engine/request.ts'

/** Opens an engine over `directory`, which is there. */
export type OpenEngine = (directory: string) => Promise<Engine>

type ReplyOf<Type extends WriterReply['type']> = Extract<WriterReply, { type: Type }>

interface Waiter {
  readonly resolve: (reply: WriterReply) => void
  readonly reject: (error: Error) => void
}

/** A writer whose replies are awaited, in the order of the messages. */
export class AskedWriter {
  readonly #writer: Writer
  readonly #waiters: Waiter[] = []
  readonly exit: Promise<string>
  #exitCount = 0

  constructor(engine: Engine) {
    const { promise, resolve } = Promise.withResolvers<string>()
    this.exit = promise
    this.#writer = engine.startWriter({
      onReply: reply => {
        assert.equal(this.#exitCount, 0, 'no reply comes after the end')
        const waiter = this.#waiters.shift()
        assert(waiter !== undefined, 'each reply belongs to a message')
        waiter.resolve(reply)
      },
      onExit: reason => {
        this.#exitCount += 1
        assert.equal(this.#exitCount, 1, 'the end is told once')
        for (const { reject } of this.#waiters) reject(new Error(`the writer ended: ${reason}`))
        resolve(reason)
      },
    })
  }

  ask(message: WriterMessage): Promise<WriterReply> {
    const { promise, resolve, reject } = Promise.withResolvers<WriterReply>()
    // Who waits for a writer that is about to be killed, need not look at what becomes of it.
    promise.catch(() => {})
    this.#waiters.push({ resolve, reject })
    this.#writer.send(message)
    return promise
  }

  async expect<Type extends WriterReply['type']>(
    message: WriterMessage,
    type: Type,
  ): Promise<ReplyOf<Type>> {
    const reply = await this.ask(message)
    assert.equal(reply.type, type, inspect(reply))
    return reply as ReplyOf<Type>
  }

  kill(): Promise<string> {
    this.#writer.kill()
    return this.exit
  }
}

export class EngineHarness {
  readonly engine: Engine
  /** The log, as far as this engine made it or was given it. */
  readonly entries: EngineEntry[]
  #writer: AskedWriter | undefined
  /** The last batch that was executed. */
  batch = 0
  /** The last entry of the log. */
  index = 0

  private constructor(engine: Engine, entries: readonly EngineEntry[]) {
    this.engine = engine
    this.entries = [...entries]
  }

  /** `entries` is the log that the files in the directory were made from. */
  static async open(
    open: OpenEngine,
    directory: string,
    entries: readonly EngineEntry[] = [],
  ): Promise<EngineHarness> {
    const harness = new EngineHarness(await open(directory), entries)
    await harness.startWriter()
    return harness
  }

  get writer(): AskedWriter {
    assert(this.#writer !== undefined, 'a writer was started')
    return this.#writer
  }

  /** Starts a writer and gives it what it lacks of the log, as a replica does. */
  async startWriter(): Promise<ReplyOf<'opened'>> {
    this.#writer = new AskedWriter(this.engine)
    const opened = await this.#writer.expect({ type: 'open' }, 'opened')
    await this.apply(this.entries.filter(entry => entry.index > opened.appliedIndex))
    this.index = this.entries.at(-1)?.index ?? opened.appliedIndex
    return opened
  }

  /** Applies entries and expects no divergence. */
  async apply(entries: readonly EngineEntry[]): Promise<void> {
    if (entries.length === 0) return
    const applied = await this.writer.expect({ type: 'apply', entries }, 'applied')
    assert.equal(applied.divergence, undefined)
    assert.equal(applied.index, entries.at(-1)?.index)
  }

  /** Kills the writer and starts another. */
  async restartWriter(): Promise<ReplyOf<'opened'>> {
    await this.writer.kill()
    return this.startWriter()
  }

  /** Executes requests as one batch and leaves its transactions open. */
  execute(...requests: readonly WriteRequest[]): Promise<ReplyOf<'executed'>> {
    this.batch += 1
    const seed = new Uint8Array(16).fill(this.batch)
    const nowMs = 1_700_000_000_000 + this.batch
    const bytes = requests.map(encodeRequest)
    const { batch, index: commitIndex } = this
    return this.writer.expect(
      { type: 'execute', batch, nowMs, seed, commitIndex, requests: bytes },
      'executed',
    )
  }

  /** What the clients are told. */
  async commit(executed: ReplyOf<'executed'>): Promise<readonly RequestResult[]> {
    if (executed.entry === undefined) {
      await this.rollback(executed)
      return executed.results
    }
    const index = this.index + 1
    this.index = index
    this.entries.push({ index, data: executed.entry })
    const message = { type: 'commit' as const, batch: executed.batch, index }
    const { results } = await this.writer.expect(message, 'committed')
    return results ?? executed.results
  }

  async rollback(executed: ReplyOf<'executed'>): Promise<void> {
    await this.writer.expect({ type: 'rollback', batch: executed.batch }, 'rolled-back')
  }

  /** Executes and ends the batch for good; what was not taken is sent again. */
  async write(...requests: readonly WriteRequest[]): Promise<RequestResult[]> {
    const results: RequestResult[] = []
    while (results.length < requests.length) {
      const executed = await this.execute(...requests.slice(results.length))
      assert(executed.taken >= 1, 'at least one request is taken')
      assert.equal(executed.results.length, executed.taken)
      results.push(...(await this.commit(executed)))
    }
    return results
  }

  /** Runs one statement for good and expects it to succeed. */
  async run(database: string, sql: string, params: SqlParams = []): Promise<StatementResult> {
    const [result] = await this.write(statements(database, [sql, params]))
    assert(result?.type === 'ok', `${sql}: ${inspect(result)}`)
    const [first] = result.results
    assert(first !== undefined)
    return first
  }

  async createDatabase(database: string): Promise<void> {
    const [result] = await this.write({ type: 'create-database', database })
    assert.equal(result?.type, 'ok', inspect(result))
  }

  query(
    database: string,
    sql: string,
    options: { params?: SqlParams; timeoutMs?: number; maxRows?: number; maxBytes?: number } = {},
  ): Promise<ReadOutcome> {
    const { params = [], timeoutMs = 20_000, maxRows = 1_000_000, maxBytes = 100_000_000 } = options
    const request = { database, statements: [{ sql, params }], maxRows, maxBytes }
    return new Promise(resolve => this.engine.query(request, timeoutMs, resolve))
  }

  /** Rows of a query that is expected to succeed. */
  async rows(database: string, sql: string, params: SqlParams = []): Promise<unknown[][]> {
    const outcome = await this.query(database, sql, { params })
    assert(outcome.type === 'ok', `${sql}: ${inspect(outcome)}`)
    return (outcome.results[0]?.rows ?? []).map(row => [...row])
  }

  digest(database: string, table?: string): Promise<DigestOutcome> {
    const request = { database, ...(table !== undefined && { table }) }
    return new Promise(resolve => this.engine.digest(request, 20_000, resolve))
  }

  databases(): Promise<readonly string[]> {
    return new Promise(resolve => this.engine.databases(resolve))
  }

  stop(): Promise<void> {
    return new Promise(resolve => this.engine.stop(resolve))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

/** A request of statements, each alone or with its parameters. */
export function statements(
  database: string,
  ...list: readonly (string | readonly [sql: string, params: SqlParams])[]
): WriteRequest {
  return {
    type: 'statements',
    database,
    statements: list.map(one =>
      typeof one === 'string' ? { sql: one, params: [] } : { sql: one[0], params: one[1] },
    ),
  }
}

/** The code of the error of something that is expected to have failed. */
export function codeOf(result: RequestResult | ReadOutcome | DigestOutcome | undefined): string {
  assert(result?.type === 'failed', 'it is expected to fail')
  return result.error.code
}
