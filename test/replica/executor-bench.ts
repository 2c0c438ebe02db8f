/** An executor over doubles: a test says what the log and the engine do. */
import assert from 'node:assert/strict'
import type { DbError } from '../../src/base/errors.ts'
import type { RequestResult } from '../../src/engine/engine.ts'
import { Executor } from '../../src/replica/executor.ts'
import type { ReplicaOptions, WriteOutcome } from '../../src/replica/types.ts'
import { WriteStages } from '../../src/replica/write-stages.ts'
import { executorParts, ManualClock, ManualEngine, ManualLog } from './doubles.ts'

export const OK: RequestResult = { type: 'ok', results: [{ rowsAffected: 1 }] }
export const ENTRY = new Uint8Array([1, 2, 3])

export class Bench {
  readonly log = new ManualLog()
  readonly engine = new ManualEngine()
  readonly clock = new ManualClock()
  readonly fatal: string[] = []
  readonly diverged: number[] = []
  isPaused = false
  readonly executor: Executor
  /** By request number: what it heard, at most once. */
  readonly heard = new Map<number, WriteOutcome>()
  refusal: DbError | undefined
  noRoom: DbError | undefined
  readonly corrupt: string[] = []
  readonly stages = new WriteStages()
  readonly digestPoints: number[] = []
  onDigestPoint: () => void = () => {}

  constructor(options: Partial<ReplicaOptions> = {}) {
    this.executor = new Executor({
      log: this.log,
      engine: this.engine,
      ...executorParts(this.clock, options),
      stages: this.stages,
      isPaused: () => this.isPaused,
      refusal: () => this.refusal,
      noRoom: () => this.noRoom,
      onDiskFault: () => this.log.transferLeadership(),
      onDigestPoint: index => {
        this.digestPoints.push(index)
        this.onDigestPoint()
      },
      onDiverged: ({ index }) => this.diverged.push(index),
      onCorrupt: reason => this.corrupt.push(reason),
      onFatal: reason => this.fatal.push(reason),
    })
    this.log.start(event => this.executor.onLogEvent(event))
    this.executor.start()
  }

  /** A leader of term 2 whose engine has applied the no-op of its term. */
  static leader(options: Partial<ReplicaOptions> = {}): Bench {
    const bench = new Bench(options)
    bench.engine.open()
    bench.log.become('leader', 2, 1)
    bench.log.commitForeign('noop')
    bench.engine.taken()
    return bench
  }

  submit(number: number, timeoutMs = 5000): void {
    this.executor.submit(new Uint8Array([number]), timeoutMs, outcome => {
      assert(!this.heard.has(number), `request ${number} was answered twice`)
      this.heard.set(number, outcome)
    })
  }

  executed(batch: number, results: RequestResult[], logged: Uint8Array | null = ENTRY): void {
    const entry = logged ?? undefined
    this.engine.reply({ type: 'executed', batch, taken: results.length, entry, results })
  }

  committed(batch: number, index: number): void {
    this.engine.reply({ type: 'committed', batch, index, durableIndex: 0 })
  }

  code(number: number): string {
    const outcome = this.heard.get(number)
    if (outcome === undefined) return 'nothing'
    return outcome.type === 'ok' ? 'ok' : outcome.error.code
  }
}
