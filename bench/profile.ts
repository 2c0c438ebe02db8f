/**
 * `npm run profile -- DIRECTORY`: where the processor's time goes in a node that is running. It
 * asks the process of the node, and each of its engine, one after the other, to open its inspector,
 * profiles it for a while, and closes it again. Nothing needs to be restarted.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import Table from 'cli-table3'
import { Command } from 'commander'
import { busiest, callTree, type CpuProfile, flameGraph } from './flame-graph.ts'
import { Inspector } from './inspector.ts'
import { sum } from './processes.ts'

const SAMPLE_US = 250
const BUSIEST = 15
/** What uses no processor for so long is idle. */
const BUSY_MS = 1000

interface Profiled {
  readonly name: string
  readonly pid: number
}

async function main(): Promise<void> {
  const command = new Command('npm run profile --')
    .argument('<directories...>', 'data directories of nodes that run on this machine')
    .option('--seconds <count>', 'how long each process is watched', '10')
    .option('--out <directory>', 'where the profiles go', '.lockstep/profiles')
    .option('--only <kind>', 'main, writer or reader')
    .parse()
  const { seconds, out, only } = command.opts<{ seconds: string; out: string; only?: string }>()
  mkdirSync(out, { recursive: true })
  for (const { name, pid } of command.args.flatMap(processesOf)) {
    if (only !== undefined && !name.includes(`-${only}`)) continue
    if (!(await isBusy(pid))) {
      console.log(`${name}: idle, and left out`)
      continue
    }
    const profile = await profileOf(pid, Number(seconds) * 1000)
    const path = join(out, name)
    writeFileSync(`${path}.cpuprofile`, JSON.stringify(profile))
    const tree = callTree(profile)
    const busyMs = tree.totalUs / 1000
    const title = `${name}: ${busyMs.toFixed(0)} ms of work in ${seconds} s`
    writeFileSync(`${path}.svg`, flameGraph(tree, title))
    console.log(`${title}\n  ${path}.cpuprofile, ${path}.svg`)
    const table = new Table({
      head: ['own time', 'function', 'where'],
      style: { compact: true, head: [], border: [] },
    })
    for (const { name, place, selfUs } of busiest(tree, BUSIEST)) {
      table.push([`${((selfUs / tree.totalUs) * 100).toFixed(1)} %`, name, place])
    }
    console.log(table.toString())
  }
}

/** The node's process and those of its engine, as it has written them down. */
function processesOf(directory: string): Profiled[] {
  const node = basename(resolve(directory))
  const { pid } = readJson(join(directory, 'lock.holder')) as { pid: number }
  const path = join(directory, 'engine.pids')
  // An engine over a server has no processes of its own.
  const { children } = existsSync(path)
    ? (readJson(path) as { children: { pid: number }[] })
    : { children: [] }
  const kinds = children.map(child => ({ pid: child.pid, kind: kindOf(child.pid) }))
  return [
    { name: `${node}-main`, pid },
    ...kinds.map(({ pid, kind }, at) => ({
      name: kind === 'writer' ? `${node}-writer` : `${node}-${kind}-${at}`,
      pid,
    })),
  ]
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'))
}

/** Stands behind the program on its command line. */
function kindOf(pid: number): string {
  const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  return words.find(word => ['writer', 'reader', 'snapshot'].includes(word)) ?? 'child'
}

/** Only a process that gets messages now and then answers its inspector. */
async function isBusy(pid: number): Promise<boolean> {
  const before = sum([pid]).cpuMicros
  await pause(BUSY_MS)
  return sum([pid]).cpuMicros > before
}

async function profileOf(pid: number, durationMs: number): Promise<CpuProfile> {
  const inspector = await Inspector.open(pid)
  try {
    await inspector.ask('Profiler.enable')
    await inspector.ask('Profiler.setSamplingInterval', { interval: SAMPLE_US })
    await inspector.ask('Profiler.start')
    await pause(durationMs)
    const { profile } = (await inspector.ask('Profiler.stop')) as { profile: CpuProfile }
    return profile
  } finally {
    await inspector.close()
  }
}

await main()
