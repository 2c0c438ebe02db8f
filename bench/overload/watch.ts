/** Looks at a cluster while it is loaded: who leads, how soon it says so, and what its processes use. */
import { readdirSync } from 'node:fs'
import { sum } from '../processes.ts'
import type { Target } from './target.ts'

/** What one process used meanwhile; readers of a node count as one. */
export interface ProcessUse {
  /** Such as `n1 main`. */
  readonly name: string
  readonly isLeader: boolean
  /** Median and highest of the samples. */
  readonly memoryBytes: number
  readonly memoryBytesMax: number
  /** Open files and connections, at the last sample. */
  readonly handles: number
}

export interface Watched {
  /** Each term and leader that some node told of, such as `2 n1`. */
  readonly terms: readonly string[]
  /** The slowest answer of a node to who leads, and how often none came in time. */
  readonly statusMsMax: number
  readonly statusFailures: number
  readonly processes: readonly ProcessUse[]
  /** What all processes of all nodes used. */
  readonly cpuMicros: number
}

const LOOK_MS = 500
const STATUS_MS_MAX = 5000

interface Samples {
  readonly name: string
  readonly isLeader: boolean
  readonly memory: number[]
  handles: number
}

export class Watch {
  readonly #target: Target
  readonly #timer: ReturnType<typeof setInterval>
  #terms = new Set<string>()
  #statusMsMax = 0
  #statusFailures = 0
  #samples = new Map<string, Samples>()
  /** What each process had used the last time, by its id. */
  #usedMicros = new Map<number, number>()

  constructor(target: Target) {
    this.#target = target
    this.#timer = setInterval(() => this.#look(), LOOK_MS)
    this.#look()
  }

  /** What was seen since the last time it was asked. */
  take(): Watched {
    const watched = {
      terms: [...this.#terms],
      statusMsMax: this.#statusMsMax,
      statusFailures: this.#statusFailures,
      processes: [...this.#samples.values()].map(toUse),
      cpuMicros: this.#takeCpu(),
    }
    this.#terms = new Set()
    this.#statusMsMax = 0
    this.#statusFailures = 0
    this.#samples = new Map()
    return watched
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** What was used since the last time. */
  #takeCpu(): number {
    let totalMicros = 0
    for (const { pid } of this.#target.roles()) {
      const { cpuMicros } = sum([pid])
      totalMicros += cpuMicros - (this.#usedMicros.get(pid) ?? 0)
      this.#usedMicros.set(pid, cpuMicros)
    }
    return totalMicros
  }

  #look(): void {
    for (const { address } of this.#target.cluster.nodes) void this.#askWhoLeads(address)
    const byName = Map.groupBy(this.#target.roles(), ({ node, role }) => `${node} ${role}`)
    for (const [name, roles] of byName) {
      const isLeader = roles.some(role => role.isLeader)
      const samples = this.#samples.get(name) ?? { name, isLeader, memory: [], handles: 0 }
      this.#samples.set(name, samples)
      samples.memory.push(sum(roles.map(({ pid }) => pid)).memoryBytes)
      samples.handles = roles.reduce((count, { pid }) => count + handlesOf(pid), 0)
    }
  }

  async #askWhoLeads(address: string): Promise<void> {
    const startedMs = performance.now()
    try {
      const signal = AbortSignal.timeout(STATUS_MS_MAX)
      const answer = await fetch(`http://${address}/nodes`, { signal })
      const { term, leader } = (await answer.json()) as {
        term: number
        leader: { nodeId: string } | null
      }
      this.#terms.add(`${term} ${leader?.nodeId ?? 'nobody'}`)
      this.#statusMsMax = Math.max(this.#statusMsMax, performance.now() - startedMs)
    } catch {
      // That none came is the news.
      this.#statusFailures += 1
    }
  }
}

function toUse({ name, isLeader, memory, handles }: Samples): ProcessUse {
  const sorted = memory.toSorted((a, b) => a - b)
  return {
    name,
    isLeader,
    memoryBytes: sorted[Math.floor(sorted.length / 2)] ?? 0,
    memoryBytesMax: sorted.at(-1) ?? 0,
    handles,
  }
}

function handlesOf(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length
  } catch {
    // It ended meanwhile.
    return 0
  }
}
