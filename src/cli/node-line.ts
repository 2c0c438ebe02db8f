/**
 * What one node did between two looks at its metrics. Everything is told by what any monitoring
 * system would read there.
 */
import type { MemberStatus } from '../client/index.ts'
import { WRITE_STAGES, type WriteStage } from '../replica/write-stages.ts'
import type { Distribution, MetricsText } from './metrics-text.ts'

/** How long writes were in a stage. */
export interface StageTimes {
  readonly count: number
  readonly meanMs: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/** What one node did in an interval; also the JSON of `--json`, where undefined is absent. */
export interface NodeLine {
  readonly node: string
  readonly address: string
  readonly role: 'leader' | 'follower' | 'learner' | 'lone' | 'away'
  /** Why there is nothing more, if so: it did not answer, or has just begun to. */
  readonly error?: string
  /** Writes that it took as the leader, or passed on. */
  readonly writesPerSecond?: number
  readonly requestsPerBatch?: number
  /** Of those stages in which there were writes. */
  readonly stages: Readonly<Partial<Record<WriteStage, StageTimes>>>
  /** How long its disk took to keep new entries of the log, in any role. */
  readonly logFlush?: StageTimes
  /** Entries that it knows to be committed and has not applied. */
  readonly behindEntries?: number
  /** How old its data may be; on the leader, by how much the engines of a quorum are behind. */
  readonly lagMs?: number
  /** Writes that wait, for the writer or for a leader. */
  readonly queuedRequests?: number
  /** Answers with a status of 400 or more. */
  readonly errorsPerSecond?: number
}

/** What a node told at a moment. */
export interface Look {
  readonly atMs: number
  readonly metrics: MetricsText
}

/** `before` and `now` are errors where it gave no answer, and `before` is absent for a new one. */
export function toLine(
  { nodeId, address, isVoter }: Pick<MemberStatus, 'nodeId' | 'address' | 'isVoter'>,
  before: Look | Error | undefined,
  now: Look | Error,
): NodeLine {
  if (now instanceof Error) {
    return { node: nodeId, address, role: 'away', error: now.message, stages: {} }
  }
  const line = { node: nodeId, address, role: roleOf(now.metrics, isVoter), ...levels(now.metrics) }
  if (before === undefined || before instanceof Error || isOtherProcess(before, now)) {
    return { ...line, stages: {}, error: 'it has just begun to answer' }
  }
  return { ...line, ...difference(before, now) }
}

const STARTED = 'process_start_time_seconds'

/** Its counts begin anew. */
function isOtherProcess(before: Look, now: Look): boolean {
  return before.metrics.value(STARTED) !== now.metrics.value(STARTED)
}

function roleOf(metrics: MetricsText, isVoter: boolean): NodeLine['role'] {
  if (metrics.value('lockstep_is_leader') === 1) return 'leader'
  if (metrics.value('lockstep_has_leader') !== 1) return 'lone'
  return isVoter ? 'follower' : 'learner'
}

/** What is so at the moment. */
function levels(metrics: MetricsText): Partial<NodeLine> {
  const isLeader = metrics.value('lockstep_is_leader') === 1
  const lagMs = metrics.value(isLeader ? 'lockstep_quorum_apply_lag_ms' : 'lockstep_lag_ms')
  const committed = metrics.value('lockstep_commit_index')
  const applied = metrics.value('lockstep_applied_index')
  const queued = metrics.value('lockstep_queued_requests')
  const held = metrics.value('lockstep_held_requests')
  return {
    ...(lagMs !== undefined && { lagMs: rounded(lagMs) }),
    ...(committed !== undefined &&
      applied !== undefined && { behindEntries: Math.max(0, committed - applied) }),
    ...(queued !== undefined && held !== undefined && { queuedRequests: queued + held }),
  }
}

function difference(before: Look, now: Look): Pick<NodeLine, 'stages'> & Partial<NodeLine> {
  const seconds = (now.atMs - before.atMs) / 1000
  const risen = (name: string): number =>
    (now.metrics.value(name) ?? 0) - (before.metrics.value(name) ?? 0)
  const executed = risen('lockstep_batch_requests_total')
  const batches = risen('lockstep_batches_total')
  const errors = failures(now.metrics) - failures(before.metrics)
  const logFlush = times(within('lockstep_log_flush_seconds', before, now))
  const stages = (Object.keys(WRITE_STAGES) as WriteStage[]).flatMap(stage => {
    const known = times(within('lockstep_write_stage_seconds', before, now, { stage }))
    return known === undefined ? [] : [[stage, known]]
  })
  return {
    writesPerSecond: rounded((executed + risen('lockstep_forwarded_total')) / seconds),
    ...(batches > 0 && { requestsPerBatch: rounded(executed / batches) }),
    stages: Object.fromEntries(stages) as NodeLine['stages'],
    ...(logFlush !== undefined && { logFlush }),
    errorsPerSecond: rounded(errors / seconds),
  }
}

function within(
  name: string,
  before: Look,
  now: Look,
  labels?: Readonly<Record<string, string>>,
): Distribution {
  return now.metrics.distribution(name, labels).since(before.metrics.distribution(name, labels))
}

function failures(metrics: MetricsText): number {
  return metrics.sum('lockstep_http_requests_total', ({ status }) => Number(status) >= 400)
}

function times(taken: Distribution): StageTimes | undefined {
  const { count, mean } = taken
  const p50 = taken.quantile(0.5)
  const p99 = taken.quantile(0.99)
  if (mean === undefined || p50 === undefined || p99 === undefined) return undefined
  const toMs = (seconds: number): number => rounded(seconds * 1000)
  return { count, meanMs: toMs(mean), p50Ms: toMs(p50), p99Ms: toMs(p99) }
}

/** To a thousandth. */
function rounded(value: number): number {
  return Math.round(value * 1000) / 1000
}
