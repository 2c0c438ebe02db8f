/** Overload and soak as tables: for a terminal, and for docs/performance.md. */
import Table from 'cli-table3'
import { must } from '../../src/base/assert.ts'
import { describeMachine } from '../machine.ts'
import { tableLines } from '../pages.ts'
import { count } from '../peers/report.ts'
import { filesOf, useOf } from './soak.ts'
import type { Minute, SoakRun } from './soak.ts'
import { acknowledgedPerSecond, WARM_UP_MS } from './steps.ts'
import type { OverloadRun, Step } from './steps.ts'
import type { Spread } from './tally.ts'
import { memoryOf, wayName } from './verdicts.ts'
import type { Verdict } from './verdicts.ts'

const STEP_COLUMNS = [
  'way',
  'step',
  'conn.',
  'offered/s',
  'not sent/s',
  'acknowledged/s',
  'refused/s',
  'p50 ms',
  'p99 ms',
  'refused p50 / p99 ms',
  'single: p99, refused p99 ms',
  'left late, p99 ms',
  'terms',
  'slowest /nodes ms',
  'CPU µs each: nodes, generator',
  'leader MB',
  'all MB',
]

function stepCells(step: Step): string[] {
  const { measured, single, watched } = step
  const { seconds, offered, held, failed, latency, refusalLatency, lateness } = measured.summary
  const refusals = Object.entries(failed).map(
    ([code, times]) => `${code} ${count(times / seconds)}`,
  )
  if (measured.losses > 0) refusals.push(`${measured.losses} connections lost`)
  const leaders = watched.processes.filter(({ isLeader }) => isLeader)
  const leaderBytes = leaders.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0)
  const alone = single?.summary
  return [
    wayName(step.way),
    step.name,
    count(step.connections),
    count(offered / seconds),
    count(held / seconds),
    count(acknowledgedPerSecond(step)),
    refusals.join(', ') || '–',
    latency.p50Ms.toFixed(1),
    latency.p99Ms.toFixed(1),
    both(refusalLatency),
    alone === undefined
      ? '–'
      : `${alone.latency.p99Ms.toFixed(1)}, ${alone.refusalLatency.p99Ms.toFixed(1)}`,
    lateness.p99Ms.toFixed(1),
    watched.terms.join('; '),
    watched.statusFailures > 0
      ? `${watched.statusFailures} without answer`
      : count(watched.statusMsMax),
    cpuOf(step),
    count(leaderBytes / 1e6),
    count(memoryOf(step) / 1e6),
  ]
}

/** Per acknowledged request. The nodes' is of the whole step, with the warm-up of a second. */
function cpuOf({ measured, watched }: Step): string {
  const { acknowledged, seconds } = measured.summary
  if (acknowledged === 0) return '–'
  const nodes = watched.cpuMicros / ((acknowledged / seconds) * (seconds + WARM_UP_MS / 1000))
  return `${nodes.toFixed(0)}, ${(measured.cpuMicros / acknowledged).toFixed(1)}`
}

function both({ p50Ms, p99Ms }: Spread): string {
  return p99Ms === 0 ? '–' : `${p50Ms.toFixed(1)} / ${p99Ms.toFixed(1)}`
}

function minuteColumns(run: SoakRun): string[] {
  return [
    'minute',
    'writes/s',
    'p50 ms',
    'p99 ms',
    'p99.9 ms',
    ...processNames(run).map(name => `${name} MB`),
    'handles',
    'log MB',
    'segments',
    '-wal MB',
  ]
}

function minuteCells(run: SoakRun, minute: Minute, at: number): string[] {
  const { summary, processes, files } = minute
  const nodes = must(run.minutes[0]).files.map(({ node }) => node)
  const each = (figure: (node: string) => string): string => nodes.map(figure).join(' / ')
  return [
    (((at + 1) * run.intervalSeconds) / 60).toFixed(1),
    count(summary.acknowledged / summary.seconds),
    summary.latency.p50Ms.toFixed(2),
    summary.latency.p99Ms.toFixed(2),
    summary.latency.p999Ms.toFixed(2),
    ...processNames(run).map(name => count(useOf(minute, name).memoryBytes / 1e6)),
    count(processes.reduce((sum, { handles }) => sum + handles, 0)),
    each(node => count(filesOf(minute, node).logBytes / 1e6)),
    files.map(({ segments }) => segments).join(' / '),
    each(node => count(filesOf(minute, node).sqliteWalBytes / 1e6)),
  ]
}

function processNames(run: SoakRun): string[] {
  const names = run.minutes.flatMap(({ processes }) => processes.map(({ name }) => name))
  return [...new Set(names)].sort()
}

/** A step in one line, as soon as it is measured. */
export function stepLine(step: Step): string {
  const { latency, failed, offered, seconds } = step.measured.summary
  const rates = `${count(offered / seconds)}/s offered, ${count(acknowledgedPerSecond(step))}/s acknowledged`
  const times = `p50 ${latency.p50Ms.toFixed(1)}, p99 ${latency.p99Ms.toFixed(1)} ms`
  return `${wayName(step.way)}, ${step.name}: ${rates}, ${times} ${JSON.stringify(failed)}`
}

/** A minute in one line. */
export function minuteLine({ summary, processes }: Minute): string {
  const memory = processes.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0)
  const { p50Ms, p99Ms } = summary.latency
  const rate = count(summary.acknowledged / summary.seconds)
  return `${rate}/s, p50 ${p50Ms.toFixed(2)}, p99 ${p99Ms.toFixed(2)} ms, ${count(memory / 1e6)} MB`
}

export function printOverload(run: OverloadRun): void {
  printTable(STEP_COLUMNS, run.steps.map(stepCells))
}

export function printSoak(run: SoakRun): void {
  console.log(
    `peak ${count(run.peakPerSecond)}/s; ${count(run.ratePerSecond)}/s were offered by ${run.door}`,
  )
  const rows = run.minutes.map((minute, at) => minuteCells(run, minute, at))
  printTable(minuteColumns(run), rows)
}

function printTable(head: string[], rows: string[][]): void {
  const table = new Table({
    head,
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    style: { head: [], border: [], compact: true },
  })
  table.push(...rows)
  console.log(table.toString())
}

export function verdictLine({ isRight, text }: Verdict): string {
  return `${isRight ? 'yes' : 'NO '} ${text}`
}

/** The section of docs/performance.md about overload. */
export function overloadSection(run: OverloadRun, verdicts: readonly Verdict[]): string[] {
  return [
    '## More than it can take',
    '',
    `Measured on ${run.date.slice(0, 10)}. ${factsOf(run)}`,
    'Requests leave at a fixed rate, whatever the answers, from a process of their own; latency counts from the',
    `moment at which one was to leave. Each step took ${run.seconds} s after a second of warm-up. "Not sent" did not leave because`,
    'every connection had as many requests without an answer as it may; "single" are 16 clients beside the load that send',
    'one request at a time, ten in a second each. [Overload](internals/overload.md) says what a node does about it.',
    '',
    ...tableLines(STEP_COLUMNS, run.steps.map(stepCells)),
    '',
    ...verdicts.map(verdict => `* ${verdictLine(verdict)}`),
  ]
}

/** The section of docs/performance.md about the soak. */
export function soakSection(run: SoakRun, verdicts: readonly Verdict[]): string[] {
  const minutes = (run.minutes.length * run.intervalSeconds) / 60
  return [
    `## ${count(minutes)} minutes of work`,
    '',
    `Measured on ${run.date.slice(0, 10)}. ${factsOf(run)}`,
    `The peak was ${count(run.peakPerSecond)} writes/s; ${count(run.ratePerSecond)}/s were offered, at a fixed rate, by ${run.door}. Memory is the median`,
    'of resident sizes in the minute; figures with slashes are those of the three nodes. Flat is what, along the line of least',
    'squares and without the first fifth of the time, grew by less than the stated amount.',
    '',
    ...tableLines(
      minuteColumns(run),
      run.minutes.map((minute, at) => minuteCells(run, minute, at)),
    ),
    '',
    ...verdicts.map(verdict => `* ${verdictLine(verdict)}`),
  ]
}

function factsOf({ machine }: Pick<OverloadRun, 'machine'>): string {
  return `Three nodes and the load share one machine: ${describeMachine(machine)}.`
}
