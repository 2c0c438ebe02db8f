/** OwnProposals: what this node has proposed as the leader of the current term. */
import { Histogram } from '../base/histogram.ts'
import type { Entry } from '../raft/types.ts'
import type { OwnEntry, ProposalNumber } from './log.ts'

export class OwnProposals {
  /** How long the disk took with each write of entries, those of others too. */
  readonly flushes: Histogram = new Histogram()
  /** By their index. */
  readonly #open = new Map<number, OwnEntry>()
  #next: ProposalNumber = 1

  /** The number of the next one. */
  get next(): ProposalNumber {
    return this.#next
  }

  /** Entry `index` is proposed. */
  add(index: number): ProposalNumber {
    const proposal = this.#next
    this.#next += 1
    this.#open.set(index, { proposal, index, flushedMs: 0 })
    return proposal
  }

  /** The disk has kept entries that it was given at `askedMs`. */
  flushed(entries: readonly Entry[], term: number, askedMs: number, nowMs: number): void {
    if (entries.length === 0) return
    this.flushes.observe(nowMs - askedMs)
    for (const entry of this.#open.size === 0 ? [] : entries) {
      const own = entry.term === term ? this.#open.get(entry.index) : undefined
      if (own !== undefined) this.#open.set(entry.index, { ...own, flushedMs: nowMs })
    }
  }

  /** Entry `index` is committed: the proposal that it was, if it was one. */
  take(index: number): OwnEntry | undefined {
    const own = this.#open.get(index)
    this.#open.delete(index)
    return own
  }

  /** Another term: what is open may be committed as any other entry, or not at all. */
  clear(): void {
    this.#open.clear()
  }
}
