/**
 * Judges interactive transactions: when one is committed, all that its client was told must follow
 * from the state right before its entry.
 */
import type { SqlParams, Statement } from '../src/base/sql.ts'
import { BUMP, CLAIM, MARK } from './statements.ts'
import { check } from './world.ts'

interface Register {
  readonly version: number
  readonly writer: number
}

/** What there is right before an entry. */
export interface Before {
  readonly registers: ReadonlyMap<number, Register>
  /** Names that are taken. */
  readonly names: Iterable<string>
}

/** A step that changed something. */
export type Effect =
  | { readonly type: 'bump'; readonly key: number }
  | { readonly type: 'claim'; readonly name: string }
  | { readonly type: 'mark' }

/** What a client was told of one step. */
export type Observation =
  | { readonly type: 'read'; readonly registers: ReadonlyMap<number, Register> }
  | { readonly type: 'bump'; readonly key: number; readonly version: number }
  | { readonly type: 'claim'; readonly name: string; readonly isTaken: boolean }
  | { readonly type: 'mark' }
  | { readonly type: 'savepoint' }
  | { readonly type: 'rollback-to' }

/** The effects of a transaction's entry, and its operation. */
export function effectsOf(steps: readonly (readonly Statement[])[]): {
  readonly operation: number
  readonly effects: readonly Effect[]
} {
  const all = steps.flat()
  const numbers = all.map(({ params }) => numberOf(paramsOf(params)[0]))
  const [operation = 0] = numbers
  check(
    numbers.every(number => number === operation),
    () => `one transaction holds steps of operations ${numbers.join(', ')}`,
  )
  return { operation, effects: all.map(effectOf) }
}

function effectOf({ sql, params }: Statement): Effect {
  const [, second] = paramsOf(params)
  if (sql === BUMP) return { type: 'bump', key: numberOf(second) }
  if (sql === CLAIM) return { type: 'claim', name: String(second) }
  check(sql === MARK, () => `a transaction's entry holds ${sql}`)
  return { type: 'mark' }
}

function paramsOf(params: SqlParams): readonly (bigint | string | undefined)[] {
  return Array.isArray(params) ? (params as readonly (bigint | string)[]) : []
}

/**
 * Runs through what a client was told, from the state right before the entry: each answer must be
 * the one that this state gives, and what remains is what the entry holds.
 */
export function judgeTransaction(
  operation: number,
  observations: readonly Observation[],
  before: Before,
  effects: readonly Effect[],
): void {
  const wrong = (what: string) => (): string =>
    `transaction ${operation} does not fit its place in the log: ${what}`
  let state = new State(new Map(before.registers), new Set(before.names), [])
  const savepoints: State[] = []
  for (const observed of observations) {
    switch (observed.type) {
      case 'read':
        check(
          describe(observed.registers) === describe(state.registers),
          wrong(`it read ${describe(observed.registers)}, there was ${describe(state.registers)}`),
        )
        break
      case 'bump': {
        const version = (state.registers.get(observed.key)?.version ?? 0) + 1
        check(observed.version === version, wrong(`version ${version} is not ${observed.version}`))
        state.registers.set(observed.key, { version, writer: operation })
        state.made.push({ type: 'bump', key: observed.key })
        break
      }
      case 'claim': {
        const { name, isTaken } = observed
        check(state.names.has(name) === isTaken, wrong(`${name} taken: ${isTaken}`))
        if (!isTaken) state.made.push({ type: 'claim', name })
        state.names.add(name)
        break
      }
      case 'mark':
        state.made.push({ type: 'mark' })
        break
      case 'savepoint':
        savepoints.push(state.copy())
        break
      case 'rollback-to':
        state = savepoints.at(-1)?.copy() ?? state
        break
      default:
    }
  }
  const [made, logged] = [JSON.stringify(state.made), JSON.stringify(effects)]
  check(made === logged, wrong(`it did ${made}, its entry holds ${logged}`))
}

/** How many effects are left when all rollbacks to savepoints are done. */
export function remainsOf(observations: readonly Observation[]): number {
  let count = 0
  let atSavepoint = 0
  for (const { type, ...rest } of observations) {
    if (type === 'savepoint') atSavepoint = count
    else if (type === 'rollback-to') count = atSavepoint
    else if (type === 'claim' && 'isTaken' in rest && rest.isTaken) continue
    else if (type !== 'read') count += 1
  }
  return count
}

class State {
  readonly registers: Map<number, Register>
  readonly names: Set<string>
  readonly made: Effect[]

  constructor(registers: Map<number, Register>, names: Set<string>, made: Effect[]) {
    this.registers = registers
    this.names = names
    this.made = made
  }

  copy(): State {
    return new State(new Map(this.registers), new Set(this.names), [...this.made])
  }
}

function describe(registers: ReadonlyMap<number, Register>): string {
  const sorted = [...registers].toSorted(([left], [right]) => left - right)
  return sorted.map(([key, { version, writer }]) => `${key}: ${version} by ${writer}`).join(', ')
}

function numberOf(value: bigint | string | undefined): number {
  check(typeof value === 'bigint', () => `${typeof value} in place of an integer`)
  return Number(value)
}
