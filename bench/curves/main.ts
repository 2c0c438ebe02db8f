/**
 * `npm run bench -- --curves`: what a write costs as something grows, point by point: the data, the
 * voters, the learners, the databases, the rows, the delay between nodes, the time of a flush. A file
 * keeps all points, so that some can be measured anew.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { Command } from 'commander'
import { machine } from '../machine.ts'
import { count } from '../peers/report.ts'
import { CURVES, choose } from './curves.ts'
import type { Chosen } from './curves.ts'
import { loadName, print } from './report.ts'
import { readCurves, withPoint, writeCurves } from './results.ts'
import type { CurvesFile, PointResult, Result } from './results.ts'
import { runPoint } from './runner.ts'

interface Options {
  readonly curves: string | true
  readonly seconds: string
  readonly out: string
  readonly docs?: boolean
  /** False for `--no-measure`. */
  readonly measure: boolean
}

/** Ends with exit code 1 if a write was lost or a point could not be measured. */
export async function measureCurves(): Promise<void> {
  const options = parse()
  const names = options.curves === true ? [] : options.curves.split(',')
  const chosen = choose(names)
  mkdirSync(dirname(options.out), { recursive: true })
  const file = options.measure ? await measure(chosen, options) : readCurves(options.out)
  const curves = CURVES.filter(curve => chosen.some(one => one.curve === curve))
  print(file, curves)
  if (options.docs === true) {
    // Takes a library for charts with it, which nothing else needs.
    const { writeSections } = await import('./document.ts')
    writeSections(file, curves)
  }
  const points = file.points.filter(({ curve, point }) =>
    chosen.some(one => one.curve.name === curve && one.point.label === point),
  )
  const isRight = points.every(({ verdict, results }) => {
    return verdict.faults.length === 0 && results.length > 0
  })
  if (!isRight) process.exitCode = 1
}

function parse(): Options {
  const names = CURVES.map(({ name }) => name).join()
  const long = CURVES.flatMap(({ name, points }) =>
    points.filter(({ isLong }) => isLong === true).map(({ label }) => `${name}/${label}`),
  ).join()
  return new Command('npm run bench --')
    .requiredOption(
      '--curves [names]',
      `of ${names}, or single points such as ${long}; all but ${long} if no names are given`,
    )
    .option('--seconds <count>', 'how long each load of a point is measured', '5')
    .option(
      '--out <file>',
      'for the results, as JSON; other points in it stay',
      '.lockstep/curves.json',
    )
    .option('--no-measure', 'measure nothing, take what is in the file')
    .option('--docs', 'renew the sections of docs/performance.md and their pictures')
    .parse()
    .opts<Options>()
}

async function measure(chosen: readonly Chosen[], options: Options): Promise<CurvesFile> {
  const stop = new AbortController()
  const onSignal = (): void => stop.abort(new Error('stopped'))
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, onSignal)
  let file = readCurves(options.out)
  for (const one of chosen) {
    const name = `${one.curve.name}/${one.point.label}`
    const startedMs = performance.now()
    const point = await measurePoint(one, name, Number(options.seconds), stop.signal)
    if (stop.signal.aborted) {
      console.error('stopped: all nodes have ended and their data are removed')
      return process.exit(130)
    }
    file = withPoint(file, point)
    // After each point: a run that is stopped keeps what it has.
    writeCurves(options.out, file)
    const seconds = (performance.now() - startedMs) / 1000
    const faults = point.verdict.faults.map(fault => `; WRONG: ${fault}`).join('')
    console.error(`${name}: ${point.trouble ?? 'done'} in ${seconds.toFixed(0)} s${faults}`)
  }
  console.log(`written: ${options.out}`)
  return file
}

async function measurePoint(
  one: Chosen,
  name: string,
  seconds: number,
  signal: AbortSignal,
): Promise<PointResult> {
  const facts = {
    curve: one.curve.name,
    point: one.point.label,
    settings: one.point.settings,
    date: new Date().toISOString(),
    machine: machine(),
    version: version(),
    seconds,
  }
  const onResult = (result: Result): void => progress(name, result)
  try {
    return { ...facts, ...(await runPoint(one, { seconds, signal, onResult })) }
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    // It may get into the page, where nobody wants to know where the checkout stands.
    const trouble = text.replaceAll(`${process.cwd()}/`, '')
    const verdict = { acknowledgedInserts: 0, acknowledgedUpdates: 0, faults: [] }
    return { ...facts, results: [], verdict, trouble }
  }
}

function progress(name: string, result: Result): void {
  const { operationsPerSecond, p50Ms, p99Ms, serverCpuMicros, errors } = result
  console.error(
    `${name}, ${loadName(result)}: ${count(operationsPerSecond)}/s, p50 ${p50Ms.toFixed(2)} ms, ` +
      `p99 ${p99Ms.toFixed(2)} ms, ${count(serverCpuMicros)} µs` +
      (errors > 0 ? `, ${errors} errors` : ''),
  )
}

function version(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim()
  } catch {
    // No checkout of a repository, or no git.
    return 'of this checkout'
  }
}
