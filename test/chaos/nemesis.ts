/** All faults, and the plan of a run: which of them comes when, and for how long. */
import { must } from '../../src/base/assert.ts'
import type { SimRandom } from '../../sim/sim-random.ts'
import { DIVERGENCE } from './divergence-fault.ts'
import type { FaultKind } from './fault.ts'
import { MACHINE_FAULTS } from './machine-faults.ts'
import { MEMBER_FAULTS } from './member-faults.ts'
import { NETWORK_FAULTS } from './network-faults.ts'
import { PROCESS_FAULTS } from './process-faults.ts'
import { SERVER_FAULTS } from './server-faults.ts'

/** Every kind of fault there is. */
const FAULTS: readonly FaultKind[] = [
  ...PROCESS_FAULTS,
  ...SERVER_FAULTS,
  ...NETWORK_FAULTS,
  ...MACHINE_FAULTS,
  ...MEMBER_FAULTS,
  DIVERGENCE,
]

/** Those of these names, or all. Throws if there is no such fault. */
export function faultsNamed(names: readonly string[] | undefined): readonly FaultKind[] {
  if (names === undefined) return FAULTS
  return names.map(name => {
    const kind = FAULTS.find(each => each.name === name)
    if (kind !== undefined) return kind
    throw new Error(`no fault is called ${name}; there are ${FAULTS.map(each => each.name).join()}`)
  })
}

/** One entry of a run's plan, all of it drawn from the seed. */
export interface PlannedFault {
  readonly atMs: number
  readonly lastsMs: number
  readonly kind: FaultKind
  /** Of what is chosen when it begins. */
  readonly random: SimRandom
}

const CALM_MS_MAX = 3000
const FAULT_MS_MIN = 300
const FAULT_MS_MEAN = 2500
const FAULT_MS_MAX = 12_000

/** What goes wrong in a run of so many milliseconds; faults may overlap. */
export function planFaults(
  kinds: readonly FaultKind[],
  random: SimRandom,
  durationMs: number,
): PlannedFault[] {
  const total = kinds.reduce((sum, { weight }) => sum + weight, 0)
  const plan: PlannedFault[] = []
  for (let atMs = 1000; atMs < durationMs;) {
    let ticket = random.below(total)
    const kind = must(kinds.find(({ weight }) => (ticket -= weight) < 0))
    const drawnMs = FAULT_MS_MIN + random.exponential(FAULT_MS_MEAN)
    const lastsMs = Math.min(drawnMs, FAULT_MS_MAX, durationMs - atMs)
    plan.push({ atMs, lastsMs, kind, random: random.stream(`fault ${plan.length}`) })
    // Two in five overlap the next; otherwise there is some calm in which to recover.
    const isAlone = random.chance(0.6)
    atMs += (isAlone ? lastsMs : lastsMs * random.float(0, 1)) + random.float(0, CALM_MS_MAX)
  }
  return plan
}
