/**
 * `npm run bench -- --peers`: Lockstep beside other databases, each started, loaded, checked and ended
 * on this machine, in rounds. What is not installed is installed if it can be, or named and left out.
 * `npm run bench -- --engines` is the same for inserts with both engines, beside MariaDB.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { Command } from 'commander'
import { machine } from '../machine.ts'
import { count, print } from './report.ts'
import type { Comparison, Result, SystemFacts } from './results.ts'
import { runSystem } from './runner.ts'
import type { RunOptions } from './runner.ts'
import type { System } from './system.ts'
import { ETCD } from './systems/etcd.ts'
import { GALERA } from './systems/galera.ts'
import { LOCKSTEP, LOCKSTEP_STREAM } from './systems/lockstep.ts'
import { LOCKSTEP_MARIADB } from './systems/lockstep-mariadb.ts'
import { MARIADB } from './systems/mariadb-alone.ts'
import { RQLITE } from './systems/rqlite.ts'
import { SEMISYNC, SEMISYNC_FLUSHED } from './systems/semisync.ts'
import { SQLITE } from './systems/sqlite.ts'
import { WORKLOADS, casesOf, interleave } from './workloads.ts'
import type { Choice } from './workloads.ts'

const SYSTEMS: readonly System[] = [
  LOCKSTEP,
  LOCKSTEP_STREAM,
  LOCKSTEP_MARIADB,
  MARIADB,
  RQLITE,
  SEMISYNC,
  SEMISYNC_FLUSHED,
  GALERA,
  ETCD,
  SQLITE,
]

interface Options {
  readonly systems: string
  readonly workloads: string
  readonly connections?: string
  readonly seconds: string
  readonly warmUp: string
  readonly repetitions: string
  readonly out: string
  readonly install: boolean
  readonly docs?: boolean
  readonly from?: string
}

/** What is compared if nothing else is asked for. */
interface Subject {
  /** Of the option that asks for it, of its file and of its section of the page. */
  readonly name: 'peers' | 'engines'
  readonly about: string
  readonly systems: readonly System[]
  readonly workloads: string
  /** Those of each workload if absent. */
  readonly connections?: string
}

const PEERS: Subject = {
  name: 'peers',
  about: 'compare with other databases',
  systems: SYSTEMS.filter(system => system !== LOCKSTEP_MARIADB && system !== MARIADB),
  workloads: WORKLOADS.map(({ name }) => name).join(),
}

const ENGINES: Subject = {
  name: 'engines',
  about: 'compare both engines, and MariaDB alone and with a replica that has received',
  systems: [LOCKSTEP, LOCKSTEP_MARIADB, MARIADB, SEMISYNC],
  workloads: 'insert',
  connections: '1,16,64',
}

/** Lockstep beside other databases. */
export async function comparePeers(): Promise<void> {
  await compare(PEERS)
}

/** Both engines beside the server that one of them stands on. */
export async function compareEngines(): Promise<void> {
  await compare(ENGINES)
}

/** Ends with exit code 1 if a database has lost a write, or none could be measured. */
async function compare(subject: Subject): Promise<void> {
  const options = parse(subject)
  const comparison =
    options.from === undefined
      ? await measure(options)
      : (JSON.parse(readFileSync(options.from, 'utf8')) as Comparison)
  if (options.from === undefined) {
    writeFileSync(options.out, `${JSON.stringify(comparison, undefined, 2)}\n`)
    console.log(`written: ${options.out}`)
  }
  print(comparison)
  if (options.docs === true) {
    // Takes a library for charts with it, which nothing else needs.
    const { writeDocument } = await import('./document.ts')
    writeDocument(comparison, subject.name)
  }
  const isRight = comparison.verdicts.every(verdict => verdict.isRight)
  if (!isRight || comparison.results.length === 0) process.exitCode = 1
}

function parse({ name, about, systems, workloads, connections }: Subject): Options {
  const names = (all: readonly { name: string }[]): string => all.map(each => each.name).join()
  const command = new Command('npm run bench --')
    .requiredOption(`--${name}`, about)
    .option('--systems <names>', `of ${names(SYSTEMS)}`, names(systems))
    .option('--workloads <names>', `of ${names(WORKLOADS)}`, workloads)
    .option('--seconds <count>', 'how long each case is measured', '3')
    .option('--warm-up <seconds>', 'how long each case runs before that', '0.5')
    .option('--repetitions <count>', 'rounds over all systems', '3')
    .option('--out <file>', 'for the results, as JSON', `.lockstep/${name}.json`)
    .option('--no-install', 'install nothing: what is missing is left out')
    .option('--docs', 'write docs/performance.md and its pictures')
    .option('--from <file>', 'measure nothing, take the results of a file')
  const counts = 'how many; those of each workload if absent'
  return command.option('--connections <counts>', counts, connections).parse().opts<Options>()
}

async function measure(options: Options): Promise<Comparison> {
  const names = list(options.systems)
  const unknown = [
    ...names.filter(name => SYSTEMS.every(system => system.name !== name)),
    ...list(options.workloads).filter(name => WORKLOADS.every(one => one.name !== name)),
  ]
  if (unknown.length > 0) throw new Error(`unknown: ${unknown.join(', ')}`)
  const missing: Comparison['missing'][number][] = []
  const found: System[] = []
  for (const system of SYSTEMS.filter(({ name }) => names.includes(name))) {
    const reason = await system.find(options.install)
    if (reason === undefined) found.push(system)
    else missing.push({ system: system.title, reason })
  }
  for (const { system, reason } of missing) console.error(`left out: ${system}: ${reason}`)
  const stop = new AbortController()
  const onSignal = (): void => stop.abort(new Error('stopped'))
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, onSignal)
  const run = await runAll(found, options, stop.signal).catch((error: unknown) => {
    if (!stop.signal.aborted) throw error
    console.error('stopped: all servers have ended and their data are removed')
    return process.exit(130)
  })
  return {
    date: new Date().toISOString(),
    machine: machine(),
    seconds: Number(options.seconds),
    warmUpSeconds: Number(options.warmUp),
    repetitions: Number(options.repetitions),
    ...run,
    missing: [...missing, ...run.missing],
  }
}

async function runAll(
  systems: readonly System[],
  options: Options,
  signal: AbortSignal,
): Promise<Pick<Comparison, 'systems' | 'missing' | 'results' | 'verdicts'>> {
  const choice: Choice = {
    workloads: list(options.workloads),
    connections:
      options.connections === undefined ? undefined : list(options.connections).map(Number),
  }
  const facts = new Map<string, SystemFacts>()
  const results: Result[] = []
  const missing: Comparison['missing'][number][] = []
  const verdicts: Comparison['verdicts'][number][] = []
  const runOptions: RunOptions = {
    seconds: Number(options.seconds),
    warmUpSeconds: Number(options.warmUp),
    signal,
    onResult: progress,
  }
  const measurable = systems.filter(({ abilities }) => casesOf(abilities, choice).length > 0)
  const rounds = interleave(measurable, Number(options.repetitions))
  for (const [at, system] of rounds.entries()) {
    const { name, title, nodes, acknowledged, settings, abilities } = system
    const repetition = 1 + Math.floor(at / measurable.length)
    try {
      const run = await runSystem(system, casesOf(abilities, choice), repetition, runOptions)
      results.push(...run.results)
      verdicts.push({ system: name, repetition, ...run.verdict })
      facts.set(name, { name, title, nodes, version: run.version, acknowledged, settings })
    } catch (error) {
      if (signal.aborted) throw error
      const reason = error instanceof Error ? error.message : String(error)
      console.error(`${title}, round ${repetition}: ${reason}`)
      missing.push({ system: `${title}, round ${repetition}`, reason })
    }
  }
  return { systems: [...facts.values()], missing, results, verdicts }
}

function progress(result: Result): void {
  const { system, workload, level, connections, repetition } = result
  const name = level === '' ? workload : `${workload} (${level})`
  console.error(
    `round ${repetition}, ${system}, ${name} at ${connections}: ` +
      `${count(result.operationsPerSecond)}/s, p50 ${result.p50Ms.toFixed(2)} ms, ` +
      `${count(result.serverCpuMicros)} µs${result.errors > 0 ? `, ${result.errors} errors` : ''}`,
  )
}

function list(text: string): string[] {
  return text.split(',').map(name => name.trim())
}
