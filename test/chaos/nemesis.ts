/** The faults of a run: what each does to the nodes, and how it is undone. */
import { must } from '../../src/base/assert.ts'
import type { SimRandom } from '../../sim/sim-random.ts'
import { always, victimOf } from './fault.ts'
import type { FaultKind } from './fault.ts'
import { MEMBER_FAULTS } from './member-faults.ts'
import { CLIENTS } from './network.ts'
import type { ChaosNodes } from './nodes.ts'

function others(nodes: ChaosNodes, nodeId: string): string[] {
  return nodes.nodeIds.filter(other => other !== nodeId)
}

const kill: FaultKind = {
  name: 'kill',
  weight: 4,
  whyNot: always,
  async begin(nodes, random) {
    const victim = await victimOf(nodes, random)
    const signal = random.chance(0.8) ? 'SIGKILL' : 'SIGTERM'
    await nodes.kill(victim, signal)
    return { what: `${signal} ${victim}`, undo: async () => nodes.start(victim) }
  },
}

const killAll: FaultKind = {
  name: 'kill-all',
  weight: 1,
  whyNot: always,
  async begin(nodes) {
    await Promise.all(nodes.nodeIds.map(nodeId => nodes.kill(nodeId)))
    const start = (): void => nodes.nodeIds.forEach(nodeId => nodes.start(nodeId))
    return { what: 'SIGKILL all nodes', undo: async () => start() }
  },
}

const pauseNode: FaultKind = {
  name: 'pause',
  weight: 3,
  whyNot: always,
  async begin(nodes, random) {
    const victim = await victimOf(nodes, random)
    const pid = nodes.pid(victim)
    if (pid === undefined) return undefined
    // A stopped machine stops the processes that run SQL too; a long garbage collection does not.
    const pids = random.chance(0.5) ? [pid] : [pid, ...nodes.enginePids(victim)]
    for (const each of pids) signalTo(each, 'SIGSTOP')
    return {
      what: `SIGSTOP ${victim} (${pids.length} processes)`,
      undo: async () => pids.forEach(each => signalTo(each, 'SIGCONT')),
    }
  },
}

const killEngine: FaultKind = {
  name: 'kill-engine',
  weight: 3,
  whyNot: always,
  async begin(nodes, random) {
    const victim = await victimOf(nodes, random)
    const pids = nodes.enginePids(victim)
    if (pids.length === 0) return undefined
    const pid = random.pick(pids)
    const signal = random.chance(0.7) ? 'SIGKILL' : 'SIGSTOP'
    signalTo(pid, signal)
    return {
      what: `${signal} one of ${pids.length} SQL processes of ${victim}`,
      undo: async () => signalTo(pid, 'SIGCONT'),
    }
  },
}

/** Ways to cut, by the shape of the cut. */
const SHAPES: Readonly<
  Record<string, (nodes: ChaosNodes, victim: string, random: SimRandom) => [string, string][]>
> = {
  'partition-node': (nodes, victim) =>
    others(nodes, victim).flatMap((other): [string, string][] => [
      [victim, other],
      [other, victim],
    ]),
  'partition-halves': (nodes, _victim, random) => {
    const shuffled = random.shuffle(nodes.nodeIds)
    const few = shuffled.slice(0, Math.floor(shuffled.length / 2))
    const many = shuffled.slice(few.length)
    return few.flatMap(one =>
      many.flatMap((other): [string, string][] => [
        [one, other],
        [other, one],
      ]),
    )
  },
  'one-way-out': (nodes, victim) => others(nodes, victim).map(other => [victim, other]),
  'one-way-in': (nodes, victim) => others(nodes, victim).map(other => [other, victim]),
  // Two don't hear each other, and both hear all the others.
  'partition-pair': (nodes, victim, random) => {
    const other = random.pick(others(nodes, victim))
    return [
      [victim, other],
      [other, victim],
    ]
  },
  'partition-random': (nodes, _victim, random) =>
    nodes.nodeIds.flatMap(from =>
      others(nodes, from)
        .filter(() => random.chance(0.35))
        .map((to): [string, string] => [from, to]),
    ),
  'clients-cut': (_nodes, victim) => [
    [CLIENTS, victim],
    [victim, CLIENTS],
  ],
  'answers-lost': (_nodes, victim) => [[victim, CLIENTS]],
}

const partitions = Object.entries(SHAPES).map(([name, shape]): FaultKind => ({
  name,
  weight: 2,
  whyNot: always,
  async begin(nodes, random) {
    const victim = await victimOf(nodes, random)
    const ways = shape(nodes, victim, random)
    for (const [from, to] of ways) await nodes.network.cut(from, to)
    const shown = ways.map(way => way.join('>')).join(' ')
    const undo = async (): Promise<void> => {
      for (const [from, to] of ways) await nodes.network.open(from, to)
    }
    return { what: `cut ${shown}`, undo }
  },
}))

const weather: FaultKind = {
  name: 'slow-network',
  weight: 3,
  whyNot: nodes => nodes.network.whyNoWeather,
  async begin(nodes, random) {
    const victim = await victimOf(nodes, random)
    const delayMs = random.pick([5, 30, 100, 300])
    const bad = { delayMs, jitterMs: delayMs, loss: random.pick([0, 0.02, 0.2]) }
    const isEverywhere = random.chance(0.3)
    const all = nodes.nodeIds.flatMap(from => others(nodes, from).map(to => [from, to] as const))
    const ways = all.filter(way => isEverywhere || way.includes(victim))
    for (const [from, to] of ways) await nodes.network.slow(from, to, bad)
    const where = isEverywhere ? 'all ways' : `the ways of ${victim}`
    const undo = async (): Promise<void> => {
      for (const [from, to] of ways) await nodes.network.slow(from, to, undefined)
    }
    return { what: `${delayMs} ms and ${bad.loss * 100} % loss on ${where}`, undo }
  },
}

const resets: FaultKind = {
  name: 'reset',
  weight: 2,
  whyNot: nodes => (nodes.network.name === 'proxies' ? undefined : 'only proxies can reset'),
  async begin(nodes, random) {
    const victim = await victimOf(nodes, random)
    nodes.network.reset(victim)
    return { what: `broke all connections to ${victim}`, undo: async () => {} }
  },
}

const fullDisk: FaultKind = {
  name: 'full-disk',
  weight: 2,
  whyNot: nodes => (nodes.hasSmallDisks ? undefined : 'no small file system could be mounted'),
  async begin(nodes, random) {
    const victim = await victimOf(nodes, random)
    const leftBytes = random.pick([0, 4096, 100_000, 1_000_000])
    nodes.fillDisk(victim, leftBytes)
    return {
      what: `filled the disk of ${victim} up to ${leftBytes} bytes`,
      undo: async () => nodes.freeDisk(victim),
    }
  },
}

const clock: FaultKind = {
  name: 'clock',
  weight: 2,
  whyNot: always,
  async begin(nodes, random) {
    const victim = await victimOf(nodes, random)
    const seconds = random.pick([-86_400, -3600, -5, 5, 3600, 86_400])
    nodes.setClock(victim, seconds * 1000)
    return {
      what: `moved the clock of ${victim} by ${seconds} s`,
      undo: async () => nodes.setClock(victim, 0),
    }
  },
}

/** Every kind of fault there is. */
export const FAULTS: readonly FaultKind[] = [
  kill,
  killAll,
  pauseNode,
  killEngine,
  ...partitions,
  weather,
  resets,
  fullDisk,
  clock,
  ...MEMBER_FAULTS,
]

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

function signalTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended meanwhile.
  }
}
