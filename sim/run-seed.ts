/** One run from its recipe, and what came of it as plain data that crosses to another thread. */
import type { Recipe } from './options.ts'
import { RaftCluster } from './raft-cluster.ts'
import { drawRaftSwarm } from './raft-swarm.ts'
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
  const swarm = drawRaftSwarm(world.random('swarm'), recipe.nodes)
  let failure: RunFailure | undefined
  try {
    new RaftCluster(world, swarm).run(recipe.steps)
  } catch (error) {
    failure = describeFailure(error, world, JSON.stringify(swarm))
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

function describeFailure(error: unknown, world: World, configuration: string): RunFailure {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error))
  return { name, message, stack: stack ?? '', configuration, lastLines: world.trace.lastLines() }
}
