/**
 * Campaigns that the core's own timeouts would begin too late. The core waits for a whole election
 * timeout, because silence alone says little, and after an election without a winner for another
 * one. But often more is known: that the leader's process has ended, that a campaign has failed, or
 * that the only one who campaigns can't win. Then this node asks soon, after a short time by
 * chance, and for pre-votes first, which cost nobody anything who hears a leader.
 */
import type { Clock, Random, Timer } from '../base/ports.ts'
import type { RawNode } from '../raft/raw-node.ts'
import { type Message, NO_ID } from '../raft/types.ts'
import type { PeerContact } from './peers.ts'

/**
 * First attempts are spread over this part of the election timeout, so that of several only one is
 * made. One that failed is repeated within the same time, the next within twice as much, …
 */
const SPREAD = 0.4

export interface CampaignsParts {
  readonly node: RawNode
  readonly clock: Clock
  readonly random: Random
  readonly electionMs: number
  readonly heartbeatMs: number
  readonly contact: (raftId: number) => PeerContact
  /** Does what the core has to do after a step. */
  readonly process: () => void
}

export class Campaigns {
  readonly #parts: CampaignsParts
  #timer: Timer | undefined
  /** Attempts since there was a leader. */
  #attempts = 0
  /** The term of the last own candidacy that somebody voted against. */
  #refusedTerm = 0

  constructor(parts: CampaignsParts) {
    this.#parts = parts
  }

  /** Called with every tick, and after every message. */
  look(): void {
    const { node } = this.#parts
    if (node.role === 'follower' && node.lead !== NO_ID && this.#isGone(node.lead)) {
      // From here on it votes for others, too: it waits for no lease of the one that is gone.
      node.forgetLeader()
      this.#plan(0)
    } else if (node.role === 'leader' || node.lead !== NO_ID) {
      this.stop()
    } else if (node.role === 'pre-candidate') {
      // The core's own timeout is over.
      this.#planAgain()
    }
  }

  /** After the step of a message about campaigns. */
  heard(message: Message): void {
    const { node, electionMs } = this.#parts
    const { type, from, term, index, logTerm } = message
    if (message.reject && (type === 'pre-vote-response' || type === 'vote-response')) {
      if (type === 'vote-response' && term === node.term) this.#refusedTerm = term
      if (node.lead === NO_ID) this.#planAgain()
    } else if (type === 'vote' && node.term === term && node.status().vote === from) {
      // Somebody is further: its votes need their time.
      this.stop()
    } else if (type === 'pre-vote' && node.role === 'follower' && term >= node.term) {
      if (node.lead !== NO_ID && this.#silenceMs(node.lead) < electionMs) return
      if (node.log.isUpToDate({ index, term: logTerm })) return
      // That one can't win against this log, and would not be the last to try.
      node.forgetLeader()
      this.#plan(0)
    }
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#attempts = 0
  }

  /**
   * Its process has ended: nobody listens at its address, no connection to it is left, and the
   * heartbeat that was due has not come either. A machine that vanished, or a network that lets
   * nothing through, says nothing of the kind.
   */
  #isGone(raftId: number): boolean {
    const { contact, heartbeatMs } = this.#parts
    return contact(raftId).isAbsent && this.#silenceMs(raftId) > heartbeatMs
  }

  #silenceMs(raftId: number): number {
    const { contact, clock } = this.#parts
    const { lastFrameMs } = contact(raftId)
    return lastFrameMs === undefined ? Infinity : clock.monotonicMs() - lastFrameMs
  }

  #planAgain(): void {
    const { electionMs } = this.#parts
    this.#attempts = Math.max(1, this.#attempts)
    const mostMs = Math.min(electionMs, electionMs * SPREAD * 2 ** (this.#attempts - 1))
    this.#plan(mostMs / 3, mostMs)
  }

  #plan(leastMs: number, mostMs = this.#parts.electionMs * SPREAD): void {
    if (this.#timer !== undefined) return
    const { clock, random } = this.#parts
    const delayMs = leastMs + random.below(Math.max(1, Math.ceil(mostMs - leastMs)))
    this.#timer = clock.setTimer(delayMs, () => {
      this.#timer = undefined
      this.#try()
    })
  }

  #try(): void {
    const { node, process } = this.#parts
    if (node.role === 'leader' || node.lead !== NO_ID) return this.stop()
    // Votes may be on their way, from slow disks: asking again would throw them away.
    if (node.role === 'candidate' && this.#refusedTerm !== node.term) return
    this.#attempts += 1
    node.campaign()
    this.#planAgain()
    process()
  }
}
