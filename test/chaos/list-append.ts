/**
 * Decides whether transactions that append to lists and read them are serializable, and in the order
 * of real time if that is asked for. A list shows the order of its own writes, so that what must
 * come before what can be told from the reads alone; a cycle in that is a proof of the contrary.
 */
import { must } from '../../src/base/assert.ts'
import type { Fate } from '../../src/base/errors.ts'
import { DependencyGraph } from './dependency-graph.ts'
import type { Cycle } from './dependency-graph.ts'

/** Every value is appended once in the whole history. */
export type ListAction =
  | { readonly type: 'append'; readonly key: number; readonly value: number }
  | { readonly type: 'read'; readonly key: number; readonly values: readonly number[] }

export interface ListTransaction {
  /** In the order of the transaction. The reads of one without an answer are not there. */
  readonly actions: readonly ListAction[]
  readonly outcome: 'ok' | Fate
  readonly startMs: number
  /** Infinity if its fate is unknown. */
  readonly endMs: number
}

/** What the order of real time binds: all transactions, or none. */
export type ListOrder = 'strict-serializable' | 'serializable'

/** Says what is wrong, one sentence each; empty if nothing is. */
export function checkListAppend(
  transactions: readonly ListTransaction[],
  order: ListOrder,
): string[] {
  return new ListHistory(transactions).check(order)
}

/** A read as others made it: without what the transaction itself had appended before. */
interface OutsideRead {
  readonly transaction: number
  readonly key: number
  readonly values: readonly number[]
}

class ListHistory {
  readonly #transactions: readonly ListTransaction[]
  readonly #writers = new Map<number, { readonly transaction: number; readonly key: number }>()
  readonly #reads: OutsideRead[] = []
  /** By key: the longest list that anybody read, which holds the order of all appends in it. */
  readonly #longest = new Map<number, readonly number[]>()
  readonly #seen = new Set<number>()
  readonly #complaints: string[] = []

  constructor(transactions: readonly ListTransaction[]) {
    this.#transactions = transactions
    for (const [transaction, { actions }] of transactions.entries()) {
      for (const action of actions) {
        if (action.type !== 'append') continue
        this.#writers.set(action.value, { transaction, key: action.key })
      }
    }
  }

  check(order: ListOrder): string[] {
    for (const [at, { outcome }] of this.#transactions.entries()) {
      if (outcome === 'ok') this.#readOf(at)
    }
    for (const read of this.#reads) this.#checkValues(read)
    for (const read of this.#reads) this.#checkPrefix(read)
    // Without one order of each list's writes the rest would be guesses.
    if (this.#complaints.length > 0) return this.#complaints
    const graph = this.#graph()
    if (order === 'strict-serializable') this.#addTime(graph)
    return graph.cycles().map(cycle => this.#describe(cycle))
  }

  /** Checks a transaction against itself and notes what it saw of others. */
  #readOf(transaction: number): void {
    const appended = new Map<number, number[]>()
    const before = new Map<number, readonly number[]>()
    for (const action of must(this.#transactions[transaction]).actions) {
      const own = appended.get(action.key) ?? []
      if (action.type === 'append') {
        appended.set(action.key, [...own, action.value])
        continue
      }
      const { key, values } = action
      const outside = values.slice(0, Math.max(0, values.length - own.length))
      const known = before.get(key)
      const seesItself = String(values.slice(outside.length)) === String(own)
      const isSame = known === undefined || String(known) === String(outside)
      if (!seesItself || !isSame) {
        this.#complain('internal', transaction, `read ${key} as [${values.join(' ')}]`)
      }
      before.set(key, outside)
      if (known === undefined) this.#reads.push({ transaction, key, values: outside })
      if (values.length > (this.#longest.get(key)?.length ?? -1)) this.#longest.set(key, values)
    }
  }

  #checkValues({ transaction, key, values }: OutsideRead): void {
    if (new Set(values).size < values.length) {
      this.#complain('duplicate', transaction, `read ${key} as [${values.join(' ')}]`)
    }
    for (const value of values) {
      this.#seen.add(value)
      const writer = this.#writers.get(value)
      if (writer === undefined || writer.key !== key) {
        this.#complain('garbage', transaction, `read ${value} in ${key}, which nobody appended`)
      } else if (must(this.#transactions[writer.transaction]).outcome === 'not-applied') {
        const what = `read ${value} in ${key}, of T${writer.transaction} that was not applied`
        this.#complain('G1a', transaction, what)
      }
    }
    const last = this.#writers.get(values.at(-1) ?? NaN)
    if (last === undefined || last.transaction === transaction) return
    const next = this.#appendsOf(last.transaction, key)
    if (next.at(-1) !== values.at(-1)) {
      this.#complain('G1b', transaction, `read ${key} amid T${last.transaction}`)
    }
  }

  #appendsOf(transaction: number, key: number): number[] {
    const { actions } = must(this.#transactions[transaction])
    return actions.flatMap(action =>
      action.type === 'append' && action.key === key ? [action.value] : [],
    )
  }

  #checkPrefix({ transaction, key, values }: OutsideRead): void {
    const longest = must(this.#longest.get(key))
    if (values.every((value, at) => value === longest[at])) return
    const what = `read ${key} as [${values.join(' ')}], others as [${longest.join(' ')}]`
    this.#complain('incompatible-order', transaction, what)
  }

  #graph(): DependencyGraph {
    const graph = new DependencyGraph()
    const writerOf = (value: number): number => must(this.#writers.get(value)).transaction
    for (const values of this.#longest.values()) {
      for (const [at, value] of values.entries()) {
        const next = values[at + 1]
        if (next !== undefined) graph.add(writerOf(value), writerOf(next), 'ww')
      }
    }
    const unseen = this.#unseenWriters()
    for (const { transaction, key, values } of this.#reads) {
      const last = values.at(-1)
      if (last !== undefined) graph.add(writerOf(last), transaction, 'wr')
      const longest = must(this.#longest.get(key))
      const next = longest[values.length]
      if (next !== undefined) graph.add(transaction, writerOf(next), 'rw')
      // What was acknowledged and seen by nobody can only come after all that was seen.
      else for (const writer of unseen.get(key) ?? []) graph.add(transaction, writer, 'rw')
    }
    return graph
  }

  /** By key: those whose append took effect for sure and is in no read. */
  #unseenWriters(): Map<number, number[]> {
    const unseen = new Map<number, number[]>()
    for (const values of this.#longest.values()) for (const value of values) this.#seen.add(value)
    for (const [value, { transaction, key }] of this.#writers) {
      const { outcome } = must(this.#transactions[transaction])
      if (outcome !== 'ok' || this.#seen.has(value)) continue
      unseen.set(key, [...(unseen.get(key) ?? []), transaction])
    }
    return unseen
  }

  /** What ended before another began came before it. Moments stand between, to save edges. */
  #addTime(graph: DependencyGraph): void {
    const events = this.#transactions.flatMap(({ startMs, endMs, outcome }, transaction) => {
      if (outcome === 'not-applied') return []
      const start = { timeMs: startMs, transaction, isEnd: false }
      return endMs === Infinity ? [start] : [start, { timeMs: endMs, transaction, isEnd: true }]
    })
    // At one time the start comes first: then neither was before the other.
    events.sort(
      (left, right) => left.timeMs - right.timeMs || Number(left.isEnd) - Number(right.isEnd),
    )
    let moment = this.#transactions.length
    for (const { transaction, isEnd } of events) {
      if (!isEnd) {
        graph.add(moment, transaction, 'time')
        continue
      }
      graph.add(moment, moment + 1, 'time')
      moment += 1
      graph.add(transaction, moment, 'time')
    }
  }

  #describe({ name, steps }: Cycle): string {
    const count = this.#transactions.length
    const shown = steps.filter(({ node }) => node < count)
    const way = shown.map(({ node, reason }) => `T${node} -${reason}->`).join(' ')
    const lines = shown.slice(0, 6).map(({ node }) => `    ${this.#show(node)}`)
    return [`${name}: ${way} T${shown[0]?.node ?? '?'}`, ...lines].join('\n')
  }

  #show(transaction: number): string {
    const { actions, outcome, startMs, endMs } = must(this.#transactions[transaction])
    const texts = actions.map(action =>
      action.type === 'append'
        ? `append ${action.key} ${action.value}`
        : `read ${action.key} [${action.values.join(' ')}]`,
    )
    const when = `${startMs.toFixed(1)}-${endMs.toFixed(1)} ms`
    return `T${transaction} ${outcome} ${when}: ${texts.join(', ')}`
  }

  #complain(name: string, transaction: number, what: string): void {
    this.#complaints.push(`${name}: T${transaction} ${what}; ${this.#show(transaction)}`)
  }
}
