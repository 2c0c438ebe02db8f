/**
 * Interactive transactions: a function of the caller whose statements see one state of the database
 * and each other, and take effect together. It is run again as a whole when others were faster.
 */
import { DbError } from '../base/errors.ts'
import type { Command } from '../protocol/commands.ts'
import type { StepResponse, TransactionResponse } from '../protocol/http-api.ts'
import {
  commandJson,
  itemJson,
  readResults,
  statementJson,
  strangeAnswer,
  type BatchItem,
  type DefaultRow,
  type Params,
  type Result,
} from './requests.ts'
import type { Sender, Shot } from './sender.ts'
import { sleep } from './sleep.ts'
import type { SqlText } from './sql.ts'
import { Watched } from './watched.ts'

/** What a transaction needs of its client. */
export interface TransactionParts {
  readonly sender: Sender
  readonly database: string
  readonly deadlineMs: number
  readonly signal: AbortSignal | undefined
}

/**
 * An open transaction. Its statements run one after another, in the order of the calls.
 *
 * A statement that fails is undone alone, and its promise is rejected. Who catches that may go on.
 * One that fails unheard, because nobody awaits its promise, fails the commit: nothing is applied.
 * The commit waits for statements that were asked for, awaited or not; one that is asked for when
 * the function has returned is refused, and if it comes before the commit is sent, that is, too.
 */
export class Transaction {
  readonly #parts: TransactionParts
  readonly #name: string
  #last: Promise<unknown> = Promise.resolve()
  #savepoints = 0
  /** Savepoints that are neither released nor undone yet, and all that was asked for. */
  #openSavepoints = 0
  #underWay = 0
  #isEnded = false
  #isCommitSent = false
  #over: DbError | undefined
  /** Statements that failed, with nobody there to hear it when they did. */
  readonly #failed: { readonly promise: Watched<unknown>; readonly error: unknown }[] = []
  /** What makes the whole of it fail, in what order ever its statements were heard. */
  #broken: unknown

  /** Use `db.transaction`. */
  constructor(parts: TransactionParts, name: string) {
    this.#parts = parts
    this.#name = name
  }

  /** Begins one. */
  static async begin(parts: TransactionParts): Promise<Transaction> {
    const { sender, database, deadlineMs, signal } = parts
    // One that is begun and never heard of again ends by itself, so that it can be begun again.
    const name = await sender.send<string>({
      kind: 'read',
      path: '/transactions',
      isAnyNode: false,
      deadlineMs,
      signal,
      body: timeoutMs => JSON.stringify({ database, timeoutMs }),
      read: json => {
        const { transaction } = json as TransactionResponse
        if (typeof transaction === 'string') return transaction
        throw strangeAnswer()
      },
    })
    return new Transaction(parts, name)
  }

  /** Why the transaction can't be committed any more, if it can't. */
  get over(): DbError | undefined {
    return this.#over
  }

  /** Throws what nobody has heard yet, and must not be committed. */
  requireWhole(): void {
    if (this.#over !== undefined) throw this.#over
    if (this.#broken !== undefined) throw this.#broken as Error
    const unheard = this.#failed.find(({ promise }) => !promise.isHeard)
    if (unheard !== undefined) throw unheard.error as Error
  }

  /** Its commit goes out: the last moment at which it can be stopped. Throws why it must not. */
  sendCommit(): void {
    if (!this.#isCommitSent) this.requireWhole()
    this.#isCommitSent = true
  }

  /** Path of its commit. */
  get commitPath(): string {
    return this.#path('commit')
  }

  /** Runs one statement, or a script of several without values: the result is the last one's. */
  execute<Row = DefaultRow>(statement: string | SqlText, params?: Params): Promise<Result<Row>> {
    return this.#watch(() => this.#one('execute', statementJson(statement, params)))
  }

  /** Reads, what the transaction has written included. */
  query<Row = DefaultRow>(statement: string | SqlText, params?: Params): Promise<Result<Row>> {
    return this.#watch(() => this.#one('query', statementJson(statement, params)))
  }

  /** Runs several statements or Commands: all of them, or none. */
  batch(items: readonly BatchItem[]): Promise<readonly Result[]> {
    return this.#watch(() => this.#step('execute', { statements: items.map(itemJson) }))
  }

  /** Runs a Command. */
  command<Row = DefaultRow>(command: Command): Promise<Result<Row>> {
    return this.#watch(() => this.#one('execute', commandJson(command) as object))
  }

  /**
   * Runs a part of the transaction that may fail alone: if `work` throws, what it did is undone and
   * the transaction goes on. Await it before anything else is asked of the transaction.
   */
  savepoint<T>(work: () => Promise<T>): Promise<T> {
    return this.#watch(() => this.#savepoint(work))
  }

  async #savepoint<T>(work: () => Promise<T>): Promise<T> {
    this.#savepoints += 1
    const name = `lockstep_savepoint_${this.#savepoints}`
    this.#openSavepoints += 1
    try {
      await this.execute(`SAVEPOINT ${name}`)
      return await this.#within(name, work)
    } finally {
      this.#openSavepoints -= 1
    }
  }

  async #within<T>(name: string, work: () => Promise<T>): Promise<T> {
    try {
      const result = await work()
      await this.execute(`RELEASE ${name}`)
      return result
    } catch (error) {
      if (this.#over === undefined && !this.#isEnded) await this.#undo(name)
      throw error
    }
  }

  async #undo(savepoint: string): Promise<void> {
    try {
      await this.execute(`ROLLBACK TO ${savepoint}`)
      await this.execute(`RELEASE ${savepoint}`)
    } catch (error) {
      // What was to be undone is still there: whoever hears of that must not commit it.
      this.#broken ??= error
      throw error
    }
  }

  /** There is none inside of another: this says so. */
  transaction(): never {
    throw nested()
  }

  /** Takes no more statements; resolves when the last one is answered. */
  async end(): Promise<void> {
    const isUnderWay = this.#underWay > 0
    this.#isEnded = true
    // Its end is still to come, and comes too late.
    if (this.#openSavepoints > 0) this.#broken ??= ended()
    await this.#last
    // Whoever awaits a statement outside of the function may ask for the next one now.
    if (isUnderWay) await sleep(0, undefined)
  }

  /** Gives everything up. Should nobody hear it, the transaction ends by itself after a while. */
  async rollback(): Promise<void> {
    await this.end()
    if (this.#over !== undefined) return
    const deadlineMs = performance.now() + ROLLBACK_MS
    const shot = { ...this.#shot('rollback', {}), deadlineMs, signal: undefined }
    await this.#parts.sender.send(shot).catch(() => {})
  }

  #watch<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isEnded) {
      const error = ended()
      this.#broken ??= error
      return Promise.reject(error)
    }
    const promise = Watched.of(work())
    this.#underWay += 1
    const settled = (): void => void (this.#underWay -= 1)
    // Where nobody hears of it the commit does; a program need not end because of it.
    promise.watch(settled, error => {
      settled()
      this.#failed.push({ promise, error })
    })
    return promise
  }

  async #one<Row>(call: 'execute' | 'query', json: object): Promise<Result<Row>> {
    const results = await this.#step(call, json)
    const empty: Result = { rowsAffected: 0, columns: [], rows: [] }
    return (results.at(-1) ?? empty) as Result<Row>
  }

  #step(call: 'execute' | 'query', json: object): Promise<readonly Result[]> {
    if (this.#isEnded) return Promise.reject(ended())
    const step = this.#last.then(() => this.#send(call, json))
    this.#last = step.catch(() => {})
    return step
  }

  async #send(call: 'execute' | 'query', json: object): Promise<readonly Result[]> {
    if (this.#over !== undefined) throw this.#over
    try {
      const answer = await this.#parts.sender.send(this.#shot(call, json))
      return readResults(answer)
    } catch (error) {
      // Who gives up is told so; the rollback that follows ends what is still running.
      this.#parts.signal?.throwIfAborted()
      if (!(error instanceof DbError)) throw error
      const told = error.fate === 'unknown' ? lost(error) : error
      if (told.retry === 'transaction' || told.details['transaction'] === 'over') this.#over = told
      throw told
    }
  }

  #shot(call: 'execute' | 'query' | 'rollback', json: object): Shot<StepResponse> {
    const { deadlineMs, signal } = this.#parts
    return {
      // A step whose answer is lost can not be sent again: it might run twice.
      kind: 'step',
      path: this.#path(call),
      isAnyNode: false,
      deadlineMs,
      signal,
      body: timeoutMs => JSON.stringify({ ...json, timeoutMs }),
      read: json => {
        const answer = json as StepResponse
        if (Array.isArray(answer.results)) return answer
        throw strangeAnswer()
      },
    }
  }

  #path(call: 'execute' | 'query' | 'commit' | 'rollback'): string {
    return `/transactions/${this.#name}/${call}`
  }
}

/** How long a rollback may take; the caller waits for it. */
const ROLLBACK_MS = 1000

/** Nothing takes effect without a commit, so that the fate is known; only the state is not. */
function lost(cause: DbError): DbError {
  const message = `the answer to a statement of the transaction was lost: ${cause.message}`
  return new DbError('TRANSACTION_LOST', message, { cause })
}

function ended(): DbError {
  const message = 'the transaction has ended; await its statements inside of its function'
  return new DbError('INVALID_REQUEST', message)
}

/** For a transaction inside of another. */
export function nested(): DbError {
  const message =
    'there is no transaction inside of a transaction; use savepoint() for what may fail alone'
  return new DbError('INVALID_REQUEST', message)
}
