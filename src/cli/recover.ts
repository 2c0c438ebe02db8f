/**
 * `lockstep recover`: the last resort when a majority of the voters is lost for good. It makes a
 * node that is left the only voter of a new history of the cluster. What the lost ones alone had
 * acknowledged is gone, so nobody gets here by accident.
 */
import { DbError } from '../base/errors.ts'
import type { Random } from '../base/ports.ts'
import type { Member } from '../log/log.ts'
import type { OnlyVoter } from '../log/only-voter.ts'
import { parseAddress } from '../platform/address.ts'
import { DataLock } from './data-lock.ts'
import { isOnMysql } from './engine-choice.ts'
import { type IdentityOf, randomName, readIdentity } from './identity.ts'
import {
  checkEngine,
  checkLog,
  type Lookout,
  type OtherNode,
  refuseIfAlive,
} from './recover-checks.ts'
import { decideRecovery, finishRecovery, type RecoveryPlace } from './recovery.ts'

export interface RecoverOptions extends RecoveryPlace, Lookout {
  readonly random: Random
  /** Its data count although a majority found them wrong. */
  readonly isPardoned: boolean
}

/**
 * Throws, and has changed nothing then: FORBIDDEN while the cluster has or could have a leader, or
 * has found the data of this node wrong; WRONG_DATA if this is no member or lacks data; CORRUPT.
 */
export async function recover(options: RecoverOptions): Promise<OnlyVoter> {
  const { directory, random, print, isPardoned, mysql } = options
  const { groupId } = memberOf(directory)
  if (isOnMysql(directory, groupId) !== (mysql !== undefined)) {
    const problem =
      mysql === undefined
        ? 'the data of this node are on a MySQL server: name it by --engine mysql://…'
        : 'the data of this node are in files of SQLite: leave out --engine'
    throw new DbError('INVALID_REQUEST', `${problem}. Nothing was changed`)
  }
  const lock = DataLock.acquire(directory)
  try {
    const identity = memberOf(directory)
    const decidedBefore = identity.recovering
    const log = await checkLog(options, identity)
    const isForgiven = isPardoned || decidedBefore?.isPardoned === true
    await checkEngine(options, identity, log, isForgiven)
    if (decidedBefore === undefined) await refuseIfAlive(options, identity, log)
    else print('A recovery of this node was interrupted before; it is finished now.')
    const decided =
      decidedBefore !== undefined && decidedBefore.isPardoned === isForgiven
        ? identity
        : decideRecovery(options, identity, { historyId: randomName(random), isPardoned })
    const { identity: recovered, voter } = await finishRecovery(options, decided)
    report(identity, recovered.historyId, voter, print)
    return voter
  } finally {
    lock.release()
  }
}

function memberOf(directory: string): IdentityOf<'member'> {
  const identity = readIdentity(directory)
  if (identity === undefined) {
    throw new DbError('WRONG_DATA', `${directory} is empty: there is nothing to recover`)
  }
  if (identity.type === 'member' && identity.hasLog) return identity
  const what =
    identity.type === 'removed' ? 'was removed from its cluster' : 'has never been a member'
  throw new DbError('WRONG_DATA', `node ${identity.nodeId} ${what}: recover another one`)
}

function report(
  identity: IdentityOf<'member'>,
  historyId: string,
  { lastIndex, lastTerm, commitIndex, before, after }: OnlyVoter,
  print: (line: string) => void,
): void {
  const gone = before.members.filter(({ raftId }) => raftId !== identity.raftId)
  const own = after.members.find(({ raftId }) => raftId === identity.raftId)
  print(`Node ${identity.nodeId} is the only voter of cluster ${identity.clusterId} now.`)
  print(`Its log reached entry ${lastIndex} of term ${lastTerm}; all of that is kept.`)
  print(
    commitIndex < lastIndex
      ? `Of entries ${commitIndex + 1} to ${lastIndex} it did not know whether they had been ` +
          'acknowledged; they are kept too.'
      : 'It knew all of them to be committed.',
  )
  print('Writes that others had acknowledged after that entry are lost.')
  print(`History ${historyId} begins: tokens and sessions of clients from before are refused.`)
  if (gone.length > 0) {
    print(`Never start again on their directories: ${namesOf(gone)}. They are removed.`)
  }
  print(
    `Start it (it was known at ${own?.address ?? 'no address'}), and let empty directories join`,
  )
  print('under new ids by "lockstep join".')
}

function namesOf(members: readonly Member[]): string {
  return members.map(({ nodeId }) => nodeId).join(', ')
}

/** Asks a node for its status; undefined if none answers there. */
export async function askNode(address: string): Promise<OtherNode | undefined> {
  const { host, port } = parseAddress(address)
  const name = host.includes(':') ? `[${host}]` : host
  try {
    const signal = AbortSignal.timeout(ASK_MS)
    const answer = await fetch(`http://${name}:${port}/status`, { signal })
    const status = (await answer.json()) as {
      readonly node: string
      readonly clusterId: string
      readonly leader: { readonly nodeId: string } | null
      readonly lastIndex: number
    }
    const { node: nodeId, clusterId, leader, lastIndex } = status
    return { nodeId, clusterId, leader: leader?.nodeId, lastIndex }
  } catch {
    // Nobody is there, or nobody of ours.
    return undefined
  }
}

const ASK_MS = 2000
