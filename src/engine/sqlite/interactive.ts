/**
 * An interactive transaction on the leader: its steps run one after another, as its client sends
 * them, in one SQLite transaction that stays open in between. It is a batch whose requests all
 * belong to one client: a step that fails is undone alone, and only the steps that changed
 * something, and were not taken back, go into the entry.
 */
import { ByteWriter } from '../../base/bytes.ts'
import { DbError } from '../../base/errors.ts'
import type { Statement, StatementResult } from '../../base/sql.ts'
import type { EarlierStep, RequestError, TransactionStart } from '../engine.ts'
import type { StatementOutcome } from '../entry.ts'
import { encodeStatementOutcome } from '../entry.ts'
import { decodeRequest } from '../request.ts'
import type { DatabaseFile } from './database-file.ts'
import type { FileSet } from './file-set.ts'
import { LocalFault, toRequestError } from '../request-errors.ts'
import type { RequestRunner } from './request-runner.ts'
import type { SavepointCommand } from '../savepoints.ts'
import {
  conflictAt,
  failedStep,
  isSameProof,
  isTransactionWord,
  PROOF_OK,
  refusedWords,
  type StepOutcome,
} from '../transaction-steps.ts'
import { readSavepointCommand, Savepoints } from './savepoints.ts'
import { isSolo } from './solo.ts'
import type { SqlFailure } from './sql-errors.ts'
import { nextToken, skipToStatement } from './tokens.ts'

/** A step that is to be in the entry. */
export interface LoggedStep {
  readonly statements: readonly Statement[]
  readonly outcomes: readonly StatementOutcome[]
}

const proofs = new ByteWriter(1024)

export class InteractiveTransaction {
  /** The number of its turn, by which the writer's messages know it. */
  readonly number: number
  readonly nowMs: number
  readonly database: string
  readonly seed: Uint8Array
  readonly file: DatabaseFile
  readonly #files: FileSet
  readonly #runner: RequestRunner
  readonly #savepoints: Savepoints
  #logged: LoggedStep[] = []
  #stepCount = 0
  #hasLostAll = false

  /**
   * Begins its SQLite transaction, or takes part in the open one of its database. Throws `DbError`
   * UNKNOWN_DATABASE.
   */
  constructor(
    files: FileSet,
    runner: RequestRunner,
    number: number,
    start: TransactionStart & { readonly isPart?: boolean },
  ) {
    const { database, nowMs, seed } = start
    const file = files.find(database)
    if (file === undefined) {
      throw new DbError('UNKNOWN_DATABASE', `there is no database ${database}; create it first`)
    }
    this.#files = files
    this.#runner = runner
    this.number = number
    this.nowMs = nowMs
    this.file = file
    this.database = database
    this.seed = seed.slice()
    this.#savepoints = new Savepoints(file)
    if (start.isPart !== true) file.begin()
    file.determinism.beginEntry(nowMs, this.seed)
  }

  /** Nothing that it did is to stay. */
  get isReadOnly(): boolean {
    return this.#logged.length === 0
  }

  /** A step of it has undone all of the SQLite transaction, or left it of no use. */
  get hasLostAll(): boolean {
    return this.#hasLostAll
  }

  /** Its steps that are to be in the entry. */
  get logged(): readonly LoggedStep[] {
    return this.#logged
  }

  /**
   * Runs steps again that were run before the transaction gave way to others, and compares all that
   * they give. The error if one gives something else: then others have changed what it rests on.
   */
  repeat(earlier: readonly EarlierStep[]): RequestError | undefined {
    for (const [at, { request, isQuery, proof }] of earlier.entries()) {
      const again = this.step(request, isQuery)
      if (!again.isOver && isSameProof(again.proof, proof)) continue
      return conflictAt(at + 1)
    }
    return undefined
  }

  /** Runs the statements of one step: all of them, or none. */
  step(bytes: Uint8Array, isQuery: boolean): StepOutcome {
    const ordinal = this.#stepCount
    this.#stepCount++
    let statements: readonly Statement[]
    try {
      statements = this.#read(bytes)
      const command = savepointCommand(statements)
      if (command !== undefined) return this.#runSavepoint(command)
    } catch (error) {
      if (!(error instanceof DbError)) throw error
      return failedStep(toRequestError(error), false)
    }
    const outcome = this.#runner.run(this.file, statements, {
      position: this.#logged.length,
      ordinal,
      keepsRows: true,
      isRebuild: false,
      // A batch asks once at its end. Here, each step is answered before the next one comes.
      refusesLastRowid: true,
      onlyReads: isQuery,
    })
    if (outcome.type === 'failed') return this.#fail(outcome.failure, outcome.isTransactionLost)
    const { results, outcomes, isReadOnly } = outcome
    if (!isReadOnly) this.#logged.push({ statements, outcomes })
    return { result: { type: 'ok', results }, proof: proofOf(results, outcomes), isOver: false }
  }

  rollback(): void {
    this.file.rollback()
  }

  #read(bytes: Uint8Array): readonly Statement[] {
    // Steps are kept for the entry, and the message that brought them is gone when it comes.
    const request = decodeRequest(bytes.slice())
    if (request.type !== 'statements' || request.database !== this.database) {
      throw new DbError('INVALID_REQUEST', `a step holds statements for ${this.database}`)
    }
    if (request.statements.length === 0) {
      throw new DbError('INVALID_REQUEST', 'the request holds no statement')
    }
    if (isSolo(request)) throw new DbError('UNSUPPORTED', REBUILD)
    return request.statements
  }

  #runSavepoint(command: SavepointCommand): StepOutcome {
    this.#logged.length = this.#savepoints.run(command, this.#logged.length)
    const results: readonly StatementResult[] = [{ rowsAffected: 0 }]
    return { result: { type: 'ok', results }, proof: proofOf(results, []), isOver: false }
  }

  #fail(failure: SqlFailure, isTransactionLost: boolean): StepOutcome {
    if (failure.type === 'local') throw new LocalFault(failure.error)
    if (failure.type === 'full') this.#files.requireSpace(failure.error)
    // After a corrupt page SQLite refuses to write until the whole transaction is rolled back.
    const isOver = isTransactionLost || failure.type === 'corrupt'
    this.#hasLostAll ||= isOver
    const error: RequestError =
      failure.type === 'full'
        ? { ...failure.error, code: 'SQL_ERROR', message: FULL }
        : failure.error
    return failedStep(error, isOver)
  }
}

const REBUILD =
  'a table rebuild with foreign keys off can not be part of a transaction; send all of it as one ' +
  'request'
const FULL = 'the table has used its last rowid, or the disk was full for a moment'

/** The savepoint command that a step is, if it is one. Throws for one that can't be run. */
function savepointCommand(statements: readonly Statement[]): SavepointCommand | undefined {
  const sql = statements[0]?.sql ?? ''
  if (!isTransactionWord(firstWord(sql))) return undefined
  const command = statements.length === 1 ? readSavepointCommand(sql) : undefined
  if (command === undefined) throw refusedWords()
  return command
}

function firstWord(sql: string): string {
  const token = nextToken(sql, skipToStatement(sql, 0))
  return token?.type === 'word' ? sql.slice(token.start, token.end).toUpperCase() : ''
}

/** Names of columns, because they tell of the schema; rows only by the digest in the outcome. */
function proofOf(
  results: readonly StatementResult[],
  outcomes: readonly StatementOutcome[],
): Uint8Array {
  proofs.reset()
  proofs.u8(PROOF_OK)
  for (const { columns = [] } of results) for (const column of columns) proofs.utf8(column)
  for (const outcome of outcomes) encodeStatementOutcome(proofs, outcome)
  return proofs.finish()
}
