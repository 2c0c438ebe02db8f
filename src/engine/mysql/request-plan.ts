/**
 * The commands for one request, and what their answers make of it. The leader learns its outcomes,
 * a follower compares them; both plan it here, so that both run the same.
 */
import { DbError } from '../../base/errors.ts'
import type { Statement, StatementResult } from '../../base/sql.ts'
import type { Chance } from '../chance.ts'
import type { RowsDigest, StatementOutcome } from '../entry.ts'
import { RowHash } from '../hash.ts'
import type { Command } from './commands.ts'
import type { Answer } from './connection.ts'
import type { InsertForm } from './insert-form.ts'
import { render } from './render.ts'
import { atStatement, type IsForeign, readSteps, type Step } from './request-steps.ts'
import { asAllTell } from './shown.ts'
import type { ParsedStatement } from './statement-parser.ts'

export interface PlanOptions {
  /** Name of the request's database, in the cluster. */
  readonly database: string
  /** Number of the request among those of its entry. */
  readonly position: number
  /** Number of the request in its batch; 0 on a follower. */
  readonly ordinal: number
  /** Of the entry. */
  readonly chance: Chance
  /** Whether settings can be given for one statement. */
  readonly isMariaDb: boolean
  /** What its statements gave before: those that were given ids get them again. */
  readonly before?: readonly StatementOutcome[]
  /** Nobody wants what it reads: on a follower. */
  readonly leavesOutReads?: true
  readonly isForeign: IsForeign
}

/** A row that a request inserts, if that is all it does. */
export interface InsertedRow {
  /** All that stands before the row. */
  readonly head: string
  readonly row: string
  readonly form: InsertForm
  /** The id that it must get; 0 if the server chooses. */
  readonly id: bigint
}

/** Positions from here on belong to requests that only read, so that they never share chance. */
const READ_ONLY_POSITIONS = 0x8000_0000
/** Seeds of RAND() are below this. */
const SEED_MAX = 0x3fff_ffffn
/** The name of the savepoint that the request which runs can be undone to. */
export const REQUEST_SAVEPOINT = 'lockstep_request'
/** Longest text of a statement with its values: the least of what servers take by default. */
export const STATEMENT_SIZE_BYTES_MAX = 15 * 1024 * 1024
const NOTHING: StatementOutcome = {
  rowsAffected: 0,
  lastInsertId: undefined,
  rowsDigest: undefined,
}

export class RequestPlan {
  readonly type: 'read' | 'write' | 'schema'
  readonly commands: Command[] = []
  readonly results: StatementResult[] = []
  readonly outcomes: StatementOutcome[] = []
  /** For each outcome, which of the request's texts it came from. */
  readonly texts: number[] = []
  /** A failure takes part of it back: there is a savepoint. */
  readonly hasSavepoint: boolean
  /** It may succeed and be refused for what it gave: nothing may run after it before that. */
  readonly needsLook: boolean
  /** It draws chance, so that its place in the entry matters. */
  readonly usesChance: boolean
  readonly #options: PlanOptions
  readonly #isAlone: boolean
  #refusal: DbError | undefined
  #row: InsertedRow | undefined
  /** The text of each command, by its number. */
  readonly #textOf: number[] = []

  /** Throws `DbError` for a request that can't be run. */
  constructor(statements: readonly Statement[], options: PlanOptions) {
    this.#options = options
    const { steps, type } = readSteps(statements, options.isForeign)
    this.#isAlone = steps.length === 1
    this.type = type
    const gives = steps.some(({ statement }) => statement.returnsRows || statement.kind === 'read')
    this.needsLook =
      gives ||
      steps.some(({ statement }) => statement.isUnorderedInsert || statement.isUnorderedDraw)
    this.usesChance = steps.some(({ statement: { usesChance } }) => usesChance)
    this.hasSavepoint = type === 'write' && (steps.length > 1 || this.needsLook)
    if (this.hasSavepoint) this.#add(`SAVEPOINT ${REQUEST_SAVEPOINT}`, 0)
    if (steps.some(({ statement }) => statement.asksForLastId)) {
      this.#add('SET last_insert_id = 0', 0)
    }
    for (const [number, step] of steps.entries()) {
      try {
        this.#step(step, number)
      } catch (error) {
        throw atStatement(error, step.text)
      }
    }
  }

  /** Why it must be undone although the server ran it. */
  get refusal(): DbError | undefined {
    return this.#refusal
  }

  /** Undefined unless the request does nothing but insert one row of plain values. */
  get row(): InsertedRow | undefined {
    return this.#row
  }

  /** Takes what became of its row, if that went with others. */
  take(answer: Answer): void {
    this.commands.at(-1)?.take?.(answer)
  }

  /** Which of the request's texts a command belongs to. */
  textOf(command: number): number {
    return this.#textOf[command] ?? 0
  }

  #add(sql: string, text: number, take?: (answer: Answer) => void): void {
    this.commands.push(take === undefined ? { sql } : { sql, take })
    this.#textOf.push(text)
  }

  #step({ statement, params, text }: Step, number: number): void {
    const { chance, before, leavesOutReads, isMariaDb, position, ordinal } = this.#options
    this.texts.push(text)
    const { updatesDuplicates, asksForLastId, setsLastId } = statement
    const isAsked = asksForId(statement)
    if (isAsked && (setsLastId || (updatesDuplicates !== 'no' && asksForLastId))) {
      throw new DbError('UNSUPPORTED', ASKED_TWICE)
    }
    if (statement.kind === 'read' && leavesOutReads === true && !asksForLastId) {
      // It changed nothing, as LAST_INSERT_ID(..) would: it sets what is asked for later. What it
      // gave was for the client, and is remembered nowhere.
      this.#record(number, NOTHING, { rowsAffected: 0, columns: [], rows: [] })
      return
    }
    const place = this.type === 'read' ? READ_ONLY_POSITIONS + ordinal : position
    chance.begin(place, number)
    const settings: string[] = []
    if (statement.usesChance) {
      settings.push(`rand_seed1 = ${seed(chance)}`, `rand_seed2 = ${seed(chance)}`)
    }
    const given = statement.isInsert ? before?.[number]?.lastInsertId : undefined
    const id = BigInt.asUintN(64, given ?? 0n)
    if (id !== 0n) settings.push(`insert_id = ${id}`)
    const { database } = this.#options
    const uuid = (): string => uuidExpression(chance)
    const sql = render(statement, params, database, uuid, isAsked ? LAST_ID : undefined)
    if (isTooLong(sql)) {
      throw new DbError('TOO_LARGE', `a statement has at most ${STATEMENT_SIZE_BYTES_MAX} bytes`, {
        details: { limit: STATEMENT_SIZE_BYTES_MAX },
      })
    }
    if (this.#isAlone && statement.insert !== undefined) {
      const { form, rowAt } = statement.insert
      this.#row = { head: sql.slice(0, rowAt), row: sql.slice(rowAt), form, id }
    }
    if (isAsked) {
      this.#add(`SET ${LAST_ID} = LAST_INSERT_ID()`, text)
      this.#add('SET last_insert_id = 0', text)
    }
    const isSetFor = settings.length > 0 && isMariaDb
    if (settings.length > 0 && !isMariaDb) this.#add(`SET ${settings.join(', ')}`, text)
    const whole = isSetFor ? `SET STATEMENT ${settings.join(', ')} FOR ${sql}` : sql
    this.#add(whole, text, answer => this.#take(statement, number, answer))
    if (isAsked) {
      this.#add('SELECT LAST_INSERT_ID()', text, answer => this.#takeId(number, answer))
      const last = `IF(LAST_INSERT_ID() = 0, ${LAST_ID}, LAST_INSERT_ID())`
      this.#add(`SET last_insert_id = ${last}`, text)
    }
  }

  #take(statement: ParsedStatement, number: number, answer: Answer): void {
    const { columns, rows } = answer
    if (answer.isCut) this.#refusal ??= tooManyRows()
    if (statement.kind === 'read') {
      const told = asAllTell(statement, answer, this.#options.database)
      this.#record(number, NOTHING, {
        rowsAffected: 0,
        columns: told.columns ?? [],
        rows: told.rows,
      })
      return
    }
    if (columns !== undefined) {
      const rowsAffected = rows.length
      const outcome = { rowsAffected, lastInsertId: undefined, rowsDigest: sumOfRows(rows) }
      this.#record(number, outcome, { rowsAffected, columns, rows })
      return
    }
    const { rowsAffected } = answer
    const told = answer.insertId === 0n ? undefined : BigInt.asIntN(64, answer.insertId)
    if (statement.isUnorderedInsert && told !== undefined && rowsAffected > 1) {
      this.#refusal ??= new DbError('UNSUPPORTED', UNORDERED)
    }
    if (statement.isUnorderedDraw && answer.rowsMatched > 1) {
      this.#refusal ??= new DbError('UNSUPPORTED', UNORDERED_DRAW)
    }
    // For a row that was there the server tells the id of that one, or what LAST_INSERT_ID(..) was
    // given: given to others as the id of a new row it would make them update another one.
    const { updatesDuplicates } = statement
    // Where rows are skipped it may be an id that a row gave, because none was made for another.
    const isOfOneRow = updatesDuplicates === 'of-one-row' && rowsAffected === 1
    const isMade = isOfOneRow || (updatesDuplicates === 'no' && !asksForId(statement))
    const lastInsertId = isMade ? told : undefined
    const outcome = { rowsAffected, lastInsertId, rowsDigest: undefined }
    this.#record(number, outcome, {
      rowsAffected,
      ...(told !== undefined && { lastInsertId: told }),
    })
  }

  #takeId(number: number, answer: Answer): void {
    const id = BigInt(String(answer.rows[0]?.[0] ?? 0))
    const [outcome, result] = [this.outcomes[number], this.results[number]]
    if (id === 0n || outcome === undefined || result === undefined) return
    const lastInsertId = BigInt.asIntN(64, id)
    this.#record(number, { ...outcome, lastInsertId }, { ...result, lastInsertId })
  }

  #record(number: number, outcome: StatementOutcome, result: StatementResult): void {
    this.outcomes[number] = outcome
    this.results[number] = result
  }
}

/** Whether LAST_INSERT_ID() is asked for the first id that a statement made. */
function asksForId(statement: ParsedStatement): boolean {
  const { returnsRows, updatesDuplicates, skipsSomeRows, setsLastId } = statement
  // An answer of rows tells no id, and one of many rows not whether any was made.
  const isUnsure = updatesDuplicates === 'of-many-rows' || (skipsSomeRows && !setsLastId)
  return returnsRows || isUnsure
}

/** What LAST_INSERT_ID() was before a statement that it is asked for. */
const LAST_ID = '@lockstep_last_id'
const ASKED_TWICE =
  'an INSERT ... ON DUPLICATE KEY UPDATE with LAST_INSERT_ID(), and whatever gives ' +
  'LAST_INSERT_ID(..) a value, must be of one row and return none, or nobody can tell which ids ' +
  'it made; send a statement for each row'
const UNORDERED =
  'INSERT ... SELECT gives the rows their ids in the order in which they come, which is not the ' +
  'same on every node; add ORDER BY a unique key'
const UNORDERED_DRAW =
  'RAND(), UUID() and LAST_INSERT_ID(..) give each of several rows another value, in the order ' +
  'in which they come, which is not the same on every node; add ORDER BY a unique key to the UPDATE'

function tooManyRows(): DbError {
  return new DbError('TOO_LARGE', 'a write returns too many rows or bytes; query instead')
}

function seed(chance: Chance): bigint {
  return BigInt.asUintN(64, chance.int64()) % SEED_MAX
}

/**
 * A UUID of version 4: 48 bits from the entry, which no other statement has, and the rest from
 * RAND(), which is seeded from the entry and gives each row its own.
 */
function uuidExpression(chance: Chance): string {
  const known = Buffer.from(chance.bytes(6)).toString('hex')
  const digits = (count: number): string =>
    `LPAD(HEX(FLOOR(RAND() * ${16 ** count})), ${count}, '0')`
  return (
    `LOWER(CONCAT('${known.slice(0, 8)}-${known.slice(8)}-4', ${digits(3)}, '-', ` +
    `HEX(8 + FLOOR(RAND() * 4)), ${digits(3)}, '-', ${digits(6)}, ${digits(6)}))`
  )
}

const hash = new RowHash()

/** A digest of rows that doesn't depend on their order: DELETE ... RETURNING has none. */
function sumOfRows(rows: StatementResult['rows'] = []): RowsDigest {
  let low = 0
  let high = 0
  for (const row of rows) {
    hash.reset()
    hash.row(row)
    const digest = hash.digest()
    low = (low + digest.low) >>> 0
    high = (high + digest.high) >>> 0
  }
  return { low, high }
}

/** The server counts bytes, of which a character has three for each of its units at most. */
function isTooLong(sql: string): boolean {
  if (3 * sql.length <= STATEMENT_SIZE_BYTES_MAX) return false
  return new TextEncoder().encode(sql).length > STATEMENT_SIZE_BYTES_MAX
}
