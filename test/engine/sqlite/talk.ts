/** An interactive transaction on a replica's writer, with the part of the one above: what it ran. */
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import type { StatementResult } from '../../../src/base/sql.ts'
import type {
  EarlierStep,
  FinishedTransaction,
  RequestError,
  RequestId,
  RequestResult,
  TransactionStart,
  WriterReply,
} from '../../../src/engine/engine.ts'
import { encodeRequest } from '../../../src/engine/request.ts'
import { on, type Replica, type Sql } from './replica.ts'

type Stepped = Extract<WriterReply, { type: 'stepped' }>

export class Talk {
  readonly #replica: Replica
  readonly #database: string
  readonly #seed: Uint8Array
  readonly earlier: EarlierStep[] = []
  #nowMs: number
  #isActive = false
  /** The last reply. */
  last: Stepped | undefined

  constructor(replica: Replica, options: { database?: string; seed?: number } = {}) {
    this.#replica = replica
    this.#database = options.database ?? 'd'
    this.#nowMs = replica.nowMs
    this.#seed = new Uint8Array(16).fill(options.seed ?? 99)
  }

  get nowMs(): number {
    return this.#nowMs
  }

  step(statements: readonly Sql[], isQuery = false): RequestResult {
    const request = encodeRequest(on(this.#database, ...statements))
    const start = this.#start()
    const batch = this.#replica.batch
    const reply = this.#replica.send({ type: 'step', batch, ...start, request, isQuery }, 'stepped')
    assert.equal(reply.batch, batch)
    this.last = reply
    this.#nowMs = reply.nowMs
    this.#isActive = !reply.isOver
    if (!reply.isOver) this.earlier.push({ request, isQuery, proof: reply.proof })
    return reply.result
  }

  run(...statements: readonly Sql[]): readonly StatementResult[] {
    const result = this.step(statements)
    assert(result.type === 'ok', inspect(result))
    return result.results
  }

  rows(sql: Sql): readonly (readonly unknown[])[] {
    const result = this.step([sql], true)
    assert(result.type === 'ok', inspect(result))
    return result.results[0]?.rows ?? []
  }

  fail(...statements: readonly Sql[]): RequestError {
    const result = this.step(statements)
    assert(result.type === 'failed', 'the step was to fail')
    return result.error
  }

  /** Gives way: others may run. */
  pause(): void {
    this.#replica.rollback()
    this.#isActive = false
  }

  rollback(): void {
    this.pause()
  }

  /** How it asks to be committed behind another one. */
  asking(id?: RequestId, ownId?: RequestId): FinishedTransaction {
    assert(!this.#isActive, 'it gave way')
    return { start: this.#started(), ...(id && { id }), ...(ownId && { ownId }) }
  }

  /** Commits, and in the same entry those of `others` that the writer takes. */
  commitWith(...others: readonly FinishedTransaction[]): readonly RequestResult[] {
    const start = this.#start()
    const { batch, index } = this.#replica
    const message = { type: 'finish', batch, ...start, others, commitIndex: index } as const
    const executed = this.#replica.send(message, 'executed')
    this.#replica.commit(executed)
    this.#isActive = false
    assert.equal(executed.results.length, executed.taken)
    return executed.results
  }

  /** Commits, as the replica's next entry if there is one. */
  commit(id?: RequestId, ownId?: RequestId): RequestResult {
    const start = this.#start()
    const { batch, index } = this.#replica
    const known = { ...(id && { id }), ...(ownId && { ownId }) }
    const message = { type: 'finish', batch, ...start, ...known, commitIndex: index } as const
    const executed = this.#replica.send(message, 'executed')
    this.#replica.commit(executed)
    this.#isActive = false
    assert.equal(executed.taken, 1)
    const [result] = executed.results
    assert(result !== undefined)
    return result
  }

  #start(): { readonly start?: TransactionStart } {
    if (this.#isActive) return {}
    this.#replica.batch++
    return { start: this.#started() }
  }

  #started(): TransactionStart {
    return {
      database: this.#database,
      nowMs: this.#nowMs,
      seed: this.#seed,
      earlier: this.earlier,
    }
  }
}
