/** Whether a database still has every write that it acknowledged, on each of its nodes. */
import { LOADED_B, LOADED_ROWS } from './operations.ts'
import type { Deployment, Totals } from './system.ts'

const IDS_PER_PAGE = 10_000
const SAME_MS_MAX = 60_000
const LOOK_MS = 100

/** What the load generators did to one deployment, all together. */
export interface Ledger {
  /** Ids from 1 to below it were used. */
  nextId: number
  readonly unacknowledged: (readonly [number, number])[]
  updatesAcknowledged: number
  updatesUnacknowledged: number
}

export interface Verdict {
  readonly isRight: boolean
  readonly acknowledgedRows: number
  readonly acknowledgedUpdates: number
  readonly missingRows: number
  /** In words, of what is wrong; empty if nothing is. */
  readonly faults: readonly string[]
}

export async function audit(deployment: Deployment, ledger: Ledger): Promise<Verdict> {
  await deployment.settle()
  const expected = acknowledgedIds(ledger)
  let missingRows = 0
  let acknowledgedRows = 0
  const faults: string[] = []
  for (let from = 1; from < ledger.nextId; from += IDS_PER_PAGE) {
    const to = Math.min(from + IDS_PER_PAGE, ledger.nextId)
    const present = await deployment.ids(0, from, to)
    const wanted = expected(from, to)
    acknowledgedRows += wanted.length
    missingRows += missingOf(wanted, present).length
  }
  if (missingRows > 0) faults.push(`${missingRows} acknowledged rows are not there`)
  const first = await deployment.totals(0)
  const fault = updatesFault(first, ledger)
  if (fault !== undefined) faults.push(fault)
  for (let node = 1; node < deployment.nodes; node += 1) {
    const last = await untilSame(deployment, node, first)
    if (last !== undefined) {
      faults.push(`node ${node} has ${JSON.stringify(last)}, not ${JSON.stringify(first)}`)
    }
  }
  return {
    isRight: faults.length === 0,
    acknowledgedRows,
    acknowledgedUpdates: ledger.updatesAcknowledged,
    missingRows,
    faults,
  }
}

/** Gives the acknowledged ids from one to below another. */
export function acknowledgedIds(ledger: Ledger): (from: number, to: number) => number[] {
  const unknown = new Set<number>()
  for (const [first, count] of ledger.unacknowledged) {
    for (let id = first; id < first + count; id += 1) unknown.add(id)
  }
  return (from, to) =>
    Array.from({ length: to - from }, (_, at) => from + at).filter(id => !unknown.has(id))
}

export function missingOf(wanted: readonly number[], present: readonly number[]): number[] {
  const there = new Set(present)
  return wanted.filter(id => !there.has(id))
}

/** Each update added 1: the sum says how many took effect, and once only. */
export function updatesFault({ loadedSum }: Totals, ledger: Ledger): string | undefined {
  const { updatesAcknowledged, updatesUnacknowledged } = ledger
  if (loadedSum === 0 && updatesAcknowledged + updatesUnacknowledged === 0) return undefined
  const done = loadedSum - LOADED_ROWS * LOADED_B
  const isRight = done >= updatesAcknowledged && done <= updatesAcknowledged + updatesUnacknowledged
  if (isRight) return undefined
  const unknown = updatesUnacknowledged > 0 ? ` and ${updatesUnacknowledged} unknown` : ''
  return `${done} updates took effect; ${updatesAcknowledged} were acknowledged${unknown}`
}

/** What the node has at last, if that isn't the same. */
async function untilSame(
  deployment: Deployment,
  node: number,
  expected: Totals,
): Promise<Totals | undefined> {
  const deadlineMs = performance.now() + SAME_MS_MAX
  for (;;) {
    const totals = await deployment.totals(node)
    if (JSON.stringify(totals) === JSON.stringify(expected)) return undefined
    if (performance.now() > deadlineMs) return totals
    await new Promise(resolve => setTimeout(resolve, LOOK_MS))
  }
}
