/**
 * `npm run bench -- --overload`: more than a cluster can take, by either door, at the leader and at a
 * follower. `npm run bench -- --soak`: a steady load for minutes. Both end with verdicts, and with
 * exit code 1 if one of them is bad.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Command, Option } from 'commander'
import { machine } from '../machine.ts'
import type { Machine } from '../machine.ts'
import { writeSection } from '../pages.ts'
import type { Door, WriteDoor } from './lane.ts'
import { Loader } from './load.ts'
import {
  minuteLine,
  overloadSection,
  printOverload,
  printSoak,
  soakSection,
  stepLine,
  verdictLine,
} from './report.ts'
import { soak, soakVerdicts } from './soak.ts'
import type { SoakRun } from './soak.ts'
import { measureWay } from './steps.ts'
import type { OverloadRun, Peak, Place, Step } from './steps.ts'
import { Target } from './target.ts'
import { overloadVerdicts } from './verdicts.ts'
import type { Verdict } from './verdicts.ts'
import { Watch } from './watch.ts'

/** What a node's limits let a write wait in its queue, by their defaults. */
const QUEUE_MS = 1000

interface CommonOptions {
  readonly nodeOptions?: string
  readonly out: string
  readonly docs?: boolean
  readonly from?: string
}

interface OverloadOptions extends CommonOptions {
  readonly seconds: string
  readonly doors: string
  readonly at: string
}

interface SoakOptions extends CommonOptions {
  readonly minutes: string
  readonly interval: string
  readonly share: string
  readonly door: WriteDoor
}

/** Offers more than a cluster can take. */
export async function overload(): Promise<void> {
  const options = command('--overload', 'offer more than a cluster can take')
    .option('--seconds <count>', 'how long each step takes', '8')
    .option('--doors <names>', 'of http,stream,reads', 'http,stream')
    .option('--at <places>', 'of leader,follower', 'leader,follower')
    .option('--out <file>', 'for the results, as JSON', '.lockstep/overload.json')
    .parse()
    .opts<OverloadOptions>()
  const run = (read(options) as OverloadRun | undefined) ?? (await measureOverload(options))
  const verdicts = overloadVerdicts(run, QUEUE_MS)
  write(options, { ...run, verdicts })
  printOverload(run)
  end(verdicts)
  if (options.docs === true) {
    const lines = overloadSection(run, verdicts)
    writeSection({
      name: 'overload',
      command: 'npm run bench -- --overload --docs',
      lines,
      pictures: [],
    })
  }
}

/** A steady load below the peak, for minutes. */
export async function soakBench(): Promise<void> {
  const options = command('--soak', 'a steady load for minutes')
    .option('--minutes <count>', 'how long', '10')
    .option('--interval <seconds>', 'between two lines of the table', '60')
    .option('--share <part>', 'of the peak that is offered', '0.8')
    .addOption(
      new Option('--door <name>', 'of the load').choices(['http', 'stream']).default('http'),
    )
    .option('--out <file>', 'for the results, as JSON', '.lockstep/soak.json')
    .parse()
    .opts<SoakOptions>()
  const run = (read(options) as SoakRun | undefined) ?? (await measureSoak(options))
  const verdicts = soakVerdicts(run)
  write(options, { ...run, verdicts })
  printSoak(run)
  end(verdicts)
  if (options.docs === true) {
    const lines = soakSection(run, verdicts)
    writeSection({ name: 'soak', command: 'npm run bench -- --soak --docs', lines, pictures: [] })
  }
}

function command(flag: string, about: string): Command {
  return new Command('npm run bench --')
    .requiredOption(flag, about)
    .option('--node-options <words>', 'options of every node, such as "--max-queued-requests 1000"')
    .option('--docs', 'write its section of docs/performance.md')
    .option('--from <file>', 'measure nothing, take the results of a file')
}

function read({ from }: CommonOptions): unknown {
  return from === undefined ? undefined : JSON.parse(readFileSync(from, 'utf8'))
}

function write({ out, from }: CommonOptions, results: object): void {
  if (from !== undefined) return
  writeFileSync(out, `${JSON.stringify(results, undefined, 2)}\n`)
  console.log(`written: ${out}`)
}

function end(verdicts: readonly Verdict[]): void {
  for (const verdict of verdicts) console.log(verdictLine(verdict))
  if (verdicts.some(({ isRight }) => !isRight)) process.exitCode = 1
}

async function measureOverload(options: OverloadOptions): Promise<OverloadRun> {
  const doors = options.doors.split(',') as Door[]
  const places = options.at.split(',') as Place[]
  return withTarget(options, async (target, loader, watch, common) => {
    const steps: Step[] = []
    const peaks: Peak[] = []
    const seconds = Number(options.seconds)
    const onStep = (step: Step): void => console.error(stepLine(step))
    for (const door of doors) {
      for (const place of places) {
        const parts = { target, loader, watch, seconds, onStep }
        const measured = await measureWay(parts, { door, place })
        steps.push(...measured.steps)
        peaks.push(measured.peak)
      }
    }
    watch.stop()
    const digests = await target.digests()
    return { ...common, seconds, steps, peaks, checked: await loader.check(), digests }
  })
}

async function measureSoak(options: SoakOptions): Promise<SoakRun> {
  const { door } = options
  const intervalSeconds = Number(options.interval)
  return withTarget(options, async (target, loader, watch, common) => {
    const found = await soak({
      target,
      loader,
      watch,
      door,
      intervalSeconds,
      share: Number(options.share),
      minutes: Number(options.minutes),
      peakSeconds: 10,
      onMinute: minute => console.error(minuteLine(minute)),
    })
    watch.stop()
    const digests = await target.digests()
    return { ...common, ...found, door, intervalSeconds, checked: await loader.check(), digests }
  })
}

interface Common {
  readonly date: string
  readonly machine: Machine
  readonly options: readonly string[]
}

async function withTarget<Run>(
  { nodeOptions = '' }: CommonOptions,
  measure: (target: Target, loader: Loader, watch: Watch, common: Common) => Promise<Run>,
): Promise<Run> {
  mkdirSync('.lockstep', { recursive: true })
  const directory = mkdtempSync(join(resolve('.lockstep'), 'overload-'))
  const options = nodeOptions.split(' ').filter(word => word !== '')
  const target = await Target.start(directory, options)
  const watch = new Watch(target)
  try {
    const common = { date: new Date().toISOString(), machine: machine(), options }
    return await measure(target, new Loader(target), watch, common)
  } finally {
    watch.stop()
    await target.cluster.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}
