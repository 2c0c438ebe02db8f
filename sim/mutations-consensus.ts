/** More bugs of consensus and of the log on disk: those that other systems have published. */
import type { Mutation } from './mutation.ts'

/** In the order of docs/internals/testing.md. */
export const CONSENSUS_MUTATIONS: readonly Mutation[] = [
  // Elections.
  {
    name: 'the vote of an older term is kept in a new one',
    mode: 'raft-only',
    file: 'src/raft/core.ts',
    find: '      this.term = term\n      this.vote = NO_ID\n',
    replace: '      this.term = term\n',
  },
  {
    name: 'a pre-vote is recorded as a vote',
    mode: 'raft-only',
    file: 'src/raft/election.ts',
    find: '  if (isPreVote) return\n',
    replace: '',
  },
  {
    name: 'a candidate does not vote for itself in its hard state',
    mode: 'raft-only',
    file: 'src/raft/core.ts',
    find: "    this.vote = this.id\n    this.role = 'candidate'\n",
    replace: "    this.role = 'candidate'\n",
  },
  {
    name: 'votes are answered before they are on disk',
    mode: 'raft-only',
    file: 'src/raft/core.ts',
    find: "  'append-response',\n  'vote-response',\n",
    replace: "  'append-response',\n",
  },
  {
    name: 'a removed or cut-off node unseats a leader that others hear',
    mode: 'raft-only',
    file: 'src/raft/election.ts',
    find: 'if (!core.config.checkQuorum || core.lead === NO_ID) return false',
    replace: 'if (core.id > 0) return false',
  },
  // Replication.
  {
    name: 'what follows the last new entry is committed',
    mode: 'raft-only',
    file: 'src/raft/raft-log.ts',
    find: 'this.commitTo(Math.min(leaderCommit, lastNewIndex))',
    replace: 'this.commitTo(Math.min(leaderCommit, this.lastIndex()))',
  },
  {
    name: 'entries after the new ones are dropped without a conflict',
    mode: 'raft-only',
    file: 'src/raft/raft-log.ts',
    find: 'const position = this.#conflictPosition(entries)\n',
    replace: 'const position = 0\n',
  },
  {
    name: 'a late report of replaced entries counts them as stored',
    mode: 'raft-only',
    file: 'src/raft/unstable-log.ts',
    find: '    if (here !== term) {\n',
    replace: '    if (here !== term && index < 0) {\n',
  },
  {
    name: 'a replaced entry is taken for one being written',
    mode: 'raft-only',
    file: 'src/raft/unstable-log.ts',
    find: '      this.#offsetInProgress = Math.min(this.#offsetInProgress, from)\n',
    replace: '',
  },
  {
    name: 'an acknowledgement lowers what is known to match',
    mode: 'raft-only',
    file: 'src/raft/progress.ts',
    find: 'if (index <= this.match) return false',
    replace: 'if (index === this.match) return false',
  },
  // Membership, snapshots, reads, transfers.
  {
    name: 'a snapshot leaves the old membership in force',
    mode: 'raft-only',
    file: 'src/raft/snapshots.ts',
    find: '  core.useConfState(snapshot.metadata.confState)\n',
    replace: '',
  },
  {
    name: 'a snapshot that fits the log throws away what follows it',
    mode: 'raft-only',
    file: 'src/raft/snapshots.ts',
    find: '  if (core.log.matches({ index, term })) {\n',
    replace: '  if (core.log.matches({ index, term }) && index < 0) {\n',
  },
  {
    name: 'a removed leader goes on leading',
    mode: 'raft-only',
    file: 'src/raft/proposals.ts',
    find: 'if (core.config.stepDownOnRemoval) core.becomeFollower(core.term, NO_ID)',
    replace: '',
  },
  {
    name: 'a joint membership is never left',
    mode: 'raft-only',
    file: 'src/raft/proposals.ts',
    find: 'if (core.log.applied < core.pendingConfIndex) return',
    replace: 'if (core.log.applied >= 0) return',
  },
  {
    name: 'leadership goes to a voter that lacks entries',
    mode: 'raft-only',
    file: 'src/raft/transfer.ts',
    find: 'if (progress.match === core.log.lastIndex()) sendTimeoutNow(core, to)',
    replace: 'if (progress.match <= core.log.lastIndex()) sendTimeoutNow(core, to)',
  },
  {
    name: 'leadership goes to a learner',
    mode: 'raft-only',
    file: 'src/raft/transfer.ts',
    find: '  if (progress.isLearner) {\n',
    replace: '  if (progress.isLearner && core.id < 0) {\n',
  },
  {
    name: 'a leader that hands over goes on taking proposals',
    mode: 'raft-only',
    file: 'src/raft/proposals.ts',
    find: "if (core.leadTransferee !== NO_ID) return dropped(core, 'transferring')",
    replace: '',
  },
  {
    name: 'a read round is confirmed by answers to an older one',
    mode: 'raft-only',
    file: 'src/raft/read-queue.ts',
    find: '    this.#confirmedCount += count\n',
    replace: '',
  },
  // The log on disk.
  {
    name: 'damage in the middle of the log is cut off as a torn tail',
    mode: 'whole',
    file: 'src/wal/recovery.ts',
    find: '  if (witness !== undefined) {\n',
    replace: '  if (witness !== undefined && lastBatch < 0) {\n',
  },
  {
    name: 'a record is believed without the one before it',
    mode: 'whole',
    file: 'src/wal/segment-scan.ts',
    find: '      head.previousChecksum === expectedChecksum &&\n',
    replace: '',
  },
  {
    name: 'a batch of which a part is there is read',
    mode: 'whole',
    file: 'src/wal/segment-scan.ts',
    find: '    if (!head.isLastOfBatch) continue\n',
    replace: '',
  },
  {
    name: 'the log of another node is read',
    mode: 'whole',
    file: 'src/wal/recovery.ts',
    find: '    found.raftId === expected.raftId\n',
    replace: '    found.raftId > 0\n',
  },
]
