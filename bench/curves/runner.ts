/** Measures one point of a curve: a cluster is started, loaded, checked and ended. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { generate } from '../generators.ts'
import { usageOf } from '../processes.ts'
import { Ledger, audit } from './audit.ts'
import type { Verdict } from './audit.ts'
import type { Chosen, CurveLoad, Settings } from './curves.ts'
import { CurveCluster } from './deployment.ts'
import type { Measured, Plan } from './generator.ts'
import type { Result } from './results.ts'

export interface RunOptions {
  readonly seconds: number
  /** Ends the run as soon as may be. */
  readonly signal: AbortSignal
  readonly onResult: (result: Result) => void
}

export interface PointRun {
  readonly results: readonly Result[]
  readonly verdict: Verdict
  readonly trouble?: string
}

const GENERATOR = new URL('./generator.ts', import.meta.url)
const WARM_UP_MS = 1000
/** A server that has just started compiles while it serves: that is not what is measured. */
const HEAT_UP_MS = 3000
const NOTHING: Verdict = { acknowledgedInserts: 0, acknowledgedUpdates: 0, faults: [] }

export async function runPoint({ curve, point }: Chosen, options: RunOptions): Promise<PointRun> {
  mkdirSync('.lockstep', { recursive: true })
  const directory = mkdtempSync(join(resolve('.lockstep'), 'curve-'))
  let cluster: CurveCluster | undefined
  try {
    options.signal.throwIfAborted()
    const whyNot = CurveCluster.whyNot(point.settings, directory)
    if (whyNot !== undefined) return { results: [], verdict: NOTHING, trouble: whyNot }
    cluster = await CurveCluster.start(point.settings, directory)
    const run = new Run(cluster, options)
    await run.heatUp(curve.loads)
    const results: Result[] = []
    for (const load of curve.loads) {
      const result = await run.measure(load)
      results.push(result)
      options.onResult(result)
    }
    const verdict = await audit(cluster, run.ledger)
    const trouble = await troubleOf(cluster, results)
    return { results, verdict, ...(trouble !== undefined && { trouble }) }
  } finally {
    await cluster?.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

/** What makes the figures doubtful. */
async function troubleOf(
  cluster: CurveCluster,
  results: readonly Result[],
): Promise<string | undefined> {
  if (!(await cluster.isLeaderSame())) return 'leadership changed hands meanwhile'
  if (results.some(({ operations }) => operations === 0)) {
    return 'nothing was answered in the time of a load: measure for longer'
  }
  const leastMs = leastLatencyMs(cluster.settings)
  const fastest = Math.min(...results.map(({ p50Ms }) => p50Ms))
  if (fastest >= leastMs) return undefined
  return `p50 is ${fastest.toFixed(2)} ms, and can't be below ${leastMs} if the hindrance works`
}

/** What an acknowledged write takes at least: a round trip to a follower, or a flush. */
function leastLatencyMs({ delayMs = 0, flushMs = 0 }: Settings): number {
  return 2 * delayMs + flushMs
}

class Run {
  readonly ledger: Ledger
  readonly #cluster: CurveCluster
  readonly #options: RunOptions
  #loads = 0

  constructor(cluster: CurveCluster, options: RunOptions) {
    this.#cluster = cluster
    this.#options = options
    this.ledger = new Ledger(cluster.settings)
  }

  async heatUp(loads: readonly CurveLoad[]): Promise<void> {
    const durationMs = HEAT_UP_MS / loads.length
    for (const load of loads) await this.#generate(load, { warmUpMs: 0, durationMs })
  }

  async measure(load: CurveLoad): Promise<Result> {
    const cluster = this.#cluster
    const all = cluster.pids(cluster.nodes)
    const leader = cluster.pids([cluster.leader])
    await cluster.settle()
    const countedBefore = await cluster.counters()
    const before = { all: usageOf(all), leader: usageOf(leader) }
    const { measured, memoryBytesMax } = await this.#generate(load, {
      warmUpMs: WARM_UP_MS,
      durationMs: this.#options.seconds * 1000,
    })
    await cluster.settle()
    const after = { all: usageOf(all), leader: usageOf(leader) }
    const counted = await cluster.counters()
    // What replicas do later is shared by all operations, and so are those of the warm-up.
    const share = Math.max(1, measured.operationsInAll)
    return {
      ...load,
      operations: measured.operations,
      operationsPerSecond: measured.operations / measured.seconds,
      p50Ms: measured.p50Ms,
      p99Ms: measured.p99Ms,
      p999Ms: measured.p999Ms,
      maxMs: measured.maxMs,
      serverCpuMicros: (after.all.cpuMicros - before.all.cpuMicros) / share,
      leaderCpuMicros: (after.leader.cpuMicros - before.leader.cpuMicros) / share,
      generatorCpuMicros: measured.cpuMicros / Math.max(1, measured.operations),
      operationsPerBatch:
        (counted.requests - countedBefore.requests) /
        Math.max(1, counted.batches - countedBefore.batches),
      memoryBytesMax,
      errors: measured.errors,
      samples: measured.samples,
    }
  }

  async #generate(
    load: CurveLoad,
    times: Pick<Plan, 'warmUpMs' | 'durationMs'>,
  ): Promise<{ measured: Measured; memoryBytesMax: number }> {
    const { settings, nodes, leader } = this.#cluster
    const { databases, loadedRows, rowBytes } = settings
    this.#loads += 1
    const plan: Plan = {
      ...load,
      ...times,
      address: leader.address,
      spread: { databases, loadedRows },
      rowBytes,
      firstId: this.ledger.nextId,
      seed: this.#loads,
    }
    const generated = await generate<Measured>(GENERATOR, plan, {
      signal: this.#options.signal,
      servers: this.#cluster.pids(nodes),
    })
    this.ledger.add(generated.measured)
    return generated
  }
}
