/**
 * Log replication (thesis 3.5, 3.6): what followers do with append messages and heartbeats, what
 * the leader learns from the answers, and when it commits.
 */
import type { RaftCore } from './core.ts'
import { payloadsSizeBytes } from './entries.ts'
import type { Progress } from './progress.ts'
import { confirmReads, releaseEarlyReads } from './reads.ts'
import { broadcastAppend, maybeSendAppend, sendAppend } from './sending.ts'
import { sendTimeoutNow } from './transfer.ts'
import type { Entry, Message, RaftId } from './types.ts'

/**
 * Appends a leader's own entries, giving them term and index. Returns false, and appends nothing,
 * if too much is uncommitted already; entries without payload are always taken.
 */
export function appendOwnEntries(core: RaftCore, drafts: readonly Entry[]): boolean {
  const sizeBytes = payloadsSizeBytes(drafts)
  // A single proposal may be larger than the limit, or it could never be made.
  if (
    core.uncommittedBytes > 0 &&
    sizeBytes > 0 &&
    core.uncommittedBytes + sizeBytes > core.config.maxUncommittedBytes
  ) {
    core.logger?.warn(`${core.id} drops a proposal of ${sizeBytes} bytes: too much is uncommitted`)
    return false
  }
  core.uncommittedBytes += sizeBytes
  const lastIndex = core.log.lastIndex()
  const entries = drafts.map((draft, position): Entry => ({
    term: core.term,
    index: lastIndex + 1 + position,
    type: draft.type,
    data: draft.data,
  }))
  const index = core.log.append(entries)
  // Thesis 10.2.1: "the leader uses its own match index to indicate the latest entry to have been
  // durably written to its disk". This message waits for the disk like any follower's, and raises
  // it.
  core.send({ type: 'append-response', to: core.id, index })
  return true
}

/**
 * Thesis 3.6.2: "only log entries from the leader's current term are committed by counting
 * replicas; once an entry from the current term has been committed in this way, then all prior
 * entries are committed indirectly". True if the commit index moved.
 */
export function maybeCommit(core: RaftCore): boolean {
  return core.log.maybeCommit({ index: core.tracker.committedIndex(), term: core.term })
}

/** A follower got entries from the leader of its term. */
export function handleAppend(core: RaftCore, message: Message): void {
  const { from, index, logTerm } = message
  if (index < core.log.committed) {
    // An old message: everything up to the commit index agrees anyway.
    core.send({ type: 'append-response', to: from, index: core.log.committed })
    return
  }
  const lastNewIndex = core.log.maybeAppend(
    { index, term: logTerm },
    message.entries,
    message.commit,
  )
  if (lastNewIndex !== undefined) {
    core.send({ type: 'append-response', to: from, index: lastNewIndex })
    return
  }
  core.logger?.debug(
    `${core.id} rejects entries after ${index} of term ${logTerm} from ${from}; ` +
      `its own term there is ${core.log.termOrZero(index)}`,
  )
  // Thesis 3.5: "the follower can include the term of the conflicting entry and the first index it
  // stores for that term". Ours says where the logs may agree at best: every entry of a later term
  // than the leader has at `index` can be skipped, because terms never go down within a log.
  const hint = core.log.findConflictByTerm(Math.min(index, core.log.lastIndex()), logTerm)
  core.send({
    type: 'append-response',
    to: from,
    index,
    reject: true,
    rejectHint: hint.index,
    logTerm: hint.term,
  })
}

/** A follower heard its leader. */
export function handleHeartbeat(core: RaftCore, message: Message): void {
  core.log.commitTo(message.commit)
  core.send({ type: 'heartbeat-response', to: message.from, context: message.context })
}

/** The leader heard what became of entries, also of those on its own disk. */
export function handleAppendResponse(core: RaftCore, message: Message, progress: Progress): void {
  progress.isRecentlyActive = true
  if (message.reject) handleRejection(core, message, progress)
  else handleAcknowledgement(core, message, progress)
}

function handleRejection(core: RaftCore, message: Message, progress: Progress): void {
  const { from, index, rejectHint, logTerm } = message
  core.logger?.debug(
    `${core.id} hears from ${from} that entries after ${index} don't fit ` +
      `(hint: ${rejectHint} of term ${logTerm})`,
  )
  // The mirror of the follower's hint: the follower has `logTerm` at the hint, so nothing up to
  // there can agree where this log's term is later. At most one probe for each term of this log is
  // needed.
  const guess = logTerm > 0 ? core.log.findConflictByTerm(rejectHint, logTerm).index : rejectHint
  if (!progress.maybeDecrease(index, guess)) return
  if (progress.state === 'replicate') progress.becomeProbe()
  sendAppend(core, from)
}

function handleAcknowledgement(core: RaftCore, message: Message, progress: Progress): void {
  const { from, index } = message
  // A probe of a follower that has everything already tells nothing new, but ends the probing. The
  // answer acknowledges at least the entry that the probe followed; index 0 may also be a node's
  // way to tell an older leader (this node itself, once) of a later term, and answers nothing.
  const isProbeAnswered =
    progress.state === 'probe' && progress.match === index && index >= progress.next - 1
  if (!progress.maybeUpdate(index) && !isProbeAnswered) return

  if (progress.state === 'probe') {
    progress.becomeReplicate()
  } else if (progress.state === 'snapshot') {
    // Whatever snapshot it installed, ours or another: it can go on from the log.
    if (progress.match + 1 >= core.log.firstIndex()) {
      core.logger?.debug(`${core.id} sends entries to ${from} again, after its snapshot`)
      progress.becomeProbe()
      progress.becomeReplicate()
    }
  } else {
    progress.inflights.freeUpTo(index)
  }

  if (maybeCommit(core)) {
    releaseEarlyReads(core)
    broadcastAppend(core)
  } else if (from !== core.id && progress.canBumpCommit(core.log.committed)) {
    // Heartbeats would tell it too, but later.
    sendAppend(core, from)
  }
  if (from === core.id) return
  // The window moved: fill it. Empty messages would only repeat the commit index.
  while (maybeSendAppend(core, from, false));
  if (from === core.leadTransferee && progress.match === core.log.lastIndex()) {
    core.logger?.info(`${core.id} hands leadership to ${from}, which has caught up`)
    sendTimeoutNow(core, from)
  }
}

/** The leader heard that a follower is there. */
export function handleHeartbeatResponse(
  core: RaftCore,
  message: Message,
  progress: Progress,
): void {
  progress.isRecentlyActive = true
  progress.isFlowPaused = false
  // Whatever was sent before this heartbeat may be lost: send again what isn't acknowledged, even
  // if that is nothing, as long as the follower is probed and the answer can end that.
  if (progress.match < core.log.lastIndex() || progress.state === 'probe') {
    sendAppend(core, message.from)
  }
  if (message.context.length > 0) confirmReads(core, message)
}

/** The outside could not deliver a message: the window may have lost entries. */
export function reportUnreachable(core: RaftCore, id: RaftId): void {
  const progress = core.tracker.progress.get(id)
  if (core.role !== 'leader' || progress === undefined) return
  if (progress.state === 'replicate') progress.becomeProbe()
  core.logger?.debug(`${core.id} can't reach ${id} and probes it again`)
}
