/** What a run must have shown, as sentences: each says what was asked, what was found, and whether. */
import { acknowledgedPerSecond } from './steps.ts'
import type { OverloadRun, Step, Way } from './steps.ts'
import type { Checked } from './ledger.ts'

export interface Verdict {
  readonly isRight: boolean
  readonly text: string
}

/** Of the peak, at more than it. */
const THROUGHPUT_SHARE_MIN = 0.9
/** Beyond what the queues allow: scheduling on a machine that has no processor left. */
const SLACK_MS = 500
const REFUSAL_MS_MAX = 100
/** Of memory, from twice the load to twice the load again. */
const MEMORY_GROWTH_MAX = 0.1
const MEMORY_FLOOR_BYTES = 32e6
const REFUSALS = ['OVERLOADED']
const DOORS = { http: 'HTTP', stream: 'streams', reads: 'reads' } as const

/** `queueMs` is what the node's limits let a write wait. */
export function overloadVerdicts(run: OverloadRun, queueMs: number): Verdict[] {
  return [
    ...run.peaks.flatMap(({ way, perSecond }) => {
      const own = run.steps.filter(step => isSame(step.way, way))
      return [...own.flatMap(step => stepVerdicts(step, perSecond, queueMs)), memoryVerdict(own)]
    }),
    termsVerdict(run.steps),
    checkedVerdict(run.checked),
    digestsVerdict(run.digests),
  ]
}

export function wayName({ door, place }: Way): string {
  return `${DOORS[door]} at the ${place}`
}

function isSame(one: Way, other: Way): boolean {
  return one.door === other.door && one.place === other.place
}

function stepVerdicts(step: Step, peak: number, queueMs: number): Verdict[] {
  const { factor, measured, single } = step
  if (factor === undefined || factor === 1) return []
  const name = `${wayName(step.way)}, ${step.name}`
  const { latency, failed } = measured.summary
  const rate = acknowledgedPerSecond(step)
  const share = rate / peak
  const limitMs = queueMs + SLACK_MS
  const strange = { ...failed, ...single?.summary.failed }
  const others = Object.keys(strange).filter(code => !REFUSALS.includes(code))
  const verdicts = [
    {
      isRight: share >= THROUGHPUT_SHARE_MIN,
      text: `${name}: ${percent(share)} of the peak's throughput (at least ${percent(THROUGHPUT_SHARE_MIN)})`,
    },
    {
      isRight: latency.p99Ms <= limitMs,
      text: `${name}: p99 ${Math.round(latency.p99Ms)} ms (at most ${limitMs} ms: queues and ${SLACK_MS} ms)`,
    },
    {
      isRight: others.length === 0 && measured.losses === 0,
      text: `${name}: refusals are ${Object.keys(failed).join(', ') || 'none'}; ${measured.losses} connections lost (only ${REFUSALS.join()}, none lost)`,
    },
  ]
  const refusedMs = single?.summary.refusalLatency.p99Ms ?? 0
  if (refusedMs === 0) return verdicts
  const text = `${name}: a single request is refused within ${Math.round(refusedMs)} ms, p99 (at most ${REFUSAL_MS_MAX} ms)`
  return [...verdicts, { isRight: refusedMs <= REFUSAL_MS_MAX, text }]
}

/** Memory may be higher under more load, but not higher the next time. */
function memoryVerdict(steps: readonly Step[]): Verdict {
  const [first, , second] = steps.filter(({ factor }) => factor === 2)
  const before = first === undefined ? 0 : memoryOf(first)
  const after = second === undefined ? 0 : memoryOf(second)
  const isRight = after - before <= Math.max(before * MEMORY_GROWTH_MAX, MEMORY_FLOOR_BYTES)
  const way = first === undefined ? '' : wayName(first.way)
  const text = `${way}: all nodes had ${megabytes(before)} at 2x and ${megabytes(after)} at 2x again (at most ${percent(MEMORY_GROWTH_MAX)} more)`
  return { isRight, text }
}

export function memoryOf(step: Step): number {
  return step.watched.processes.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0)
}

function termsVerdict(steps: readonly Step[]): Verdict {
  const terms = new Set(steps.flatMap(({ watched }) => watched.terms))
  const isRight = terms.size === 1
  return { isRight, text: `terms and leaders seen: ${[...terms].join('; ')} (one)` }
}

export function checkedVerdict(checked: Checked): Verdict {
  const { acknowledged, missing, unwanted, unknown } = checked
  const found = `${missing} missing, ${unwanted} refused and there all the same, ${unknown} of unknown fate`
  return {
    isRight: missing === 0 && unwanted === 0,
    text: `${acknowledged.toLocaleString('en-US')} acknowledged writes looked for: ${found}`,
  }
}

export function digestsVerdict(digests: readonly string[]): Verdict {
  const different = new Set(digests)
  return {
    isRight: different.size === 1,
    text: `digests of ${digests.length} nodes: ${[...different].join('; ')} (one)`,
  }
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`
}
