/**
 * What a node's log held and had flushed, as seen from outside: so that the next life can be held to
 * it, and so that each entry is looked at once, when it is new.
 */
import type { Entry } from '../src/raft/types.ts'
import type { Wal } from '../src/wal/wal.ts'
import { check } from './world.ts'

type OnAppended = (
  entries: readonly Entry[],
  replaced: (index: number) => number | undefined,
) => void

export class LogMirror {
  /** Terms by index; those up to the base are gone. */
  readonly #terms: (number | undefined)[] = [0]
  #baseIndex = 0
  #flushedIndex = 0

  /** Looks at what is new in the log. */
  follow(wal: Wal, onAppended: OnAppended): void {
    const lastIndex = wal.lastIndex()
    const baseIndex = wal.firstIndex() - 1
    // By log matching, what agrees at one index agrees before it.
    let agreed = Math.min(lastIndex, this.#terms.length - 1)
    while (agreed > baseIndex && this.#terms[agreed] !== wal.term(agreed)) agreed--
    if (agreed < baseIndex) {
      // A snapshot covers what was never seen here.
      const term = wal.term(baseIndex)
      check(typeof term === 'number', () => `the base ${baseIndex} of the log has no term`)
      this.#terms.length = baseIndex
      this.#terms.push(Number(term))
      agreed = baseIndex
    }
    if (agreed < lastIndex || this.#terms.length - 1 > lastIndex) {
      const entries = wal.entries(agreed + 1, lastIndex + 1, Number.POSITIVE_INFINITY)
      check(typeof entries !== 'string', () => `new entries from ${agreed + 1} on are gone`)
      const before = this.#terms.splice(agreed + 1)
      if (typeof entries !== 'string' && entries.length > 0) {
        onAppended(entries, index => before[index - agreed - 1])
        for (const entry of entries) this.#terms[entry.index] = entry.term
      }
    }
    this.#baseIndex = baseIndex
    // A new life calls nothing flushed before it has flushed it again, but what was is still there.
    this.#flushedIndex = Math.max(Math.min(this.#flushedIndex, agreed), wal.flushedIndex())
  }

  /** The term on disk at `index`, by the word of the last life. */
  durableTerm(index: number): number | 'covered' | undefined {
    if (index <= this.#baseIndex) return 'covered'
    return index <= this.#flushedIndex ? this.#terms[index] : undefined
  }

  /** What was only in memory is forgotten; it may be found again, or not. */
  lifeEnded(): void {
    this.#terms.length = Math.max(this.#baseIndex, this.#flushedIndex) + 1
  }

  /** A new life has read its log: everything that was flushed is there. */
  recovered(wal: Wal, node: number): void {
    const base = wal.firstIndex() - 1
    check(
      base <= Math.max(this.#baseIndex, this.#flushedIndex),
      () => `node ${node} lost entries up to ${base}, flushed were ${this.#flushedIndex}`,
    )
    for (let index = base; index <= this.#flushedIndex; index++) {
      const [before, now] = [this.#terms[index], wal.term(index)]
      if (before === undefined) continue
      check(
        before === now,
        () => `node ${node} flushed entry ${index} of term ${before} and finds ${now}`,
      )
    }
  }
}
