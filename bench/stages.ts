/**
 * `npm run stages`: the budget of one write. Three nodes on this machine take inserts from so
 * many connections, and the leader's own histograms tell where their time went.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Command } from 'commander'
import { must } from '../src/base/assert.ts'
import { type Distribution, MetricsText } from '../src/cli/metrics-text.ts'
import { WRITE_STAGES } from '../src/replica/write-stages.ts'
import { Children } from './peers/children.ts'
import type { Measured, Plan } from './peers/generator.ts'
import { LOCKSTEP_MARIADB } from './peers/systems/lockstep-mariadb.ts'
import { LOCKSTEP, LOCKSTEP_STREAM } from './peers/systems/lockstep.ts'

const WARM_UP_MS = 4000
const STAGES = Object.keys(WRITE_STAGES).filter(stage => stage !== 'forward')

interface Budget {
  readonly connections: number
  readonly stages: ReadonlyMap<string, Distribution>
  readonly whole: Distribution
  readonly requestsPerBatch: number
  readonly measured: Measured
}

async function main(): Promise<void> {
  const options = new Command('npm run stages --')
    .option('--connections <counts>', 'how many writes on their way', '1,16,64')
    .option('--seconds <count>', 'how long each is measured', '10')
    .option('--streamed', 'lines of streams in place of a request each')
    .option('--mariadb', 'with a MariaDB server for each node')
    .parse()
    .opts<{ connections: string; seconds: string; streamed?: true; mariadb?: true }>()
  mkdirSync('.lockstep', { recursive: true })
  const directory = mkdtempSync(join(resolve('.lockstep'), 'stages-'))
  const children = new Children()
  try {
    const own = options.streamed === true ? LOCKSTEP_STREAM : LOCKSTEP
    const system = options.mariadb === true ? LOCKSTEP_MARIADB : own
    const target = (await system.start({ directory, children })).target('')
    const budgets: Budget[] = []
    let firstId = 1
    const load = async (connections: number, durationMs: number): Promise<Measured> => {
      const common = { target, workload: 'insert', warmUpMs: 0, seed: connections }
      const measured = await generate({ ...common, connections, durationMs, firstId })
      firstId = measured.nextId
      return measured
    }
    for (const connections of options.connections.split(',').map(Number)) {
      // A server that has just started compiles while it serves: that is not what is measured here.
      await load(connections, WARM_UP_MS)
      const before = await scrape(target.address)
      const measured = await load(connections, Number(options.seconds) * 1000)
      budgets.push(budgetOf(connections, measured, before, await scrape(target.address)))
    }
    print(budgets)
  } finally {
    await children.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

async function generate(plan: Plan): Promise<Measured> {
  const path = new URL('./peers/generator.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [path, JSON.stringify(plan)], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  })
  let output = ''
  child.stdout?.on('data', chunk => (output += String(chunk)))
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`the load generator ended with ${code}`)
  return JSON.parse(output) as Measured
}

async function scrape(address: string): Promise<MetricsText> {
  return new MetricsText(await (await fetch(`http://${address}/metrics`)).text())
}

function budgetOf(
  connections: number,
  measured: Measured,
  before: MetricsText,
  after: MetricsText,
): Budget {
  const risen = (name: string): number => (after.value(name) ?? 0) - (before.value(name) ?? 0)
  const within = (name: string, labels: Readonly<Record<string, string>>): Distribution =>
    after.distribution(name, labels).since(before.distribution(name, labels))
  const stages = STAGES.map(
    stage => [stage, within('lockstep_write_stage_seconds', { stage })] as const,
  )
  return {
    connections,
    measured,
    stages: new Map(stages),
    whole: within('lockstep_http_request_duration_seconds', { route: 'execute' }),
    requestsPerBatch: risen('lockstep_batch_requests_total') / risen('lockstep_batches_total'),
  }
}

/** A table as the documents have it. */
function print(budgets: readonly Budget[]): void {
  const us = (seconds = 0): string => Math.round(seconds * 1e6).toLocaleString('en')
  const sum = ({ stages }: Budget): number =>
    [...stages.values()].reduce((total, { mean = 0 }) => total + mean, 0)
  const row = (name: string, cell: (budget: Budget) => string): void =>
    console.log(`| ${[name, ...budgets.map(cell)].join(' | ')} |`)
  row('µs: mean, p50', ({ connections }) => `${connections} connections`)
  row('---', () => '---')
  for (const stage of STAGES) {
    row(stage, ({ stages }) => {
      const taken = must(stages.get(stage))
      return `${us(taken.mean)}, ${us(taken.quantile(0.5))}`
    })
  }
  row('sum of the means', budget => us(sum(budget)))
  row('whole, as the server sees it', ({ whole }) => us(whole.mean))
  row('p50 as the client sees it', ({ measured }) => us(measured.p50Ms / 1000))
  row('requests in a batch', ({ requestsPerBatch }) => requestsPerBatch.toFixed(1))
  row('inserts/s', ({ measured: { operations, seconds } }) =>
    Math.round(operations / seconds).toLocaleString('en'),
  )
}

await main()
