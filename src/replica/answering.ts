/**
 * Answers: the batches that the engine has executed and whose clients still wait. Each is answered
 * when it is known what became of it: once the engine has applied its entry, or can't apply it
 * because of its disk though it is committed; or, if nothing of it is logged, once a proof of
 * leadership begun after its execution has come.
 */
import { must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { Clock } from '../base/ports.ts'
import type { OwnEntry, ProposalNumber } from '../log/log.ts'
import {
  MAY_TAKE_EFFECT,
  type Batch,
  endOverdue,
  endUnconfirmed,
  fail,
  failBatch,
} from './batch.ts'
import type { ReplicaCounters } from './types.ts'
import type { WriteStages } from './write-stages.ts'

export class Answers {
  readonly #counters: ReplicaCounters
  readonly #stages: WriteStages
  readonly #clock: Clock
  /**
   * Batches whose writer died after they were proposed, by proposal: their entry may yet commit.
   */
  readonly #orphaned = new Map<ProposalNumber, Batch>()
  #settling: Batch[] = []
  /** Batches of which nothing is logged, waiting for a proof of leadership. */
  readonly #confirming = new Set<Batch>()
  /** The engine can't apply what is committed, and may not be able to for long. */
  #isEngineFailing = false

  constructor(counters: ReplicaCounters, stages: WriteStages, clock: Clock) {
    this.#counters = counters
    this.#stages = stages
    this.#clock = clock
  }

  get isIdle(): boolean {
    return !this.hasOrphans && this.#settling.length === 0 && this.#confirming.size === 0
  }

  /** An entry of ours may yet be committed that the engine has forgotten. */
  get hasOrphans(): boolean {
    return this.#orphaned.size > 0
  }

  /** The writer died with the batch after it was proposed. */
  orphan(batch: Batch): void {
    this.#orphaned.set(batch.proposal, batch)
  }

  takeOrphan(proposal: ProposalNumber): Batch | undefined {
    const orphan = this.#orphaned.get(proposal)
    this.#orphaned.delete(proposal)
    return orphan
  }

  /** The batch is committed as entry `index`, which this disk has kept since `flushedMs`. */
  settle(batch: Batch, { index, flushedMs }: Pick<OwnEntry, 'index' | 'flushedMs'>): void {
    batch.state = 'settling'
    batch.index = index
    batch.flushedMs = flushedMs
    batch.committedMs = this.#clock.monotonicMs()
    this.#settling.push(batch)
    if (this.#isEngineFailing) this.applied(index)
  }

  /**
   * The disk under the engine fails it. What is committed takes effect on every node, as it was
   * executed here: its clients need not wait until this disk has room again.
   */
  engineFailed(): void {
    this.#isEngineFailing = true
    this.applied(this.#settling.at(-1)?.index ?? 0)
  }

  /** A new engine tries again. */
  engineOpened(): void {
    this.#isEngineFailing = false
  }

  /** The batch that the engine commits next. */
  get nextToSettle(): Batch | undefined {
    return this.#settling[0]
  }

  /** Answers the batches that the engine has applied. */
  applied(index: number): void {
    while ((this.#settling[0]?.index ?? Infinity) <= index) {
      const batch = must(this.#settling.shift())
      const settledMs = this.#clock.monotonicMs()
      this.#stages.committed(batch, settledMs)
      if (batch.isProvisional) {
        failBatch(batch, outcomeLost())
        continue
      }
      const { answer } = this.#stages.histograms
      this.#answer(batch, batch.index, () => answer.observe(this.#clock.monotonicMs() - settledMs))
    }
  }

  /**
   * Nothing of the batch is logged, but its answers speak of a state, as of entry `index`. They
   * wait for a proof; the function returned is to be called with what came of it.
   */
  confirm(batch: Batch, index: number): (error: DbError | undefined) => void {
    this.#confirming.add(batch)
    return error => {
      this.#confirming.delete(batch)
      if (error !== undefined) failBatch(batch, error)
      else this.#answer(batch, index)
    }
  }

  /** Leadership was lost: what was proposed has an unknown fate, what was not is not applied. */
  leadershipLost(lost: DbError, notLeader: DbError): void {
    for (const batch of this.#orphaned.values()) failBatch(batch, lost)
    this.#orphaned.clear()
    for (const batch of this.#confirming) failBatch(batch, notLeader)
  }

  sweep(now: number): void {
    for (const batch of [...this.#orphaned.values(), ...this.#settling]) endOverdue(batch, now)
    for (const batch of this.#confirming) endUnconfirmed(batch, now)
  }

  /** The node stops: fates that are not known yet stay unknown. */
  stop(error: DbError): void {
    for (const batch of [...this.#orphaned.values(), ...this.#settling]) failBatch(batch, error)
  }

  #answer(batch: Batch, index: number, onAnswered?: () => void): void {
    const { requests, results } = batch
    for (const [at, { done }] of requests.entries()) {
      const result = must(results[at], 'the result of a request')
      if (result.type === 'failed') {
        this.#counters.failedRequests += 1
        const { code, message, details = {} } = result.error
        if (done !== undefined) fail(done, new DbError(code, message, { details }))
      } else if (result.isRepeat === undefined) {
        // Written out, because nearly all are of this kind and spreading costs more.
        done?.({ type: 'ok', results: result.results, index })
      } else done?.({ ...result, index })
      onAnswered?.()
    }
  }
}

/** Its entry is committed; what it gave is known to others, or to a later look at the schema. */
function outcomeLost(): DbError {
  const message =
    'the change of the schema is in the log of a majority, but the server of this node was lost ' +
    `before it told what came of it; ${MAY_TAKE_EFFECT}`
  return new DbError('COMMIT_TIMEOUT', message)
}
