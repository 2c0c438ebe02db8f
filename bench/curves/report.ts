/** Curves as tables: for a terminal, and for docs/performance.md. */
import Table from 'cli-table3'
import { describeMachine } from '../machine.ts'
import { count } from '../peers/report.ts'
import { CURVES } from './curves.ts'
import type { Curve, CurveLoad } from './curves.ts'
import { pointsOf } from './results.ts'
import type { CurvesFile, PointResult, Result } from './results.ts'

export const COLUMNS = [
  'point',
  'load',
  'ops/s',
  'p50 ms',
  'p99 ms',
  'CPU µs/op, all nodes',
  'leader',
  'generator',
  'ops/batch',
  'memory MB',
] as const

export function loadName({ operation, connections }: CurveLoad): string {
  return `${operation}, ${connections} conn.`
}

/** One row for each load at each point; a point without results says why. */
export function rowsOf(points: readonly PointResult[]): string[][] {
  return points.flatMap(({ point, results, trouble }) =>
    results.length === 0
      ? [[point, trouble ?? '', ...COLUMNS.slice(2).map(() => '–')]]
      : results.map(result => [point, ...cells(result)]),
  )
}

function cells(result: Result): string[] {
  const wrong = result.errors > 0 ? ` (${result.errors} errors)` : ''
  return [
    loadName(result),
    count(result.operationsPerSecond) + wrong,
    result.p50Ms.toFixed(2),
    result.p99Ms.toFixed(2),
    count(result.serverCpuMicros),
    count(result.leaderCpuMicros),
    count(result.generatorCpuMicros),
    result.operationsPerBatch.toFixed(1),
    count(result.memoryBytesMax / 1e6),
  ]
}

/** When, where and for how long points were measured; several if they differ. */
export function circumstances(points: readonly PointResult[]): string[] {
  const all = points.map(
    ({ date, machine, seconds, version }) =>
      `${date.slice(0, 10)}: ${describeMachine(machine)}, Lockstep ${version}; ${seconds} s a load`,
  )
  return [...new Set(all)]
}

/** What the checks after the loads found, of all points together. */
export function verdictLine(points: readonly PointResult[]): string {
  const inserts = points.reduce((sum, { verdict }) => sum + verdict.acknowledgedInserts, 0)
  const updates = points.reduce((sum, { verdict }) => sum + verdict.acknowledgedUpdates, 0)
  const faults = points.flatMap(({ point, verdict }) =>
    verdict.faults.map(fault => `${point}: ${fault}`),
  )
  const what = `${count(inserts)} acknowledged inserts and ${count(updates)} updates`
  return faults.length === 0
    ? `${what}: all there, on every node`
    : `${what}, WRONG: ${faults.join('; ')}`
}

/** Troubles of points that have results nevertheless. */
export function troubleLines(points: readonly PointResult[]): string[] {
  return points.flatMap(({ point, results, trouble }) =>
    trouble !== undefined && results.length > 0 ? [`${point}: ${trouble}`] : [],
  )
}

export function print(file: CurvesFile, curves: readonly Curve[] = CURVES): void {
  for (const curve of curves) {
    const points = pointsOf(file, curve)
    if (points.length === 0) continue
    const table = new Table({
      head: [...COLUMNS],
      chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
      style: { head: [], border: [], compact: true },
    })
    table.push(...rowsOf(points))
    console.log(`\n${curve.title} (${curve.axis})\n${table.toString()}\n${verdictLine(points)}`)
    for (const line of troubleLines(points)) console.log(`trouble at ${line}`)
    const samples = points.flatMap(({ point, results }) =>
      results.flatMap(result => result.samples.map(text => `${point}: ${text}`)),
    )
    for (const sample of new Set(samples)) console.log(`error at ${sample}`)
  }
}
