/** Starts one system after the other, round by round, loads it, checks it and ends it. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { generate } from '../generators.ts'
import { deviceWrittenBytes, usageOf } from '../processes.ts'
import { audit } from './audit.ts'
import type { Ledger, Verdict } from './audit.ts'
import { Children } from './children.ts'
import type { Measured, Plan } from './generator.ts'
import type { Result } from './results.ts'
import type { Deployment, System } from './system.ts'
import type { Case } from './workloads.ts'

export interface RunOptions {
  readonly seconds: number
  readonly warmUpSeconds: number
  /** Ends the run as soon as may be. */
  readonly signal: AbortSignal
  readonly onResult: (result: Result) => void
}

export interface SystemRun {
  readonly version: string
  readonly results: readonly Result[]
  readonly verdict: Verdict
}

const HEAT_UP_MS_MAX = 2000
const HEAT_UP_CONNECTIONS = 16
const GENERATOR = new URL('./generator.ts', import.meta.url)

/** One repetition of one system, from empty data. */
export async function runSystem(
  system: System,
  cases: readonly Case[],
  repetition: number,
  options: RunOptions,
): Promise<SystemRun> {
  mkdirSync('.lockstep', { recursive: true })
  const directory = mkdtempSync(join(resolve('.lockstep'), 'peers-'))
  const children = new Children()
  try {
    options.signal.throwIfAborted()
    const deployment = await system.start({ directory, children })
    const ledger: Ledger = {
      nextId: 1,
      unacknowledged: [],
      updatesAcknowledged: 0,
      updatesUnacknowledged: 0,
    }
    const run = new Run(deployment, ledger, directory, options)
    await run.heatUp(cases)
    const results: Result[] = []
    for (const [at, one] of cases.entries()) {
      const measured = await run.measure(one, repetition * 1000 + at)
      const result = { system: system.name, repetition, ...measured }
      results.push(result)
      options.onResult(result)
    }
    const verdict = await audit(deployment, ledger)
    return { version: deployment.version, results, verdict }
  } finally {
    await children.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

class Run {
  readonly #deployment: Deployment
  readonly #ledger: Ledger
  readonly #directory: string
  readonly #options: RunOptions

  constructor(deployment: Deployment, ledger: Ledger, directory: string, options: RunOptions) {
    this.#deployment = deployment
    this.#ledger = ledger
    this.#directory = directory
    this.#options = options
  }

  /** A server that has just started compiles while it serves: that is not what is measured. */
  async heatUp(cases: readonly Case[]): Promise<void> {
    const [first] = cases
    if (first === undefined) return
    const connections = Math.min(HEAT_UP_CONNECTIONS, ...cases.map(one => one.connections))
    const durationMs = Math.min(HEAT_UP_MS_MAX, this.#options.seconds * 1000)
    await this.#generate({ ...first, connections }, 0, durationMs)
  }

  async measure(one: Case, seed: number): Promise<Omit<Result, 'system' | 'repetition'>> {
    const pids = this.#deployment.pids()
    await this.#deployment.settle()
    const before = usageOf(pids)
    const diskBefore = deviceWrittenBytes(this.#directory)
    const { measured, memoryBytesMax } = await this.#generate(
      one,
      seed,
      this.#options.seconds * 1000,
    )
    await this.#deployment.settle()
    const after = usageOf(pids)
    const diskAfter = deviceWrittenBytes(this.#directory)
    const isOwn = pids.length > 0
    const { operations, operationsInAll, seconds } = measured
    const perSecond = operations / seconds
    // What replicas do later is shared by all operations, and so are those of the warm-up.
    const share = Math.max(1, operationsInAll)
    const generatorCpuMicros = measured.cpuMicros / Math.max(1, operations)
    const writtenBytes =
      (isOwn ? after.writtenBytes - before.writtenBytes : measured.writtenBytes) / share
    const hasDisk = diskBefore !== undefined && diskAfter !== undefined
    return {
      workload: one.workload.name,
      level: one.workload.hasLevels ? one.level : '',
      connections: one.connections,
      operations,
      operationsPerSecond: perSecond,
      rowsPerSecond: perSecond * one.workload.rowsPerOperation,
      p50Ms: measured.p50Ms,
      p99Ms: measured.p99Ms,
      p999Ms: measured.p999Ms,
      maxMs: measured.maxMs,
      serverCpuMicros: isOwn ? (after.cpuMicros - before.cpuMicros) / share : generatorCpuMicros,
      diskBytes: hasDisk ? (diskAfter - diskBefore) / share : writtenBytes,
      writtenBytes,
      memoryBytesMax: isOwn ? memoryBytesMax : measured.memoryBytesMax,
      generatorCpuMicros: isOwn ? generatorCpuMicros : 0,
      conflicts: measured.conflicts,
      errors: measured.errors,
      samples: measured.samples,
    }
  }

  async #generate(
    one: Case,
    seed: number,
    durationMs: number,
  ): Promise<{ measured: Measured; memoryBytesMax: number }> {
    const plan: Plan = {
      target: this.#deployment.target(one.level),
      workload: one.workload.name,
      connections: one.connections,
      warmUpMs: this.#options.warmUpSeconds * 1000,
      durationMs,
      firstId: this.#ledger.nextId,
      seed,
    }
    const { measured, memoryBytesMax } = await generate<Measured>(GENERATOR, plan, {
      signal: this.#options.signal,
      servers: this.#deployment.pids(),
    })
    this.#ledger.nextId = measured.nextId
    this.#ledger.unacknowledged.push(...measured.unacknowledged)
    this.#ledger.updatesAcknowledged += measured.updatesAcknowledged
    this.#ledger.updatesUnacknowledged += measured.updatesUnacknowledged
    return { measured, memoryBytesMax }
  }
}
