/**
 * The parts of a node that belongs to a cluster: made here, in an order that matters, and joined to
 * each other by their interfaces only.
 */
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Clock, Logger, PeerMember, Random } from '../base/ports.ts'
import type { Engine } from '../engine/engine.ts'
import { SNAPSHOT_CHUNK_BYTES } from '../engine/snapshot.ts'
import { foundingMembership, storedMembers } from '../log/membership.ts'
import { Peers } from '../log/peers.ts'
import { RaftLog } from '../log/raft-log.ts'
import { fastCrc32, RealDisk } from '../platform/disk.ts'
import { FreeSpace } from '../platform/free-space.ts'
import { PEER_LIMITS } from '../platform/peer-limits.ts'
import { TcpPeerTransport } from '../platform/peer-transport.ts'
import { HttpSnapshotTransfer } from '../platform/snapshot-transfer.ts'
import { Replica } from '../replica/replica.ts'
import { Wal } from '../wal/wal.ts'
import { openEngine } from './engine-choice.ts'
import type { IdentityOf } from './identity.ts'
import { MemberChanges } from './member-changes.ts'
import { MemberKeeper } from './member-keeper.ts'
import type { NodeSettings } from './node-settings.ts'
import { finishRecovery } from './recovery.ts'
import { readRestored } from './restore.ts'
import { SnapshotService } from './snapshot-service.ts'

export interface NodeParts {
  readonly transport: TcpPeerTransport
  readonly replica: Replica
  readonly engine: Engine
  readonly keeper: MemberKeeper
  readonly changes: MemberChanges
  readonly snapshots: SnapshotService
  readonly freeSpace: FreeSpace
}

export interface NodePartsOptions {
  readonly settings: NodeSettings
  readonly identity: IdentityOf<'member'>
  /** Empty only if all addresses are loopback. */
  readonly secret: string
  /** Names the SQL engine's build. */
  readonly build: string
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** The node was removed from its cluster, and that is on its disk. */
  readonly onRemoved: (identity: IdentityOf<'removed'>) => void
  readonly onFatal: (reason: string, code?: ErrorCode) => void
}

/** Entries by which a node may be behind and still be said to have caught up. */
const CAUGHT_UP_ENTRIES = 1000
const CHANGE_TIMEOUT_MS = 5000

/** Opens all that is on the disk and starts the replica. */
export async function openNodeParts(given: NodePartsOptions): Promise<NodeParts> {
  const { settings, clock, random, logger } = given
  const { directory } = settings
  const { groupId, raftId } = given.identity
  const group = `group-${groupId}`
  // Ends what an earlier life of this node left running before any file is opened.
  const engine = await openEngine(given)
  const identity = await recovered(given)
  const options = { ...given, identity }
  const transport = openTransport(options, by => keeper.removed(`says node ${by.nodeId}`))
  const peers = new Peers(transport, clock, groupId)
  const wal = openWal(options, `${group}/log`)
  beginAfterRestore(wal, options)
  await new Promise<void>(resolve => wal.flush(resolve))
  const log = new RaftLog({
    raftId,
    wal,
    peers,
    clock,
    random,
    logger,
    options: settings.log,
  })
  const { clusterId, historyId } = identity
  const proof = { clusterId, historyId, secret: options.secret }
  const transfer = new HttpSnapshotTransfer({
    path: '/snapshot',
    facts: proof,
    // The log of a node that has just joined may name nobody yet.
    addressOf: id => transport.addressOf(id),
    random,
    logger,
    chunkSizeBytes: SNAPSHOT_CHUNK_BYTES,
  })
  const freeSpace = new FreeSpace(directory, clock)
  freeSpace.start()
  const replica = new Replica({
    raftId,
    log,
    engine,
    peers,
    transfer,
    clock,
    random,
    logger,
    options: settings.replica,
    freeBytes: () => freeSpace.freeBytes,
    onMembership: membership => keeper.onMembership(membership),
    onFatal: options.onFatal,
  })
  const changes = new MemberChanges({
    identity,
    log,
    clock,
    secret: options.secret,
    build: options.build,
    handOver: (target, timeoutMs, done) => replica.handOver(target, timeoutMs, done),
  })
  const keeper = new MemberKeeper({
    directory,
    identity,
    clock,
    logger,
    address: settings.address,
    onMembers: membership => transport.setMembers(membership),
    onRemoved: options.onRemoved,
    change: (request, done) =>
      changes.changeAnywhere(request, CHANGE_TIMEOUT_MS, outcome => {
        done(outcome instanceof DbError ? outcome : undefined)
      }),
    mayAsk: () => {
      // A copy of a data directory, which nobody lets in, must not pull its original's place away.
      if (!transport.isLetIn) return false
      const { appliedIndex, engine: state, log: logStatus } = replica.status()
      return state === 'ready' && appliedIndex + CAUGHT_UP_ENTRIES >= logStatus.commitIndex
    },
  })
  keeper.noteStart()
  replica.start()
  const snapshots = new SnapshotService(proof, replica, clock, random)
  return { transport, replica, engine, keeper, changes, snapshots, freeSpace }
}

/** A recovery that was decided and cut short is finished before the node is anything else. */
async function recovered({
  settings,
  identity,
  logger,
}: NodePartsOptions): Promise<IdentityOf<'member'>> {
  if (identity.recovering === undefined) return identity
  const { historyId } = identity
  logger.warn({ historyId }, 'finishing a recovery that was interrupted')
  return (await finishRecovery(settings, identity)).identity
}

function openTransport(
  options: NodePartsOptions,
  onRemoved: (by: PeerMember) => void,
): TcpPeerTransport {
  const { settings, identity, secret, build, clock, random, logger } = options
  const { clusterId, historyId, groupId, nodeId, raftId, incarnation } = identity
  return new TcpPeerTransport({
    facts: {
      clusterId,
      historyId,
      nodeId,
      raftId,
      incarnation,
      build,
      secret,
      groupIds: [groupId],
      address: settings.address,
      starts: identity.starts + 1,
      options: settings.clusterOptions,
    },
    members: identity.known,
    limits: PEER_LIMITS,
    clock,
    random,
    logger,
    onRemoved,
  })
}

function openWal({ settings, identity, onFatal }: NodePartsOptions, directory: string): Wal {
  const { clusterId, groupId, raftId, founders, hasLog } = identity
  return Wal.open({
    disk: new RealDisk(settings.directory),
    directory,
    identity: { clusterId, groupId, raftId },
    options: settings.wal,
    initialMembers: storedMembers(foundingMembership(founders)),
    checksum: fastCrc32,
    mustExist: hasLog,
    onFatal: error => onFatal(error.message),
  })
}

/** The log of a restored node begins after the entry that its data are of. */
function beginAfterRestore(wal: Wal, { settings, identity }: NodePartsOptions): void {
  const index = identity.hasLog ? undefined : readRestored(settings.directory)
  if (index === undefined || wal.base().index > 0) return
  const term = 1
  const members = storedMembers(foundingMembership(identity.founders))
  const hardState = { term, vote: 0, commit: index }
  wal.append({ entries: [], hardState, snapshot: { index, term, ...members } }, () => {})
}
