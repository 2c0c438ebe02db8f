/** What every kind of fault has, and what faults share. */
import type { SimRandom } from '../../sim/sim-random.ts'
import type { EngineName } from '../cluster/dialects.ts'
import type { ChaosNodes } from './nodes.ts'
import type { Verdict } from './workload.ts'

/** A fault under way. */
export interface ActiveFault {
  readonly what: string
  /** The nodes that can't do their part meanwhile; absent if it may be any number of them. */
  readonly hurts?: readonly string[]
  undo(): Promise<void>
}

export interface FaultKind {
  readonly name: string
  /** How often it is drawn, relative to the others. */
  readonly weight: number
  /** The only engine that it is for; absent for all. */
  readonly engine?: EngineName
  /** Why this machine or this build can't have it, or undefined. */
  whyNot(nodes: ChaosNodes): string | undefined
  /** Undefined if there is nothing to do it to right now. */
  begin(scene: Scene, random: SimRandom): Promise<ActiveFault | undefined>
}

/** Where faults take place. */
export interface Scene {
  readonly nodes: ChaosNodes
  readonly expectations: Expectations
  readonly claims: Claims
  /** Learners that others must leave alone until they are promoted. */
  readonly learners: Set<string>
  /** Nodes that computed something else, now or before. */
  readonly odd: Set<string>
  /** Digests are taken often, and no node takes another's data only because it has fallen behind. */
  readonly findsSilence: boolean
  /** Says something about the run in its output and its history. */
  readonly note: (text: string) => void
}

/** What faults expect of the cluster themselves, beside what clients see. */
export class Expectations {
  readonly #checked = new Map<string, number>()
  readonly #complaints = new Map<string, string[]>()

  /** `complaint` is a sentence, or undefined if all was as expected. */
  check(checker: string, complaint: string | undefined): void {
    this.#checked.set(checker, (this.#checked.get(checker) ?? 0) + 1)
    const complaints = this.#complaints.get(checker) ?? []
    this.#complaints.set(checker, complaints)
    if (complaint !== undefined) complaints.push(complaint)
  }

  judge(): Verdict[] {
    return [...this.#checked].map(([checker, checked]) => {
      const complaints = this.#complaints.get(checker) ?? []
      return { checker, checked, complaints, undecided: 0 }
    })
  }
}

/**
 * Some faults leave the cluster so weak that another of certain kinds would take more from it than
 * any promise covers: the data of two voters of three, say. Those run alone among the kinds that
 * claim something; changes of members may overlap with each other.
 */
export class Claims {
  /** A change that nobody answered may still take effect for so long. */
  static readonly #SETTLING_MS = 10_000
  readonly #nowMs: () => number
  #shared = 0
  #isAlone = false
  #sharedUntilMs = -Infinity

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs
  }

  /** What ends the claim, or undefined if it can't be had now. */
  share(): (() => void) | undefined {
    if (this.#isAlone) return undefined
    this.#shared += 1
    return () => {
      this.#shared -= 1
      this.#sharedUntilMs = this.#nowMs()
    }
  }

  alone(): (() => void) | undefined {
    const isSettled = this.#nowMs() > this.#sharedUntilMs + Claims.#SETTLING_MS
    if (this.#isAlone || this.#shared > 0 || !isSettled) return undefined
    this.#isAlone = true
    return () => (this.#isAlone = false)
  }
}

/** For what every machine can have. */
export const always = (): undefined => undefined

/** The leader half of the time, since it is the one whose loss matters; else anybody. */
export async function victimOf(nodes: ChaosNodes, random: SimRandom): Promise<string> {
  const wantsLeader = random.chance(0.5)
  const any = random.pick(nodes.nodeIds)
  const leader = wantsLeader ? await nodes.leader() : undefined
  return leader !== undefined && nodes.nodeIds.includes(leader) ? leader : any
}

/** A scene in which nothing has happened yet. */
export function sceneOf(nodes: ChaosNodes, note: Scene['note'], findsSilence: boolean): Scene {
  return {
    nodes,
    expectations: new Expectations(),
    claims: new Claims(),
    learners: new Set(),
    odd: new Set(),
    findsSilence,
    note,
  }
}

/** All nodes but this one. */
export function othersOf(nodes: ChaosNodes, nodeId: string): string[] {
  return nodes.nodeIds.filter(other => other !== nodeId)
}
