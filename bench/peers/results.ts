/** What a comparison leaves: the JSON file, and the figures of its repetitions put together. */
import type { Machine } from '../machine.ts'
import type { Verdict } from './audit.ts'

/** One case, measured once. */
export interface Result {
  readonly system: string
  readonly workload: string
  /** Empty if the workload doesn't read. */
  readonly level: string
  readonly connections: number
  readonly repetition: number
  readonly operations: number
  readonly operationsPerSecond: number
  readonly rowsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
  readonly maxMs: number
  readonly serverCpuMicros: number
  /** Of an operation, by the counter of the device; by that of the processes where it has none. */
  readonly diskBytes: number
  /** Of an operation, by the counter of the processes, which counts whole large pages. */
  readonly writtenBytes: number
  readonly memoryBytesMax: number
  readonly generatorCpuMicros: number
  readonly conflicts: number
  readonly errors: number
  readonly samples: readonly string[]
}

export interface SystemFacts {
  readonly name: string
  readonly title: string
  readonly nodes: number
  readonly version: string
  readonly acknowledged: string
  readonly settings: readonly string[]
}

export interface Comparison {
  readonly date: string
  readonly machine: Machine
  readonly seconds: number
  readonly warmUpSeconds: number
  readonly repetitions: number
  readonly systems: readonly SystemFacts[]
  /** Systems that were asked for and could not be measured, with the reason. */
  readonly missing: readonly { readonly system: string; readonly reason: string }[]
  readonly results: readonly Result[]
  readonly verdicts: readonly (Verdict & {
    readonly system: string
    readonly repetition: number
  })[]
}

/** Medians over the repetitions of a case. */
export interface Summary extends Omit<Result, 'repetition' | 'operations'> {
  readonly lowest: number
  readonly highest: number
}

export function summarise(results: readonly Result[]): Summary[] {
  const keyOf = ({ system, workload, level, connections }: Result): string =>
    JSON.stringify([system, workload, level, connections])
  return [...Map.groupBy(results, keyOf).values()].map(repeated => {
    const [first] = repeated
    if (first === undefined) throw new Error('a group is never empty')
    const { repetition: _repetition, operations: _operations, ...rest } = first
    const middle = (figure: (result: Result) => number): number => median(repeated.map(figure))
    const rates = repeated.map(result => result.operationsPerSecond)
    return {
      ...rest,
      operationsPerSecond: median(rates),
      lowest: Math.min(...rates),
      highest: Math.max(...rates),
      rowsPerSecond: middle(result => result.rowsPerSecond),
      p50Ms: middle(result => result.p50Ms),
      p99Ms: middle(result => result.p99Ms),
      p999Ms: middle(result => result.p999Ms),
      maxMs: Math.max(...repeated.map(result => result.maxMs)),
      serverCpuMicros: middle(result => result.serverCpuMicros),
      diskBytes: middle(result => result.diskBytes),
      writtenBytes: middle(result => result.writtenBytes),
      memoryBytesMax: Math.max(...repeated.map(result => result.memoryBytesMax)),
      generatorCpuMicros: middle(result => result.generatorCpuMicros),
      conflicts: repeated.reduce((sum, result) => sum + result.conflicts, 0),
      errors: repeated.reduce((sum, result) => sum + result.errors, 0),
      samples: [...new Set(repeated.flatMap(result => result.samples))].slice(0, 3),
    }
  })
}

/** Of an even number the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const at = sorted.length / 2
  const [low, high] = [sorted[Math.ceil(at) - 1] ?? 0, sorted[Math.floor(at)] ?? 0]
  return (low + high) / 2
}
