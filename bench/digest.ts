/**
 * What a digest of all data costs: `node bench/digest.ts [MB] [DIRECTORY]`. Three nodes with so much
 * data take writes all the time, and compare their data every few seconds. Prints the time and the
 * processor time of a digest, and how long writes took beside one and without.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { LARGE_STATEMENTS, fillTables, processesOf, withCluster } from './bench-cluster.ts'
import type { LargeTable } from './bench-cluster.ts'
import { ask, percentiles, type Sample, write } from './one-by-one.ts'
import { sum } from './processes.ts'

/** About as in real tables: a few numbers and short texts. */
const TABLE: LargeTable = {
  columns: 'n INTEGER, x REAL, a TEXT, b TEXT',
  values: 'x, x / 3.0, hex(randomblob(10)), hex(randomblob(40))',
  rowBytes: 130,
  rowsPerStatement: 50_000,
}
const INTERVAL_MS = 8000
const DIGESTS = 3
const SAMPLE_MS = 50

/** Processor time in microseconds, by process, of what takes digests for `pid`. */
function noteProcessorTime(pid: number, into: Map<number, number>): void {
  try {
    for (const child of processesOf(pid).filter(({ task }) => task === 'snapshot')) {
      into.set(child.pid, sum([child.pid]).cpuMicros)
    }
  } catch {
    // It ended while it was looked at.
  }
}

interface DigestState {
  readonly isRunning: boolean
  readonly durationMs: number
  readonly verifiedIndex: number
}

const megabytes = Number(process.argv[2] ?? 100)
const print = (line: string): unknown => process.stdout.write(`${line}\n`)
const options = ['--digest-interval-ms', String(INTERVAL_MS), ...LARGE_STATEMENTS]
await withCluster('digest', { nodes: 3, directory: process.argv[3], options }, async cluster => {
  const leaderId = await cluster.leader()
  const leader = cluster.nodes.find(({ nodeId }) => nodeId === leaderId)?.address ?? ''
  await fillTables(leader, megabytes, TABLE)
  const over = new AbortController()
  const writers = [1, 2, 3, 4].map(() => write(leader, over.signal))
  /** From when to when some node took a digest. */
  const busy: { fromMs: number; toMs: number }[] = []
  const processorTimes = new Map<number, number>()
  const durationsMs = new Set<number>()
  const verified = new Set<number>()
  while (verified.size < DIGESTS) {
    const states = await Promise.all(
      cluster.addresses.map(async address => (await ask(address, '/status'))['dataDigest']),
    )
    const now = performance.now()
    let isBusy = false
    for (const { isRunning, durationMs, verifiedIndex } of states as DigestState[]) {
      isBusy ||= isRunning
      if (durationMs > 0) durationsMs.add(durationMs)
      if (verifiedIndex > 0) verified.add(verifiedIndex)
    }
    const last = busy.at(-1)
    if (isBusy && last !== undefined && now - last.toMs < SAMPLE_MS * 4) last.toMs = now
    else if (isBusy) busy.push({ fromMs: now - SAMPLE_MS, toMs: now })
    for (const { nodeId } of cluster.nodes) {
      noteProcessorTime(cluster.pid(nodeId) ?? 0, processorTimes)
    }
    await pause(SAMPLE_MS)
  }
  over.abort()
  const samples = (await Promise.all(writers)).flat()
  const isBeside = ({ atMs, durationMs }: Sample): boolean =>
    busy.some(({ fromMs, toMs }) => atMs <= toMs && atMs + durationMs >= fromMs)
  const seconds = [...processorTimes.values()].map(micros => micros / 1e6).toSorted((a, b) => a - b)
  const median = (values: readonly number[]): number => values[Math.floor(values.length / 2)] ?? 0
  const took = median([...durationsMs].toSorted((a, b) => a - b)) / 1000
  const hundreds = megabytes / 100
  print(`${megabytes} MB, three nodes, ${DIGESTS} digests of each; of 100 MB:`)
  print(`  a digest takes ${(took / hundreds).toFixed(1)} s`)
  print(`  and ${(median(seconds) / hundreds).toFixed(2)} s of processor time on each node`)
  print(`without: ${percentiles(samples.filter(sample => !isBeside(sample)))}`)
  print(`beside:  ${percentiles(samples.filter(isBeside))}`)
})
