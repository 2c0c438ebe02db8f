/**
 * Snapshots as the log sees them: places in it, never the data. A leader offers the newest place to
 * a follower whose next entry is gone; the follower fetches the data in its own time, from whom it
 * likes, and takes the place into its log when it has them. The leader forgets an offer after a few
 * seconds and asks again where the follower is, so that nothing is lost if a word of either is.
 */
import { assert } from '../base/assert.ts'
import type { RawNode } from '../raft/raw-node.ts'
import type { Message } from '../raft/types.ts'
import { createMessage } from '../raft/types.ts'
import type { SnapshotPoint } from './log.ts'
import { toSnapshot } from './membership.ts'

/** Long enough to let a small snapshot be taken, short enough to notice a follower that is back. */
const OFFER_MS = 3000

interface Install {
  readonly index: number
  readonly done: (isTaken: boolean) => void
}

export class SnapshotTraffic {
  readonly #node: RawNode
  readonly #nowMs: () => number
  /** When each follower was made its last offer. */
  readonly #offeredAtMs = new Map<number, number>()
  /** The first place offered to each follower since the log last led it on: it may take that. */
  readonly #offeredIndex = new Map<number, number>()
  #installs: Install[] = []

  constructor(node: RawNode, nowMs: () => number) {
    this.#node = node
    this.#nowMs = nowMs
  }

  /** The offer as it goes out: with the index that this log begins after. */
  offer(message: Message, baseIndex: number): Message {
    const { to, snapshot } = message
    assert(snapshot !== undefined, 'an offer of a snapshot does not name one')
    this.#offeredAtMs.set(to, this.#nowMs())
    if (!this.#offeredIndex.has(to)) this.#offeredIndex.set(to, snapshot.metadata.index)
    return { ...message, index: baseIndex }
  }

  /** As leader: the oldest snapshot that this follower may be about to take, if it needs one. */
  offeredIndex(to: number): number | undefined {
    return this.#offeredIndex.get(to)
  }

  /** Offers that led to nothing in time are taken back: the follower is asked where it is. */
  sweep(): void {
    for (const to of this.#offeredIndex.keys()) {
      const state = this.#node.progressState(to)
      if (state === undefined || state === 'replicate') this.#offeredIndex.delete(to)
    }
    for (const [to, atMs] of this.#offeredAtMs) {
      const isOpen = this.#node.progressState(to) === 'snapshot'
      if (isOpen && atMs + OFFER_MS > this.#nowMs()) continue
      this.#offeredAtMs.delete(to)
      if (isOpen) this.#node.reportSnapshot(to, false)
    }
  }

  /** An offer could not be sent, or may have been lost. */
  undeliverable(to: number): void {
    this.#offeredAtMs.delete(to)
    this.#node.reportSnapshot(to, false)
  }

  /**
   * The offer of a leader: the index that a snapshot is needed from, or undefined if the log can go
   * on without one; then the leader was told so.
   */
  received(message: Message): number | undefined {
    const { snapshot, term, from, index: baseIndex } = message
    assert(snapshot !== undefined, 'an offer of a snapshot does not name one')
    const node = this.#node
    const { metadata } = snapshot
    const { committed } = node.log
    const hasIt = node.log.term(metadata.index) === metadata.term
    // The core answers an old offer, and one of what it has, by itself.
    if (term < node.term || metadata.index <= committed || hasIt) {
      node.step(message)
      return undefined
    }
    if (committed < baseIndex) return metadata.index
    // The leader's log reaches back to what is committed here, only it doesn't know: a snapshot was
    // taken, and the word of that was lost. Answered as a probe is that follows the last of it.
    const logTerm = node.log.term(committed)
    assert(typeof logTerm === 'number', `the term of the committed entry ${committed} is gone`)
    const to = node.status().id
    node.step(createMessage({ type: 'append', from, to, term, index: committed, logTerm }))
    return undefined
  }

  /** Puts the beginning of the log after `point`; false if the log has these entries anyway. */
  install(point: SnapshotPoint, done: (isTaken: boolean) => void): boolean {
    const isTaken = this.#node.installSnapshot(toSnapshot(point))
    if (isTaken) this.#installs.push({ index: point.index, done })
    else done(false)
    return isTaken
  }

  /** The log on disk begins after `index` or later. */
  stored(index: number): void {
    const ready = this.#installs.filter(install => install.index <= index)
    this.#installs = this.#installs.filter(install => install.index > index)
    for (const { done } of ready) done(true)
  }
}
