/** Snapshots as followers get them, and what the leader hears of their fate (thesis chapter 5). */
import type { RaftCore } from './core.ts'
import { type ConfState, type Message, NO_ID, type RaftId, type Snapshot } from './types.ts'

/**
 * A follower got a snapshot from the leader of its term. Either way the answer says where it
 * stands.
 */
export function handleSnapshot(core: RaftCore, message: Message): void {
  const { snapshot } = message
  const isRestored = snapshot !== undefined && restore(core, snapshot)
  const index = isRestored ? core.log.lastIndex() : core.log.committed
  core.logger?.info(
    `${core.id} ${isRestored ? 'restored' : 'ignored'} the snapshot at ` +
      `${snapshot?.metadata.index} of term ${snapshot?.metadata.term}, committed ${index}`,
  )
  core.send({ type: 'append-response', to: message.from, index })
}

/**
 * A snapshot that came another way than from the leader. What it describes is committed, so it may
 * be taken in any term; whoever leads has all of that anyway. A leader that is known hears where
 * this node stands then. False if the log has these entries: nothing was replaced.
 */
export function installSnapshot(core: RaftCore, snapshot: Snapshot): boolean {
  const { index, term } = snapshot.metadata
  if (core.role === 'leader' || index <= core.log.committed) return false
  const hasIt = core.log.matches({ index, term })
  if (hasIt) {
    core.log.commitTo(index)
  } else {
    // Votes were asked for by a log that is gone now.
    if (core.role !== 'follower') core.becomeFollower(core.term, NO_ID)
    replaceLog(core, snapshot)
  }
  if (core.lead !== NO_ID) core.send({ type: 'append-response', to: core.lead, index })
  return !hasIt
}

/** The outside installed this snapshot. */
export function snapshotStored(core: RaftCore, snapshot: Snapshot): void {
  core.log.unstable.stableSnapshotTo(snapshot.metadata.index)
}

/** The outside delivered a snapshot, or failed to. */
export function reportSnapshot(core: RaftCore, id: RaftId, isDelivered: boolean): void {
  const progress = core.tracker.progress.get(id)
  if (core.role !== 'leader' || progress?.state !== 'snapshot') return
  // Without this the probe would begin after a snapshot that never arrived.
  if (!isDelivered) progress.pendingSnapshot = 0
  progress.becomeProbe()
  core.logger?.debug(`${core.id} probes ${id} after its snapshot; delivered: ${isDelivered}`)
  // After success its own answer will start the flow, after failure the next heartbeat's.
  progress.isFlowPaused = true
}

/** Replaces log and membership by the snapshot's. False if there is no need, or it can't be. */
function restore(core: RaftCore, snapshot: Snapshot): boolean {
  const { index, term, confState } = snapshot.metadata
  // Never back: what is committed was or will be applied.
  if (index <= core.log.committed) return false
  if (core.role !== 'follower') {
    // Only followers get here. Were it ever wrong, stepping down does no harm.
    core.logger?.warn(`${core.id} got a snapshot as ${core.role}`)
    core.becomeFollower(core.term + 1, 0)
    return false
  }
  if (!isMember(confState, core.id)) {
    core.logger?.warn(`${core.id} is not a member in the snapshot at ${index}`)
    return false
  }
  // Thesis 5.1: if the snapshot describes a prefix of the log, "entries following the snapshot are
  // still valid and must be retained".
  if (core.log.matches({ index, term })) {
    core.logger?.info(`${core.id} has the entry ${index} of the snapshot and commits up to it`)
    core.log.commitTo(index)
    return false
  }
  replaceLog(core, snapshot)
  return true
}

function replaceLog(core: RaftCore, snapshot: Snapshot): void {
  core.log.restore(snapshot)
  // The membership of the replaced log goes with it, even if parts of it were in force.
  core.useConfState(snapshot.metadata.confState)
}

/** Learners to be are voters of the old half, so that three lists are enough. */
function isMember(confState: ConfState, id: RaftId): boolean {
  return [confState.voters, confState.learners, confState.votersOutgoing].some(ids =>
    ids.includes(id),
  )
}
