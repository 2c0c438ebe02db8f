/** Three logs in simulated time, of which the first leads, with disks and lanes of any speed. */
import { must } from '../../src/base/assert.ts'
import type { Clock, PeerHandler, PeerTransport } from '../../src/base/ports.ts'
import { foundingMembership, storedMembers } from '../../src/log/membership.ts'
import { Peers } from '../../src/log/peers.ts'
import { RaftLog } from '../../src/log/raft-log.ts'
import { Wal } from '../../src/wal/wal.ts'
import { Scheduler } from '../../sim/scheduler.ts'
import { SimDisk } from '../../sim/sim-disk.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { memberOf } from './log-bench.ts'

const IDS = [1, 2, 3]
const ENTRY_BYTES = 20_000
const FAST_BYTES_PER_MS = 1_000_000

export interface Speeds {
  /** Of the data lane from the first to the third. */
  readonly slowBytesPerMs?: number
  /** How long each operation of the first one's disk takes. */
  readonly leaderDiskMs?: number
}

export class Cluster {
  readonly scheduler = new Scheduler()
  readonly logs: readonly RaftLog[]
  appendedBytes = 0
  slowLaneBytes = 0
  isWriting = true
  readonly #speeds: Speeds
  readonly #handlers = new Map<number, PeerHandler>()
  /** When a lane has sent what waits on it. */
  readonly #freeAtMs = new Map<string, number>()

  constructor(speeds: Speeds) {
    this.#speeds = speeds
    this.logs = IDS.map(id => this.#makeLog(id))
    IDS.forEach((id, at) => this.#start(id, must(this.logs[at])))
  }

  log(id: number): RaftLog {
    return must(this.logs[id - 1])
  }

  #makeLog(raftId: number): RaftLog {
    const { scheduler } = this
    const clock: Clock = {
      wallMs: () => scheduler.nowMs,
      monotonicMs: () => scheduler.nowMs,
      setTimer: (delayMs, callback) => scheduler.after(delayMs, callback),
    }
    const { leaderDiskMs } = this.#speeds
    const disk = new SimDisk({
      random: new SimRandom(raftId, 'disk'),
      later: (delayMs, callback) => void scheduler.after(delayMs, callback),
      ...(raftId === 1 && leaderDiskMs !== undefined && { latencyMs: () => leaderDiskMs }),
    })
    const peers = new Peers(this.#transportOf(raftId), clock, 1)
    peers.listen()
    return new RaftLog({
      raftId,
      wal: Wal.open({
        disk: disk.mount(),
        directory: 'log',
        identity: { clusterId: 'c', groupId: 1, raftId },
        initialMembers: storedMembers(foundingMembership(IDS.map(memberOf))),
        onFatal: error => {
          throw error
        },
      }),
      peers,
      clock,
      // The first one's patience ends first.
      random: { below: bound => (raftId === 1 ? 0 : bound - 1), bytes: n => new Uint8Array(n) },
      options: {
        tickMs: 50,
        electionTicks: 10,
        heartbeatTicks: 2,
        maxSizePerMessageBytes: 1 << 20,
        maxInflightMessages: 256,
        maxInflightBytes: 32 << 20,
      },
      logger: { debug() {}, info() {}, warn() {}, error() {} },
    })
  }

  #start(id: number, log: RaftLog): void {
    log.start(() => {
      if (id === 1) this.scheduler.after(2, () => this.#write(log))
    })
  }

  /** One entry after another, as an executor does. */
  #write(log: RaftLog): void {
    const { role, term, lastIndex, commitIndex } = log.status()
    if (!this.isWriting || role !== 'leader' || lastIndex !== commitIndex) return
    log.append(term, new Uint8Array(ENTRY_BYTES))
    this.appendedBytes += ENTRY_BYTES
  }

  #transportOf(from: number): PeerTransport {
    return {
      setMembers: () => {},
      listen: handler => this.#handlers.set(from, handler),
      send: (to, lane, frame) => {
        const key = `${from} ${to} ${lane}`
        const isSlow = to === 3 && lane === 'data'
        if (isSlow) this.slowLaneBytes += frame.byteLength
        const { slowBytesPerMs = FAST_BYTES_PER_MS } = this.#speeds
        const takesMs = frame.byteLength / (isSlow ? slowBytesPerMs : FAST_BYTES_PER_MS)
        const { nowMs } = this.scheduler
        const sentAtMs = Math.max(nowMs, this.#freeAtMs.get(key) ?? 0) + takesMs
        this.#freeAtMs.set(key, sentAtMs)
        this.scheduler.after(sentAtMs - nowMs + 0.3, () =>
          this.#handlers.get(to)?.onFrame(from, lane, frame),
        )
        return true
      },
    }
  }
}
