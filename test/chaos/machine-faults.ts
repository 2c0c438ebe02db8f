/** Machines whose disk is full or whose clock is wrong. */
import { always, victimOf } from './fault.ts'
import type { FaultKind } from './fault.ts'

const fullDisk: FaultKind = {
  name: 'full-disk',
  weight: 2,
  whyNot: nodes => (nodes.hasSmallDisks ? undefined : 'no small file system could be mounted'),
  async begin({ nodes }, random) {
    const victim = await victimOf(nodes, random)
    const leftBytes = random.pick([0, 4096, 100_000, 1_000_000])
    nodes.fillDisk(victim, leftBytes)
    return {
      what: `filled the disk of ${victim} up to ${leftBytes} bytes`,
      hurts: [victim],
      undo: async () => nodes.freeDisk(victim),
    }
  },
}

const clock: FaultKind = {
  name: 'clock',
  weight: 2,
  whyNot: always,
  async begin({ nodes }, random) {
    const victim = await victimOf(nodes, random)
    const seconds = random.pick([-86_400, -3600, -5, 5, 3600, 86_400])
    nodes.setClock(victim, seconds * 1000)
    return {
      what: `moved the clock of ${victim} by ${seconds} s`,
      hurts: [victim],
      undo: async () => nodes.setClock(victim, 0),
    }
  },
}

/** Every kind of fault of a machine. */
export const MACHINE_FAULTS: readonly FaultKind[] = [fullDisk, clock]
