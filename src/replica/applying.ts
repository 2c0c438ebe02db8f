/**
 * Applier: how far the engine is in the log. It hands over what is committed, on every node, and on
 * a leader it is told of the own batches that the engine commits by itself. An entry is dispatched
 * exactly once per life of the writer, and only ever after the entry before it.
 */
import { assert, must } from '../base/assert.ts'
import type { Clock, Timer } from '../base/ports.ts'
import type { EngineEntry, WriterReply } from '../engine/engine.ts'
import { isDigestPoint } from '../engine/entry.ts'
import type { ReplicatedLog } from '../log/log.ts'
import type { Opened } from './writer.ts'

const APPLICATIONS_IN_FLIGHT_MAX = 2
/** So many entries wait for no more. */
const HELD_MAX = 64

/** Entries handed to the engine while following, until it says that they are applied. */
interface Application {
  readonly lastIndex: number
  readonly lastTerm: number
  /** Last index of an entry with data, 0 if there is none and the engine isn't asked. */
  readonly dataIndex: number
}

export interface ApplierParts {
  readonly log: ReplicatedLog
  readonly clock: Clock
  readonly maxApplyBytes: number
  /** So long entries may wait for more, before they are handed over; see `Engine`. */
  readonly delayMs: number
  /** They may not: this node doesn't just follow, or somebody waits for what they bring. */
  readonly isUrgent: () => boolean
  /** They have waited long enough. */
  readonly onDue: () => void
  readonly apply: (entries: readonly EngineEntry[]) => void
  /** `applied` rose. */
  readonly onAdvanced: () => void
  /**
   * The engine has applied the log up to a digest point, and was not handed anything after it. What
   * keeps it from that must begin within this call.
   */
  readonly onDigestPoint: (index: number) => void
}

export class Applier {
  readonly #parts: ApplierParts
  #commitIndex = 0
  /** Last entry handed to the engine, and its term. */
  #dispatched = 0
  #dispatchedTerm = 0
  #applied = 0
  #applications: Application[] = []
  /** `commit` messages that this writer has not answered. */
  #commitsUnderWay = 0
  /** A digest point that was handed over and is not applied yet: nothing follows it until then. */
  #digestPoint: number | undefined
  /** When the oldest entry came that was not handed over, and what ends its wait. */
  #heldSinceMs = 0
  #timer: Timer | undefined

  constructor(parts: ApplierParts) {
    this.#parts = parts
  }

  get applied(): number {
    return this.#applied
  }

  get dispatched(): number {
    return this.#dispatched
  }

  /** Last entry known to be committed. */
  get commitIndex(): number {
    return this.#commitIndex
  }

  /** The engine has been handed all that is committed. */
  get isDispatched(): boolean {
    return this.#dispatched === this.#commitIndex
  }

  /** The engine has been handed all that is committed, up to an entry of `term`. */
  hasAllOf(term: number): boolean {
    return (
      this.#dispatched === this.#commitIndex &&
      this.#dispatchedTerm === term &&
      this.#applications.length === 0
    )
  }

  /** The log has committed up to `index`. */
  committed(index: number): void {
    if (this.isDispatched) this.#heldSinceMs = this.#parts.clock.monotonicMs()
    this.#commitIndex = index
  }

  /** A new writer begins at what its files hold. */
  opened(opened: Opened): void {
    const { term, isCommitCurrent } = this.#parts.log.status()
    this.#dispatched = opened.appliedIndex
    // With nothing left to apply no entry will come to tell the term of the last one.
    const hasAll = opened.appliedIndex === this.#commitIndex && isCommitCurrent
    this.#dispatchedTerm = hasAll ? term : 0
    this.#applied = opened.appliedIndex
    this.#digestPoint = undefined
  }

  /** Nothing is handed over any more. */
  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  /** The writer died, with all that it was told to apply. */
  lost(): void {
    this.#applications = []
    this.#commitsUnderWay = 0
  }

  /** The engine is told to commit an own batch as entry `index`. */
  commitsOwn(index: number, term: number): void {
    assert(index > this.#dispatched, `own entry ${index} after ${this.#dispatched} was dispatched`)
    for (const entry of index > this.#dispatched + 1 ? this.#between(index) : []) {
      assert(entry.type !== 'data', `entry ${entry.index} stands before the only open proposal`)
    }
    this.#commitsUnderWay += 1
    this.#dispatched = index
    this.#dispatchedTerm = term
  }

  #between(index: number): ReturnType<ReplicatedLog['read']> {
    const entries = this.#parts.log.read(this.#dispatched + 1, this.#parts.maxApplyBytes)
    return entries.filter(entry => entry.index < index)
  }

  /** The engine has committed an own batch. */
  ownCommitted(index: number): void {
    this.#advance(index)
    // All batches were sent before the entries that came after a change of role.
    this.#commitsUnderWay -= 1
    if (this.#commitsUnderWay === 0) this.#advanceOverEmpty()
  }

  /** The engine has applied entries up to here and none of those that it was handed after it. */
  stoppedAt(index: number): void {
    this.#applications = []
    this.#digestPoint = undefined
    this.#applied = index
    this.#dispatched = index
    this.#dispatchedTerm = 0
  }

  entriesApplied(reply: Extract<WriterReply, { type: 'applied' }>): void {
    const first = must(this.#applications[0], 'the entries that were applied')
    assert(first.dataIndex === reply.index, `applied ${reply.index}, not ${first.dataIndex}`)
    this.#applications.shift()
    this.#advance(first.lastIndex)
    this.#advanceOverEmpty()
  }

  /** Hands over what is committed and was not handed over yet. */
  follow(): void {
    if (this.#holds()) return
    const { log, maxApplyBytes } = this.#parts
    while (
      this.#dispatched < this.#commitIndex &&
      this.#applications.length < APPLICATIONS_IN_FLIGHT_MAX &&
      this.#digestPoint === undefined
    ) {
      const entries = this.#upToDigestPoint(log.read(this.#dispatched + 1, maxApplyBytes))
      const last = must(entries.at(-1), `entry ${this.#dispatched + 1}`)
      const data = entries.filter(({ type }) => type === 'data')
      this.#dispatched = last.index
      this.#dispatchedTerm = last.term
      const isNextToApply = this.#applications.length === 0 && this.#commitsUnderWay === 0
      if (data.length === 0 && isNextToApply) {
        this.#advance(last.index)
        continue
      }
      if (data.length > 0) this.#parts.apply(data)
      const dataIndex = data.at(-1)?.index ?? 0
      this.#applications.push({ lastIndex: last.index, lastTerm: last.term, dataIndex })
    }
  }

  /** Whether what is committed waits for more, so that the engine has one transaction for all. */
  #holds(): boolean {
    const { clock, delayMs, isUrgent, onDue } = this.#parts
    const count = this.#commitIndex - this.#dispatched
    const leftMs = this.#heldSinceMs + delayMs - clock.monotonicMs()
    if (count > 0 && count < HELD_MAX && leftMs > 0 && !isUrgent()) {
      this.#timer ??= clock.setTimer(leftMs, () => {
        this.#timer = undefined
        onDue()
      })
      return true
    }
    this.stop()
    return false
  }

  #upToDigestPoint(entries: ReturnType<ReplicatedLog['read']>): ReturnType<ReplicatedLog['read']> {
    const at = entries.findIndex(({ type, data }) => type === 'data' && isDigestPoint(data))
    if (at < 0) return entries
    this.#digestPoint = entries[at]?.index
    return entries.slice(0, at + 1)
  }

  /** Entries that the engine isn't asked to apply count once all before them are applied. */
  #advanceOverEmpty(): void {
    while (this.#applications[0]?.dataIndex === 0) {
      this.#advance(must(this.#applications.shift()).lastIndex)
    }
  }

  #advance(index: number): void {
    this.#applied = index
    this.#parts.onAdvanced()
    if (index !== this.#digestPoint) return
    this.#parts.onDigestPoint(index)
    this.#digestPoint = undefined
  }
}
