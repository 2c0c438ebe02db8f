/**
 * What a leader sends on its own account: entries, snapshots and signs of life. Whether a follower
 * may be sent anything, and from where, its progress says.
 */
import { assert, must } from '../base/assert.ts'
import type { RaftCore } from './core.ts'
import { payloadsSizeBytes } from './entries.ts'
import type { Progress } from './progress.ts'
import type { Entry, RaftId } from './types.ts'

/** Sends what a follower lacks; an empty message if it lacks nothing, to carry the commit index. */
export function sendAppend(core: RaftCore, to: RaftId): void {
  maybeSendAppend(core, to, true)
}

/**
 * Sends the next entries to a follower unless it is held back. False if nothing was sent, because
 * of that or because there is nothing to send and an empty message is not wanted.
 */
export function maybeSendAppend(core: RaftCore, to: RaftId, sendIfEmpty: boolean): boolean {
  const progress = must(core.tracker.progress.get(to), `progress of ${to}`)
  if (progress.isPaused) return false

  const previousIndex = progress.next - 1
  const previousTerm = core.log.term(previousIndex)
  // What it needs next was compacted away: only a snapshot can help.
  if (typeof previousTerm !== 'number') return sendSnapshot(core, to, progress)

  let entries: readonly Entry[] | 'compacted' = []
  // With a full window only empty messages go out, one per heartbeat. They must: if all messages of
  // the window were lost, the answer to an empty one is what shows it.
  if (progress.state !== 'replicate' || !progress.inflights.isFull) {
    entries = core.log.entriesFrom(progress.next, core.config.maxSizePerMessageBytes)
  }
  if (entries === 'compacted') return sendSnapshot(core, to, progress)
  if (entries.length === 0 && !sendIfEmpty) return false

  core.send({
    type: 'append',
    to,
    index: previousIndex,
    logTerm: previousTerm,
    entries,
    commit: core.log.committed,
  })
  progress.sentEntries(entries.length, payloadsSizeBytes(entries))
  progress.sentCommit(core.log.committed)
  return true
}

/** Sends what they lack to all others. */
export function broadcastAppend(core: RaftCore): void {
  for (const id of core.tracker.progress.keys()) {
    if (id !== core.id) sendAppend(core, id)
  }
}

/** A sign of life to all others; if reads wait, their answers confirm them too. */
export function broadcastHeartbeat(core: RaftCore): void {
  const context = core.reads.heartbeatContext()
  for (const [id, progress] of core.tracker.progress) {
    if (id !== core.id) sendHeartbeat(core, id, progress, context)
  }
}

function sendHeartbeat(core: RaftCore, to: RaftId, progress: Progress, context: Uint8Array): void {
  // A follower may have entries of a deposed leader beyond what is known to match. A heartbeat says
  // nothing about entries, so it must never commit further than that.
  const commit = Math.min(progress.match, core.log.committed)
  core.send({ type: 'heartbeat', to, commit, context })
  progress.sentCommit(commit)
}

/** Sends a snapshot to a follower that can't be fed from the log. False if it can't be now. */
function sendSnapshot(core: RaftCore, to: RaftId, progress: Progress): boolean {
  // Somebody who isn't there would only keep the snapshot waiting.
  if (!progress.isRecentlyActive) {
    core.logger?.debug(`${core.id} sends no snapshot to ${to}, which was not heard of lately`)
    return false
  }
  const snapshot = core.log.snapshot()
  if (snapshot === 'unavailable') {
    core.logger?.debug(`${core.id} has no snapshot for ${to} yet`)
    return false
  }
  const { index, term } = snapshot.metadata
  assert(index > 0, `an empty snapshot can't help node ${to}, which needs index ${progress.next}`)
  core.logger?.debug(`${core.id} sends its snapshot at ${index} of term ${term} to ${to}`)
  progress.becomeSnapshot(index)
  core.send({ type: 'snapshot', to, snapshot })
  return true
}
