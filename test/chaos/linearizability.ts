/**
 * Decides whether a history of one register is linearizable: whether there is one order of all
 * operations, each at a moment between its call and its return, that explains every answer. The
 * search is Wing and Gong's with Lowe's memory of what was tried. It may take exponential time, so
 * it gives up after so many steps and says that it did.
 */
import { assert, must } from '../../src/base/assert.ts'
import { SimRandom } from '../../sim/sim-random.ts'

/** What was asked of a register, with the answer as far as it is known. */
export type RegisterAction =
  | { readonly type: 'read'; readonly value: number }
  | { readonly type: 'write'; readonly value: number }
  | {
      readonly type: 'compare-and-set'
      readonly expected: number
      readonly value: number
      /** Whether it was told to have found what it expected; undefined if no answer came. */
      readonly isSet: boolean | undefined
    }

export interface RegisterOperation {
  readonly action: RegisterAction
  readonly startMs: number
  /** Infinity if its fate is unknown: it may happen at any time after its call, or never. */
  readonly endMs: number
}

export type Linearizability = 'linearizable' | 'not-linearizable' | 'undecided'

/** A call or a return in the list of events that are left. */
interface Event {
  readonly operation: number
  readonly timeMs: number
  /** The event of the return, if this is a call. */
  readonly end: Event | undefined
  previous: Event | undefined
  next: Event | undefined
}

interface Step {
  readonly call: Event
  readonly state: number
}

const STEPS_MAX = 2_000_000
/** Stands for every value that nobody saw. */
const UNSEEN = -1

/**
 * Checks the operations of one register that begins as `initial`. What was surely not applied must
 * be left out: then whoever saw it has seen what nobody wrote.
 */
export function checkRegister(
  operations: readonly RegisterOperation[],
  initial: number,
  stepsMax = STEPS_MAX,
): Linearizability {
  // A read without an answer says nothing.
  const known = operations.filter(({ action, endMs }) => action.type !== 'read' || endMs < Infinity)
  known.sort((left, right) => left.startMs - right.startMs)
  return new Search(withoutUnseenValues(known), initial).run(stepsMax)
}

/**
 * Gives all values that are written with unknown fate and that nobody saw or expected the same
 * name: nothing depends on which of them it is.
 */
function withoutUnseenValues(operations: readonly RegisterOperation[]): RegisterOperation[] {
  const seen = new Set<number>()
  for (const { action } of operations) {
    if (action.type === 'read') seen.add(action.value)
    if (action.type === 'compare-and-set') seen.add(action.expected)
  }
  return operations.map(operation => {
    const { action, endMs } = operation
    if (endMs < Infinity || action.type === 'read' || seen.has(action.value)) return operation
    return { ...operation, action: { ...action, value: UNSEEN } }
  })
}

class Search {
  readonly #operations: readonly RegisterOperation[]
  /** Stands before the first event. */
  readonly #head: Event
  readonly #tried = new Tried()
  readonly #steps: Step[] = []
  readonly #taken: Uint32Array
  /** One random word for each operation; those of the taken ones make the hash of the set. */
  readonly #words: readonly number[]
  #hash = 0
  #state: number
  /** Operations with an answer that have no place yet. The others need none. */
  #left: number
  /**
   * For an operation of unknown fate the one before it that does the same, if there is one: they
   * are alike but for their calls, so that only the earliest of them need be tried.
   */
  readonly #twins: readonly (number | undefined)[]

  constructor(operations: readonly RegisterOperation[], initial: number) {
    this.#operations = operations
    this.#head = listOf(operations)
    this.#state = initial
    this.#taken = new Uint32Array(Math.ceil(operations.length / 32))
    const random = new SimRandom(operations.length, 'linearizability')
    this.#words = operations.map(() => random.next())
    this.#left = operations.filter(({ endMs }) => endMs < Infinity).length
    const last = new Map<string, number>()
    this.#twins = operations.map(({ action, endMs }, operation) => {
      if (endMs < Infinity) return undefined
      const kind = JSON.stringify(action)
      const twin = last.get(kind)
      last.set(kind, operation)
      return twin
    })
  }

  run(stepsMax: number): Linearizability {
    let event = this.#head.next
    for (let steps = 0; this.#left > 0; steps += 1) {
      if (steps >= stepsMax) return 'undecided'
      assert(event !== undefined, 'an operation that has no place has a return in the list')
      if (event.end !== undefined) {
        event = this.#take(event) ? this.#head.next : event.next
        continue
      }
      // Whatever comes now comes after this return, so that its call must have had its place.
      const step = this.#steps.pop()
      if (step === undefined) return 'not-linearizable'
      this.#giveBack(step)
      event = step.call.next
    }
    return 'linearizable'
  }

  /** Gives the operation the next place, unless its answer forbids it or it was tried before. */
  #take(call: Event): boolean {
    const { operation } = call
    const twin = this.#twins[operation]
    if (twin !== undefined && !this.#isTaken(twin)) return false
    const { action, endMs } = must(this.#operations[operation])
    const state = apply(action, this.#state)
    if (state === undefined) return false
    // What need not have happened is worth a place only if it makes a difference.
    if (endMs === Infinity && state === this.#state) return false
    this.#flip(operation)
    if (!this.#tried.add(this.#hash, this.#taken, state)) {
      this.#flip(operation)
      return false
    }
    this.#steps.push({ call, state: this.#state })
    this.#state = state
    if (endMs < Infinity) this.#left -= 1
    unlink(call)
    unlink(must(call.end))
    return true
  }

  #giveBack({ call, state }: Step): void {
    this.#state = state
    this.#flip(call.operation)
    if (must(this.#operations[call.operation]).endMs < Infinity) this.#left += 1
    link(must(call.end))
    link(call)
  }

  #isTaken(operation: number): boolean {
    return (must(this.#taken[operation >>> 5]) & (1 << (operation & 31))) !== 0
  }

  #flip(operation: number): void {
    const word = operation >>> 5
    this.#taken[word] = must(this.#taken[word]) ^ (1 << (operation & 31))
    this.#hash = (this.#hash ^ must(this.#words[operation])) >>> 0
  }
}

/** The state after the action, or undefined if its answer contradicts `state`. */
function apply(action: RegisterAction, state: number): number | undefined {
  if (action.type === 'read') return action.value === state ? state : undefined
  if (action.type === 'write') return action.value
  const fits = action.expected === state
  if (action.isSet !== undefined && action.isSet !== fits) return undefined
  return fits ? action.value : state
}

/** Which sets of operations led to which state. */
class Tried {
  readonly #byHash = new Map<number, { readonly taken: Uint32Array; readonly state: number }[]>()

  /** False if it was there already. */
  add(hash: number, taken: Uint32Array, state: number): boolean {
    const same = this.#byHash.get(hash) ?? []
    const isKnown = same.some(
      other => other.state === state && other.taken.every((word, at) => word === taken[at]),
    )
    if (isKnown) return false
    same.push({ taken: taken.slice(), state })
    this.#byHash.set(hash, same)
    return true
  }
}

/** All events in order of time; at one time calls come first, since they may overlap then. */
function listOf(operations: readonly RegisterOperation[]): Event {
  const events = operations.flatMap(({ startMs, endMs }, operation) => {
    assert(endMs >= startMs, 'an operation ends after it begins')
    const unlinked = { previous: undefined, next: undefined }
    const end: Event = { operation, timeMs: endMs, end: undefined, ...unlinked }
    return [{ operation, timeMs: startMs, end, ...unlinked }, end]
  })
  events.sort(
    (left, right) =>
      (left.timeMs === right.timeMs ? 0 : left.timeMs - right.timeMs) ||
      Number(left.end === undefined) - Number(right.end === undefined),
  )
  const head: Event = {
    operation: -1,
    timeMs: -Infinity,
    end: undefined,
    previous: undefined,
    next: undefined,
  }
  let last = head
  for (const event of events) {
    event.previous = last
    last.next = event
    last = event
  }
  return head
}

function unlink(event: Event): void {
  must(event.previous).next = event.next
  if (event.next !== undefined) event.next.previous = event.previous
}

/** Undoes the last {@link unlink} that is not undone yet. */
function link(event: Event): void {
  must(event.previous).next = event
  if (event.next !== undefined) event.next.previous = event
}
