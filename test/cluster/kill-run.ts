/** Kills the leader of a real cluster again and again while clients write, and judges the outcome. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { LocalCluster } from '../../src/cli/local-cluster.ts'
import { createLedger, judge, Writers } from './writers.ts'
import type { Ledger, Verdict } from './writers.ts'

export interface KillOptions {
  readonly nodes: number
  readonly connections: number
  readonly seconds: number
  readonly killEverySeconds: number
  /** How long a killed node stays away. */
  readonly downSeconds: number
  readonly log: (text: string) => void
}

export interface KillReport {
  readonly ledger: Ledger
  readonly verdict: Verdict
  /** For each kill: the longest time without an acknowledgement around it. */
  readonly gapsMs: readonly number[]
}

export async function runKills(options: KillOptions): Promise<KillReport> {
  mkdirSync('.lockstep', { recursive: true })
  const directory = mkdtempSync(join('.lockstep', 'kill-'))
  const cluster = await LocalCluster.start({ nodes: options.nodes, directory })
  let isSound = false
  try {
    await createLedger(cluster.addresses)
    const writers = new Writers(cluster.addresses, options.connections)
    const killedAtMs = await killRepeatedly(cluster, options)
    const ledger = await writers.stop()
    await cluster.ready()
    const verdict = await judge(cluster.addresses, [ledger])
    isSound = verdict.lost.length === 0
    return { ledger, verdict, gapsMs: gapsAround(killedAtMs, ledger.acknowledgedAtMs) }
  } finally {
    await cluster.stop('SIGKILL')
    // What lost a write is kept for a closer look.
    if (isSound) rmSync(directory, { recursive: true, force: true })
  }
}

async function killRepeatedly(cluster: LocalCluster, options: KillOptions): Promise<number[]> {
  const { seconds, killEverySeconds, downSeconds, log } = options
  const killedAtMs: number[] = []
  const endMs = performance.now() + seconds * 1000
  // So many kills, however slow the machine is.
  const kills = Math.floor(seconds / killEverySeconds)
  while (killedAtMs.length < kills) {
    await pause((killEverySeconds - downSeconds) * 1000)
    const leader = await cluster.ready()
    killedAtMs.push(performance.now())
    await cluster.kill(leader)
    log(`killed ${leader}`)
    await pause(downSeconds * 1000)
    cluster.restart(leader)
  }
  await pause(Math.max(0, endMs - performance.now()))
  return killedAtMs
}

function gapsAround(killedAtMs: readonly number[], acknowledgedAtMs: readonly number[]): number[] {
  return killedAtMs.map((killed, at) => {
    const until = killedAtMs[at + 1] ?? Infinity
    let gap = 0
    let last = killed
    for (const time of acknowledgedAtMs) {
      if (time < killed) continue
      if (time > until) break
      gap = Math.max(gap, time - last)
      last = time
    }
    return gap
  })
}
