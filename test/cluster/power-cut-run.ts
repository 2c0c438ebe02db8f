/** Cuts the power of all nodes of a real cluster at once, again and again, while clients write. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { LocalCluster } from '../../src/cli/local-cluster.ts'
import { cutPower } from './power-cut.ts'
import type { Dice } from './power-cut.ts'
import { createLedger, judge, Writers } from './writers.ts'
import type { Ledger, Verdict } from './writers.ts'

export interface PowerCutOptions {
  readonly seed: number
  readonly rounds: number
  readonly connections: number
  /** Name of a flush to leave out, to show that it is missed: fdatasync or directory. */
  readonly skipped?: string
  readonly log: (text: string) => void
}

const ROUND_MS_MIN = 300
const ROUND_MS_MAX = 1200

/** The verdict over all rounds; it ends early at the first that lost something. */
export async function runPowerCuts(options: PowerCutOptions): Promise<Verdict> {
  mkdirSync('.lockstep', { recursive: true })
  const directory = resolve(mkdtempSync(join('.lockstep', 'power-')))
  const notes = join(directory, 'notes')
  mkdirSync(notes)
  const recorder = fileURLToPath(new URL('./flush-recorder.ts', import.meta.url))
  const before = { ...process.env }
  process.env['FLUSH_NOTES'] = notes
  process.env['FLUSH_SKIPPED'] = options.skipped ?? ''
  process.env['NODE_OPTIONS'] = `--import ${recorder}`
  try {
    // Small files, so that the log goes from one to the next and old ones are removed.
    const cluster = await LocalCluster.start({
      nodes: 3,
      directory,
      options: ['--segment-size-bytes', '131072', '--log-fill-bytes', '32768'],
    })
    const verdict = await runRounds(cluster, notes, options)
    if (verdict.lost.length === 0) rmSync(directory, { recursive: true, force: true })
    return verdict
  } finally {
    for (const name of ['FLUSH_NOTES', 'FLUSH_SKIPPED', 'NODE_OPTIONS']) {
      const value = before[name]
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
}

async function runRounds(
  cluster: LocalCluster,
  notes: string,
  options: PowerCutOptions,
): Promise<Verdict> {
  const { seed, rounds, connections, log } = options
  const dice = diceOf(seed)
  const ledgers: Ledger[] = []
  let nextId = 1
  try {
    await createLedger(cluster.addresses)
    for (let round = 1; ; round += 1) {
      const writers = new Writers(cluster.addresses, connections, nextId)
      await pause(ROUND_MS_MIN + dice(ROUND_MS_MAX - ROUND_MS_MIN))
      await cluster.stop('SIGKILL')
      ledgers.push(await writers.stop())
      nextId = writers.nextId
      for (const node of cluster.nodes) cutPower(node.directory, notes, dice)
      for (const node of cluster.nodes) cluster.restart(node.nodeId)
      await cluster.ready()
      const verdict = await judge(cluster.addresses, ledgers)
      log(`cut ${round}: ${verdict.rows} rows, ${verdict.lost.length} lost`)
      if (round >= rounds || verdict.lost.length > 0) return verdict
    }
  } finally {
    await cluster.stop('SIGKILL')
  }
}

/** Chance from a seed (mulberry32), so that a cut can be repeated as far as real processes repeat. */
function diceOf(seed: number): Dice {
  let state = seed
  return bound => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * bound)
  }
}
