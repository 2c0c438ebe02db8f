/** The command line of the simulator: what to run and how to say it again. */
import { parseArgs } from 'node:util'

import { DbError } from '../src/base/errors.ts'

export interface SimOptions {
  /** Raft cores alone, or whole nodes with log, engine and clients. */
  readonly isRaftOnly: boolean
  /** Whole nodes whose clients mostly run interactive transactions, many at once. */
  readonly hasManyTransactions: boolean
  readonly firstSeed: number
  readonly seedCount: number
  /** Stops after this long if it is set, whatever the number of seeds. */
  readonly minutes: number | undefined
  /** Number of nodes; drawn from the seed if undefined. */
  readonly nodes: number | undefined
  /** Events with faults in each run; recovery comes on top. */
  readonly steps: number
  readonly jobs: number
  /** Prints every event instead of the last ones of a failure. */
  readonly isTraced: boolean
}

/** What identifies one run: the same recipe gives the same trace hash, everywhere. */
export type Recipe = Pick<SimOptions, 'isRaftOnly' | 'hasManyTransactions' | 'nodes' | 'steps'> & {
  readonly seed: number
}

export const USAGE = `npm run sim -- [options]

  --seed N                   run one seed
  --first-seed N --seeds N   run many (first seed 1, 200 seeds)
  --minutes N                run new seeds for so long
  --nodes N                  number of nodes instead of one drawn from the seed
  --steps N                  events with faults per run (whole nodes 4000, raft only 5000)
  --raft-only                consensus alone, with membership changes and snapshots
  --transactions             whole nodes, and mostly interactive transactions
  --jobs N                   runs at the same time (one for each core)
  --trace                    print every event`

const FLAGS = {
  seed: { type: 'string' },
  'first-seed': { type: 'string' },
  seeds: { type: 'string' },
  minutes: { type: 'string' },
  nodes: { type: 'string' },
  steps: { type: 'string' },
  jobs: { type: 'string' },
  'raft-only': { type: 'boolean' },
  transactions: { type: 'boolean' },
  trace: { type: 'boolean' },
} as const

/** Throws INVALID_REQUEST for anything that is not an option. */
export function parseOptions(argv: readonly string[], cores: number): SimOptions {
  const values = parseFlags(argv)
  const isRaftOnly = values['raft-only'] === true
  const seed = toNumber('seed', values.seed, 0)
  const minutes = toNumber('minutes', values.minutes, 0)
  const defaultSeeds = minutes === undefined ? 200 : Number.MAX_SAFE_INTEGER
  const isTraced = values.trace === true
  return {
    isRaftOnly,
    hasManyTransactions: values.transactions === true,
    firstSeed: seed ?? toNumber('first-seed', values['first-seed'], 0) ?? 1,
    seedCount: seed === undefined ? (toNumber('seeds', values.seeds, 1) ?? defaultSeeds) : 1,
    minutes,
    nodes: toNumber('nodes', values.nodes, 1),
    steps: toNumber('steps', values.steps, 1) ?? (isRaftOnly ? 5000 : 4000),
    // A trace of two runs at once could not be read.
    jobs: isTraced || seed !== undefined ? 1 : (toNumber('jobs', values.jobs, 1) ?? cores),
    isTraced,
  }
}

/** The line that repeats a run. */
export function commandFor(recipe: Recipe): string {
  const nodes = recipe.nodes === undefined ? '' : ` --nodes ${recipe.nodes}`
  const transactions = recipe.hasManyTransactions ? ' --transactions' : ''
  const mode = recipe.isRaftOnly ? ' --raft-only' : transactions
  return `npm run sim --${mode} --seed ${recipe.seed}${nodes} --steps ${recipe.steps}`
}

function parseFlags(
  argv: readonly string[],
): ReturnType<typeof parseArgs<{ options: typeof FLAGS }>>['values'] {
  try {
    return parseArgs({ args: [...argv], options: FLAGS, strict: true }).values
  } catch (error) {
    throw new DbError('INVALID_REQUEST', error instanceof Error ? error.message : String(error))
  }
}

function toNumber(name: string, text: string | undefined, least: number): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (!Number.isFinite(value) || value < least) {
    throw new DbError('INVALID_REQUEST', `--${name} must be a number from ${least}, not "${text}"`)
  }
  return value
}
