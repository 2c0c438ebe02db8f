/** An interactive transaction on an engine's writer, with the part of the replica: what it ran. */
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import type { SqlParams, StatementResult } from '../../src/base/sql.ts'
import type {
  EarlierStep,
  RequestError,
  RequestId,
  RequestResult,
  TransactionStart,
  WriterReply,
} from '../../src/engine/engine.ts'
import { encodeRequest } from '../../src/engine/request.ts'
import { type EngineHarness, statements } from './harness.ts'

type Sql = string | readonly [sql: string, params: SqlParams]
type Stepped = Extract<WriterReply, { type: 'stepped' }>

export class TransactionTalk {
  readonly #harness: EngineHarness
  readonly #database: string
  readonly #seed: Uint8Array
  readonly earlier: EarlierStep[] = []
  #nowMs: number
  #isActive = false
  /** The last reply. */
  last: Stepped | undefined

  constructor(
    harness: EngineHarness,
    options: { database?: string; seed?: number; nowMs?: number } = {},
  ) {
    this.#harness = harness
    this.#database = options.database ?? 'a'
    this.#nowMs = options.nowMs ?? 1_700_000_000_000
    this.#seed = new Uint8Array(16).fill(options.seed ?? 99)
  }

  /** Its moment, as the writer said it. */
  get nowMs(): number {
    return this.#nowMs
  }

  async step(list: readonly Sql[], isQuery = false): Promise<RequestResult> {
    const request = encodeRequest(statements(this.#database, ...list))
    const start = this.#start()
    const { batch, writer } = this.#harness
    const message = { type: 'step' as const, batch, ...start, request, isQuery }
    const reply = await writer.expect(message, 'stepped')
    assert.equal(reply.batch, batch)
    this.last = reply
    this.#nowMs = reply.nowMs
    this.#isActive = !reply.isOver
    if (!reply.isOver) this.earlier.push({ request, isQuery, proof: reply.proof })
    return reply.result
  }

  async run(...list: readonly Sql[]): Promise<readonly StatementResult[]> {
    const result = await this.step(list)
    assert(result.type === 'ok', `${inspect(list)}: ${inspect(result)}`)
    return result.results
  }

  async rows(sql: Sql): Promise<readonly (readonly unknown[])[]> {
    const result = await this.step([sql], true)
    assert(result.type === 'ok', inspect(result))
    return result.results[0]?.rows ?? []
  }

  async fail(...list: readonly Sql[]): Promise<RequestError> {
    const result = await this.step(list)
    assert(result.type === 'failed', `${inspect(list)} was to fail`)
    return result.error
  }

  /** Gives way: others may run. */
  async pause(): Promise<void> {
    const { batch, writer } = this.#harness
    await writer.expect({ type: 'rollback', batch }, 'rolled-back')
    this.#isActive = false
  }

  /** The writer it was open in is gone. */
  lost(): void {
    this.#isActive = false
  }

  /** Commits, as the harness's next entry if there is one. */
  async commit(id?: RequestId, ownId?: RequestId): Promise<RequestResult> {
    const start = this.#start()
    const { batch, index: commitIndex, writer } = this.#harness
    const known = { ...(id && { id }), ...(ownId && { ownId }) }
    const message = { type: 'finish' as const, batch, ...start, ...known, commitIndex }
    const executed = await writer.expect(message, 'executed')
    assert.equal(executed.taken, 1)
    const [result] = await this.#harness.commit(executed)
    this.#isActive = false
    assert(result !== undefined)
    return result
  }

  #start(): { readonly start?: TransactionStart } {
    if (this.#isActive) return {}
    this.#harness.batch += 1
    const database = this.#database
    const start = { database, nowMs: this.#nowMs, seed: this.#seed, earlier: this.earlier }
    return { start }
  }
}
