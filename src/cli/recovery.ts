/**
 * What `lockstep recover` changes on the disk. One write decides: node.json with the new history
 * and the note that the rest is to follow. Before it the node belongs to the old cluster as ever;
 * after it to the new one, and the rest is done by whoever comes next to the directory: the
 * command, the command repeated, or the start of the node.
 */
import { join } from 'node:path'
import type { DbError } from '../base/errors.ts'
import type { Disk } from '../base/ports.ts'
import type { ServerAddress } from '../engine/mysql/server-address.ts'
import { pardonData } from '../engine/mysql/server-visits.ts'
import { pardonFiles } from '../engine/sqlite/pardon.ts'
import { makeOnlyVoter, type OnlyVoter } from '../log/only-voter.ts'
import { fastCrc32, RealDisk } from '../platform/disk.ts'
import type { FileSystem } from '../platform/durable-file.ts'
import { Wal } from '../wal/wal.ts'
import { type IdentityOf, writeIdentity } from './identity.ts'

/** A directory that is to be recovered; nobody else uses it. */
export interface RecoveryPlace {
  readonly directory: string
  /** The server that holds the data of the node, if one does. */
  readonly mysql?: ServerAddress | undefined
  /** By which the files are written; given by tests only. */
  readonly disk?: Disk
  readonly files?: FileSystem
}

/** Decides: from here on this node is the only voter of another history. */
export function decideRecovery(
  { directory, files }: RecoveryPlace,
  identity: IdentityOf<'member'>,
  newHistory: { readonly historyId: string; readonly isPardoned: boolean },
): IdentityOf<'member'> {
  const { historyId, isPardoned } = newHistory
  const decided = { ...identity, historyId, recovering: { isPardoned } }
  writeIdentity(directory, decided, files)
  return decided
}

/** Does what follows from the decision. It can be repeated after a crash at any moment. */
export async function finishRecovery(
  place: RecoveryPlace,
  identity: IdentityOf<'member'>,
): Promise<{ readonly identity: IdentityOf<'member'>; readonly voter: OnlyVoter }> {
  const { directory, files, mysql } = place
  const { recovering, ...rest } = identity
  if (recovering?.isPardoned === true) {
    if (mysql === undefined) pardonFiles(join(directory, `group-${identity.groupId}`, 'engine'))
    else await pardonData(mysql, identity)
  }
  const { raftId } = identity
  const voter = await withLog(place, identity, async (wal, failed) => {
    const changed = new Promise<OnlyVoter>(resolve => {
      makeOnlyVoter(wal, raftId, resolve)
    })
    return Promise.race([changed, failed])
  })
  const { index, members, nextRaftId } = voter.after
  const known = { index, members: [...members], nextRaftId }
  const member = { ...rest, known, isPromotionDue: false }
  writeIdentity(directory, member, files)
  return { identity: member, voter }
}

/** Opens the log of a node that does not run. `failed` rejects if the disk does. */
export async function withLog<Result>(
  { directory, disk = new RealDisk(directory) }: RecoveryPlace,
  { clusterId, groupId, raftId }: IdentityOf<'member'>,
  act: (wal: Wal, failed: Promise<never>) => Result | Promise<Result>,
): Promise<Result> {
  const { promise: failed, reject } = Promise.withResolvers<never>()
  // Without a listener a failing disk would end the process before it could be told.
  failed.catch(() => {})
  const wal = Wal.open({
    disk,
    directory: `group-${groupId}/log`,
    identity: { clusterId, groupId, raftId },
    checksum: fastCrc32,
    mustExist: true,
    onFatal: (error: DbError) => reject(error),
  })
  const result = await act(wal, failed)
  const closed = new Promise<void>(resolve => {
    wal.close(resolve)
  })
  await Promise.race([closed, failed])
  return result
}
