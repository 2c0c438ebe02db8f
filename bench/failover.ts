/**
 * `node bench/failover.ts`: the leader is killed again and again, and started again after it. Prints
 * for each time how long the others took to elect one of them, until that one had applied what came
 * before and took writes, and until the next write was acknowledged. `--load` is idle (a probe now
 * and then), full (writers without a pause), or lagging (full, and the engine of one follower is
 * stopped until the leader is killed, so that it has to catch up).
 */
import { Command } from 'commander'
import { must } from '../src/base/assert.ts'
import type { LocalCluster, LocalNode } from '../src/cli/local-cluster.ts'
import { processesOf, withCluster } from './bench-cluster.ts'
import { SteadyLoad } from './steady-load.ts'

const LOOK_MS = 5
const GIVE_UP_MS = 30_000
const SETTLE_MS = 1000
/** How long the engine of the lagging follower stands still before the leader is killed. */
const LAG_MS = 1500

type Load = 'idle' | 'full' | 'lagging'

interface Options {
  readonly times: string
  readonly load: Load
  readonly writers: string
}

interface Measured {
  readonly electedMs: number
  readonly readyMs: number
  readonly writtenMs: number
  readonly failed: number
}

async function main(): Promise<void> {
  const options = new Command('node bench/failover.ts')
    .option('--times <count>', 'how often the leader is killed', '20')
    .option('--load <kind>', 'idle, full or lagging', 'idle')
    .option('--writers <count>', 'writers at once under full load', '16')
    .parse()
    .opts<Options>()
  await withCluster('failover', { nodes: 3 }, cluster => measure(cluster, options))
}

async function measure(cluster: LocalCluster, options: Options): Promise<void> {
  const isIdle = options.load === 'idle'
  const load = new SteadyLoad({
    database: 'bench',
    addresses: cluster.addresses,
    writers: isIdle ? 2 : Number(options.writers),
    pauseMs: isIdle ? 50 : 0,
    timeoutMs: GIVE_UP_MS,
  })
  await load.start()
  const all: Measured[] = []
  for (let time = 1; time <= Number(options.times); time += 1) {
    const measured = await once(cluster, load, options.load)
    all.push(measured)
    const { electedMs, readyMs, writtenMs, failed } = measured
    const times = [electedMs, readyMs, writtenMs].map(ms => ms.toFixed(0)).join(', ')
    console.log(`${time}: elected, ready, written after ${times} ms; ${failed} unanswered`)
  }
  await load.stop()
  for (const name of ['electedMs', 'readyMs', 'writtenMs'] as const) {
    const sorted = all.map(measured => measured[name]).sort((a, b) => a - b)
    const median = must(sorted[Math.floor(sorted.length / 2)])
    const worst = must(sorted.at(-1))
    console.log(`${name}: median ${median.toFixed(0)}, worst ${worst.toFixed(0)}`)
  }
}

async function once(cluster: LocalCluster, load: SteadyLoad, kind: Load): Promise<Measured> {
  const leaderId = await cluster.ready()
  const leader = must(cluster.nodes.find(({ nodeId }) => nodeId === leaderId))
  const others = cluster.nodes.filter(node => node !== leader)
  load.addresses = cluster.addresses
  await pause(SETTLE_MS)
  const stopped = kind === 'lagging' ? writerOf(cluster, must(others[0])) : undefined
  if (stopped !== undefined) {
    process.kill(stopped, 'SIGSTOP')
    await pause(LAG_MS)
  }
  // Writers that ask the killed node hear at once that it is gone; their time is not measured.
  load.addresses = others.map(({ address }) => address)
  await pause(100)
  const failedBefore = load.failures.length
  const killedMs = performance.now()
  await cluster.kill(leaderId)
  if (stopped !== undefined) process.kill(stopped, 'SIGCONT')
  const [electedMs, readyMs] = await Promise.all([
    untilStatus(others, status => status['role'] === 'leader'),
    untilStatus(others, status => status['isReadyToWrite'] === true),
  ])
  let writtenMs: number | undefined
  while ((writtenMs = load.nextAcknowledgedMs(readyMs)) === undefined) {
    if (performance.now() - killedMs > GIVE_UP_MS) throw new Error('no write was acknowledged')
    await pause(LOOK_MS)
  }
  // A write may be acknowledged between two looks at the status.
  const firstMs = load.acknowledgedAtMs.find(time => time > Math.max(killedMs + 50, electedMs - 50))
  const failed = load.failures.length - failedBefore
  cluster.restart(leaderId)
  return {
    electedMs: electedMs - killedMs,
    readyMs: readyMs - killedMs,
    writtenMs: Math.min(writtenMs, firstMs ?? writtenMs) - killedMs,
    failed,
  }
}

async function untilStatus(
  nodes: readonly LocalNode[],
  fits: (status: Readonly<Record<string, unknown>>) => boolean,
): Promise<number> {
  const deadlineMs = performance.now() + GIVE_UP_MS
  while (performance.now() < deadlineMs) {
    for (const { address } of nodes) {
      const answer = await fetch(`http://${address}/status`)
      if (fits((await answer.json()) as Record<string, unknown>)) return performance.now()
    }
    await pause(LOOK_MS)
  }
  throw new Error('nobody leads')
}

/** The process id of a node's writer. */
function writerOf(cluster: LocalCluster, node: LocalNode): number {
  const family = processesOf(must(cluster.pid(node.nodeId)))
  return must(family.find(({ task }) => task === 'writer')).pid
}

async function pause(ms: number): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, ms))
}

await main()
