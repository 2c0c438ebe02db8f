/** What a node tells about itself: the answers of /status, /nodes and /health/ready. */
import { unreachable } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import { API_VERSION } from '../../protocol/api-version.ts'
import type {
  MemberStatus,
  NodesResponse,
  NodeState,
  StatusResponse,
} from '../../protocol/http-api.ts'
import type { ReplicaStatus } from '../../replica/types.ts'
import type { Service } from '../service.ts'

/** How well the node is, in one word. */
export function nodeState(service: Service): NodeState {
  if (service.isStopping()) return 'stopping'
  if (service.refusal() !== undefined) return 'removed'
  const status = service.status()
  if (status === undefined || status.engine === 'opening') return 'starting'
  if (status.divergence !== undefined) return 'diverged'
  if (status.snapshot.step !== 'none') return 'copying'
  if (status.engine === 'down') return 'down'
  if (status.log.leader === undefined) return 'no-leader'
  // One that just joined has a leader before it has anything else, not even the news that it needs
  // a snapshot. The first entry of every log is its leader's, so that 0 is nobody else's index.
  return status.appliedIndex === 0 ? 'starting' : 'ready'
}

/** Why requests should go elsewhere, or undefined if they may come. */
export function whyNotReady(service: Service): DbError | undefined {
  const state = nodeState(service)
  const name = service.nodeId
  switch (state) {
    case 'ready':
      return undefined
    case 'stopping':
      return new DbError('SHUTTING_DOWN', `node ${name} is stopping`)
    case 'removed':
      return service.refusal() ?? new DbError('REMOVED', `node ${name} was removed`)
    case 'starting':
      return notReady(service, `node ${name} is starting or waits for its cluster`)
    case 'down':
      return notReady(service, `node ${name} restarts the process that runs SQL`)
    case 'diverged':
      return new DbError('DIVERGED', `node ${name} computed something else than the others`)
    case 'copying':
      return new DbError('NOT_READY', `node ${name} takes over the data of another node`)
    case 'no-leader':
      return new DbError('NO_LEADER', `node ${name} knows no leader right now`)
    default:
      return unreachable(state)
  }
}

/** With what the node met when it last tried to open its data, such as a server that is away. */
function notReady(service: Service, message: string): DbError {
  const status = service.status()
  const isOpen = status === undefined || status.engine === 'ready'
  const reason = isOpen || status.lastError === '' ? '' : `: ${status.lastError}`
  return new DbError('NOT_READY', `${message}${reason}`)
}

interface Address {
  readonly nodeId: string
  readonly address: string
}

/** The leader as this node knows it. */
export function leaderOf(service: Service): Address | null {
  const status = service.status()
  const self = service.identity()
  if (status === undefined || self === undefined || status.log.leader === undefined) return null
  if (status.log.leader === self.raftId) return { nodeId: self.nodeId, address: self.address }
  const peer = status.log.peers.find(peer => peer.raftId === status.log.leader)
  return peer === undefined ? null : { nodeId: peer.nodeId, address: peer.address }
}

/** The answer of `GET /status`. */
export function statusJson(
  service: Service,
  databases: readonly string[] | null,
  connections: number,
): StatusResponse {
  const self = service.identity()
  const status = service.status()
  return {
    node: service.nodeId,
    raftId: self?.raftId ?? 0,
    address: self?.address ?? '',
    clusterId: self?.clusterId ?? '',
    historyId: self?.historyId ?? '',
    version: service.version,
    apiVersion: API_VERSION,
    engineBuild: status?.engineBuild ?? '',
    startedAt: new Date(service.startedAtMs).toISOString(),
    uptimeMs: Math.max(0, Date.now() - service.startedAtMs),
    state: nodeState(service),
    role: status?.log.role ?? 'none',
    term: status?.log.term ?? 0,
    leader: leaderOf(service),
    isReadyToWrite: status?.isReadyToWrite ?? false,
    firstIndex: status?.log.firstIndex ?? 0,
    lastIndex: status?.log.lastIndex ?? 0,
    flushedIndex: status?.log.flushedIndex ?? 0,
    commitIndex: status?.log.commitIndex ?? 0,
    appliedIndex: status?.appliedIndex ?? 0,
    durableIndex: status?.durableIndex ?? 0,
    lagMs: status?.lagMs ?? null,
    queuedRequests: status?.queuedRequests ?? 0,
    queuedBytes: status?.queuedBytes ?? 0,
    waitingReads: status?.waitingReads ?? 0,
    forwardedRequests: status?.forwardedRequests ?? 0,
    heldRequests: status?.heldRequests ?? 0,
    isAdmissionPaused: status?.isAdmissionPaused ?? false,
    freeBytes: status?.freeBytes ?? null,
    isShortOfRoom: status?.isShortOfRoom ?? false,
    openTransactions: status?.openTransactions ?? 0,
    engine: status?.engine ?? 'opening',
    divergence: status?.divergence ?? null,
    isCondemned: status?.isCondemned ?? false,
    dispute: status?.dispute ?? null,
    dataDigest: dataDigestJson(status),
    snapshot: snapshotJson(status),
    lastError: service.refusal()?.message ?? status?.lastError ?? '',
    counters: { ...status?.counters },
    databases,
    connections,
  }
}

function dataDigestJson(status: ReplicaStatus | undefined): StatusResponse['dataDigest'] {
  if (status === undefined) return null
  const { verifiedAgoMs, ...rest } = status.dataDigest
  return { ...rest, verifiedAgoMs: verifiedAgoMs === undefined ? null : Math.round(verifiedAgoMs) }
}

/** Null unless this node needs the data of another one, or had to take them over. */
function snapshotJson(status: ReplicaStatus | undefined): StatusResponse['snapshot'] {
  if (status === undefined) return null
  const { snapshot, log } = status
  if (snapshot.step === 'none' && snapshot.installed === 0) return null
  const { step, reason, source, index, receivedBytes, totalBytes, lastError, installed } = snapshot
  const from = log.peers.find(({ raftId }) => raftId === source)?.nodeId ?? null
  return { step, reason, from, index, receivedBytes, totalBytes, lastError, installed }
}

/** The answer of `GET /nodes`. */
export function nodesJson(service: Service): NodesResponse {
  const status = service.status()
  return {
    node: service.nodeId,
    term: status?.log.term ?? 0,
    leader: leaderOf(service),
    nodes: status === undefined ? [] : memberStatuses(service, status),
  }
}

function memberStatuses(service: Service, status: ReplicaStatus): MemberStatus[] {
  const { log } = status
  const isLeader = log.leader === log.raftId
  const others = log.peers.map((peer): MemberStatus => {
    const report = status.reports.get(peer.raftId)
    const matchIndex = peer.matchIndex ?? null
    return {
      nodeId: peer.nodeId,
      raftId: peer.raftId,
      address: peer.address,
      isSelf: false,
      isLeader: peer.raftId === log.leader,
      isVoter: log.voters.includes(peer.raftId),
      isConnected: peer.isConnected,
      lastContactMs: peer.lastContactMs ?? null,
      retries: peer.retries,
      matchIndex,
      lagEntries: isLeader && matchIndex !== null ? Math.max(0, log.lastIndex - matchIndex) : null,
      appliedIndex: report?.appliedIndex ?? null,
      isDiverged: report?.isDiverged ?? false,
      isShortOfRoom: report?.isShortOfRoom ?? false,
      lastError: report?.lastError || service.peerError(peer.raftId),
    }
  })
  const self: MemberStatus = {
    nodeId: service.nodeId,
    raftId: log.raftId,
    address: service.identity()?.address ?? '',
    isSelf: true,
    isLeader,
    isVoter: log.voters.includes(log.raftId),
    isConnected: true,
    lastContactMs: 0,
    retries: 0,
    matchIndex: log.flushedIndex,
    lagEntries: isLeader ? 0 : null,
    appliedIndex: status.appliedIndex,
    isDiverged: status.divergence !== undefined,
    isShortOfRoom: status.isShortOfRoom,
    lastError: status.lastError,
  }
  return [self, ...others].sort((a, b) => a.raftId - b.raftId)
}
