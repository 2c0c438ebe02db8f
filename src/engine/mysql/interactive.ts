/**
 * An interactive transaction on the leader: its steps run one after another, as its client sends
 * them, in one transaction of the server that stays open in between. A step that fails is undone
 * alone, and only the steps that changed something, and were not taken back, go into the entry.
 *
 * A counter of ids goes on when a transaction is rolled back. So that one which gave way to others
 * gets the ids that its client has seen, its steps are given them when they are repeated.
 */
import { assert } from '../../base/assert.ts'
import { ByteReader, ByteWriter } from '../../base/bytes.ts'
import { DbError } from '../../base/errors.ts'
import type { Statement, StatementResult } from '../../base/sql.ts'
import type { EarlierStep, RequestError, TransactionStart, WriteRequest } from '../engine.ts'
import {
  decodeStatementOutcome,
  encodeStatementOutcome,
  EntryBuilder,
  type StatementOutcome,
} from '../entry.ts'
import { RowHash } from '../hash.ts'
import { LocalFault, toRequestError, withDetails } from '../request-errors.ts'
import { decodeRequest, encodeRequest } from '../request.ts'
import { identitiesOf, RequestIds } from '../request-ids.ts'
import { type SavepointCommand, type SavepointMove, SavepointStack } from '../savepoints.ts'
import {
  conflictAt,
  failedStep,
  isSameProof,
  PROOF_OK,
  type StepOutcome,
  type TransactionEnd,
  type TransactionIds,
} from '../transaction-steps.ts'
import type { CommandFailure } from './commands.ts'
import { LIMITS, scoped, UNDO } from './execute-batch.ts'
import { classifyServerError, undoesTransaction } from './mysql-errors.ts'
import { RequestPlan } from './request-plan.ts'
import { readSavepoint } from './savepoint-command.ts'
import { encodeOutcomes } from './schema-outcomes.ts'
import { ownFault, type Session } from './session.ts'

/** A step that is to be in the entry. */
interface Logged {
  readonly statements: readonly Statement[]
  readonly outcomes: readonly StatementOutcome[]
}

const DONE = { type: 'ok', results: [] } as const
const SCHEMA =
  'MySQL commits a schema change by itself, and with it all that the transaction has done: send ' +
  'it as a request of its own, outside of transactions'

const proofs = new ByteWriter(1024)
const hash = new RowHash()

export class InteractiveTransaction {
  /** The number of its turn, by which the writer's messages know it. */
  readonly number: number
  readonly nowMs: number
  readonly #session: Session
  readonly #database: string
  readonly #seed: Uint8Array
  readonly #savepoints = new SavepointStack()
  readonly #ids: RequestIds
  #logged: Logged[] = []
  #stepCount = 0
  /** Schema changes up to here are compared by its entry. */
  #outcomesUpTo: number | undefined

  /** On a database that is there. */
  constructor(
    session: Session,
    number: number,
    { database, nowMs, seed }: TransactionStart & { readonly nowMs: number },
  ) {
    this.#session = session
    this.number = number
    this.nowMs = nowMs
    this.#database = database
    this.#seed = seed.slice()
    this.#ids = new RequestIds(session.tables)
  }

  /** Nothing that it did is to stay. */
  get isReadOnly(): boolean {
    return this.#logged.length === 0
  }

  /** Begins the transaction of the server. */
  async begin(): Promise<void> {
    const failure = await this.#session.run(this.#session.begin(this.nowMs, this.#seed))
    if (failure !== undefined) throw ownFault(failure)
  }

  /**
   * Runs steps again that were run before the transaction gave way to others, and compares all that
   * they give. The error if one gives something else: then others have changed what it rests on.
   */
  async repeat(earlier: readonly EarlierStep[]): Promise<RequestError | undefined> {
    for (const [at, { request, isQuery, proof }] of earlier.entries()) {
      const again = await this.step(request, isQuery, outcomesIn(proof))
      if (again.isOver && again.result.type === 'failed') return again.result.error
      if (!isSameProof(again.proof, proof)) return conflictAt(at + 1)
    }
    return undefined
  }

  /**
   * Runs the statements of one step: all of them, or none. `before`: what they gave when they were
   * run before.
   */
  async step(
    bytes: Uint8Array,
    isQuery: boolean,
    before: readonly StatementOutcome[] = [],
  ): Promise<StepOutcome> {
    const ordinal = this.#stepCount
    this.#stepCount++
    let planned: RequestPlan | SavepointMove
    let statements: readonly Statement[]
    try {
      statements = this.#read(bytes)
      const command = readSavepoint(statements)
      planned =
        command === undefined
          ? this.#plan(statements, { isQuery, ordinal, before })
          : this.#savepoints.move(command, this.#logged.length)
    } catch (error) {
      if (!(error instanceof DbError)) throw error
      return failedStep(toRequestError(error), false)
    }
    if (!(planned instanceof RequestPlan)) return this.#runSavepoint(planned)
    return this.#runPlan(planned, statements)
  }

  /**
   * Its end: the entry's bytes, undefined if there is nothing that others must repeat, and what its
   * client is told. `commitIndex`: the last entry known to be committed.
   */
  async finish({ id, ownId }: TransactionIds, commitIndex: number): Promise<TransactionEnd> {
    if (this.isReadOnly) return { entry: undefined, result: DONE }
    const request: WriteRequest = {
      type: 'transaction',
      database: this.#database,
      steps: this.#logged.map(({ statements }) => statements),
      ...(id && { id }),
      ...(ownId && { ownId }),
    }
    const bytes = encodeRequest(request)
    const identities = identitiesOf(request)
    const { requests, outcomes } = this.#session.tables
    await requests.fetch(identities.map(scoped))
    for (const identity of identities) {
      const known = this.#ids.answer(identity, bytes, undefined, commitIndex)
      if (known !== undefined) return { entry: undefined, result: known }
    }
    for (const identity of identities) {
      this.#ids.noteApplied(identity, bytes, requests, [], [])
    }
    const builder = new EntryBuilder()
    builder.begin(this.nowMs, this.#seed)
    const own = this.#logged.flatMap(each => each.outcomes)
    builder.add(bytes, own)
    if (outcomes.length > 0) {
      builder.add(encodeOutcomes(outcomes), [])
      this.#outcomesUpTo = outcomes.at(-1)?.index
    }
    return { entry: builder.finish(), result: DONE }
  }

  /** Ends it as entry `index`. */
  async commit(index: number): Promise<undefined> {
    const { tables } = this.#session
    const records = this.#ids.recordsOf(tables.requests)
    const compared =
      this.#outcomesUpTo === undefined ? [] : [tables.comparedSql(this.#outcomesUpTo)]
    const kept = records === undefined ? [] : [{ index, records }]
    await this.#session.expect(...compared, ...tables.commitSql(index, this.nowMs, kept))
  }

  async rollback(): Promise<void> {
    await this.#session.rollback()
  }

  #read(bytes: Uint8Array): readonly Statement[] {
    // Steps are kept for the entry, and the message that brought them is gone when it comes.
    const request = decodeRequest(bytes.slice())
    if (request.type !== 'statements' || request.database !== this.#database) {
      throw new DbError('INVALID_REQUEST', `a step holds statements for ${this.#database}`)
    }
    return request.statements
  }

  #plan(
    statements: readonly Statement[],
    {
      isQuery,
      ordinal,
      before,
    }: {
      readonly isQuery: boolean
      readonly ordinal: number
      readonly before: readonly StatementOutcome[]
    },
  ): RequestPlan {
    const { chance, isMariaDb, tables } = this.#session
    const { isForeign } = tables
    const position = this.#logged.length
    const database = this.#database
    const options = { database, position, ordinal, chance, isMariaDb, before, isForeign }
    const plan = new RequestPlan(statements, options)
    if (isQuery && plan.type !== 'read') {
      throw new DbError('INVALID_REQUEST', 'a query only reads; send what writes to execute')
    }
    if (plan.type === 'schema') throw new DbError('UNSUPPORTED', SCHEMA)
    return plan
  }

  async #runPlan(plan: RequestPlan, statements: readonly Statement[]): Promise<StepOutcome> {
    const session = this.#session
    const use = session.use(this.#database)
    const failure = await session.run([...use, ...plan.commands], LIMITS)
    if (failure !== undefined && failure.at < use.length) throw ownFault(failure)
    if (failure !== undefined) return this.#fail(plan, { ...failure, at: failure.at - use.length })
    if (plan.refusal !== undefined) {
      await this.#undo(plan)
      return failedStep(toRequestError(plan.refusal), false)
    }
    const { results, outcomes } = plan
    if (plan.type === 'write') this.#logged.push({ statements, outcomes })
    return { result: { type: 'ok', results }, proof: proofOf(results, outcomes), isOver: false }
  }

  async #runSavepoint({ type, depth, loggedCount }: SavepointMove): Promise<StepOutcome> {
    await this.#session.expect(`${SAVEPOINT_SQL[type]} lockstep_client_${depth}`)
    this.#logged.length = loggedCount
    const results: readonly StatementResult[] = [{ rowsAffected: 0 }]
    return { result: { type: 'ok', results }, proof: proofOf(results, []), isOver: false }
  }

  async #fail(plan: RequestPlan, { at, error: thrown }: CommandFailure): Promise<StepOutcome> {
    const { tables } = this.#session
    const { type, error } = classifyServerError(thrown, tables.serverName(this.#database))
    if (undoesTransaction(thrown)) {
      const message = `${error.message}; run the transaction again`
      return failedStep({ ...error, code: 'TRANSACTION_LOST', message }, true)
    }
    if (type === 'local') throw new LocalFault(error)
    await this.#undo(plan)
    return failedStep(withDetails(error, { statement: plan.textOf(at) }), false)
  }

  /** A single statement that fails undoes itself. */
  async #undo(plan: RequestPlan): Promise<void> {
    if (!plan.hasSavepoint) return
    const failure = await this.#session.run(UNDO)
    if (failure !== undefined) throw ownFault(failure)
  }
}

const SAVEPOINT_SQL: Readonly<Record<SavepointCommand['type'], string>> = {
  set: 'SAVEPOINT',
  release: 'RELEASE SAVEPOINT',
  'rollback-to': 'ROLLBACK TO SAVEPOINT',
}

/**
 * Outcomes; and what was told beside them: ids, names of columns, and a digest of the rows in
 * their order.
 */
function proofOf(
  results: readonly StatementResult[],
  outcomes: readonly StatementOutcome[],
): Uint8Array {
  proofs.reset()
  proofs.u8(PROOF_OK)
  proofs.varint(outcomes.length)
  for (const outcome of outcomes) encodeStatementOutcome(proofs, outcome)
  for (const { lastInsertId = 0n, columns, rows = [] } of results) {
    proofs.zigzag64(lastInsertId)
    if (columns === undefined) continue
    for (const column of columns) proofs.utf8(column)
    hash.reset()
    for (const row of rows) hash.row(row)
    const { low, high } = hash.digest()
    proofs.u32(low)
    proofs.u32(high)
  }
  return proofs.finish()
}

/** The outcomes that a proof tells of; none of a step that failed. */
function outcomesIn(proof: Uint8Array): readonly StatementOutcome[] {
  const reader = new ByteReader(proof)
  assert(proof.length > 0, 'a proof says whether its step was run')
  if (reader.u8() !== PROOF_OK) return []
  return Array.from({ length: reader.varint() }, () => decodeStatementOutcome(reader))
}
