/** `npm run sim`: runs seeds on all cores, and prints how to repeat the one that fails. */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'

import { DbError } from '../src/base/errors.ts'
import { commandFor, parseOptions, type Recipe, type SimOptions, USAGE } from './options.ts'
import { type RunOutcome, runSeed } from './run-seed.ts'

/** Seeds sent to a thread at once: enough to keep it busy, few enough to stop soon. */
const SEEDS_PER_MESSAGE = 4

class Tally {
  readonly #startedMs = performance.now()
  readonly #counts = new Map<string, number>()
  #runs = 0
  #events = 0
  #simulatedMs = 0

  add(outcome: RunOutcome): void {
    this.#runs++
    this.#events += outcome.eventCount
    this.#simulatedMs += outcome.simulatedMs
    for (const [kind, count] of Object.entries(outcome.counts)) {
      this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + count)
    }
  }

  get seconds(): number {
    return (performance.now() - this.#startedMs) / 1000
  }

  line(): string {
    const seconds = this.seconds
    const perSecond = Math.round(this.#events / seconds)
    const days = (this.#simulatedMs / 3_600_000).toFixed(2)
    return (
      `${this.#runs} runs, ${this.#events} events in ${seconds.toFixed(1)} s ` +
      `(${perSecond} events/s), ${days} hours simulated`
    )
  }

  /** What happened most, so that one can see whether the faults were there. */
  kinds(): string {
    const sorted = [...this.#counts].sort((left, right) => right[1] - left[1])
    return sorted.map(([kind, count]) => `${kind} ${count}`).join(', ')
  }
}

async function main(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help')) {
    console.log(USAGE)
    return 0
  }
  const options = parseOptions(argv, availableParallelism())
  const tally = new Tally()
  const failure = options.jobs === 1 ? runHere(options, tally) : await runOnThreads(options, tally)
  console.log(tally.line())
  if (failure === undefined) {
    console.log(`what happened: ${tally.kinds()}`)
    console.log('none failed')
    return 0
  }
  const recipe = recipeOf(options, failure.seed)
  // Once more, with everything kept that helps to understand it; and the trace must be the same.
  const again = options.jobs === 1 ? failure : runSeed(recipe, { keptCount: 400, isVerbose: false })
  printFailure(again.failure === undefined ? failure : again, recipe)
  if (again.hash !== failure.hash) {
    console.log(`NOT DETERMINISTIC: trace hash ${failure.hash}, then ${again.hash}`)
  }
  return 1
}

function recipeOf(options: SimOptions, seed: number): Recipe {
  const { isRaftOnly, hasManyTransactions, nodes, steps } = options
  return { seed, isRaftOnly, hasManyTransactions, nodes, steps }
}

/** Undefined when there are no more, or time is up. */
function nextSeeds(options: SimOptions, next: number, seconds: number): Recipe[] {
  const isOver = options.minutes !== undefined && seconds > options.minutes * 60
  const left = options.firstSeed + options.seedCount - next
  const count = isOver ? 0 : Math.min(left, SEEDS_PER_MESSAGE)
  return Array.from({ length: count }, (_, offset) => recipeOf(options, next + offset))
}

function runHere(options: SimOptions, tally: Tally): RunOutcome | undefined {
  const isAlone = options.seedCount === 1
  for (let next = options.firstSeed; ;) {
    const recipes = nextSeeds(options, next, tally.seconds)
    if (recipes.length === 0) return undefined
    next += recipes.length
    for (const recipe of recipes) {
      const outcome = runSeed(recipe, {
        keptCount: options.isTraced ? 0 : 200,
        isVerbose: isAlone,
        ...(options.isTraced ? { print: (line: string) => console.log(line) } : {}),
      })
      tally.add(outcome)
      if (isAlone) console.log(`seed ${recipe.seed}: trace hash ${outcome.hash}`)
      if (outcome.failure !== undefined) return outcome
    }
  }
}

async function runOnThreads(options: SimOptions, tally: Tally): Promise<RunOutcome | undefined> {
  const workers = Array.from(
    { length: options.jobs },
    () => new Worker(new URL('worker.ts', import.meta.url)),
  )
  try {
    return await feedThreads(workers, options, tally)
  } finally {
    for (const worker of workers) await worker.terminate()
  }
}

/** The first run that fails, or undefined when all are done. */
function feedThreads(
  workers: readonly Worker[],
  options: SimOptions,
  tally: Tally,
): Promise<RunOutcome | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<RunOutcome | undefined>()
  const pending = new Map<Worker, number>()
  let next = options.firstSeed
  let lastReportSeconds = 0
  const feed = (worker: Worker): void => {
    const recipes = nextSeeds(options, next, tally.seconds)
    next += recipes.length
    pending.set(worker, recipes.length)
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has no origin
    if (recipes.length > 0) worker.postMessage(recipes)
    else if ([...pending.values()].every(count => count === 0)) resolve(undefined)
  }
  for (const worker of workers) {
    worker.on('message', (outcome: RunOutcome) => {
      tally.add(outcome)
      if (outcome.failure !== undefined) resolve(outcome)
      if (tally.seconds > lastReportSeconds + 10) {
        lastReportSeconds = tally.seconds
        console.log(tally.line())
      }
      const left = (pending.get(worker) ?? 0) - 1
      pending.set(worker, left)
      if (left === 0) feed(worker)
    })
    worker.on('error', reject)
    feed(worker)
  }
  return promise
}

function printFailure(outcome: RunOutcome, recipe: Recipe): void {
  const { failure } = outcome
  if (failure === undefined) return
  console.log(failure.lastLines.join('\n'))
  console.log(`\nconfiguration: ${failure.configuration}`)
  console.log(`seed ${outcome.seed} failed after ${outcome.eventCount} events`)
  console.log(failure.name === 'Violation' ? `${failure.name}: ${failure.message}` : failure.stack)
  console.log(`\nrepeat it with:\n  ${commandFor(recipe)}`)
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof DbError)) throw error
  console.error(`${error.message}\n\n${USAGE}`)
  process.exitCode = 2
}
