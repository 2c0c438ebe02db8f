/**
 * What every replica must hold: the committed entries, applied to plain maps. It understands only
 * the statements of the simulator's own workload, and keeps the past, because a read may be of any
 * moment.
 */
import { must, unreachable } from '../src/base/assert.ts'
import { decodeEntry } from '../src/engine/entry.ts'
import type { WriteRequest } from '../src/engine/engine.ts'
import { LoggedIds } from './logged-ids.ts'
import { type Effect, effectsOf } from './transaction-judge.ts'
import { check } from './world.ts'

/** A value from an index of the log on, until the next one. */
export interface Version<Value> {
  readonly index: number
  readonly value: Value
}

export interface Register {
  readonly version: number
  readonly writer: number
}

/** One database from its creation to its drop. */
export class DatabaseModel {
  readonly createdAt: number
  droppedAt = Number.POSITIVE_INFINITY
  /** By key: all versions, oldest first. */
  readonly registers = new Map<number, Version<Register>[]>()
  /** Operations that left a mark, by number. */
  readonly marks = new Map<number, number>()
  /** Who holds a name, and since which index. Names are never given back. */
  readonly claims = new Map<string, { readonly operation: number; readonly index: number }>()

  constructor(createdAt: number) {
    this.createdAt = createdAt
  }

  /** The registers as of the newest entry. */
  current(): Map<number, Register> {
    const current = new Map<number, Register>()
    for (const [key, versions] of this.registers) {
      current.set(key, must(versions.at(-1), `a version of ${key}`).value)
    }
    return current
  }

  bump(key: number, writer: number, index: number): number {
    const versions = this.registers.get(key) ?? []
    const version = (versions.at(-1)?.value.version ?? 0) + 1
    versions.push({ index, value: { version, writer } })
    this.registers.set(key, versions)
    return version
  }
}

/** What an operation of the workload asks for, as its request says it. */
export type Action =
  | { readonly type: 'bump'; readonly key: number }
  | { readonly type: 'mark' }
  | { readonly type: 'claim'; readonly name: string }
  | { readonly type: 'mark-and-claim'; readonly name: string }
  | { readonly type: 'set-up'; readonly keyCount: number }

export interface CommittedOperation {
  readonly index: number
  /** New version of the register, for a bump. */
  readonly version: number | undefined
}

export type JudgeTransaction = (
  operation: number,
  database: DatabaseModel,
  effects: readonly Effect[],
) => void

export class CommittedModel {
  readonly #actionOf: (operation: number) => Action
  readonly #judge: JudgeTransaction
  /** All databases that ever were, by name, oldest first. */
  readonly #databases = new Map<string, DatabaseModel[]>()
  readonly #operations = new Map<number, CommittedOperation>()
  readonly ids = new LoggedIds()
  #index = 0

  /** `judge` is asked about each interactive transaction, before it is applied. */
  constructor(actionOf: (operation: number) => Action, judge: JudgeTransaction) {
    this.#actionOf = actionOf
    this.#judge = judge
  }

  /** Last committed entry. */
  get index(): number {
    return this.#index
  }

  operation(number: number): CommittedOperation | undefined {
    return this.#operations.get(number)
  }

  database(name: string): DatabaseModel | undefined {
    const last = this.#databases.get(name)?.at(-1)
    return last?.droppedAt === Number.POSITIVE_INFINITY ? last : undefined
  }

  /** Names of the databases that are there now, sorted. */
  names(): string[] {
    return [...this.#databases.keys()].filter(name => this.database(name) !== undefined).sort()
  }

  /** The databases of that name which were there at some moment from `from` to `to`. */
  databasesWithin(name: string, from: number, to: number): DatabaseModel[] {
    const all = this.#databases.get(name) ?? []
    return all.filter(({ createdAt, droppedAt }) => createdAt <= to && droppedAt > from)
  }

  /** Whether there was no such database at some moment from `from` to `to`. */
  wasAbsentWithin(name: string, from: number, to: number): boolean {
    const there = this.databasesWithin(name, from, to)
    const first = there[0]
    if (first === undefined || first.createdAt > from) return true
    return there.some(({ droppedAt }) => droppedAt <= to)
  }

  /** The next committed entry; empty ones are the log's own. Gives the operations in it. */
  apply(index: number, data: Uint8Array): readonly number[] {
    check(index === this.#index + 1, () => `entry ${index} was committed after ${this.#index}`)
    this.#index = index
    if (data.length === 0) return []
    const operations: number[] = []
    for (const { request } of decodeEntry(data).requests) {
      this.ids.committed(request, index)
      const operation = this.#applyRequest(request, index)
      if (operation !== undefined) operations.push(operation)
    }
    return operations
  }

  #applyRequest(request: WriteRequest, index: number): number | undefined {
    const { database: name } = request
    switch (request.type) {
      case 'create-database': {
        check(this.database(name) === undefined, () => `${name} was made twice, again at ${index}`)
        const all = this.#databases.get(name) ?? []
        all.push(new DatabaseModel(index))
        this.#databases.set(name, all)
        return undefined
      }
      case 'drop-database': {
        const database = this.database(name)
        check(database !== undefined, () => `${name} was dropped at ${index} and is not there`)
        must(database).droppedAt = index
        return undefined
      }
      case 'cancel':
        return undefined
      case 'statements': {
        const operation = operationOf(request)
        this.#refuseSecond(operation, index)
        const version = this.#act(operation, must(this.database(name), name), index)
        this.#operations.set(operation, { index, version })
        return operation
      }
      case 'transaction': {
        const { operation, effects } = effectsOf(request.steps)
        this.#refuseSecond(operation, index)
        const database = must(this.database(name), name)
        this.#judge(operation, database, effects)
        for (const effect of effects) this.#take(operation, effect, database, index)
        this.#operations.set(operation, { index, version: undefined })
        return operation
      }
      default:
        return unreachable(request)
    }
  }

  #refuseSecond(operation: number, index: number): void {
    const before = this.#operations.get(operation)
    check(
      before === undefined,
      () => `operation ${operation} was committed at ${before?.index} and again at ${index}`,
    )
  }

  #take(operation: number, effect: Effect, database: DatabaseModel, index: number): void {
    if (effect.type === 'bump') database.bump(effect.key, operation, index)
    else if (effect.type === 'claim') this.#claim(database, effect.name, operation, index)
    else database.marks.set(operation, index)
  }

  #act(operation: number, database: DatabaseModel, index: number): number | undefined {
    const action = this.#actionOf(operation)
    switch (action.type) {
      case 'bump':
        return database.bump(action.key, operation, index)
      case 'mark':
        database.marks.set(operation, index)
        return undefined
      case 'claim':
        this.#claim(database, action.name, operation, index)
        return undefined
      case 'mark-and-claim':
        database.marks.set(operation, index)
        this.#claim(database, action.name, operation, index)
        return undefined
      case 'set-up':
        for (let key = 0; key < action.keyCount; key++) database.bump(key, operation, index)
        return undefined
      default:
        return unreachable(action)
    }
  }

  #claim(database: DatabaseModel, name: string, operation: number, index: number): void {
    const holder = database.claims.get(name)
    check(
      holder === undefined,
      () => `operation ${operation} got name ${name}, which ${holder?.operation} holds`,
    )
    database.claims.set(name, { operation, index })
  }
}

/** Every request of the workload begins with a statement whose first parameter is its number. */
function operationOf(request: WriteRequest & { type: 'statements' }): number {
  const params = request.statements[0]?.params
  const first: unknown = Array.isArray(params) ? params[0] : undefined
  check(typeof first === 'bigint', () => 'a committed request has no number')
  return Number(first)
}
