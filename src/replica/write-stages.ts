/**
 * WriteStages: where the time of a write goes, from its request to its answer. What a batch goes
 * through together is measured once and counted for each of its writes, so that the means of all
 * stages add up to the mean of the whole, and their percentiles are what a write meets.
 */
import { Histogram } from '../base/histogram.ts'

/** The stages in their order, each from the end of the one before it. */
export const WRITE_STAGES = {
  receive: 'on the node that its client asked: from the head of the request to its routing',
  forward: 'there, if it does not lead: until the answer of the leader came',
  wait: 'on the leader from here on: in the queue, until its batch begins',
  execute: 'the batch is with the writer process, which executes it',
  append: 'its entry is put into the log, and handed to the disk and to the other nodes',
  flush: "until the leader's own disk has kept it",
  quorum: 'until a majority has kept it, as far as that took longer',
  commit: 'until the writer process has committed it',
  answer: 'until its answer was handed over; those of one batch go one after the other',
} as const

export type WriteStage = keyof typeof WRITE_STAGES

/** When a batch was where, by the monotonic clock; 0 for what has not come yet. */
export interface BatchTimes {
  readonly startedMs: number
  executedMs: number
  /** Its entry is in the log and was handed to all disks. */
  appendedMs: number
  /** The leader's own disk has kept it. */
  flushedMs: number
  /** A majority has kept it. */
  committedMs: number
  readonly requests: readonly { readonly arrivedMs: number }[]
}

export class WriteStages {
  readonly histograms: Readonly<Record<WriteStage, Histogram>> = {
    receive: new Histogram(),
    forward: new Histogram(),
    wait: new Histogram(),
    execute: new Histogram(),
    append: new Histogram(),
    flush: new Histogram(),
    quorum: new Histogram(),
    commit: new Histogram(),
    answer: new Histogram(),
  }

  /** A client's request has come so far that it is passed on or queued. */
  received(durationMs: number): void {
    this.histograms.receive.observe(durationMs)
  }

  /** The leader has answered a write that this node passed on, and so did this node. */
  forwarded(forwardMs: number, answerMs: number): void {
    this.histograms.forward.observe(forwardMs)
    this.histograms.answer.observe(answerMs)
  }

  /** The engine has committed a batch, whose clients are answered next. */
  committed(batch: BatchTimes, nowMs: number): void {
    const { wait, execute, append, flush, quorum, commit } = this.histograms
    const { startedMs, executedMs, committedMs } = batch
    // A group of one may commit its entry, and have it on its disk, within the call that appends.
    const appendedMs = Math.min(batch.appendedMs, committedMs)
    const flushedMs = Math.min(Math.max(batch.flushedMs, appendedMs), committedMs)
    const count = batch.requests.length
    for (const { arrivedMs } of batch.requests) wait.observe(startedMs - arrivedMs)
    execute.observe(executedMs - startedMs, count)
    append.observe(appendedMs - executedMs, count)
    flush.observe(flushedMs - appendedMs, count)
    quorum.observe(committedMs - flushedMs, count)
    commit.observe(nowMs - committedMs, count)
  }
}
