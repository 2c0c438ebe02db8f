/** Transactions and why one must come before another; finds cycles and says what they are. */
import { must } from '../../src/base/assert.ts'

/**
 * Why one transaction comes before another: it wrote what the other overwrote (ww) or read (wr),
 * read what the other overwrote (rw), or ended before the other began (time).
 */
export type Reason = 'ww' | 'wr' | 'rw' | 'time'

export interface Cycle {
  /** Adya's name for it; "-realtime" if the order of real time is part of it. */
  readonly name: string
  /** Nodes and the reason for the step to the next, the last one's leading to the first. */
  readonly steps: readonly { readonly node: number; readonly reason: Reason }[]
}

/** What is looked for first: a cycle is named after the fewest kinds of reasons that make it. */
const LEVELS: readonly (readonly Reason[])[] = [
  ['ww'],
  ['ww', 'wr'],
  ['ww', 'wr', 'rw'],
  ['ww', 'wr', 'rw', 'time'],
]

export class DependencyGraph {
  readonly #edges = new Map<number, Map<number, Reason[]>>()

  /** `from` comes before `to`. */
  add(from: number, to: number, reason: Reason): void {
    if (from === to) return
    const targets = this.#edges.get(from) ?? new Map<number, Reason[]>()
    this.#edges.set(from, targets)
    const reasons = targets.get(to) ?? []
    targets.set(to, reasons)
    if (!reasons.includes(reason)) reasons.push(reason)
  }

  /** One cycle for each knot of the simplest kind there is; empty if there is none at all. */
  cycles(): Cycle[] {
    for (const level of LEVELS) {
      const knots = this.#knots(level)
      if (knots.length > 0) return knots.map(knot => this.#cycleIn(knot, level))
    }
    return []
  }

  /** Sets of nodes that all reach each other (Tarjan), without those of one node. */
  #knots(level: readonly Reason[]): Set<number>[] {
    const order = new Map<number, number>()
    const lowest = new Map<number, number>()
    const open = new Set<number>()
    const path: number[] = []
    const knots: Set<number>[] = []
    for (const root of this.#edges.keys()) {
      if (order.has(root)) continue
      // A stack of its own: histories are longer than what calls may nest.
      const stack = [{ node: root, targets: this.#targets(root, level), at: 0 }]
      while (stack.length > 0) {
        const frame = must(stack.at(-1))
        const { node, targets } = frame
        if (frame.at === 0) {
          order.set(node, order.size)
          lowest.set(node, must(order.get(node)))
          open.add(node)
          path.push(node)
        }
        const target = targets[frame.at]
        frame.at += 1
        if (target !== undefined) {
          if (!order.has(target)) {
            stack.push({ node: target, targets: this.#targets(target, level), at: 0 })
          } else if (open.has(target)) {
            lowest.set(node, Math.min(must(lowest.get(node)), must(order.get(target))))
          }
          continue
        }
        stack.pop()
        const parent = stack.at(-1)
        if (parent !== undefined) {
          const low = Math.min(must(lowest.get(parent.node)), must(lowest.get(node)))
          lowest.set(parent.node, low)
        }
        if (lowest.get(node) !== order.get(node)) continue
        const knot = new Set(path.splice(path.lastIndexOf(node)))
        for (const member of knot) open.delete(member)
        if (knot.size > 1) knots.push(knot)
      }
    }
    return knots
  }

  #targets(node: number, level: readonly Reason[]): number[] {
    const targets = this.#edges.get(node)
    if (targets === undefined) return []
    return [...targets]
      .filter(([, reasons]) => reasons.some(reason => level.includes(reason)))
      .map(([target]) => target)
  }

  /** The shortest cycle through any of some nodes of the knot. */
  #cycleIn(knot: ReadonlySet<number>, level: readonly Reason[]): Cycle {
    let best: number[] = []
    for (const start of [...knot].slice(0, 50)) {
      const found = this.#wayBack(start, knot, level)
      if (best.length === 0 || found.length < best.length) best = found
    }
    const steps = best.map((node, at) => {
      const reasons = must(this.#edges.get(node)?.get(must(best[(at + 1) % best.length])))
      return { node, reason: must(level.find(reason => reasons.includes(reason))) }
    })
    return { name: nameOf(steps.map(({ reason }) => reason)), steps }
  }

  #wayBack(start: number, knot: ReadonlySet<number>, level: readonly Reason[]): number[] {
    const cameFrom = new Map<number, number>()
    const queue = [start]
    for (const node of queue) {
      for (const target of this.#targets(node, level)) {
        if (target === start) {
          const way = [node]
          while (way[0] !== start) way.unshift(must(cameFrom.get(must(way[0]))))
          return way
        }
        if (!knot.has(target) || cameFrom.has(target)) continue
        cameFrom.set(target, node)
        queue.push(target)
      }
    }
    return []
  }
}

function nameOf(reasons: readonly Reason[]): string {
  const suffix = reasons.includes('time') ? '-realtime' : ''
  const antiDependencies = reasons.filter(reason => reason === 'rw').length
  if (antiDependencies === 1) return `G-single${suffix}`
  if (antiDependencies > 1) return `G2${suffix}`
  return `${reasons.includes('wr') ? 'G1c' : 'G0'}${suffix}`
}
