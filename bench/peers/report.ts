/** The comparison as tables: for a terminal, and for docs/performance.md. */
import Table from 'cli-table3'
import { summarise } from './results.ts'
import type { Comparison, Summary } from './results.ts'
import { WORKLOADS } from './workloads.ts'

export const COLUMNS = [
  'conn.',
  'system',
  'ops/s',
  'low–high',
  'p50 ms',
  'p99 ms',
  'p99.9 ms',
  'server CPU µs/op',
  'disk/op',
  'memory MB',
  'generator µs/op',
] as const

export interface Section {
  readonly workload: string
  readonly title: string
  readonly rows: readonly (readonly string[])[]
}

/** One section a workload, by connections, then by system in the order of the comparison. */
export function sections(comparison: Comparison): Section[] {
  const summaries = summarise(comparison.results)
  const order = comparison.systems.map(({ name }) => name)
  return WORKLOADS.flatMap(({ name, title, rowsPerOperation }) => {
    const own = summaries
      .filter(({ workload }) => workload === name)
      .sort(
        (a, b) =>
          a.connections - b.connections || order.indexOf(a.system) - order.indexOf(b.system),
      )
    if (own.length === 0) return []
    const unit = rowsPerOperation === 1 ? '' : ` (an operation is ${rowsPerOperation} rows)`
    return [
      { workload: name, title: `${title}${unit}`, rows: own.map(row => cells(row, comparison)) },
    ]
  })
}

export function titleOf(comparison: Comparison, system: string, level: string): string {
  const title = comparison.systems.find(({ name }) => name === system)?.title ?? system
  return level === '' ? title : `${title}, ${level}`
}

function cells(row: Summary, comparison: Comparison): string[] {
  const wrong = row.errors > 0 ? ` (${row.errors} errors)` : ''
  const again = row.conflicts > 0 ? ` (${row.conflicts} conflicts)` : ''
  return [
    String(row.connections),
    titleOf(comparison, row.system, row.level),
    count(row.operationsPerSecond) + wrong + again,
    `${count(row.lowest)}–${count(row.highest)}`,
    row.p50Ms.toFixed(2),
    row.p99Ms.toFixed(2),
    row.p999Ms.toFixed(2),
    count(row.serverCpuMicros),
    bytes(row.diskBytes),
    count(row.memoryBytesMax / 1e6),
    row.generatorCpuMicros === 0 ? '–' : row.generatorCpuMicros.toFixed(1),
  ]
}

/** Whole numbers with commas, so that they can be read. */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US')
}

export function bytes(value: number): string {
  return value < 1e4 ? `${count(value)} B` : `${count(value / 1e3)} KB`
}

/** What the checks after the load found, a line a system. */
export function verdictLines({ verdicts, systems }: Comparison): string[] {
  return systems.flatMap(({ name, title }) => {
    const own = verdicts.filter(({ system }) => system === name)
    if (own.length === 0) return []
    const rows = own.reduce((sum, verdict) => sum + verdict.acknowledgedRows, 0)
    const updates = own.reduce((sum, verdict) => sum + verdict.acknowledgedUpdates, 0)
    const faults = own.flatMap(verdict => verdict.faults)
    const what = `${count(rows)} acknowledged rows or keys and ${count(updates)} updates`
    const found = faults.length === 0 ? 'all there, on every node' : `WRONG: ${faults.join('; ')}`
    return [`${title}: ${what}: ${found}`]
  })
}

export function print(comparison: Comparison): void {
  for (const { title, rows } of sections(comparison)) {
    const table = new Table({
      head: [...COLUMNS],
      // No line between rows: there are many.
      chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
      style: { head: [], border: [], compact: true },
    })
    table.push(...rows.map(row => [...row]))
    console.log(`\n${title}\n${table.toString()}`)
  }
  for (const line of verdictLines(comparison)) console.log(line)
  for (const { system, reason } of comparison.missing) console.log(`left out: ${system}: ${reason}`)
  const samples = new Set(
    comparison.results.flatMap(({ system, samples }) => samples.map(text => `${system}: ${text}`)),
  )
  for (const sample of samples) console.log(`error of ${sample}`)
}
