/**
 * The judge of answers: whatever a client was told must follow from the committed log as it was
 * between the question and the answer. It needs no history checker, since the log says the order.
 */
import { isDeepStrictEqual } from 'node:util'
import { must } from '../src/base/assert.ts'
import type { DbError, ErrorCode, Fate } from '../src/base/errors.ts'
import type { StatementResult } from '../src/base/sql.ts'
import type { WriteOutcome } from '../src/replica/types.ts'
import type { Asked } from './logged-ids.ts'
import { type Action, CommittedModel, type DatabaseModel, type Register } from './model.ts'
import { registersOf, toNumber } from './requests.ts'
import { type Effect, judgeTransaction, type Observation, remainsOf } from './transaction-judge.ts'
import { check, type World } from './world.ts'

/** A write that was asked for. */
export interface Operation {
  readonly number: number
  readonly database: string
  /** Undefined for those that can only fail or only read. */
  readonly action: Action | undefined
  /** Last committed entry when it was asked for. */
  readonly beganAt: number
  /** When it was asked for, in true time. */
  readonly beganAtMs: number
  answer: 'none' | 'ok' | Fate
}

/** What a read promises: which moments of the log its answer may be of. */
export interface ReadBounds {
  readonly database: string
  /** Not older than this entry. */
  readonly from: number
  /**
   * Nothing in it is newer than this entry, as the answer says of itself. It may be below `from`: when
   * entries that change nothing in this database follow.
   */
  readonly newest: number
}

export class Oracle {
  readonly #world: World
  readonly #operations = new Map<number, Operation>()
  /** Digests by database, creation and index: equal on all nodes. */
  readonly #digests = new Map<string, string>()
  /** What clients knew to be done, and since when: rising in both. */
  readonly #acknowledged: { readonly timeMs: number; readonly index: number }[] = []
  /** What the clients of interactive transactions were told so far. */
  readonly #observations = new Map<number, readonly Observation[]>()
  readonly model = new CommittedModel(
    number => must(this.#operations.get(number)?.action),
    (number, database, effects) => this.#judgeTransaction(number, database, effects),
  )
  /** Whether some replica may have led with wrong data since then: its answers prove nothing. */
  wasWrongSince: (timeMs: number) => boolean = () => false
  okCount = 0
  readCount = 0

  constructor(world: World) {
    this.#world = world
  }

  begin(database: string, action: Action | undefined): Operation {
    const number = this.#operations.size + 1
    const beganAt = this.model.index
    const beganAtMs = this.#world.nowMs
    const operation: Operation = { number, database, action, beganAt, beganAtMs, answer: 'none' }
    this.#operations.set(number, operation)
    return operation
  }

  /** An interactive transaction begins; its client adds what it is told to `observations`. */
  beginTransaction(database: string, observations: readonly Observation[]): Operation {
    const operation = this.begin(database, undefined)
    this.#observations.set(operation.number, observations)
    return operation
  }

  #judgeTransaction(number: number, database: DatabaseModel, effects: readonly Effect[]): void {
    const { beganAtMs } = must(this.#operations.get(number))
    const observations = must(this.#observations.get(number))
    this.#world.note('transaction', 0, number, observations.length)
    if (this.wasWrongSince(beganAtMs)) return
    const before = { registers: database.current(), names: database.claims.keys() }
    judgeTransaction(number, observations, before, effects)
  }

  /** A client was told that its transaction is committed. */
  committedTransaction(operation: Operation, index: number): void {
    this.answered(operation, { type: 'ok', index, results: [] })
    const { number, database, beganAt } = operation
    const observations = must(this.#observations.get(number))
    const committed = this.model.operation(number)
    if (remainsOf(observations) > 0) {
      check(
        committed !== undefined && committed.index <= index,
        () => `transaction ${number} is ok at ${index}, but committed at ${committed?.index}`,
      )
      return
    }
    check(committed === undefined, () => `transaction ${number} did nothing and is in the log`)
    // Nothing of its own is in what it read: all of it must be of one moment.
    const isWrong = this.wasWrongSince(operation.beganAtMs)
    if (isWrong || observations.some(({ type }) => type !== 'read')) return
    const reads = observations.filter(observed => observed.type === 'read')
    const [first] = reads
    if (first === undefined) return
    for (const { registers } of reads) {
      const isSame = isDeepStrictEqual(registers, first.registers)
      check(isSame, () => `transaction ${number} read two states, and was committed`)
    }
    this.#judgeState({ database, from: beganAt, newest: index }, first.registers)
  }

  /** A transaction ended otherwise; `isUnknown` if a commit of it may have been carried out. */
  endedTransaction(operation: Operation, why: string, isUnknown: boolean): void {
    const { number } = operation
    operation.answer = isUnknown ? 'unknown' : 'not-applied'
    const kind = why === 'TRANSACTION_CONFLICT' ? 'conflict' : 'failed'
    this.#world.note(kind, 0, number, 0, () => `${number} transaction: ${why}`)
    const committed = this.model.operation(number)
    check(
      committed === undefined || isUnknown,
      () => `transaction ${number} is committed at ${committed?.index}, and ended by ${why}`,
    )
  }

  /** An entry was committed, for the first time that anybody knows. */
  committed(index: number, data: Uint8Array): void {
    for (const number of this.model.apply(index, data)) {
      const operation = this.#operations.get(number)
      check(
        operation?.answer !== 'not-applied',
        () => `operation ${number} was said not to be applied, and was committed at ${index}`,
      )
    }
  }

  /** The newest entry of which some client knew at that moment of true time. */
  acknowledgedIndexAt(timeMs: number): number {
    return this.#acknowledged.findLast(known => known.timeMs <= timeMs)?.index ?? 0
  }

  /** The answer to a write. */
  answered(operation: Operation, outcome: WriteOutcome): void {
    const { number } = operation
    check(operation.answer === 'none', () => `operation ${number} was answered twice`)
    if (outcome.type === 'failed') {
      const { error } = outcome
      operation.answer = error.fate
      this.#world.note('failed', 0, number, 0, () => `${number} ${error.code}: ${error.message}`)
      this.#judgeFailure(operation, error)
      return
    }
    operation.answer = 'ok'
    this.#judgeOk(operation, outcome)
  }

  /**
   * An answer to a write that has an id, and may be one of several. True if its fate is known for
   * good.
   */
  identified(operation: Operation, asked: Asked, outcome: WriteOutcome): boolean {
    const mayBeWrong = this.wasWrongSince(operation.beganAtMs)
    const isSettled = this.model.ids.answered(asked, outcome, mayBeWrong)
    this.#world.note('identified', 0, operation.number, asked.isCancel ? 1 : 0, () =>
      outcome.type === 'ok' ? `ok at ${outcome.index}` : outcome.error.code,
    )
    if (outcome.type === 'ok') {
      check(
        operation.answer !== 'not-applied',
        () => `operation ${operation.number} was said not to be applied, and now is ok`,
      )
      operation.answer = 'ok'
      this.#judgeOk(operation, outcome)
    } else if (isSettled && outcome.error.code !== 'REQUEST_EXPIRED') {
      operation.answer = 'not-applied'
      if (outcome.error.code !== 'REQUEST_CANCELLED') this.#judgeFailure(operation, outcome.error)
    }
    return isSettled
  }

  #judgeOk(operation: Operation, outcome: WriteOutcome & { readonly type: 'ok' }): void {
    const { number } = operation
    this.okCount++
    this.#world.note('ok', 0, number, outcome.index)
    if (outcome.index > (this.#acknowledged.at(-1)?.index ?? 0)) {
      this.#acknowledged.push({ timeMs: this.#world.nowMs, index: outcome.index })
    }
    check(
      outcome.index <= this.model.index,
      () => `operation ${number} is ok at ${outcome.index}, committed is ${this.model.index}`,
    )
    if (operation.action === undefined) return
    const committed = this.model.operation(number)
    check(
      committed !== undefined && committed.index <= outcome.index,
      () => `operation ${number} is ok at ${outcome.index}, but committed at ${committed?.index}`,
    )
    // What was written is there; what a wrong leader says of it may be wrong.
    if (operation.action.type !== 'bump' || this.wasWrongSince(operation.beganAtMs)) return
    const version = toNumber(outcome.results[0]?.rows?.[0]?.[0])
    check(
      version === committed?.version,
      () => `operation ${number} made version ${committed?.version} and was told ${version}`,
    )
  }

  /** The answer to a read of one register through the writer. */
  answeredRead(operation: Operation, key: number, outcome: WriteOutcome): void {
    this.answered(operation, outcome)
    if (outcome.type === 'failed' || this.wasWrongSince(operation.beganAtMs)) return
    const row = outcome.results[0]?.rows?.[0]
    const register = { version: toNumber(row?.[0]), writer: toNumber(row?.[1]) }
    this.#judgeInBatch(operation, outcome.index, key, register)
  }

  /** The answer to a read of all registers. */
  read(bounds: ReadBounds, results: readonly StatementResult[]): void {
    this.readCount++
    check(
      bounds.newest <= this.model.index,
      () => `a read is of ${bounds.newest}, committed is ${this.model.index}`,
    )
    this.#judgeState(bounds, registersOf(results[0]))
  }

  /** A read that says that there is no such database or table. */
  missing(code: ErrorCode, database: string, beganAt: number): void {
    const { model } = this
    if (code === 'UNKNOWN_DATABASE') {
      const isRight = model.wasAbsentWithin(database, beganAt, model.index)
      check(isRight, () => `${database} is said to be missing, from ${beganAt} to ${model.index}`)
    }
  }

  digest(database: string, index: number, digest: string): void {
    const [there] = this.model.databasesWithin(database, index, index)
    if (there === undefined) return
    const key = `${database}/${there.createdAt}/${index}`
    const before = this.#digests.get(key)
    check(
      before === undefined || before === digest,
      () => `two nodes have different contents of ${database} at entry ${index}`,
    )
    this.#digests.set(key, digest)
  }

  /** Everything that a node holds at the end, in one database: exactly what was committed. */
  everything(node: number, database: string, results: readonly StatementResult[]): void {
    const there = must(this.model.database(database))
    const { index } = this.model
    this.#judgeState({ database, from: index, newest: index }, registersOf(results[0]))
    const marks = (results[1]?.rows ?? []).map(([operation]) => toNumber(operation))
    const expected = [...there.marks.keys()].sort((left, right) => left - right)
    check(
      marks.join() === expected.join(),
      () => `node ${node} has marks ${marks.join()} in ${database}, not ${expected.join()}`,
    )
    const claims = (results[2]?.rows ?? [])
      .map(([name, by]) => `${String(name)}=${toNumber(by)}`)
      .sort()
    const holders = [...there.claims].map(([name, { operation }]) => `${name}=${operation}`).sort()
    check(
      claims.join() === holders.join(),
      () => `node ${node} has claims ${claims.join()} in ${database}, not ${holders.join()}`,
    )
  }

  /** Operations without an answer. */
  unanswered(): Operation[] {
    return [...this.#operations.values()].filter(({ answer }) => answer === 'none')
  }

  /** A failure may rest on the state of the data: then that state must have been the committed one. */
  #judgeFailure(operation: Operation, error: DbError): void {
    const { number, database, action, beganAt } = operation
    const committed = this.model.operation(number)
    check(
      committed === undefined || error.fate === 'unknown',
      () => `operation ${number} is committed at ${committed?.index}, the answer is ${error.code}`,
    )
    if (this.wasWrongSince(operation.beganAtMs)) return
    const { index } = this.model
    const within = this.model.databasesWithin(database, beganAt, index)
    if (error.code === 'SQL_CONSTRAINT' && action !== undefined && 'name' in action) {
      check(
        within.some(({ claims }) => claims.has(action.name)),
        () => `operation ${number}: ${action.name} is said to be taken, and nobody has it`,
      )
    }
    if (error.code === 'UNKNOWN_DATABASE') this.missing(error.code, database, beganAt)
    if (error.code === 'DATABASE_EXISTS') {
      check(within.length > 0, () => `${database} is said to exist from ${beganAt} to ${index}`)
    }
  }

  /**
   * A read in a batch of writes comes after some requests of its entry and before others: it may see
   * what no read of a committed state can.
   */
  #judgeInBatch(operation: Operation, to: number, key: number, seen: Register): void {
    const { number, database, beganAt } = operation
    const isThere = this.model.databasesWithin(database, beganAt, to).some(({ registers }) => {
      const versions = registers.get(key) ?? []
      const at = versions.findIndex(({ value }) => isSame(value, seen))
      const [version, next] = [versions[at], versions[at + 1]]
      return version !== undefined && version.index <= to && (next?.index ?? to + 1) > beganAt
    })
    check(
      isThere,
      () =>
        `operation ${number} read ${key}: ${seen.version} by ${seen.writer} in ${database}, at ${to}`,
    )
  }

  /** Whether registers were like this, all at the same moment within the bounds. */
  #judgeState({ database, from, newest }: ReadBounds, seen: ReadonlyMap<number, Register>): void {
    const to = this.model.index
    const candidates = this.model.databasesWithin(database, from, to)
    const fits = candidates.some(candidate => isStateWithin(candidate, { from, to, newest }, seen))
    check(fits, () => {
      const states = candidates.map(candidate => describe(candidate, from, to)).join('; ')
      const what = [...seen].map(([key, { version, writer }]) => `${key}: ${version} by ${writer}`)
      return (
        `registers of ${database} were never {${what.join(', ')}} from ${from} to ${to}, ` +
        `nothing newer than ${newest}; they were ${states}`
      )
    })
  }
}

function isStateWithin(
  database: DatabaseModel,
  bounds: { readonly from: number; readonly to: number; readonly newest: number },
  seen: ReadonlyMap<number, Register>,
): boolean {
  let low = Math.max(bounds.from, database.createdAt)
  let high = Math.min(bounds.to, database.droppedAt - 1)
  for (const [key, register] of seen) {
    const versions = database.registers.get(key) ?? []
    const at = versions.findIndex(({ value }) => isSame(value, register))
    const version = versions[at]
    if (version === undefined || version.index > bounds.newest) return false
    low = Math.max(low, version.index)
    high = Math.min(high, (versions[at + 1]?.index ?? Number.POSITIVE_INFINITY) - 1)
  }
  return low <= high
}

function isSame(left: Register, right: Register): boolean {
  return left.version === right.version && left.writer === right.writer
}

function describe(database: DatabaseModel, from: number, to: number): string {
  const keys = [...database.registers].map(([key, versions]) => {
    const within = versions.filter(
      ({ index }, at) => index <= to && (versions[at + 1]?.index ?? to + 1) > from,
    )
    const states = within.map(
      ({ index, value }) => `${value.version} by ${value.writer} at ${index}`,
    )
    return `${key}: ${states.join(' then ')}`
  })
  return `{${keys.join(', ')}}`
}
