/**
 * A batch on the leader: its requests run one after another in one transaction, many in a packet,
 * and the transaction stays open until the log has decided. What MySQL commits by itself is only
 * looked at here; it runs when its entry is committed.
 */
import { assert, must, unreachable } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import type { RequestResult, WriteRequest, WriterMessage } from '../engine.ts'
import { EntryBuilder, type StatementOutcome } from '../entry.ts'
import { DATABASES_MAX, WRITE_ROWS_BYTES_MAX, WRITE_ROWS_MAX } from '../limits.ts'
import { LocalFault, toRequestError, withDetails } from '../request-errors.ts'
import { decodeRequest } from '../request.ts'
import { hasId, type IdentifiedRequest, RequestIds } from '../request-ids.ts'
import type { Command, CommandFailure } from './commands.ts'
import type { Placed } from './insert-targets.ts'
import { jointCommands, joinNeighbours, learnTargets } from './joint-inserts.ts'
import { classifyServerError } from './mysql-errors.ts'
import { refuseServerName } from './names.ts'
import { REQUEST_SAVEPOINT, RequestPlan } from './request-plan.ts'
import { runSolo, type SchemaRequest } from './schema-changes.ts'
import { encodeOutcomes } from './schema-outcomes.ts'
import { ownFault, type Session } from './session.ts'

interface BatchResults {
  /** Requests that were run, from the first on. */
  readonly taken: number
  readonly results: readonly RequestResult[]
}

/** A request that is to run with others in one packet. */
interface Waiting {
  readonly ordinal: number
  readonly request: WriteRequest & { readonly type: 'statements' }
  readonly bytes: Uint8Array
  readonly plan: RequestPlan
}

interface Planned extends Waiting {
  /** Its commands in the packet. */
  readonly from: number
  readonly end: number
  /** They are those of other requests, too. */
  readonly isJoint: boolean
}

/** How many rows the statements of a request may give back. */
export const LIMITS = { maxRows: WRITE_ROWS_MAX, maxBytes: WRITE_ROWS_BYTES_MAX }
/** What is told if nobody could tell what became of a schema change. */
const SCHEMA_UNKNOWN: RequestResult = {
  type: 'failed',
  error: {
    code: 'LEADERSHIP_LOST',
    message: 'the schema change is in the log; this node did not learn what came of it',
  },
}

export class MysqlBatch {
  readonly number: number
  readonly nowMs: number
  readonly #session: Session
  readonly #message: WriterMessage & { type: 'execute' }
  readonly #builder = new EntryBuilder()
  readonly #ids: RequestIds
  readonly #results: RequestResult[] = []
  #waiting: Waiting[] = []
  #solo: { readonly request: SchemaRequest; readonly bytes: Uint8Array } | undefined
  #outcomesUpTo: number | undefined
  #hasBegun = false

  constructor(session: Session, message: WriterMessage & { type: 'execute' }, nowMs: number) {
    this.number = message.batch
    this.nowMs = nowMs
    this.#session = session
    this.#message = message
    this.#ids = new RequestIds(session.tables)
  }

  /** Runs requests up to the first that must be alone; all of them, if there is none. */
  async run(): Promise<BatchResults> {
    const { seed, requests } = this.#message
    const decoded = requests.map(decode)
    const ids = decoded.flatMap(each =>
      each instanceof DbError || !hasId(each) ? [] : scoped(each),
    )
    await this.#session.tables.requests.fetch(ids)
    this.#builder.begin(this.nowMs, seed)
    let taken = 0
    for (const [ordinal, bytes] of requests.entries()) {
      const goesOn = await this.#take(must(decoded[ordinal]), bytes, ordinal)
      if (!goesOn) break
      taken++
    }
    await this.#runWaiting()
    return { taken, results: this.#results.slice(0, taken) }
  }

  /** The entry's bytes, undefined if nothing is to be repeated by others. */
  entry(): Uint8Array | undefined {
    if (this.#builder.count === 0) return undefined
    if (this.#solo === undefined) this.#addOutcomes()
    return this.#builder.finish()
  }

  /** A change of the schema runs at its commit, and may fail there. */
  get isProvisional(): boolean {
    return this.#solo !== undefined
  }

  /** Ends it as entry `index`; what a schema change came to is known only now. */
  async commit(index: number): Promise<readonly RequestResult[] | undefined> {
    const { tables } = this.#session
    const records = this.#ids.recordsOf(tables.requests)
    if (this.#solo !== undefined) {
      const { request } = this.#solo
      const { nowMs } = this
      const { seed } = this.#message
      return [await runSolo(this.#session, { index, nowMs, seed, request, records })]
    }
    const compared =
      this.#outcomesUpTo === undefined ? [] : [tables.comparedSql(this.#outcomesUpTo)]
    const kept = records === undefined ? [] : [{ index, records }]
    await this.#session.expect(...compared, ...tables.commitSql(index, this.nowMs, kept))
    return undefined
  }

  async rollback(): Promise<void> {
    if (this.#solo === undefined) await this.#session.rollback()
  }

  /** False if the request must be alone in its entry and others are in it already. */
  async #take(
    request: WriteRequest | DbError,
    bytes: Uint8Array,
    ordinal: number,
  ): Promise<boolean> {
    if (this.#solo !== undefined) return false
    if (request instanceof DbError) return this.#answer(ordinal, failed(request))
    if (hasId(request)) {
      // Whether a neighbour with the same id succeeds must be known first.
      if (this.#waits(request)) await this.#runWaiting()
      const { commitIndex } = this.#message
      const known = this.#ids.answer(request, bytes, undefined, commitIndex)
      if (known !== undefined) return this.#answer(ordinal, known)
    }
    switch (request.type) {
      case 'cancel': {
        await this.#runWaiting()
        const refusal = refuseServerName(request.database)
        if (refusal !== undefined) return this.#answer(ordinal, failed(refusal))
        const failure = await this.#session.run(this.#beginning())
        if (failure !== undefined) throw ownFault(failure)
        this.#builder.add(bytes, [])
        return this.#answer(ordinal, this.#ids.noteCancelled(request))
      }
      case 'transaction':
        return this.#answer(
          ordinal,
          failed(new DbError('INVALID_REQUEST', 'no request is a transaction')),
        )
      case 'create-database':
      case 'drop-database':
        return this.#takeDatabase(request, bytes, ordinal)
      case 'statements':
        return this.#takeStatements(request, bytes, ordinal)
      default:
        return unreachable(request)
    }
  }

  #takeDatabase(
    request: WriteRequest & { readonly type: 'create-database' | 'drop-database' },
    bytes: Uint8Array,
    ordinal: number,
  ): boolean {
    const error = this.#refuseDatabase(request)
    if (error !== undefined) return this.#answer(ordinal, failed(error))
    return this.#takeSolo(request, bytes, ordinal, { type: 'ok', results: [] })
  }

  #takeSolo(
    request: SchemaRequest,
    bytes: Uint8Array,
    ordinal: number,
    result: RequestResult,
  ): boolean {
    if (this.#builder.count > 0 || this.#waiting.length > 0) return false
    this.#solo = { request, bytes }
    this.#builder.add(bytes, [])
    if (hasId(request)) this.#noteApplied(request, bytes, [], [])
    return this.#answer(ordinal, result)
  }

  #takeStatements(
    request: WriteRequest & { readonly type: 'statements' },
    bytes: Uint8Array,
    ordinal: number,
  ): Promise<boolean> | boolean {
    const { tables } = this.#session
    if (tables.madeBy(request.database) === undefined) {
      const message = `there is no database ${request.database}; create it first`
      return this.#answer(ordinal, failed(new DbError('UNKNOWN_DATABASE', message)))
    }
    const plan = this.#plan(request, ordinal, 0)
    if (plan instanceof DbError) return this.#answer(ordinal, failed(plan))
    if (plan.type === 'schema') return this.#takeSolo(request, bytes, ordinal, SCHEMA_UNKNOWN)
    this.#waiting.push({ ordinal, request, bytes, plan })
    if (!plan.needsLook) return true
    return this.#runWaiting().then(() => true)
  }

  /** What opens the transaction; nothing if it is open. */
  #beginning(): readonly Command[] {
    if (this.#hasBegun) return []
    this.#hasBegun = true
    return this.#session.begin(this.nowMs, this.#message.seed)
  }

  /** What schema changes came to goes last, so that it takes no other request's place. */
  #addOutcomes(): void {
    const { outcomes } = this.#session.tables
    if (outcomes.length === 0) return
    this.#builder.add(encodeOutcomes(outcomes), [])
    this.#outcomesUpTo = outcomes.at(-1)?.index
  }

  /** Runs what waits, in as few packets as its failures allow. */
  async #runWaiting(): Promise<void> {
    if (this.#waiting.length === 0) return
    await learnTargets(this.#placed(this.#waiting), this.#session.targets)
    let undo: readonly Command[] = []
    while (this.#waiting.length > 0) {
      const commands: Command[] = [...this.#beginning(), ...undo]
      undo = []
      const planned = this.#planAll(commands)
      const failure = await this.#session.run(commands, LIMITS)
      const failedAt = planned.findIndex(({ end }) => failure !== undefined && failure.at < end)
      const done = failedAt < 0 ? planned : planned.slice(0, failedAt)
      for (const one of done) undo = this.#settle(one)
      const broken = planned[failedAt]
      if (failure !== undefined) {
        // What stands between requests is our own.
        if (broken === undefined || failure.at < broken.from) throw ownFault(failure)
        undo = this.#fail(broken, failure)
      }
      // Those that failed together wait on, to go one by one.
      const isOver = broken !== undefined && !broken.isJoint
      const settled = new Set((isOver ? [...done, broken] : done).map(ordinalOf))
      this.#waiting = this.#waiting.filter(({ ordinal }) => !settled.has(ordinal))
    }
    if (undo.length > 0) await this.#session.run(undo)
  }

  /** Plans all that waits as if all of it were to succeed. */
  #planAll(commands: Command[]): readonly (Planned & Placed)[] {
    let position = this.#builder.count
    const waiting = this.#waiting.map(one => {
      // Only chance depends on the place in the entry, which is known when all before it are.
      const plan = one.plan.usesChance ? this.#plan(one.request, one.ordinal, position) : one.plan
      assert(!(plan instanceof DbError), 'it was planned before')
      if (plan.type === 'write') position++
      return { ...one, plan }
    })
    const { targets } = this.#session
    return joinNeighbours(this.#placed(waiting), targets).flatMap(group => {
      const [first] = group
      commands.push(...this.#session.use(must(first).request.database))
      const from = commands.length
      const isJoint = group.length > 1
      commands.push(
        ...(isJoint ? jointCommands(group, this.#session, failOdd) : must(first).plan.commands),
      )
      return group.map(one => ({ ...one, from, end: commands.length, isJoint }))
    })
  }

  #placed(waiting: readonly Waiting[]): readonly (Waiting & Placed)[] {
    const { tables } = this.#session
    return waiting.map(one => ({ ...one, server: tables.serverName(one.request.database) }))
  }

  #plan(
    { statements, database }: Waiting['request'],
    ordinal: number,
    position: number,
  ): RequestPlan | DbError {
    const { chance, isMariaDb, tables } = this.#session
    const { isForeign } = tables
    try {
      return new RequestPlan(statements, {
        database,
        position,
        ordinal,
        chance,
        isMariaDb,
        isForeign,
      })
    } catch (error) {
      if (error instanceof DbError) return error
      throw error
    }
  }

  /** The server ran it. What is to be done first of all if it must be undone. */
  #settle({ plan, request, bytes, ordinal }: Planned): readonly Command[] {
    if (plan.refusal !== undefined) {
      this.#answer(ordinal, failed(plan.refusal))
      return plan.hasSavepoint ? UNDO : []
    }
    const { results, outcomes } = plan
    if (plan.type === 'write') {
      this.#builder.add(bytes, outcomes)
      if (hasId(request)) this.#noteApplied(request, bytes, results, outcomes)
    }
    this.#answer(ordinal, { type: 'ok', results })
    return []
  }

  #fail(broken: Planned & Placed, failure: CommandFailure): readonly Command[] {
    const { plan, ordinal, from, server, isJoint } = broken
    this.#session.forgetDatabase()
    const { type, error } = classifyServerError(failure.error, server)
    if (type === 'local') throw new LocalFault(error)
    if (isJoint) {
      this.#session.targets.noteFailure(broken)
      return []
    }
    const statement = plan.textOf(failure.at - from)
    this.#answer(ordinal, { type: 'failed', error: withDetails(error, { statement }) })
    // A statement that fails undoes itself.
    return plan.hasSavepoint ? UNDO : []
  }

  #noteApplied(
    request: IdentifiedRequest,
    bytes: Uint8Array,
    results: Parameters<RequestIds['noteApplied']>[3],
    outcomes: readonly StatementOutcome[],
  ): void {
    const book = this.#session.tables.requests
    this.#ids.noteApplied(request, bytes, book, results, withoutDigests(outcomes))
  }

  #waits({ id, database }: IdentifiedRequest): boolean {
    return this.#waiting.some(({ request }) => {
      if (request.id?.type === 'key') {
        return id.type === 'key' && id.key === request.id.key && database === request.database
      }
      return id.type === 'session' && request.id?.session.name === id.session.name
    })
  }

  #refuseDatabase({ type, database }: WriteRequest): DbError | undefined {
    const { tables } = this.#session
    const exists = tables.madeBy(database) !== undefined
    if (type === 'drop-database') {
      return exists
        ? undefined
        : new DbError('UNKNOWN_DATABASE', `there is no database ${database}`)
    }
    const refusal = refuseServerName(database)
    if (refusal !== undefined) return refusal
    if (exists) return new DbError('DATABASE_EXISTS', `there is a database ${database} already`)
    const server = tables.serverName(database)
    if (tables.isForeign(server.toLowerCase())) {
      const message = `the server has a database ${server} that Lockstep did not make`
      return new DbError('DATABASE_EXISTS', message)
    }
    if (tables.size < DATABASES_MAX) return undefined
    return new DbError('TOO_LARGE', `a cluster has at most ${DATABASES_MAX} databases`, {
      details: { limit: DATABASES_MAX },
    })
  }

  #answer(ordinal: number, result: RequestResult): true {
    this.#results[ordinal] = result
    return true
  }
}

/** Undoes what the request has done that ran last. */
export const UNDO: readonly Command[] = [{ sql: `ROLLBACK TO SAVEPOINT ${REQUEST_SAVEPOINT}` }]

/** Rows are not in the same order on every node, so that they are not remembered. */
export function withoutDigests(outcomes: readonly StatementOutcome[]): StatementOutcome[] {
  return outcomes.map(outcome => ({ ...outcome, rowsDigest: undefined }))
}

/** The id of a request as the book has it. */
export function scoped({ id, database }: IdentifiedRequest): IdentifiedRequest['id'] {
  return id.type === 'session' ? id : { ...id, key: `${database}/${id.key}` }
}

/** What each row got is not known, and must not be guessed. */
function failOdd(): never {
  const message = 'the server does not say what became of rows that were inserted together'
  throw new LocalFault({ code: 'NODE_FAULT', message })
}

function ordinalOf({ ordinal }: Waiting): number {
  return ordinal
}

function decode(bytes: Uint8Array): WriteRequest | DbError {
  try {
    return decodeRequest(bytes)
  } catch (error) {
    if (!(error instanceof DbError)) throw error
    return new DbError('INVALID_REQUEST', `the request can't be read: ${error.message}`)
  }
}

function failed(error: DbError): RequestResult {
  return { type: 'failed', error: toRequestError(error) }
}
