/**
 * `lockstep recover`: the last resort when a majority of the voters is lost for good. It makes a
 * node that is left the only voter of a new history of the cluster. What the lost ones alone had
 * acknowledged is gone, so nobody gets here by accident.
 */
import { join } from 'node:path'
import { DbError } from '../base/errors.ts'
import type { Random } from '../base/ports.ts'
import type { Member } from '../log/log.ts'
import { makeOnlyVoter, type OnlyVoter } from '../log/only-voter.ts'
import { parseAddress } from '../platform/address.ts'
import { fastCrc32, RealDisk } from '../platform/disk.ts'
import { Wal } from '../wal/wal.ts'
import { DataLock } from './data-lock.ts'
import { type IdentityOf, randomName, readIdentity, writeIdentity } from './identity.ts'

export interface RecoverOptions {
  readonly directory: string
  readonly random: Random
  /** Asks the other members, which should all be gone, whether somebody leads there. */
  readonly ask: (address: string) => Promise<OtherNode | undefined>
  readonly print: (line: string) => void
}

/** What a member says that answers although it should be lost. */
export interface OtherNode {
  readonly nodeId: string
  readonly clusterId: string
  readonly leader: string | undefined
  readonly lastIndex: number
}

/** Throws FORBIDDEN while the cluster still has a leader, WRONG_DATA if this is no member. */
export async function recover(options: RecoverOptions): Promise<OnlyVoter> {
  const { directory, random, print } = options
  const identity = memberOf(directory)
  const lock = DataLock.acquire(directory)
  try {
    await refuseIfAlive(options, identity)
    // The new history first: with it alone this node agrees with nobody, so that a crash between
    // the two steps leaves a node that waits for this command to be repeated.
    const historyId = randomName(random)
    writeIdentity(directory, { ...identity, historyId })
    const result = await rewriteLog(directory, identity)
    const { index, members, nextRaftId } = result.after
    const known = { index, members: [...members], nextRaftId }
    writeIdentity(directory, { ...identity, historyId, known, isPromotionDue: false })
    report(identity, historyId, result, print)
    return result
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

async function refuseIfAlive(
  { ask, print }: RecoverOptions,
  identity: IdentityOf<'member'>,
): Promise<void> {
  const others = identity.known.members.filter(({ raftId }) => raftId !== identity.raftId)
  const answers = await Promise.all(others.map(({ address }) => ask(address)))
  for (const answer of answers) {
    if (answer?.clusterId !== identity.clusterId) continue
    if (answer.leader !== undefined) {
      throw new DbError(
        'FORBIDDEN',
        `the cluster still has a leader: node ${answer.nodeId} follows ${answer.leader}. ` +
          'Nothing has to be recovered; start this node, or remove it there',
      )
    }
    print(
      `WARNING: node ${answer.nodeId} answers. If its log reaches further than this one's ` +
        `(its last entry is ${answer.lastIndex}), recover that one instead. Stop it in any case: ` +
        'it belongs to the old history and can only join again with an empty directory.',
    )
  }
}

async function rewriteLog(directory: string, identity: IdentityOf<'member'>): Promise<OnlyVoter> {
  const { clusterId, groupId, raftId } = identity
  let fail: (error: DbError) => void = () => {}
  const failed = new Promise<never>((_resolve, reject) => {
    fail = reject
  })
  const wal = Wal.open({
    disk: new RealDisk(directory),
    directory: join(`group-${groupId}`, 'log'),
    identity: { clusterId, groupId, raftId },
    checksum: fastCrc32,
    mustExist: true,
    onFatal: error => fail(error),
  })
  const changed = new Promise<OnlyVoter>(resolve => {
    makeOnlyVoter(wal, raftId, resolve)
  })
  const result = await Promise.race([changed, failed])
  await new Promise<void>(resolve => {
    wal.close(resolve)
  })
  return result
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
  print(`History ${identity.historyId} ended, ${historyId} begins: tokens and sessions of clients`)
  print('from before are refused.')
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
