/** The steps of the overload bench: what is offered by which way, and what is found. */
import type { Machine } from '../machine.ts'
import type { Measured } from './generator.ts'
import type { Door } from './lane.ts'
import type { Checked } from './ledger.ts'
import type { Loader, Wish } from './load.ts'
import type { Target } from './target.ts'
import type { Watch, Watched } from './watch.ts'

export type Place = 'leader' | 'follower'

/** By which door, at which node. */
export interface Way {
  readonly door: Door
  readonly place: Place
}

export interface Step {
  readonly way: Way
  readonly name: string
  readonly connections: number
  /** Times the peak; undefined where the peak itself is looked for. */
  readonly factor: number | undefined
  readonly measured: Measured
  /** Clients that send one request at a time, few in a second, beside the load. */
  readonly single: Measured | undefined
  readonly watched: Watched
}

/** Rates that a way reached with clients that wait for their answers. */
export interface Peak {
  readonly way: Way
  readonly perSecond: number
}

/** What one run leaves. */
export interface OverloadRun {
  readonly date: string
  readonly machine: Machine
  readonly options: readonly string[]
  readonly seconds: number
  readonly steps: readonly Step[]
  readonly peaks: readonly Peak[]
  readonly checked: Checked
  readonly digests: readonly string[]
}

interface Shape {
  readonly connections: number
  readonly depth: number
}

/** With clients that wait: requests at once, from what one batch takes to several. */
const PEAKS: Readonly<Record<Door, readonly Shape[]>> = {
  http: [
    { connections: 64, depth: 1 },
    { connections: 256, depth: 1 },
  ],
  stream: [
    { connections: 4, depth: 64 },
    { connections: 16, depth: 64 },
  ],
  reads: [
    { connections: 64, depth: 1 },
    { connections: 256, depth: 1 },
  ],
}
/** More on their way than the queues of a node take. */
const LOADS: Readonly<Record<Door, Shape>> = {
  http: { connections: 64, depth: 256 },
  stream: { connections: 16, depth: 1024 },
  reads: { connections: 64, depth: 256 },
}
const MANY: Shape = { connections: 512, depth: 64 }
const SINGLES = { connections: 16, depth: 1, ratePerSecond: 160 } as const
/** Before each step is measured. */
export const WARM_UP_MS = 1000

export interface StepsParts {
  readonly target: Target
  readonly loader: Loader
  readonly watch: Watch
  readonly seconds: number
  readonly onStep: (step: Step) => void
}

/** Finds the peak of a way, offers it once and more, and finds it again. */
export async function measureWay(
  parts: StepsParts,
  way: Way,
): Promise<{ steps: Step[]; peak: Peak }> {
  const steps: Step[] = []
  const measure = async (name: string, shape: Shape, factor?: number): Promise<void> => {
    const step = await measureStep(parts, { way, name, shape, factor, peak: highest(steps) })
    steps.push(step)
    parts.onStep(step)
  }
  for (const shape of PEAKS[way.door]) await measure('peak', shape)
  const load = LOADS[way.door]
  await measure('1x', load, 1)
  await measure('1.5x', load, 1.5)
  await measure('2x', load, 2)
  await measure('2x, many', MANY, 2)
  await measure('2x, again', load, 2)
  for (const shape of PEAKS[way.door]) await measure('peak after', shape)
  return { steps, peak: { way, perSecond: highest(steps) } }
}

/** Of the steps that look for the peak. */
function highest(steps: readonly Step[]): number {
  const peaks = steps.filter(({ factor }) => factor === undefined)
  return Math.max(0, ...peaks.map(acknowledgedPerSecond))
}

export function acknowledgedPerSecond({ measured }: Pick<Step, 'measured'>): number {
  return measured.summary.acknowledged / measured.summary.seconds
}

async function measureStep(
  { target, loader, watch, seconds }: StepsParts,
  asked: { way: Way; name: string; shape: Shape; factor: number | undefined; peak: number },
): Promise<Step> {
  const { way, name, shape, factor, peak } = asked
  const node = way.place === 'leader' ? target.leader : target.follower
  const durationMs = seconds * 1000
  const times = { warmUpMs: WARM_UP_MS, durationMs, intervalMs: durationMs }
  const wish: Wish = {
    ...shape,
    ...times,
    door: way.door,
    address: node.address,
    ratePerSecond: factor === undefined ? 0 : Math.max(1, Math.round(peak * factor)),
  }
  const single: Wish = { ...SINGLES, ...times, door: 'http', address: node.address }
  watch.take()
  const [measured, singles] = await Promise.all([
    loader.run(wish),
    factor === undefined ? undefined : loader.run(single),
  ])
  const { connections } = shape
  return { way, name, connections, factor, measured, single: singles, watched: watch.take() }
}
