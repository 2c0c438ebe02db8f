/** Ways between nodes, and between them and their clients, that are cut, slow or broken. */
import type { SimRandom } from '../../sim/sim-random.ts'
import { always, othersOf, victimOf } from './fault.ts'
import type { FaultKind } from './fault.ts'
import { CLIENTS } from './network.ts'
import type { ChaosNodes } from './nodes.ts'

/** Shapes that may leave no majority. */
const MANY: ReadonlySet<string> = new Set(['partition-halves', 'partition-random'])

/** Ways to cut, by the shape of the cut. */
const SHAPES: Readonly<
  Record<string, (nodes: ChaosNodes, victim: string, random: SimRandom) => [string, string][]>
> = {
  'partition-node': (nodes, victim) =>
    othersOf(nodes, victim).flatMap((other): [string, string][] => [
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
  'one-way-out': (nodes, victim) => othersOf(nodes, victim).map(other => [victim, other]),
  'one-way-in': (nodes, victim) => othersOf(nodes, victim).map(other => [other, victim]),
  // Two don't hear each other, and both hear all the others.
  'partition-pair': (nodes, victim, random) => {
    const other = random.pick(othersOf(nodes, victim))
    return [
      [victim, other],
      [other, victim],
    ]
  },
  'partition-random': (nodes, _victim, random) =>
    nodes.nodeIds.flatMap(from =>
      othersOf(nodes, from)
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
  async begin({ nodes }, random) {
    const victim = await victimOf(nodes, random)
    const ways = shape(nodes, victim, random)
    for (const [from, to] of ways) await nodes.network.cut(from, to)
    const shown = ways.map(way => way.join('>')).join(' ')
    const undo = async (): Promise<void> => {
      for (const [from, to] of ways) await nodes.network.open(from, to)
    }
    // Whatever its shape, a cut that has one victim leaves the others to themselves.
    const hurts = MANY.has(name) ? {} : { hurts: [victim] }
    return { what: `cut ${shown}`, undo, ...hurts }
  },
}))

const weather: FaultKind = {
  name: 'slow-network',
  weight: 3,
  whyNot: nodes => nodes.network.whyNoWeather,
  async begin({ nodes }, random) {
    const victim = await victimOf(nodes, random)
    const delayMs = random.pick([5, 30, 100, 300])
    const bad = { delayMs, jitterMs: delayMs, loss: random.pick([0, 0.02, 0.2]) }
    const isEverywhere = random.chance(0.3)
    const all = nodes.nodeIds.flatMap(from => othersOf(nodes, from).map(to => [from, to] as const))
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
  whyNot: nodes =>
    nodes.network.name === 'proxies' ? undefined : 'only proxies (--network proxies) can reset',
  async begin({ nodes }, random) {
    const victim = await victimOf(nodes, random)
    nodes.network.reset(victim)
    return {
      what: `broke all connections to ${victim}`,
      hurts: [victim],
      undo: async () => {},
    }
  },
}

/** Every kind of fault of the network. */
export const NETWORK_FAULTS: readonly FaultKind[] = [...partitions, weather, resets]
