/** What every kind of fault has. */
import type { SimRandom } from '../../sim/sim-random.ts'
import type { ChaosNodes } from './nodes.ts'

/** A fault under way. */
export interface ActiveFault {
  readonly what: string
  undo(): Promise<void>
}

export interface FaultKind {
  readonly name: string
  /** How often it is drawn, relative to the others. */
  readonly weight: number
  /** Why this machine or this build can't have it, or undefined. */
  whyNot(nodes: ChaosNodes): string | undefined
  /** Undefined if there is nothing to do it to right now. */
  begin(nodes: ChaosNodes, random: SimRandom): Promise<ActiveFault | undefined>
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
