/**
 * Leadership transfer (thesis 3.10): the leader stops taking proposals, brings the chosen voter up
 * to date and tells it to campaign at once.
 */
import type { RaftCore } from './core.ts'
import type { Progress } from './progress.ts'
import { sendAppend } from './sending.ts'
import { NO_ID, type RaftId } from './types.ts'

/** A leader was asked to hand over to the node that `progress` is of. */
export function startTransfer(core: RaftCore, to: RaftId, progress: Progress): void {
  if (progress.isLearner) {
    core.logger?.debug(`${core.id} can't hand leadership to learner ${to}`)
    return
  }
  if (core.leadTransferee === to) {
    core.logger?.info(`${core.id} is handing leadership to ${to} already`)
    return
  }
  if (core.leadTransferee !== NO_ID) {
    core.logger?.info(`${core.id} no longer hands leadership to ${core.leadTransferee}`)
    core.leadTransferee = NO_ID
  }
  if (to === core.id) {
    core.logger?.debug(`${core.id} leads already`)
    return
  }
  core.logger?.info(`${core.id} begins to hand leadership to ${to} at term ${core.term}`)
  // "If leadership transfer does not complete after about an election timeout, the prior leader
  // aborts the transfer and resumes accepting client requests."
  core.electionElapsed = 0
  core.leadTransferee = to
  if (progress.match === core.log.lastIndex()) sendTimeoutNow(core, to)
  else sendAppend(core, to)
}

/** Tells a node that has every entry to campaign without waiting. */
export function sendTimeoutNow(core: RaftCore, to: RaftId): void {
  core.isLeaseGivenUp = true
  core.send({ type: 'timeout-now', to })
}
