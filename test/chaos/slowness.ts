/**
 * How much slower than alone a program runs on this machine now: who judges how long something may
 * take would otherwise allow a quiet machine what only a crowded one needs.
 */

/** What is worked off to see how long it takes: more than a turn that a scheduler gives at once. */
const SAMPLE_CPU_MS = 10
const SAMPLE_EVERY_MS = 1000

export interface SlownessSample {
  readonly atMs: number
  /** Time that passed for each millisecond of work. */
  readonly factor: number
}

export class SlownessMeter {
  readonly samples: SlownessSample[] = []
  #timer: NodeJS.Timeout | undefined

  start(): void {
    this.#timer = setInterval(() => this.samples.push(takeSample()), SAMPLE_EVERY_MS).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }
}

/** Works for some milliseconds and sees how long that takes. */
export function takeSample(): SlownessSample {
  const atMs = performance.now()
  const before = process.threadCpuUsage()
  for (;;) {
    const { user, system } = process.threadCpuUsage(before)
    const workedMs = (user + system) / 1000
    if (workedMs < SAMPLE_CPU_MS) continue
    return { atMs, factor: Math.max(1, (performance.now() - atMs) / workedMs) }
  }
}

/** The mean of the samples in a time; 1 if there is none. */
export function meanSlowness(
  samples: readonly SlownessSample[],
  fromMs: number,
  toMs: number,
): number {
  const factors = samples.filter(({ atMs }) => atMs >= fromMs && atMs <= toMs)
  if (factors.length === 0) return 1
  return factors.reduce((sum, { factor }) => sum + factor, 0) / factors.length
}
