/**
 * The configuration of a run of whole nodes, drawn from its seed. Most runs are near production;
 * every limit is sometimes at its least, because whole classes of bugs show only there.
 */
import { REQUEST_LIMITS, type RequestLimits } from '../src/engine/limits.ts'
import type { RaftLogOptions } from '../src/log/raft-log.ts'
import { NO_LIMIT } from '../src/raft/types.ts'
import type { ReplicaOptions } from '../src/replica/types.ts'
import type { WalOptions } from '../src/wal/wal.ts'
import type { SimEngineOptions } from './sim-engine.ts'
import { CALM, type NetworkOptions } from './sim-network.ts'
import type { SimRandom } from './sim-random.ts'
import type { TransferOptions } from './sim-transfer.ts'

export interface Swarm {
  readonly nodeCount: number
  readonly clockSkew: number
  readonly syncMsMean: number
  readonly writeMsMean: number
  /** The process, or the machine, ends at a disk operation. */
  readonly diskCrashProbability: number
  readonly diskErrorProbability: number
  readonly network: NetworkOptions
  readonly log: RaftLogOptions
  readonly wal: WalOptions
  readonly replica: ReplicaOptions
  readonly engine: SimEngineOptions
  readonly transfer: TransferOptions
  readonly faultMsMean: number
  readonly weights: FaultWeights
  /** Machines that an operator may add. */
  readonly spareCount: number
  readonly clientCount: number
  /** How often a client runs an interactive transaction; all else it does weighs 106. */
  readonly transactionWeight: number
  readonly thinkMsMean: number
  readonly keyCount: number
  readonly nameCount: number
}

/** How often each kind of fault happens, against the others. */
export interface FaultWeights {
  readonly crash: number
  readonly powerCut: number
  readonly allPowerCut: number
  readonly restart: number
  readonly pause: number
  readonly partition: number
  /** The leader alone on its side. */
  readonly isolate: number
  readonly cut: number
  readonly heal: number
  readonly reset: number
  readonly slow: number
  /** A disk does nothing for longer than others wait for a leader. */
  readonly stuckDisk: number
  readonly clockJump: number
  readonly engineDeath: number
  readonly transfer: number
  /** An operator changes the members. */
  readonly members: number
  /** One node computes something else for a while. */
  readonly miscompute: number
  /** A row of one node is another, and nobody has changed it. */
  readonly rot: number
}

/** Sessions, keys and names are forgotten all the time. */
const FEW_SESSIONS: RequestLimits = {
  sessionsMax: 2,
  keysMax: 5,
  droppedNamesMax: 1,
  openRowBytesMax: 100,
}

/** Three nodes much as in production, in which nothing fails: where a scripted run begins. */
export const PLAIN: Swarm = {
  nodeCount: 3,
  clockSkew: 0,
  syncMsMean: 1,
  writeMsMean: 0.1,
  diskCrashProbability: 0,
  diskErrorProbability: 0,
  network: CALM,
  log: {
    tickMs: 20,
    electionTicks: 10,
    heartbeatTicks: 2,
    maxSizePerMessageBytes: 1 << 20,
    maxInflightMessages: 256,
    maxInflightBytes: 1 << 24,
  },
  wal: {
    segmentSizeBytes: 1 << 20,
    cacheSizeBytes: 1 << 20,
    batchSizeBytesMax: 1 << 20,
    fillSizeBytes: 0,
  },
  replica: {
    forward: 'all',
    maxBatchRequests: 512,
    maxBatchBytes: 1 << 20,
    maxQueuedRequests: 10_000,
    maxQueuedBytes: 1 << 24,
    maxQueuedMs: 1000,
    maxWaitingReads: 1000,
    maxForwardedRequests: 1000,
    maxExecuteMs: 10_000,
    maxApplyBytes: 1 << 20,
    maxApplyLagMs: 500,
    maxApplyLagBytes: 64 << 20,
    minFreeBytes: 0,
    maxLogBytes: 1 << 30,
    logReserveBytes: 1 << 20,
    transactionIdleMs: 5,
    transactionTurnMs: 50,
    transactionIdleTimeoutMs: 2000,
    maxTransactionMs: 5000,
    maxTransactions: 1000,
    maxTransactionsBytes: 1 << 24,
    reportMs: 50,
    digestIntervalMs: 0,
  },
  engine: {
    writerMsMean: 0.1,
    readerMsMean: 0.1,
    pipeMs: 0.1,
    deathProbability: 0,
    faultProbability: 0,
    walPagesMax: 10_000,
    requestLimits: REQUEST_LIMITS,
    applyDelayMs: 0,
    checkpointProbability: 0,
  },
  transfer: {
    pieceMsMean: 0.5,
    pieceSizeBytes: 1 << 20,
    breakProbability: 0,
    garbleProbability: 0,
  },
  faultMsMean: 1000,
  weights: {
    crash: 0,
    powerCut: 0,
    allPowerCut: 0,
    restart: 1,
    pause: 0,
    partition: 0,
    isolate: 0,
    cut: 0,
    heal: 0,
    reset: 0,
    slow: 0,
    stuckDisk: 0,
    clockJump: 0,
    engineDeath: 0,
    transfer: 0,
    members: 0,
    miscompute: 0,
    rot: 0,
  },
  spareCount: 0,
  clientCount: 3,
  transactionWeight: 20,
  thinkMsMean: 5,
  keyCount: 3,
  nameCount: 20,
}

/** `nodes` fixes the number of nodes; otherwise it is drawn too. */
export function drawSwarm(random: SimRandom, nodes?: number): Swarm {
  return withDigests(drawWithoutDigests(random, nodes), random)
}

/**
 * Rows are changed silently only where nobody can take them over before they are found: of a copied
 * error two know nothing, and then the majority may be wrong.
 */
function withDigests(swarm: Swarm, random: SimRandom): Swarm {
  const { nodeCount, replica, weights } = swarm
  const isLogShort = replica.maxLogBytes < 1 << 30
  // Every digest is an entry: with hardly a log, who fetches a snapshot would never catch up.
  const digestIntervalMs = random.pick(isLogShort ? [0, 0, 20_000] : [0, 300, 2000])
  const isCopied = weights.members > 0 || weights.miscompute > 0 || isLogShort
  const rot = digestIntervalMs === 0 || isCopied || nodeCount < 3 ? 0 : random.pick([0, 6, 6])
  return {
    ...swarm,
    replica: { ...replica, digestIntervalMs },
    weights: { ...weights, rot },
  }
}

function drawWithoutDigests(random: SimRandom, nodes?: number): Swarm {
  return {
    nodeCount: nodes ?? random.pick([1, 3, 3, 3, 3, 5, 5]),
    clockSkew: random.pick([0, 0, 0.02, 0.2]),
    syncMsMean: random.pick([0.1, 1, 1, 10]),
    writeMsMean: random.pick([0.01, 0.1]),
    diskCrashProbability: random.pick([0, 0, 0.002, 0.01]),
    diskErrorProbability: random.pick([0, 0, 0, 0.002]),
    network: drawNetwork(random),
    log: drawLog(random),
    wal: {
      segmentSizeBytes: random.pick([4096, 4096, 16_384, 1 << 20]),
      cacheSizeBytes: random.pick([0, 500, 4096, 1 << 20]),
      batchSizeBytesMax: random.pick([1, 1000, 1 << 20]),
      fillSizeBytes: random.pick([0, 1024, 16_384]),
    },
    replica: drawReplica(random),
    engine: {
      writerMsMean: random.pick([0.1, 0.1, 1, 20]),
      readerMsMean: random.pick([0.1, 1, 20]),
      pipeMs: random.pick([0.01, 0.5]),
      deathProbability: random.pick([0, 0, 0.003, 0.02]),
      faultProbability: random.pick([0, 0, 0.003, 0.02]),
      walPagesMax: random.pick([2, 20, 10_000]),
      requestLimits: random.pick([REQUEST_LIMITS, FEW_SESSIONS]),
      applyDelayMs: random.stream('apply-delay').pick([0, 5]),
      checkpointProbability: random.pick([0, 0.02, 0.1, 0.5]),
    },
    transfer: {
      pieceMsMean: random.pick([0.5, 5, 30]),
      pieceSizeBytes: random.pick([4096, 10_000, 1 << 20]),
      breakProbability: random.pick([0, 0, 0.02, 0.2]),
      garbleProbability: random.pick([0, 0, 0.02]),
    },
    faultMsMean: random.pick([20, 60, 60, 200]),
    weights: drawWeights(random),
    spareCount: random.pick([1, 2, 4]),
    clientCount: random.pick([2, 5, 12]),
    transactionWeight: 20,
    thinkMsMean: random.pick([0, 5, 40]),
    keyCount: random.pick([1, 3, 8]),
    nameCount: random.pick([10, 100]),
  }
}

/** The same faults, fewer of them, and clients that mostly run interactive transactions at once. */
export function withManyTransactions(swarm: Swarm, random: SimRandom): Swarm {
  return {
    ...swarm,
    faultMsMean: swarm.faultMsMean * random.pick([1, 5, 20]),
    clientCount: random.pick([12, 24]),
    thinkMsMean: 0,
    transactionWeight: 1000,
    keyCount: random.pick([3, 30]),
  }
}

function drawNetwork(random: SimRandom): NetworkOptions {
  return {
    ...CALM,
    delayMsMin: random.pick([0.1, 0.5]),
    delayMsMean: random.pick([0.2, 1, 5, 20]),
    bytesPerMs: random.pick([500, 100_000, 1_000_000]),
    dropProbability: random.pick([0, 0, 0.01, 0.1]),
    repeatProbability: random.pick([0, 0.05]),
    resetProbability: random.pick([0, 0, 0.002]),
    breakMsMin: 100,
    breakMsMax: random.pick([200, 2000]),
    queueBytesMax: random.pick([4096, 1 << 20]),
  }
}

function drawLog(random: SimRandom): RaftLogOptions {
  const maxSizePerMessageBytes = random.pick([0, 500, NO_LIMIT])
  return {
    tickMs: random.pick([10, 20]),
    electionTicks: random.pick([5, 10]),
    heartbeatTicks: random.pick([1, 2]),
    maxSizePerMessageBytes,
    maxInflightMessages: random.pick([1, 4, 256]),
    maxInflightBytes: random.pick([NO_LIMIT, Math.max(1000, maxSizePerMessageBytes)]),
  }
}

function drawReplica(random: SimRandom): ReplicaOptions {
  return {
    forward: random.pick(['all', 'all', 'data', 'none']),
    maxBatchRequests: random.pick([1, 2, 8, 512]),
    maxBatchBytes: random.pick([1, 300, 1 << 20]),
    maxQueuedRequests: random.pick([3, 100, 10_000]),
    maxQueuedBytes: random.pick([1000, 1 << 20]),
    maxQueuedMs: 100,
    maxWaitingReads: random.pick([3, 1000]),
    maxForwardedRequests: random.pick([2, 1000]),
    maxExecuteMs: random.pick([200, 10_000]),
    maxApplyBytes: random.pick([1, 500, 1 << 20]),
    maxApplyLagMs: random.pick([100, 500]),
    maxApplyLagBytes: random.pick([1000, 64 << 20]),
    minFreeBytes: 0,
    maxLogBytes: random.pick([2000, 10_000, 1 << 30]),
    logReserveBytes: 3000,
    transactionIdleMs: random.pick([0, 5, 50]),
    transactionTurnMs: random.pick([1, 50, 1000]),
    transactionIdleTimeoutMs: random.pick([100, 2000]),
    maxTransactionMs: random.pick([200, 5000]),
    maxTransactions: random.pick([2, 1000]),
    maxTransactionsBytes: random.pick([2000, 1 << 24]),
    reportMs: random.pick([20, 100]),
    digestIntervalMs: 0,
  }
}

function drawWeights(random: SimRandom): FaultWeights {
  const often = (...weights: readonly number[]): number => random.pick(weights)
  return {
    crash: often(0, 2, 6),
    powerCut: often(0, 2, 6),
    allPowerCut: often(0, 0.3, 1),
    restart: often(6, 12, 12),
    pause: often(0, 1, 4),
    partition: often(0, 2, 5),
    isolate: often(0, 2, 5),
    cut: often(0, 2, 5),
    heal: often(4, 10),
    reset: often(0, 3),
    slow: often(0, 2),
    stuckDisk: often(0, 0, 2),
    clockJump: often(0, 2),
    engineDeath: often(0, 2, 6),
    transfer: often(0, 1),
    members: often(0, 0, 3, 12),
    miscompute: often(0, 0, 6),
    rot: 0,
  }
}
