/**
 * All mutations. `sim/mutants.ts` runs them; a test sees to it that each still fits its file.
 */
import type { Mutation } from './mutation.ts'
import { CONSENSUS_MUTATIONS } from './mutations-consensus.ts'
import { DIGEST_MUTATIONS } from './mutations-digests.ts'
import { DISK_MUTATIONS } from './mutations-disk.ts'
import { IDS_MUTATIONS } from './mutations-ids.ts'
import { LOG_MUTATIONS } from './mutations-log.ts'
import { RECOVERY_MUTATIONS } from './mutations-recovery.ts'
import { TRANSACTION_MUTATIONS } from './mutations-transactions.ts'

/** In the order of docs/internals/testing.md. */
export const MUTATIONS: readonly Mutation[] = [
  ...CONSENSUS_MUTATIONS,
  ...LOG_MUTATIONS,
  ...TRANSACTION_MUTATIONS,
  // Elections.
  {
    name: 'a vote ignores whose log is up to date',
    mode: 'raft-only',
    file: 'src/raft/election.ts',
    find: 'const isGranted = isFree && core.log.isUpToDate({ index, term: logTerm })',
    replace: 'const isGranted = isFree && (core.log.isUpToDate({ index, term: logTerm }) || true)',
  },
  {
    name: 'up to date means only longer',
    mode: 'raft-only',
    file: 'src/raft/raft-log.ts',
    find: 'return other.term > own.term || (other.term === own.term && other.index >= own.index)',
    replace: 'return other.index >= own.index',
  },
  {
    name: 'a second vote in a term',
    mode: 'raft-only',
    file: 'src/raft/election.ts',
    find: '    core.vote === from ||\n',
    replace: '    core.vote !== NO_ID ||\n',
  },
  {
    name: 'the vote is not stored',
    mode: 'raft-only',
    file: 'src/raft/raw-node.ts',
    find: 'return { term: this.#core.term, vote: this.#core.vote, commit: this.#core.log.committed }',
    replace: 'return { term: this.#core.term, vote: NO_ID, commit: this.#core.log.committed }',
  },
  {
    name: 'half of an even number is a majority',
    mode: 'raft-only',
    file: 'src/raft/quorum.ts',
    find: 'return Math.floor(memberCount / 2) + 1',
    replace: 'return Math.floor((memberCount + 1) / 2)',
  },
  {
    name: 'votes are asked for before the own one is on disk',
    mode: 'raft-only',
    file: 'sim/raft-node.ts',
    find: "const requests = ready.messages.filter(({ type }) => type === 'vote')",
    replace:
      "for (const vote of ready.messages) if (vote.type === 'vote') this.#send(vote)\n" +
      '    const requests: Message[] = []',
  },
  // Replication.
  {
    name: 'no check of the entry before',
    mode: 'raft-only',
    file: 'src/raft/raft-log.ts',
    find: 'if (!this.matches(previous)) return undefined',
    replace: 'if (previous.index > this.lastIndex()) return undefined',
  },
  {
    name: 'a conflicting suffix is not cut',
    mode: 'raft-only',
    file: 'src/raft/raft-log.ts',
    find: '      if (this.matches(entry)) continue\n',
    replace: '      if (entry.index <= this.lastIndex()) continue\n',
  },
  {
    name: 'an entry of an older term is committed by counting',
    mode: 'raft-only',
    file: 'src/raft/replication.ts',
    find: 'return core.log.maybeCommit({ index: core.tracker.committedIndex(), term: core.term })',
    replace:
      'const index = core.tracker.committedIndex()\n' +
      '  return core.log.maybeCommit({ index, term: core.log.termOrZero(index) })',
  },
  {
    name: 'a heartbeat commits beyond the match',
    mode: 'raft-only',
    file: 'src/raft/sending.ts',
    find: 'const commit = Math.min(progress.match, core.log.committed)',
    replace: 'const commit = Math.min(progress.next - 1, core.log.committed)',
  },
  {
    name: 'the leader counts itself before its disk',
    mode: 'raft-only',
    file: 'src/raft/replication.ts',
    find: "  core.send({ type: 'append-response', to: core.id, index })\n  return true\n",
    replace:
      '  core.tracker.progress.get(core.id)?.maybeUpdate(index)\n  maybeCommit(core)\n  return true\n',
  },
  // Membership, snapshots, reads.
  {
    name: 'a joint commit needs the new half only',
    mode: 'raft-only',
    file: 'src/raft/quorum.ts',
    find:
      '  return Math.min(\n    majorityCommittedIndex(group.voters, acked),\n' +
      '    majorityCommittedIndex(group.outgoing, acked),\n  )\n',
    replace: '  return majorityCommittedIndex(group.voters, acked)\n',
  },
  {
    name: 'a joint election needs the new half only',
    mode: 'raft-only',
    file: 'src/raft/quorum.ts',
    find: 'if (incoming === outgoing) return incoming',
    replace: "if (incoming !== 'pending' || outgoing === incoming) return incoming",
  },
  {
    name: 'a second membership change while one is pending',
    mode: 'raft-only',
    file: 'src/raft/proposals.ts',
    find: '  if (core.pendingConfIndex > core.log.applied) {\n    return',
    replace: '  if (core.pendingConfIndex > core.log.lastIndex()) {\n    return',
  },
  {
    name: 'a new leader changes the membership at once',
    mode: 'raft-only',
    file: 'src/raft/election.ts',
    find: 'core.pendingConfIndex = core.log.lastIndex()',
    replace: 'core.pendingConfIndex = core.log.committed',
  },
  {
    name: 'a campaign with a committed membership change unapplied',
    mode: 'raft-only',
    file: 'src/raft/election.ts',
    find: "if (core.log.someUnapplied(entry => entry.type === 'config')) {",
    replace: "if (core.log.someUnapplied(entry => entry.type === 'config') && core.id < 0) {",
  },
  {
    name: 'a learner campaigns',
    mode: 'raft-only',
    file: 'src/raft/core.ts',
    find: 'return own !== undefined && !own.isLearner && this.log.unstable.snapshot === undefined',
    replace: 'return own !== undefined && this.log.unstable.snapshot === undefined',
  },
  {
    name: 'a snapshot older than the commit index is installed',
    mode: 'raft-only',
    file: 'src/raft/snapshots.ts',
    find: 'if (index <= core.log.committed) return false',
    replace: 'if (index <= core.log.applied) return false',
  },
  {
    name: 'a read index before the first commit of the term',
    mode: 'raft-only',
    file: 'src/raft/reads.ts',
    find: '  if (!hasCommittedInTerm(core)) {\n    core.earlyReads',
    replace: '  if (!hasCommittedInTerm(core) && core.id < 0) {\n    core.earlyReads',
  },
  {
    name: 'a read index without a round',
    mode: 'raft-only',
    file: 'src/raft/reads.ts',
    find: 'if (isLoneVoter || isLeaseValid) {',
    replace: 'if (isLoneVoter || !isLeaseValid) {',
  },
  {
    name: 'a leader without a quorum goes on leading',
    mode: 'raft-only',
    file: 'src/raft/election.ts',
    find: 'if (!core.tracker.isQuorumActive()) {',
    replace: 'if (!core.tracker.isQuorumActive() && core.id < 0) {',
  },
  // The driver, the log on disk.
  {
    name: 'entries are acknowledged before they are flushed',
    mode: 'whole',
    file: 'src/log/raft-log.ts',
    find: '      this.#stored(responses)\n',
    replace:
      '      this.#stored([])\n    })\n    this.#parts.clock.setTimer(0, () => {\n      this.#stored(responses)\n',
  },
  {
    name: 'a flush of the log does nothing',
    mode: 'whole',
    file: 'src/wal/log-writer.ts',
    find: '    segment.file.sync(error => {\n      if (error',
    replace: '    segment.file.write(offset, [], error => {\n      if (error',
  },
  {
    name: 'a durable write of the log is one to the cache',
    mode: 'whole',
    file: 'src/wal/log-writer.ts',
    find: 'segment.file.writeDurably(start,',
    replace: 'segment.file.write(start,',
  },
  {
    name: 'a durable write of the log is taken for a flush of what was written before',
    mode: 'whole',
    file: 'src/wal/log-writer.ts',
    find: 'mustSync && !this.hasUnflushed',
    replace: 'mustSync',
  },
  {
    name: 'the tail is not written again after a flush that failed',
    mode: 'whole',
    file: 'src/wal/log-writer.ts',
    find: '      next => this.#writeAgain(tail, next),\n',
    replace: '',
  },
  {
    name: 'a new segment is used before its name is on disk',
    mode: 'whole',
    file: 'src/wal/log-writer.ts',
    find: '      next => disk.rename(unfinishedPath, path, next),\n      next => disk.syncDirectory(directory, next),\n',
    replace: '      next => disk.rename(unfinishedPath, path, next),\n',
  },
  // The replica.
  {
    name: 'a leader whose engine restarted waits for an entry for ever',
    mode: 'whole',
    file: 'src/replica/applying.ts',
    find: 'this.#dispatchedTerm = hasAll ? term : 0',
    replace: 'this.#dispatchedTerm = 0',
  },
  {
    name: 'an empty entry counts as applied before a commit under way',
    mode: 'scripted',
    file: 'src/replica/applying.ts',
    find: 'this.#applications.length === 0 && this.#commitsUnderWay === 0',
    replace: 'this.#applications.length === 0',
  },
  {
    name: 'a failed request is answered without proof of leadership',
    mode: 'scripted',
    file: 'src/replica/answering.ts',
    find: '    this.#confirming.add(batch)\n',
    replace: '    this.#answer(batch, index)\n    if (index >= 0) return () => {}\n',
  },
  {
    name: 'a failed request is answered before its batch is committed',
    mode: 'whole',
    file: 'src/replica/leading.ts',
    find: "    batch.state = 'replicating'\n",
    replace:
      "    batch.state = 'replicating'\n" +
      '    batch.requests.forEach((request, at) => {\n' +
      '      const result = batch.results[at]\n' +
      "      if (result?.type !== 'failed') return\n" +
      '      const { done } = request\n      request.done = undefined\n' +
      '      if (done !== undefined)\n' +
      '        fail(done, new DbError(result.error.code, result.error.message))\n    })\n',
  },
  {
    name: 'a leader executes before it has applied everything',
    mode: 'whole',
    file: 'src/replica/applying.ts',
    find: '      this.#dispatched === this.#commitIndex &&\n      this.#dispatchedTerm === term &&\n',
    replace: '',
  },
  {
    name: 'a linearizable read asks nobody',
    mode: 'whole',
    file: 'src/replica/reads.ts',
    find: "      case 'linearizable': {\n",
    replace: "      case 'linearizable': {\n        if (deadlineMs > 0) return goWhenApplied(0)\n",
  },
  {
    name: 'a session read does not wait for its token',
    mode: 'whole',
    file: 'src/replica/reads.ts',
    find: "      case 'session':\n        goWhenApplied(options.atLeastIndex ?? 0)",
    replace: "      case 'session':\n        goWhenApplied(0)",
  },
  {
    name: 'maxLagMs is not looked at',
    mode: 'whole',
    file: 'src/replica/reads.ts',
    find: 'const error = tooOld(lagMs(), options.maxLagMs)',
    replace: 'const error = tooOld(lagMs(), undefined)',
  },
  {
    name: 'the engine takes over a snapshot before the log begins after it',
    mode: 'whole',
    file: 'src/replica/snapshots.ts',
    find: '        log.install(\n          point,\n',
    replace:
      '        if (point.index > 0) return this.#adopt(manifest)\n' +
      '        log.install(\n          point,\n',
  },
  {
    name: 'a staged file is not compared with what was announced',
    mode: 'whole',
    file: 'src/engine/sqlite/staging.ts',
    find: 'if (sha256 !== expected.sha256) {',
    replace: 'if (sha256.length !== expected.sha256.length) {',
  },
  {
    name: 'a staged snapshot counts as complete before it is flushed',
    mode: 'whole',
    file: 'src/engine/sqlite/staging.ts',
    find: '    fileSystem.sync(path)\n',
    replace: '',
  },
  {
    name: 'files of a snapshot are read while entries are applied',
    mode: 'whole',
    file: 'src/replica/writer.ts',
    find: 'if (this.#pause !== undefined) {\n      this.#heldBack.push(message)',
    replace: 'if (this.#pause === null) {\n      this.#heldBack.push(message)',
  },
  {
    name: 'the log is compacted beyond what the engine holds durably',
    mode: 'whole',
    file: 'src/replica/replica.ts',
    find: 'const { durableIndex } = this.#executor\n',
    replace: 'const durableIndex = this.#executor.appliedIndex\n',
  },
  {
    name: 'a write without an id is sent again after an unknown fate',
    mode: 'whole',
    file: 'src/replica/call-router.ts',
    find: 'if (call.hasId && UNDER_WAY.has(error.code))',
    replace: 'if (UNDER_WAY.has(error.code))',
  },
  {
    name: 'a refusal is believed after an unknown fate',
    mode: 'whole',
    file: 'src/replica/call-router.ts',
    find: 'call.fail(call.unknown ?? error)',
    replace: 'call.fail(error)',
  },
  // The engine.
  {
    name: 'the durable index rises without a checkpoint',
    mode: 'whole',
    file: 'src/engine/sqlite/file-set.ts',
    find: '    if (!file.checkpoint(mode)) return false\n',
    replace: '',
  },
  {
    name: 'outcomes are not compared',
    mode: 'scripted',
    file: 'src/engine/sqlite/apply-batch.ts',
    find: 'this.#compare(request.database, request.statements, outcomes, actual)',
    replace: '',
  },
  {
    name: 'a failed request shifts the chance of its neighbours',
    mode: 'whole',
    file: 'src/engine/sqlite/execute-batch.ts',
    find: 'const position = builder.count',
    replace: 'const position = ordinal',
  },
  {
    name: 'an entry is applied again to a file that has it',
    mode: 'whole',
    file: 'src/engine/sqlite/apply-batch.ts',
    find: "if (file.applied >= this.#index) return { type: 'held' }",
    replace: "if (file.applied > this.#index) return { type: 'held' }",
  },
  ...IDS_MUTATIONS,
  ...DIGEST_MUTATIONS,
  ...DISK_MUTATIONS,
  ...RECOVERY_MUTATIONS,
]
