/**
 * The configuration of a raft-only run, drawn from its seed. Most runs are near production; every
 * limit is sometimes at its least, because whole classes of bugs show only there.
 */
import { NO_LIMIT } from '../src/raft/types.ts'
import type { SimRandom } from './sim-random.ts'

export interface RaftSwarm {
  /** Voters at the beginning: nodes 1 to this. */
  readonly voterCount: number
  /** All nodes, members or not. */
  readonly nodeCount: number
  readonly tickMs: number
  readonly electionTicks: number
  readonly heartbeatTicks: number
  readonly maxSizePerMessageBytes: number
  readonly maxInflightMessages: number
  readonly maxInflightBytes: number
  readonly maxUncommittedBytes: number
  readonly maxCommittedSizePerReadyBytes: number
  readonly preVote: boolean
  readonly checkQuorum: boolean
  readonly asyncStorageWrites: boolean
  readonly stepDownOnRemoval: boolean
  readonly disableProposalForwarding: boolean
  /** Clocks run between 1 - this and 1 + this of true time. */
  readonly clockSkew: number
  readonly flushMsMean: number
  readonly applyMsMean: number
  /** How long a Ready may lie before somebody looks. */
  readonly readyMsMax: number
  readonly delayMsMin: number
  readonly delayMsMean: number
  readonly dropProbability: number
  readonly repeatProbability: number
  readonly faultMsMean: number
  readonly payloadBytesMax: number
  /** How often membership changes are tried, among other things that clients do. */
  readonly changeWeight: number
  readonly compactWeight: number
  readonly crashWeight: number
  readonly partitionWeight: number
  /**
   * A snapshot message is an offer, as in the product: the data come later, from anybody, older or
   * newer than offered. Otherwise the message brings them.
   */
  readonly fetchesSnapshots: boolean
  readonly fetchMsMean: number
}

/**
 * A fast network over slow disks, where processes die all the time: what was said is ahead of what is
 * kept.
 */
const SLOW_DISKS: Partial<RaftSwarm> = {
  asyncStorageWrites: true,
  flushMsMean: 50,
  delayMsMin: 0,
  delayMsMean: 0.3,
  faultMsMean: 5,
  crashWeight: 20,
  changeWeight: 0,
  compactWeight: 0,
  applyMsMean: 0.1,
}

/** `nodes` fixes the number of voters; otherwise it is drawn too. */
export function drawRaftSwarm(random: SimRandom, nodes?: number): RaftSwarm {
  const swarm = drawFreely(random, nodes)
  return random.chance(0.15) ? { ...swarm, ...SLOW_DISKS } : swarm
}

function drawFreely(random: SimRandom, nodes: number | undefined): RaftSwarm {
  const voterCount = nodes ?? random.pick([1, 2, 3, 3, 3, 3, 4, 5, 5])
  const isProduction = random.chance(0.85)
  const maxSizePerMessageBytes = random.pick([0, 0, 20, 200, NO_LIMIT])
  return {
    voterCount,
    nodeCount: voterCount + random.pick([0, 1, 2]),
    tickMs: 10,
    electionTicks: random.pick([5, 10, 10]),
    heartbeatTicks: random.pick([1, 1, 2, 4]),
    maxSizePerMessageBytes,
    maxInflightMessages: random.pick([1, 1, 2, 8, 256]),
    maxInflightBytes: random.chance(0.2) ? Math.max(50, maxSizePerMessageBytes) : NO_LIMIT,
    maxUncommittedBytes: random.pick([100, NO_LIMIT, NO_LIMIT]),
    maxCommittedSizePerReadyBytes: random.pick([1, 50, NO_LIMIT]),
    preVote: isProduction || random.chance(0.5),
    checkQuorum: isProduction || random.chance(0.5),
    asyncStorageWrites: random.chance(0.7),
    stepDownOnRemoval: isProduction || random.chance(0.5),
    disableProposalForwarding: random.chance(0.5),
    clockSkew: random.pick([0, 0, 0.05, 0.3]),
    flushMsMean: random.pick([0.1, 1, 5, 50]),
    applyMsMean: random.pick([0.1, 0.1, 5, 100]),
    readyMsMax: random.pick([0, 0, 1, 10]),
    delayMsMin: random.pick([0, 1]),
    delayMsMean: random.pick([0.3, 2, 10, 40]),
    dropProbability: random.pick([0, 0, 0.02, 0.1, 0.3]),
    repeatProbability: random.pick([0, 0, 0.05, 0.3]),
    faultMsMean: random.pick([5, 20, 20, 60]),
    payloadBytesMax: random.pick([8, 40, 200]),
    changeWeight: random.pick([0, 1, 4, 15]),
    compactWeight: random.pick([0, 2, 10]),
    crashWeight: random.pick([1, 3, 8, 20]),
    partitionWeight: random.pick([0, 2, 6]),
    fetchesSnapshots: random.chance(0.6),
    fetchMsMean: random.pick([1, 50, 400]),
  }
}
