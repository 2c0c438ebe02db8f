/**
 * One fault run: founds a cluster of real processes, lets clients work, does to it what the seed
 * says, heals it, and judges every answer.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { createClient } from '../../src/client/client.ts'
import type { Client } from '../../src/client/client.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { BankWorkload } from './bank-workload.ts'
import { FreshnessWorkload } from './freshness-workload.ts'
import { LedgerWorkload } from './ledger-workload.ts'
import { ListWorkload } from './list-workload.ts'
import { NamespaceNetwork } from './namespace-network.ts'
import {
  decideTies,
  expectEqualOddities,
  ODD_DATABASE,
  prepareOddities,
} from './divergence-fault.ts'
import { DIALECTS, type EngineName } from '../cluster/dialects.ts'
import { planFaults } from './nemesis.ts'
import { sceneOf } from './fault.ts'
import type { ActiveFault, FaultKind, Scene } from './fault.ts'
import type { PlannedFault } from './nemesis.ts'
import type { ChaosNetwork } from './network.ts'
import { expectVoters } from './member-changes.ts'
import { ChaosNodes } from './nodes.ts'
import { Observer } from './observer.ts'
import { ChaosServers } from './servers.ts'
import { checkProgress } from './sights.ts'
import type { Disturbance } from './sights.ts'
import { ProxyNetwork } from './proxy-network.ts'
import { RegisterWorkload } from './register-workload.ts'
import { meanSlowness, SlownessMeter } from './slowness.ts'
import { findWallClocks } from './wall-clocks.ts'
import { History, Workers } from './workload.ts'
import type { Verdict, Workload } from './workload.ts'

export interface ChaosOptions {
  readonly seed: number
  readonly minutes: number
  readonly nodes: number
  /** Where the nodes keep their data: in files, or in a MariaDB server under each. */
  readonly engine: EngineName
  /** Absent: namespaces and proxies in turn, by the seed, where both are possible. */
  readonly network: 'namespaces' | 'proxies' | undefined
  /** What may go wrong. */
  readonly kinds: readonly FaultKind[]
  /** Clients of each workload. */
  readonly clients: number
  /** Mean pause of a client between two requests. */
  readonly pauseMs: number
  /** Where everything is kept, also of a run without complaints. */
  readonly keep: string | undefined
  readonly log: (text: string) => void
}

export interface ChaosReport {
  readonly verdicts: readonly Verdict[]
  /** Faults by kind. */
  readonly faults: ReadonlyMap<string, number>
  /** Kinds that could not be had, with the reason. */
  readonly notRun: readonly string[]
  readonly acknowledged: number
  readonly readsAnswered: number
  readonly unknownFates: number
  /** Failures by code. */
  readonly failures: ReadonlyMap<string, number>
  readonly longestGapMs: number
  /** When that began, from the beginning of the run. */
  readonly longestGapAtMs: number
  /** Where histories and logs were kept. */
  readonly kept: string | undefined
}

/** A joiner whose clock is far from the others' is refused with this, and starts again. */
const CLOCKS_REFUSED = /the clocks of node \S+ and the founder differ by \d+ s/
const ENDS = ['SIGINT', 'SIGTERM'] as const
const REQUEST_MS_MAX = 5000
const PINNED_REQUEST_MS_MAX = 1500
const RECOVERY_MS_MAX = 60_000
const RECOVERY_SLOWNESS = 20
/** Far above an election and the start of a node. */
const STALL_MS_MAX = 15_000
/** So much more time has a machine that does many things at once. */
const STALL_SLOWNESS_MAX = 2

/** Beside small logs a node in need would spread what no digest has found yet. */
const DIGESTS = ['--digest-interval-ms', '5000'] as const

/** Options of all nodes, drawn for each run: whole classes of bugs show only beside the defaults. */
function drawOptions(random: SimRandom): string[] {
  const draw = (option: string, ...values: readonly (number | 'default')[]): string[] => {
    const value = random.pick(values)
    return value === 'default' ? [] : [`--${option}`, String(value)]
  }
  const options = [
    // Small files, so that a short run goes through many of them; a small log makes snapshots.
    ...draw('segment-size-bytes', 65_536, 262_144),
    ...draw('log-fill-bytes', 0, 65_536),
    // Their disks are small. Without a least a full one is met by the log and SQLite themselves.
    ...draw('min-free-bytes', 0, 16_777_216),
    ...draw('max-log-bytes', 65_536, 262_144, 1_048_576, 'default'),
    ...draw('log-cache-bytes', 1_048_576, 'default'),
    ...draw('max-message-bytes', 1024, 'default'),
    ...draw('max-inflight-messages', 1, 8, 'default'),
    ...draw('max-batch-requests', 1, 4, 'default', 'default'),
    ...draw('max-apply-bytes', 1024, 'default', 'default'),
    ...draw('max-readers', 1, 'default'),
    ...draw('election-timeout-ms', 400, 'default', 'default'),
  ]
  return options.includes('--max-log-bytes') ? options : [...options, ...DIGESTS]
}

/** True if no checker has a complaint. */
export function isSound({ verdicts }: ChaosReport): boolean {
  return verdicts.every(({ complaints }) => complaints.length === 0)
}

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  mkdirSync('.lockstep', { recursive: true })
  const directory = resolve(options.keep ?? mkdtempSync(join('.lockstep', 'chaos-')))
  mkdirSync(directory, { recursive: true })
  const random = new SimRandom(options.seed, 'chaos')
  const network = makeNetwork(options, random)
  const nodeOptions = drawOptions(random.stream('options'))
  const { engine } = options
  options.log(`seed ${options.seed}, ${options.nodes} nodes, ${engine}, network of ${network.name}`)
  options.log(`options: ${nodeOptions.join(' ')}`)
  const [clocks] = findWallClocks()
  options.log(`clocks are moved by ${clocks.name}; delay and loss: ${weatherOf(network)}`)
  const nodes = await ChaosNodes.start({
    nodes: options.nodes,
    directory,
    network,
    clocks,
    servers: engine === 'mariadb' ? new ChaosServers(directory) : undefined,
    options: nodeOptions,
  })
  let isKept = true
  // Small disks and namespaces are the machine's, and would outlive this process.
  const interrupted = (): void => {
    const end = async (): Promise<void> => {
      await nodes.stop()
      nodes.unmount(false)
      process.exit(130)
    }
    void end()
  }
  for (const signal of ENDS) process.once(signal, interrupted)
  try {
    const findsSilence = nodeOptions.includes(DIGESTS[0])
    const report = await new Run(options, nodes, random, directory, findsSilence).run()
    isKept = options.keep !== undefined || !isSound(report)
    return { ...report, kept: isKept ? directory : undefined }
  } finally {
    for (const signal of ENDS) process.off(signal, interrupted)
    await nodes.stop()
    nodes.unmount(isKept)
    if (!isKept) rmSync(directory, { recursive: true, force: true, maxRetries: 20 })
  }
}

function makeNetwork({ seed, network, log }: ChaosOptions, random: SimRandom): ChaosNetwork {
  const whyNot = NamespaceNetwork.whyNot()
  const wanted = network ?? (seed % 2 === 0 ? 'namespaces' : 'proxies')
  if (wanted === 'namespaces' && whyNot === undefined) return new NamespaceNetwork()
  if (wanted === 'namespaces') log(`not run: network namespaces: ${whyNot}; proxies instead`)
  return new ProxyNetwork(random.stream('network'))
}

function weatherOf({ whyNoWeather, name }: ChaosNetwork): string {
  if (whyNoWeather !== undefined) return `none: ${whyNoWeather}`
  return name === 'namespaces' ? "the kernel's netem" : 'by the proxies'
}

class Run {
  readonly #options: ChaosOptions
  readonly #nodes: ChaosNodes
  readonly #random: SimRandom
  readonly #history: History
  readonly #workloads: readonly Workload[]
  readonly #scene: Scene
  readonly #admin: Client
  readonly #faults = new Map<string, number>()
  readonly #notRun: string[] = []
  readonly #disturbances: Disturbance[] = []
  readonly #slowness = new SlownessMeter()
  readonly #startedMs = performance.now()

  constructor(
    options: ChaosOptions,
    nodes: ChaosNodes,
    random: SimRandom,
    directory: string,
    findsSilence: boolean,
  ) {
    this.#options = options
    this.#nodes = nodes
    this.#random = random
    this.#history = new History(join(directory, 'history.jsonl'))
    const admin = createClient({ nodes: nodes.addresses, timeoutMs: 30_000 })
    this.#admin = admin
    this.#scene = sceneOf(nodes, text => this.#note(text), findsSilence)
    this.#workloads = [
      new RegisterWorkload(this.#history, admin, DIALECTS[options.engine]),
      new ListWorkload(this.#history, admin, DIALECTS[options.engine]),
      new BankWorkload(this.#history, admin),
      new LedgerWorkload(this.#history, admin, DIALECTS[options.engine]),
      new FreshnessWorkload(this.#history, admin, options.clients),
    ]
  }

  async run(): Promise<ChaosReport> {
    const { clients, pauseMs, minutes } = this.#options
    const databases = ['registers', 'lists', 'bank', 'ledger', 'freshness', ODD_DATABASE]
    for (const workload of this.#workloads) await workload.prepare()
    await prepareOddities(this.#admin)
    const observer = new Observer(this.#nodes, this.#history, databases, this.#scene.odd)
    const workers = this.#workloads.map((workload, at) => {
      const random = this.#random.stream(`workload ${at}`)
      const limits = {
        timeoutMs: REQUEST_MS_MAX,
        pinnedTimeoutMs: PINNED_REQUEST_MS_MAX,
        pauseMs,
      }
      return new Workers(workload, clients, this.#nodes, random, limits)
    })
    const beganMs = performance.now()
    this.#slowness.start()
    await this.#disturb(minutes * 60_000)
    // The smallest logs hold less than is written while a node takes a snapshot at full load.
    for (const each of workers) each.slowDown(RECOVERY_SLOWNESS)
    const recovered = await this.#recover()
    await Promise.all(workers.map(each => each.stop()))
    this.#slowness.stop()
    const endedMs = performance.now()
    const settled = await this.#settle()
    await observer.stop()
    const verdicts = [recovered, settled, ...(await this.#judge(observer)), ...this.#judgeNodes()]
    await this.#history.close()
    const acknowledged = [beganMs, ...this.#history.acknowledgedAtMs, endedMs]
    const gap = longestGap(acknowledged)
    const stalls = checkProgress(acknowledged, this.#disturbances, (fromMs, toMs) => {
      const slowness = meanSlowness(this.#slowness.samples, fromMs, toMs)
      return STALL_MS_MAX * Math.min(slowness, STALL_SLOWNESS_MAX)
    })
    const checked = acknowledged.length
    verdicts.push({ checker: 'progress', checked, complaints: stalls, undecided: 0 })
    return {
      verdicts,
      faults: this.#faults,
      notRun: this.#notRun,
      acknowledged: this.#history.acknowledgedAtMs.length,
      readsAnswered: this.#history.readsAnswered,
      unknownFates: this.#history.unknownFates,
      failures: this.#history.failures,
      longestGapMs: gap.lengthMs,
      longestGapAtMs: gap.beganMs - this.#startedMs,
      kept: undefined,
    }
  }

  /** Goes through the plan; each fault ends after its time, whatever else is going on. */
  async #disturb(durationMs: number): Promise<void> {
    const { engine } = this.#options
    const own = this.#options.kinds.filter(kind => (kind.engine ?? engine) === engine)
    const kinds = own.filter(kind => {
      const reason = kind.whyNot(this.#nodes)
      if (reason !== undefined) this.#notRun.push(`${kind.name}: ${reason}`)
      return reason === undefined
    })
    const beganMs = performance.now()
    const plan =
      kinds.length === 0 ? [] : planFaults(kinds, this.#random.stream('plan'), durationMs)
    const running: Promise<void>[] = []
    for (const planned of plan) {
      await pause(Math.max(0, beganMs + planned.atMs - performance.now()))
      const startedMs = performance.now()
      const fault = await planned.kind.begin(this.#scene, planned.random)
      if (fault !== undefined) running.push(this.#during(planned, fault, startedMs))
    }
    await pause(Math.max(0, beganMs + durationMs - performance.now()))
    await Promise.all(running)
  }

  async #during(planned: PlannedFault, fault: ActiveFault, beginMs: number): Promise<void> {
    const { kind, lastsMs } = planned
    const nodes = this.#nodes.nodeIds.length
    this.#faults.set(kind.name, (this.#faults.get(kind.name) ?? 0) + 1)
    this.#note(`${kind.name}: ${fault.what}, for ${Math.round(lastsMs)} ms`)
    await pause(lastsMs)
    await fault.undo()
    this.#note(`  ${kind.name} is over`)
    const hurts = fault.hurts === undefined ? {} : { hurts: fault.hurts }
    this.#disturbances.push({ beginMs, endMs: performance.now(), nodes, ...hurts })
  }

  /** Ends all faults; then every node must serve again within a time. */
  async #recover(): Promise<Verdict> {
    const nodes = this.#nodes
    await nodes.network.heal()
    for (const nodeId of nodes.nodeIds) {
      nodes.setClock(nodeId, 0)
      nodes.setFaults(nodeId, [])
      if (nodes.hasSmallDisks) nodes.freeDisk(nodeId)
      await nodes.startServer(nodeId)
      nodes.start(nodeId)
    }
    const healedMs = performance.now()
    const complaints: string[] = []
    try {
      await decideTies(this.#scene)
      const removed = await expectVoters(nodes, RECOVERY_MS_MAX)
      for (const nodeId of removed) this.#note(`${nodeId} was removed without a word of it`)
      await nodes.ready(RECOVERY_MS_MAX)
      this.#note(`all nodes are well ${Math.round(performance.now() - healedMs)} ms after the end`)
    } catch (error) {
      complaints.push(String(error))
    }
    return { checker: 'recovery', checked: nodes.nodeIds.length, complaints, undecided: 0 }
  }

  /** When nobody writes any more, a node that had fallen behind catches up. */
  async #settle(): Promise<Verdict> {
    const complaints: string[] = []
    try {
      await expectEqualOddities(this.#scene)
      await this.#nodes.ready(RECOVERY_MS_MAX)
    } catch (error) {
      complaints.push(String(error))
    }
    return { checker: 'calm', checked: this.#nodes.nodeIds.length, complaints, undecided: 0 }
  }

  async #judge(observer: Observer): Promise<Verdict[]> {
    const reader = createClient({ nodes: this.#nodes.addresses, timeoutMs: 60_000 })
    const verdicts: Verdict[] = []
    try {
      for (const workload of this.#workloads) verdicts.push(...(await workload.judge(reader)))
      verdicts.push(await observer.lastDigests(reader.token ?? ''))
    } catch (error) {
      const complaints = [`the last reads failed: ${String(error)}`]
      verdicts.push({ checker: 'last reads', checked: 1, complaints, undecided: 0 })
    }
    return [...verdicts, ...observer.judge(), ...this.#scene.expectations.judge()]
  }

  /** A node may end by itself only if its disk had been filled, or a clock was moved as it joined. */
  #judgeNodes(): Verdict[] {
    const { deaths } = this.#nodes
    const strange = deaths.filter(
      ({ hadFullDisk, lastWords }) => !hadFullDisk && !CLOCKS_REFUSED.test(lastWords),
    )
    for (const { nodeId, how } of deaths) this.#note(`${nodeId} ended by itself: ${how}`)
    const ended = strange.map(({ nodeId, how, lastWords }) => `${nodeId}: ${how}: ${lastWords}`)
    const { bugs, acknowledgedAtMs } = this.#history
    const checked = acknowledgedAtMs.length
    return [
      {
        checker: 'no node ends by itself',
        checked: deaths.length,
        complaints: ended,
        undecided: 0,
      },
      { checker: 'no internal error', checked, complaints: bugs, undecided: 0 },
    ]
  }

  #note(text: string): void {
    const seconds = ((performance.now() - this.#startedMs) / 1000).toFixed(1)
    this.#options.log(`${seconds.padStart(6)} s  ${text}`)
    this.#history.remark({ nemesis: text })
  }
}

function longestGap(timesMs: readonly number[]): { beganMs: number; lengthMs: number } {
  const sorted = [...timesMs].sort((left, right) => left - right)
  let longest = { beganMs: 0, lengthMs: 0 }
  for (const [at, beganMs] of sorted.entries()) {
    const lengthMs = (sorted[at + 1] ?? beganMs) - beganMs
    if (lengthMs > longest.lengthMs) longest = { beganMs, lengthMs }
  }
  return longest
}
