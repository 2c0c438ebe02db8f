/**
 * `node bench/hand-over.ts`: leadership is handed over again and again under load. Prints, for each
 * time, how long the command took, the longest time without an acknowledged write, and how many
 * requests failed. Writers use bare HTTP at all nodes, without request ids or second attempts.
 */
import { Command } from 'commander'
import { must } from '../src/base/assert.ts'
import type { LocalCluster } from '../src/cli/local-cluster.ts'
import { createClient } from '../src/client/client.ts'
import { withCluster } from './bench-cluster.ts'
import { SteadyLoad } from './steady-load.ts'

const BETWEEN_MS = 1000
const AFTER_MS = 500

interface Options {
  readonly times: string
  readonly writers: string
  readonly pause: string
}

async function main(): Promise<void> {
  const options = new Command('node bench/hand-over.ts')
    .option('--times <count>', 'how often leadership is handed over', '20')
    .option('--writers <count>', 'writers at once', '16')
    .option('--pause <ms>', 'pause of a writer between two writes', '0')
    .parse()
    .opts<Options>()
  await withCluster('hand-over', { nodes: 3 }, cluster => measure(cluster, options))
}

async function measure(cluster: LocalCluster, options: Options): Promise<void> {
  const load = new SteadyLoad({
    database: 'bench',
    addresses: cluster.addresses,
    writers: Number(options.writers),
    pauseMs: Number(options.pause),
  })
  await load.start()
  const client = createClient({ nodes: cluster.addresses, timeoutMs: 10_000 })
  const gaps: number[] = []
  for (let time = 1; time <= Number(options.times); time += 1) {
    await pause(BETWEEN_MS)
    const failed = load.failures.length
    const fromMs = performance.now()
    await client.changeMembers({ action: 'transfer' })
    const tookMs = performance.now() - fromMs
    await pause(AFTER_MS)
    const gapMs = load.longestGapMs(fromMs, performance.now())
    gaps.push(gapMs)
    const failures = load.failures.slice(failed)
    console.log(
      `${time}: command ${tookMs.toFixed(0)} ms, longest gap ${gapMs.toFixed(0)} ms, ` +
        `${failures.length} failed ${failures[0] ?? ''}`,
    )
  }
  await load.stop()
  gaps.sort((a, b) => a - b)
  const median = must(gaps[Math.floor(gaps.length / 2)])
  console.log(
    `gap: median ${median.toFixed(0)} ms, worst ${must(gaps.at(-1)).toFixed(0)} ms; ` +
      `${load.acknowledged.length} writes acknowledged, ${load.failures.length} failed`,
  )
}

async function pause(ms: number): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, ms))
}

await main()
