/** Who should lead after a leader that goes. */
import { NO_ID, type RaftId, type RaftStatus } from '../raft/types.ts'

/**
 * The most advanced other voter that was heard lately, may lead, and stays a voter; `NO_ID` if
 * there is none. With a target: that one or nobody. What the core notes of who answered is no help:
 * once in an election timeout it begins anew, and knows of nobody then.
 */
export function chooseSuccessor(
  status: RaftStatus,
  isHeard: (raftId: RaftId) => boolean,
  mayLead: (raftId: RaftId) => boolean,
  target: RaftId | undefined,
): RaftId {
  let best = NO_ID
  let bestMatch = -1
  for (const [id, { match }] of status.progress) {
    // One that is being replaced would only have to hand over again.
    const isVoter = id !== status.id && status.confState.voters.includes(id)
    if (!isVoter || !isHeard(id) || !mayLead(id)) continue
    if (target !== undefined && id !== target) continue
    if (match > bestMatch) [best, bestMatch] = [id, match]
  }
  return best
}
