/**
 * A leader whose disk takes longer than others wait for a leader makes everybody wait who needs it.
 * If others have on disk what it has not, one of them leads better; if all are slow, a change of
 * leader would only add to it.
 */
import type { RawNode } from '../raft/raw-node.ts'

/** What a leader should do about its disk. */
export type DiskVerdict = 'fine' | 'hand-over' | 'step-down'

export class DiskWatch {
  readonly #node: RawNode
  readonly #patienceMs: number
  /** When each write that is not on disk yet was asked for, in the order of the calls. */
  readonly #askedAtMs: number[] = []
  #slowSinceMs: number | undefined
  #lookedAtMs = -Infinity

  constructor(node: RawNode, patienceMs: number) {
    this.#node = node
    this.#patienceMs = patienceMs
  }

  asked(nowMs: number): void {
    this.#askedAtMs.push(nowMs)
  }

  /** The oldest of them is on disk. */
  done(): void {
    this.#askedAtMs.shift()
  }

  /** For how long the oldest one has waited, 0 if none does. */
  lagMs(nowMs: number): number {
    return nowMs - (this.#askedAtMs[0] ?? nowMs)
  }

  /** Called with every tick. Whoever is told to hand over and can't is told to step down. */
  verdict(nowMs: number): DiskVerdict {
    // After a stall of this very process what the disk has done waits unread: judge the next time.
    const wasAwake = nowMs - this.#lookedAtMs < this.#patienceMs / 2
    this.#lookedAtMs = nowMs
    const isLate = wasAwake && this.lagMs(nowMs) > this.#patienceMs
    const isSlow = this.#node.role === 'leader' && isLate
    if (!isSlow || !this.#isBehindOthers()) {
      this.#slowSinceMs = undefined
      return 'fine'
    }
    if (this.#slowSinceMs === undefined) {
      this.#slowSinceMs = nowMs
      return 'hand-over'
    }
    return nowMs - this.#slowSinceMs > this.#patienceMs ? 'step-down' : 'fine'
  }

  #isBehindOthers(): boolean {
    const { id, progress } = this.#node.status()
    const own = progress.get(id)?.match ?? 0
    return [...progress.values()].some(({ match, isLearner }) => !isLearner && match > own)
  }
}
