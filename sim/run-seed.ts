/** One run from its recipe, and what came of it as plain data that crosses to another thread. */
import { Cluster } from './cluster.ts'
import type { Recipe } from './options.ts'
import { RaftCluster } from './raft-cluster.ts'
import { drawRaftSwarm, type RaftSwarm } from './raft-swarm.ts'
import { drawSwarm, type Swarm, withManyTransactions } from './swarm.ts'
import type { SimRandom } from './sim-random.ts'
import { World, type WorldOptions } from './world.ts'

export interface RunOutcome {
  readonly seed: number
  /** Over every event: equal for equal runs. */
  readonly hash: string
  readonly eventCount: number
  /** Virtual time that passed. */
  readonly simulatedMs: number
  /** What happened how often, by name. */
  readonly counts: Readonly<Record<string, number>>
  readonly failure?: RunFailure
}

export interface RunFailure {
  /** `Violation` is a broken promise, anything else a broken program. */
  readonly name: string
  readonly message: string
  readonly stack: string
  readonly configuration: string
  readonly lastLines: readonly string[]
}

/** Runs it to its end. Never throws. */
export function runSeed(recipe: Recipe, options: WorldOptions): RunOutcome {
  const world = new World(recipe.seed, options)
  const random = world.random('swarm')
  const run = recipe.isRaftOnly
    ? prepareRaft(world, drawRaftSwarm(random, recipe.nodes), recipe.steps)
    : prepareCluster(world, swarmOf(recipe, random), recipe.steps)
  let failure: RunFailure | undefined
  try {
    run.start()
  } catch (error) {
    failure = describeFailure(error, world, run.configuration)
  } finally {
    run.end()
  }
  return {
    seed: recipe.seed,
    hash: world.trace.hash,
    eventCount: world.scheduler.executedCount,
    simulatedMs: world.nowMs,
    counts: Object.fromEntries(world.trace.counts),
    ...(failure === undefined ? {} : { failure }),
  }
}

function swarmOf({ nodes, hasManyTransactions }: Recipe, random: SimRandom): Swarm {
  const swarm = drawSwarm(random, nodes)
  return hasManyTransactions ? withManyTransactions(swarm, random) : swarm
}

interface Run {
  readonly configuration: string
  start(): void
  end(): void
}

function prepareRaft(world: World, swarm: RaftSwarm, steps: number): Run {
  return {
    configuration: JSON.stringify(swarm),
    start: () => new RaftCluster(world, swarm).run(steps),
    end: () => undefined,
  }
}

function prepareCluster(world: World, swarm: Swarm, steps: number): Run {
  const cluster = new Cluster(world, swarm)
  return {
    configuration: JSON.stringify(swarm),
    start: () => cluster.run(steps),
    end: () => cluster.close(),
  }
}

function describeFailure(error: unknown, world: World, configuration: string): RunFailure {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error))
  return { name, message, stack: stack ?? '', configuration, lastLines: world.trace.lastLines() }
}
