/** One replica's writer and reader over a directory of its own, as a test drives them: at once. */
import assert from 'node:assert/strict'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { SqlParams, SqlValue, Statement, StatementResult } from '../../../src/base/sql.ts'
import type {
  DigestOutcome,
  EngineEntry,
  ReadOutcome,
  RequestError,
  RequestResult,
  WriterMessage,
  WriterReply,
  WriteRequest,
} from '../../../src/engine/engine.ts'
import type { DataDigest } from '../../../src/engine/snapshot.ts'
import { digestFiles } from '../../../src/engine/sqlite/data-digest.ts'
import { nodeFileSystem } from '../../../src/engine/sqlite/file-system.ts'
import { ReadTransactions } from '../../../src/engine/sqlite/read-transactions.ts'
import { encodeRequest } from '../../../src/engine/request.ts'
import { SqliteReader } from '../../../src/engine/sqlite/sqlite-reader.ts'
import type { SqliteWriterOptions } from '../../../src/engine/sqlite/sqlite-writer.ts'
import { SqliteWriter } from '../../../src/engine/sqlite/sqlite-writer.ts'

type ReplyOf<Type extends WriterReply['type']> = Extract<WriterReply, { type: Type }>

/** A statement as its text, or with its parameters. */
export type Sql = string | readonly [sql: string, params: SqlParams]

const WAL_HEADER_BYTES = 32
export const NOW_MS = Date.UTC(2026, 10, 20, 12, 34, 56, 789)

/**
 * For `alterSqlForTests`: changes nothing, but no text comes twice, so that all statements run as
 * they do the first time. Texts of definitions stay, since SQLite keeps them with their comments.
 */
export function neverTwice(): (sql: string) => string {
  let count = 0
  return sql => (/\b(?:create|alter)\b/i.test(sql) ? sql : `${sql}\n-- ${count++}`)
}

/** A request of statements on database `d`. */
export function request(...statements: readonly Sql[]): WriteRequest {
  return on('d', ...statements)
}

/** A request of statements on any database. */
export function on(database: string, ...statements: readonly Sql[]): WriteRequest {
  return { type: 'statements', database, statements: statements.map(toStatement) }
}

export function createDatabase(database: string): WriteRequest {
  return { type: 'create-database', database }
}

export function dropDatabase(database: string): WriteRequest {
  return { type: 'drop-database', database }
}

function toStatement(sql: Sql): Statement {
  return typeof sql === 'string' ? { sql, params: [] } : { sql: sql[0], params: sql[1] }
}

/** A new directory under the system's, removed by `Replica`'s disposal. */
export function newDirectory(): string {
  return mkdtempSync(join(tmpdir(), 'lockstep-engine-'))
}

export class Replica implements Disposable {
  readonly directory: string
  readonly #options: Partial<SqliteWriterOptions>
  readonly #owned: string[]
  writer: SqliteWriter
  opened: ReplyOf<'opened'>
  /** Last entry that was committed or applied here. */
  index: number
  batch = 0
  nowMs = NOW_MS
  /** What was logged here. */
  readonly entries: EngineEntry[] = []
  /** Files as of their last flush, by path under the directory. */
  readonly flushed = new Map<string, Uint8Array>()
  /** Their WALs as of the same moment, which a checkpoint flushes before it. */
  readonly #flushedWals = new Map<string, Uint8Array>()

  constructor(
    options: Partial<SqliteWriterOptions> = {},
    owned: readonly string[] = [],
    flushed: ReadonlyMap<string, Uint8Array> = new Map(),
  ) {
    for (const [path, bytes] of flushed) this.flushed.set(path, bytes)
    this.directory = options.directory ?? newDirectory()
    this.#owned = [...owned, this.directory]
    this.#options = options
    this.writer = this.#newWriter()
    this.opened = this.send({ type: 'open' }, 'opened')
    this.index = this.opened.appliedIndex
  }

  /** A replica that has the database `d`, made by entry 1. */
  static withDatabase(options: Partial<SqliteWriterOptions> = {}): Replica {
    const replica = new Replica(options)
    replica.write(createDatabase('d'))
    return replica
  }

  send<Type extends WriterReply['type']>(message: WriterMessage, type: Type): ReplyOf<Type> {
    const reply = this.writer.handle(message)
    assert.equal(reply.type, type, JSON.stringify(reply, bigintAsText))
    return reply as ReplyOf<Type>
  }

  /** Executes requests as a batch and leaves it open. */
  execute(...requests: readonly WriteRequest[]): ReplyOf<'executed'> {
    this.batch++
    const seed = new Uint8Array(16).fill(this.batch)
    seed[1] = this.batch >> 8
    const encoded = requests.map(encodeRequest)
    const { batch, nowMs } = this
    return this.send(
      { type: 'execute', batch, nowMs, seed, commitIndex: this.index, requests: encoded },
      'executed',
    )
  }

  /** Ends the open batch as the next entry. */
  commit(executed: ReplyOf<'executed'>): void {
    if (executed.entry === undefined) return
    const index = this.index + 1
    this.send({ type: 'commit', batch: executed.batch, index }, 'committed')
    this.index = index
    this.entries.push({ index, data: executed.entry })
  }

  rollback(): void {
    this.send({ type: 'rollback', batch: this.batch }, 'rolled-back')
  }

  /** Executes and commits; what was not taken goes into entries of its own. */
  write(...requests: readonly WriteRequest[]): RequestResult[] {
    const results: RequestResult[] = []
    while (results.length < requests.length) {
      const executed = this.execute(...requests.slice(results.length))
      this.commit(executed)
      results.push(...executed.results)
    }
    return results
  }

  /** Writes one request on `d`, which must succeed. */
  run(...statements: readonly Sql[]): readonly StatementResult[] {
    const result = this.write(request(...statements))[0]
    assert(result?.type === 'ok', JSON.stringify(result, bigintAsText))
    return result.results
  }

  /** Writes one request on `d`, which must fail. */
  fail(...statements: readonly Sql[]): RequestError {
    return failure(this.write(request(...statements))[0])
  }

  apply(...entries: readonly EngineEntry[]): ReplyOf<'applied'> {
    const applied = this.send({ type: 'apply', entries }, 'applied')
    this.index = applied.index
    return applied
  }

  /** Applies what another replica has logged and this one has not. */
  follow(leader: Replica): ReplyOf<'applied'> {
    return this.apply(...leader.entries.filter(entry => entry.index > this.index))
  }

  checkpoint(): number {
    return this.send({ type: 'checkpoint' }, 'checkpointed').durableIndex
  }

  query(sql: Sql, database = 'd'): readonly (readonly SqlValue[])[] {
    const outcome = this.read(sql, database)
    assert(outcome.type === 'ok', JSON.stringify(outcome, bigintAsText))
    return outcome.results[0]?.rows ?? []
  }

  read(sql: Sql, database = 'd', maxRows = 1000, maxBytes = 1e6): ReadOutcome {
    return this.withReader(reader =>
      reader.handle({ database, statements: [toStatement(sql)], maxRows, maxBytes }),
    )
  }

  digest(database = 'd', table?: string): DigestOutcome {
    return this.withReader(reader =>
      reader.digest(table === undefined ? { database } : { database, table }),
    )
  }

  /** A digest of everything as of now, and of each part. */
  dataDigest(): DataDigest {
    const files = new ReadTransactions(this.directory, nodeFileSystem)
    try {
      files.begin(this.index)
      const steps = digestFiles(files)
      for (;;) {
        const step = steps.next()
        if (step.done === true) return step.value
      }
    } finally {
      files.close()
    }
  }

  withReader<T>(act: (reader: SqliteReader) => T): T {
    const reader = new SqliteReader({ directory: this.directory })
    try {
      return act(reader)
    } finally {
      reader.close()
    }
  }

  /** Does to the file of `d` what no request could. */
  tamper(sql: string): void {
    tamperFile(join(this.directory, 'gen-1', 'db-1.sqlite'), sql)
  }

  /** Bytes of the WAL of `d`. */
  walBytes(): number {
    return statSync(join(this.directory, 'gen-1', 'db-1.sqlite-wal')).size
  }

  /**
   * Begins a read transaction on the database that entry `madeBy` made, `d` if not given, and leaves
   * it open until the returned function is called.
   */
  holdReadTransaction(madeBy = 1): () => void {
    return this.#hold(`db-${madeBy}.sqlite`, 'lockstep_meta')
  }

  /** The same on the catalogue. */
  holdCatalogue(): () => void {
    return this.#hold('system.sqlite', 'lockstep_state')
  }

  #hold(name: string, table: string): () => void {
    const path = join(this.directory, 'gen-1', name)
    const database = new DatabaseSync(path, { readOnly: true })
    database.exec(`BEGIN; SELECT * FROM ${table}`)
    return () => database.close()
  }

  /** Opens a copy of the files after `change` was done to them; the reply may be a fault. */
  copyWith(change: (directory: string) => void): { reply: WriterReply } & Disposable {
    const directory = newDirectory()
    copyFiles(this.directory, directory)
    change(directory)
    const writer = new SqliteWriter({ directory })
    const reply = writer.handle({ type: 'open' })
    return {
      reply,
      [Symbol.dispose]() {
        writer.close()
        rmSync(directory, { recursive: true, force: true })
      },
    }
  }

  /** What a SIGKILL leaves: the files as they are now, with no process on them. */
  crash(options: Partial<SqliteWriterOptions> = {}): Replica {
    const directory = newDirectory()
    copyFiles(this.directory, directory)
    const replica = this.#reborn(directory, options)
    // They are the same WALs, and what was flushed of them stays so.
    for (const [path, wal] of this.#flushedWals) replica.#keepFlushedWal(path, wal)
    return replica
  }

  /** Unless opening has flushed it anew. */
  #keepFlushedWal(path: string, wal: Uint8Array): void {
    if (!this.#flushedWals.has(path)) this.#flushedWals.set(path, wal)
  }

  /** What a power cut leaves at worst: every file as of its last flush, and no others. */
  powerCut(options: Partial<SqliteWriterOptions> = {}): Replica {
    const directory = newDirectory()
    this.#restoreFlushed(directory)
    return this.#reborn(directory, options)
  }

  /**
   * A second replica over what a power cut would leave of this one's files. With `below`, a piece
   * of each WAL is there as well, cut at any place past what the last checkpoint has flushed, and
   * what was not flushed behind it may be anything.
   */
  powerCutCopy(below?: (bound: number) => number): Replica {
    const directory = newDirectory()
    this.#restoreFlushed(directory)
    if (below !== undefined) this.#restoreTornWals(directory, below)
    return new Replica({ directory })
  }

  #restoreTornWals(directory: string, below: (bound: number) => number): void {
    for (const path of this.flushed.keys()) {
      const wal = readIfThere(join(this.directory, `${path}-wal`))
      if (wal === undefined || wal.length < WAL_HEADER_BYTES) continue
      const flushed = this.#flushedWals.get(path) ?? new Uint8Array(0)
      // A WAL that began anew since has another header, which SQLite flushes before anything else.
      const isSame = Buffer.compare(head(flushed), head(wal)) === 0
      const safe = isSame ? Math.min(flushed.length, wal.length) : WAL_HEADER_BYTES
      const cut = safe + below(wal.length - safe + 1)
      const torn = wal.slice(0, Math.min(wal.length, cut + below(9000)))
      for (let at = cut; at < torn.length; at++) torn[at] = below(256)
      writeFileSync(join(directory, `${path}-wal`), torn)
    }
  }

  /** A file of the first generation as it is after a checkpoint. */
  flushedNow(name: string): Uint8Array {
    this.checkpoint()
    return readFileSync(join(this.directory, 'gen-1', name))
  }

  /** What a SIGKILL leaves, with one file of the first generation replaced. */
  crashWith(name: string, bytes: Uint8Array): Replica {
    const directory = newDirectory()
    copyFiles(this.directory, directory)
    for (const ending of ['', '-wal'])
      rmSync(join(directory, 'gen-1', name + ending), { force: true })
    writeFileSync(join(directory, 'gen-1', name), bytes)
    return this.#reborn(directory, {})
  }

  /** A second replica over a copy of this one's files, taken between two messages. */
  copy(): Replica {
    const directory = newDirectory()
    copyFiles(this.directory, directory)
    return new Replica({ directory }, [], this.flushed)
  }

  [Symbol.dispose](): void {
    this.writer.close()
    for (const directory of this.#owned) rmSync(directory, { recursive: true, force: true })
  }

  #restoreFlushed(directory: string): void {
    for (const [path, bytes] of this.flushed) {
      mkdirSync(dirname(join(directory, path)), { recursive: true })
      writeFileSync(join(directory, path), bytes)
    }
  }

  #reborn(directory: string, options: Partial<SqliteWriterOptions>): Replica {
    this.writer.close()
    const replica = new Replica(
      { ...this.#options, ...options, directory },
      this.#owned,
      this.flushed,
    )
    replica.batch = this.batch
    replica.entries.push(...this.entries)
    return replica
  }

  #newWriter(): SqliteWriter {
    return new SqliteWriter({
      ...this.#options,
      directory: this.directory,
      onFlushed: path => {
        this.flushed.set(relative(this.directory, path), readFileSync(path))
        const wal = readIfThere(`${path}-wal`)
        if (wal === undefined) this.#flushedWals.delete(relative(this.directory, path))
        else this.#flushedWals.set(relative(this.directory, path), wal)
        this.#options.onFlushed?.(path)
      },
    })
  }
}

function readIfThere(path: string): Uint8Array | undefined {
  return existsSync(path) ? readFileSync(path) : undefined
}

function head(wal: Uint8Array): Uint8Array {
  return wal.subarray(0, WAL_HEADER_BYTES)
}

/** Runs SQL on a file behind everybody's back. */
export function tamperFile(path: string, sql: string): void {
  const database = new DatabaseSync(path, { defensive: false })
  try {
    database.exec(sql)
  } finally {
    database.close()
  }
}

function copyFiles(from: string, to: string): void {
  // The wal-index lives in memory and is made anew by whoever opens the file first.
  cpSync(from, to, { recursive: true, filter: path => !path.endsWith('-shm') })
}

/** The error of a request that failed. */
export function failure(result: RequestResult | undefined): RequestError {
  assert(
    result?.type === 'failed',
    `the request didn't fail: ${JSON.stringify(result, bigintAsText)}`,
  )
  return result.error
}

/** The results of a request that succeeded. */
export function success(result: RequestResult | undefined): readonly StatementResult[] {
  assert(result?.type === 'ok', `the request failed: ${JSON.stringify(result, bigintAsText)}`)
  return result.results
}

function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value
}
