/** An executor over a real engine in this process: a test gives time, the log and the clients. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DbError } from '../../src/base/errors.ts'
import type { SqlValue, Statement } from '../../src/base/sql.ts'
import type { WriteRequest } from '../../src/engine/engine.ts'
import { encodeRequest } from '../../src/engine/request.ts'
import { REQUEST_LIMITS } from '../../src/engine/limits.ts'
import { LocalEngine } from '../../src/engine/sqlite/local-engine.ts'
import { newCounters } from '../../src/replica/counters.ts'
import { Executor } from '../../src/replica/executor.ts'
import {
  toCall,
  type TransactionOperation,
  type TransactionOutcome,
} from '../../src/replica/transaction-call.ts'
import type { ReplicaOptions, WriteOutcome } from '../../src/replica/types.ts'
import { executorParts, ManualClock, ManualLog, OPTIONS } from './doubles.ts'

/** What one call heard. */
export class Heard {
  outcome: TransactionOutcome | WriteOutcome | undefined

  get code(): string {
    if (this.outcome === undefined) return 'nothing'
    return this.outcome.type === 'ok' ? 'ok' : this.outcome.error.code
  }

  get error(): DbError {
    assert(this.outcome?.type === 'failed', this.code)
    return this.outcome.error
  }

  get rows(): readonly (readonly SqlValue[])[] {
    assert(this.outcome?.type === 'ok', this.code)
    const results = 'value' in this.outcome ? this.outcome.value.results : this.outcome.results
    return results[0]?.rows ?? []
  }
}

export class TransactionsBench implements Disposable {
  readonly clock = new ManualClock()
  readonly log = new ManualLog()
  readonly counters = newCounters()
  readonly executor: Executor
  readonly #directory = mkdtempSync(join(tmpdir(), 'lockstep-transactions-'))
  readonly #engine: LocalEngine
  readonly #later: (() => void)[] = []
  #randomness = 0
  isPaused = false
  /** Whether the log commits at once what it is given. */
  commitsAtOnce = true
  refusal: DbError | undefined
  noRoom: DbError | undefined

  /** A leader of term 2 with a database `d` and a table `t`, whose row 1 has a = 0. */
  constructor(
    options: Partial<ReplicaOptions> = {},
    requestLimits = REQUEST_LIMITS,
    engine: { readonly repeatsCheaply?: boolean } = {},
  ) {
    this.#engine = new LocalEngine({
      directory: this.#directory,
      requestLimits,
      later: callback => this.#later.push(callback),
      ...engine,
    })
    this.executor = new Executor({
      log: this.log,
      engine: this.#engine,
      ...executorParts(this.clock, { maxTransactions: 100, maxQueuedRequests: 1000, ...options }),
      random: {
        below: bound => this.#randomness % bound,
        bytes: count => {
          this.#randomness += 1
          return new Uint8Array(count).fill(this.#randomness)
        },
      },
      counters: this.counters,
      isPaused: () => this.isPaused,
      refusal: () => this.refusal,
      noRoom: () => this.noRoom,
      onDiskFault: () => {},
      onDiverged: () => assert.fail('it diverged'),
      onCorrupt: reason => assert.fail(reason),
      onFatal: reason => assert.fail(reason),
    })
    this.log.start(event => this.executor.onLogEvent(event))
    this.executor.start()
    this.settle()
    this.lead(2)
    this.write({ type: 'create-database', database: 'd' })
    this.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, a)', 'INSERT INTO t VALUES (1, 0)')
    this.settle()
  }

  lead(term: number): void {
    this.log.become('leader', term, 1)
    this.log.commitForeign('noop')
    this.settle()
  }

  /** The engine does all that it was told, and the log commits. */
  settle(): void {
    for (;;) {
      const next = this.#later.shift()
      if (next !== undefined) next()
      else if (this.commitsAtOnce && this.log.proposed.length > 0) this.log.commitProposal()
      else if (this.commitsAtOnce && this.log.rounds.length > 0) {
        this.log.answerRound(this.log.commitIndex)
      } else return
    }
  }

  /** The engine takes its next message, or gives its next reply. */
  engineStep(): void {
    this.#later.shift()?.()
  }

  pass(ms: number): void {
    this.clock.pass(ms)
    this.executor.sweep()
    this.settle()
  }

  write(request: WriteRequest, timeoutMs = 5000): Heard {
    const heard = new Heard()
    this.executor.submit(encodeRequest(request), timeoutMs, outcome => {
      assert.equal(heard.outcome, undefined, 'a write is answered once')
      heard.outcome = outcome
    })
    return heard
  }

  /** A write of statements on `d`. */
  sql(...texts: readonly string[]): Heard {
    return this.write({ type: 'statements', database: 'd', statements: texts.map(toStatement) })
  }

  /** What is committed, by a write that only reads. */
  rows(text: string): readonly (readonly SqlValue[])[] {
    const heard = this.sql(text)
    this.settle()
    this.pass(OPTIONS.transactionTurnMs)
    return heard.rows
  }

  call(operation: TransactionOperation, timeoutMs = 5000): Heard {
    const heard = new Heard()
    this.executor.transact(toCall(operation), timeoutMs, outcome => {
      assert.equal(heard.outcome, undefined, 'a call is answered once')
      heard.outcome = outcome
    })
    return heard
  }

  begin(options: { readonly database?: string; readonly maxMs?: number } = {}): Client {
    const { database = 'd', maxMs } = options
    const { outcome } = this.call({ type: 'begin', database, maxMs })
    assert(outcome?.type === 'ok' && 'value' in outcome)
    return new Client(this, outcome.value.transaction, database)
  }

  /** Another term begins, and so many transactions end that no earlier one is remembered. */
  forgetEndings(): void {
    this.lead(this.log.term + 1)
    for (let count = 0; count < 10_000; count += 1) this.begin().rollback()
    this.settle()
  }

  killWriter(): void {
    this.executor.session.kill(new DbError('ENGINE_RESTARTED', 'killed by the test'))
    this.settle()
    this.pass(100)
  }

  [Symbol.dispose](): void {
    this.executor.stop()
    this.#engine.stop(() => {})
    rmSync(this.#directory, { recursive: true, force: true })
  }
}

/** One transaction as its client sees it. */
export class Client {
  readonly #bench: TransactionsBench
  readonly name: string
  readonly #database: string

  constructor(bench: TransactionsBench, name: string, database: string) {
    this.#bench = bench
    this.name = name
    this.#database = database
  }

  execute(...texts: readonly string[]): Heard {
    return this.#step('execute', texts)
  }

  /** The same with little time. */
  executeWithin(timeoutMs: number, ...texts: readonly string[]): Heard {
    return this.#step('execute', texts, timeoutMs)
  }

  query(...texts: readonly string[]): Heard {
    return this.#step('query', texts)
  }

  commit(key?: string): Heard {
    const id = key === undefined ? undefined : ({ type: 'key', key } as const)
    return this.#bench.call({ type: 'commit', transaction: this.name, id })
  }

  rollback(): Heard {
    return this.#bench.call({ type: 'rollback', transaction: this.name })
  }

  #step(type: 'execute' | 'query', texts: readonly string[], timeoutMs?: number): Heard {
    const statements = texts.map(toStatement)
    const call = { type, transaction: this.name, database: this.#database, statements } as const
    return this.#bench.call(call, timeoutMs)
  }
}

function toStatement(sql: string): Statement {
  return { sql, params: [] }
}
