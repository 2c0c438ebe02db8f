/**
 * A planned hand-over of leadership that fails no write. First no new batch begins: what waits and
 * what still comes is held. The batch in flight is finished and answered. Then leadership goes to
 * the most advanced healthy voter, and what is held goes there too (call-router.ts). If it does
 * not go, this node leads on and takes up what it held.
 */
import { DbError } from '../base/errors.ts'
import type { Clock, Timer } from '../base/ports.ts'
import type { ReplicatedLog, Role } from '../log/log.ts'
import type { MemberReport } from './types.ts'

/** How often it is looked whether the next step can be taken. */
const STEP_MS = 2
/** The log gives up a transfer after an election timeout; then another voter is asked. */
const ASK_AGAIN_MS = 1000

export type HandOverCallback = (error: DbError | undefined) => void

export interface HandOverParts {
  readonly raftId: number
  readonly log: Pick<ReplicatedLog, 'status' | 'transferLeadership'>
  readonly clock: Clock
  /** No batch is executed or replicated, and nobody waits for the answer to one. */
  readonly isDrained: () => boolean
  readonly heard: () => ReadonlyMap<number, MemberReport>
  /** What was held may go on here. */
  readonly onResumed: () => void
}

/** Who is to lead: this voter, one that has room on its disk, or the best one (undefined). */
export type HandOverTarget = number | 'with-room' | undefined

interface Running {
  readonly target: HandOverTarget
  readonly deadlineMs: number
  readonly done: HandOverCallback
  /** Voters that were asked and did not take over. */
  readonly asked: Set<number>
  askedAtMs: number | undefined
}

export class HandOver {
  readonly #parts: HandOverParts
  #running: Running | undefined
  #timer: Timer | undefined

  constructor(parts: HandOverParts) {
    this.#parts = parts
  }

  /** True while no new batch may begin. */
  get isHolding(): boolean {
    return this.#running !== undefined
  }

  /**
   * Hands leadership to `target`. `done` is called once, without an error when this node does not
   * lead any more.
   */
  begin(target: HandOverTarget, timeoutMs: number, done: HandOverCallback): void {
    if (this.#parts.log.status().role !== 'leader') return done(undefined)
    if (this.#running !== undefined) {
      return done(new DbError('MEMBERS_BUSY', 'this node is handing over already'))
    }
    const refusal = this.#refusal(target)
    if (refusal !== undefined) return done(refusal)
    const deadlineMs = this.#parts.clock.monotonicMs() + timeoutMs
    this.#running = { target, deadlineMs, done, asked: new Set(), askedAtMs: undefined }
    this.#step()
  }

  roleChanged(role: Role): void {
    if (role !== 'leader') this.#end(undefined)
  }

  stop(): void {
    this.#end(new DbError('SHUTTING_DOWN', 'this node is stopping'))
  }

  #step(): void {
    const running = this.#running
    if (running === undefined) return
    const now = this.#parts.clock.monotonicMs()
    if (now >= running.deadlineMs) {
      const what = running.askedAtMs === undefined ? 'a write is still under way' : 'nobody took it'
      this.#end(new DbError('MEMBERS_BUSY', `leadership could not be handed over: ${what}`))
      return
    }
    const isToAsk = running.askedAtMs === undefined || now - running.askedAtMs > ASK_AGAIN_MS
    if (isToAsk && this.#parts.isDrained()) this.#ask(running, now)
    // Asked within this call, the others can't have answered yet.
    this.#timer = this.#parts.clock.setTimer(STEP_MS, () => this.#step())
  }

  #ask(running: Running, now: number): void {
    const candidates = this.#candidates(running.target)
    const fresh = candidates.filter(raftId => !running.asked.has(raftId))
    const next = fresh[0] ?? candidates[0]
    if (next === undefined) return
    running.asked.add(next)
    running.askedAtMs = now
    this.#parts.log.transferLeadership(undefined, next)
  }

  #end(error: DbError | undefined): void {
    const running = this.#running
    if (running === undefined) return
    this.#timer?.cancel()
    this.#running = undefined
    running.done(error)
    this.#parts.onResumed()
  }

  /** Why it makes no sense to begin. */
  #refusal(target: HandOverTarget): DbError | undefined {
    const { membership } = this.#parts.log.status()
    if (membership.voters.every(raftId => raftId === this.#parts.raftId)) {
      const message = 'there is no other voter that could lead; promote a learner first'
      return new DbError('MEMBERS_REFUSED', message)
    }
    if (typeof target === 'number' && !membership.voters.includes(target)) {
      return new DbError('MEMBERS_REFUSED', 'only a voter can lead; promote the node first')
    }
    if (this.#candidates(target).length > 0) return undefined
    const message =
      typeof target === 'number'
        ? 'the node is not connected, not healthy or short of room, and could not take over'
        : 'no other voter is connected and healthy, so that nobody could take over'
    return new DbError('MEMBERS_BUSY', message)
  }

  /** Voters that could take over, those with room first, and then the most advanced. */
  #candidates(target: HandOverTarget): number[] {
    const { raftId: self, log, heard } = this.#parts
    const { membership, peers } = log.status()
    const reports = heard()
    const applied = (raftId: number): number => reports.get(raftId)?.appliedIndex ?? 0
    const isShort = (raftId: number): boolean => reports.get(raftId)?.isShortOfRoom === true
    return peers
      .filter(({ raftId, isConnected }) => {
        const isMeant = typeof target !== 'number' || raftId === target
        // As the best one of all it may lead without room: the others have none either.
        const mayBe = target === undefined || !isShort(raftId)
        const isHeard = target !== 'with-room' || reports.has(raftId)
        const isVoter = membership.voters.includes(raftId)
        const isHealthy = reports.get(raftId)?.isDiverged !== true
        if (raftId === self || !isMeant || !isVoter || !isConnected) return false
        return isHealthy && mayBe && isHeard
      })
      .toSorted((a, b) => {
        const byRoom = Number(isShort(a.raftId)) - Number(isShort(b.raftId))
        if (byRoom !== 0) return byRoom
        const byLog = (b.matchIndex ?? 0) - (a.matchIndex ?? 0)
        return byLog === 0 ? applied(b.raftId) - applied(a.raftId) : byLog
      })
      .map(({ raftId }) => raftId)
  }
}
