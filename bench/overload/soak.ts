/** The soak: a steady load below the peak for minutes, and what changes meanwhile that should not. */
import { must } from '../../src/base/assert.ts'
import type { Machine } from '../machine.ts'
import type { Checked } from './ledger.ts'
import type { Loader, Wish } from './load.ts'
import type { WriteDoor } from './lane.ts'
import { driftOf } from './slope.ts'
import type { Tolerance } from './slope.ts'
import type { Summary } from './tally.ts'
import type { Target } from './target.ts'
import { checkedVerdict, digestsVerdict } from './verdicts.ts'
import type { Verdict } from './verdicts.ts'
import type { ProcessUse, Watch } from './watch.ts'

/** One minute of it, or one interval of another length. */
export interface Minute {
  readonly summary: Summary
  readonly terms: readonly string[]
  readonly processes: readonly ProcessUse[]
  readonly files: readonly {
    readonly node: string
    readonly logBytes: number
    readonly segments: number
    readonly sqliteWalBytes: number
  }[]
}

export interface SoakRun {
  readonly date: string
  readonly machine: Machine
  readonly options: readonly string[]
  readonly door: WriteDoor
  readonly peakPerSecond: number
  readonly ratePerSecond: number
  readonly intervalSeconds: number
  readonly minutes: readonly Minute[]
  readonly checked: Checked
  readonly digests: readonly string[]
}

export interface SoakParts {
  readonly target: Target
  readonly loader: Loader
  readonly watch: Watch
  readonly door: WriteDoor
  readonly share: number
  readonly minutes: number
  readonly intervalSeconds: number
  readonly peakSeconds: number
  readonly onMinute: (minute: Minute) => void
}

const PEAK = { http: { connections: 64, depth: 1 }, stream: { connections: 4, depth: 64 } } as const
const LOAD = { connections: 64, depth: 256 } as const
const WARM_UP_MS = 5000
/** Of the mean over the whole time; a process grows by a few megabytes while it warms up. */
const MEMORY: Tolerance = { share: 0.1, floor: 16e6 }
const LATENCY: Tolerance = { share: 0.25, floor: 2 }
const LOG: Tolerance = { share: 0.25, floor: 48e6 }
const HANDLES: Tolerance = { share: 0, floor: 4 }
/** Of the rate that was offered. */
const RATE_SHARE_MIN = 0.99
/** Caches fill before anything can be flat. */
const SETTLING_SHARE = 0.2

/** Finds the peak and soaks at a share of it. */
export async function soak(
  parts: SoakParts,
): Promise<Pick<SoakRun, 'peakPerSecond' | 'ratePerSecond' | 'minutes'>> {
  const { target, loader, watch, door, intervalSeconds } = parts
  const { address } = target.leader
  const peakMs = parts.peakSeconds * 1000
  const peakWish: Wish = {
    ...PEAK[door],
    door,
    address,
    ratePerSecond: 0,
    warmUpMs: WARM_UP_MS,
    durationMs: peakMs,
    intervalMs: peakMs,
  }
  const { summary } = await loader.run(peakWish)
  const peakPerSecond = summary.acknowledged / summary.seconds
  const ratePerSecond = Math.round(peakPerSecond * parts.share)
  const minutes: Minute[] = []
  watch.take()
  const wish: Wish = {
    ...LOAD,
    door,
    address,
    ratePerSecond,
    warmUpMs: WARM_UP_MS,
    durationMs: parts.minutes * 60_000,
    intervalMs: intervalSeconds * 1000,
  }
  await loader.run(wish, summary => {
    const { terms, processes } = watch.take()
    const files = target.cluster.nodes.map(node => ({
      node: node.nodeId,
      ...target.files(node),
    }))
    const minute = { summary, terms, processes, files }
    minutes.push(minute)
    parts.onMinute(minute)
  })
  return { peakPerSecond, ratePerSecond, minutes }
}

export function soakVerdicts(run: SoakRun): Verdict[] {
  const settled = run.minutes.slice(Math.ceil(run.minutes.length * SETTLING_SHARE))
  const flat = (
    name: string,
    tolerance: Tolerance,
    figure: (minute: Minute) => number,
    show: (value: number) => string,
  ): Verdict => {
    const { drift, mean, tolerance: most, isFlat } = driftOf(settled.map(figure), tolerance)
    const word = isFlat ? 'flat' : 'NOT FLAT'
    const text = `${name}: ${word}, mean ${show(mean)}, drift ${show(drift)} (at most ${show(most)})`
    return { isRight: isFlat, text }
  }
  const names = new Set(run.minutes.flatMap(({ processes }) => processes.map(({ name }) => name)))
  const perProcess = [...names]
    .sort()
    .flatMap(name => [
      flat(`memory of ${name}`, MEMORY, minute => useOf(minute, name).memoryBytes, megabytes),
      flat(`open handles of ${name}`, HANDLES, minute => useOf(minute, name).handles, whole),
    ])
  const nodes = must(run.minutes[0], 'a minute').files.map(({ node }) => node)
  const perNode = nodes.flatMap(node => [
    flat(`log of ${node}`, LOG, minute => filesOf(minute, node).logBytes, megabytes),
    flat(
      `SQLite's -wal of ${node}`,
      LOG,
      minute => filesOf(minute, node).sqliteWalBytes,
      megabytes,
    ),
  ])
  const terms = new Set(run.minutes.flatMap(({ terms }) => terms))
  return [
    rateVerdict(run),
    flat('p50', LATENCY, ({ summary }) => summary.latency.p50Ms, milliseconds),
    flat('p99', LATENCY, ({ summary }) => summary.latency.p99Ms, milliseconds),
    ...perProcess,
    ...perNode,
    { isRight: terms.size === 1, text: `terms and leaders seen: ${[...terms].join('; ')} (one)` },
    checkedVerdict(run.checked),
    digestsVerdict(run.digests),
  ]
}

/** No drift: what is offered is acknowledged, in each minute. */
function rateVerdict({ minutes, ratePerSecond }: SoakRun): Verdict {
  const rates = minutes.map(({ summary }) => summary.acknowledged / summary.seconds)
  const lowest = Math.min(...rates)
  const least = ratePerSecond * RATE_SHARE_MIN
  const failed = minutes.flatMap(({ summary }) => Object.entries(summary.failed))
  const failures = failed.reduce((sum, [, count]) => sum + count, 0)
  return {
    isRight: lowest >= least && failures === 0,
    text: `at least ${whole(lowest)}/s were acknowledged in each interval, ${failures} requests failed (at least ${whole(least)}/s, none)`,
  }
}

export function useOf(minute: Minute, name: string): ProcessUse {
  const use = minute.processes.find(process => process.name === name)
  return use ?? { name, isLeader: false, memoryBytes: 0, memoryBytesMax: 0, handles: 0 }
}

export function filesOf(minute: Minute, node: string): Minute['files'][number] {
  return must(minute.files.find(files => files.node === node))
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}

function milliseconds(value: number): string {
  return `${value.toFixed(2)} ms`
}

function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US')
}
