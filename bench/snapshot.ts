/**
 * What a snapshot of a large database costs: `node bench/snapshot.ts [MB] [DIRECTORY]`. A node with so
 * much data takes writes all the time while an empty one joins and gets a snapshot. Prints times,
 * peak memory of all processes of both nodes, and how long writes took before and meanwhile.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { LARGE_STATEMENTS, fillTables, processesOf, withCluster } from './bench-cluster.ts'
import type { LargeTable } from './bench-cluster.ts'
import { ask, percentiles, write } from './one-by-one.ts'
import { sum } from './processes.ts'

const TABLE: LargeTable = {
  columns: 'data',
  values: 'zeroblob(4000)',
  rowBytes: 4000,
  rowsPerStatement: 10_000,
}
const QUIET_MS = 5000
const SAMPLE_MS = 100

/** Resident memory of a node's processes, by what they are. */
function noteMemory(pid: number, into: Map<string, number>, name: string): void {
  try {
    for (const { pid: member, task } of processesOf(pid)) {
      const megabytes = sum([member]).memoryBytes / 2 ** 20
      into.set(`${name} ${task}`, Math.max(into.get(`${name} ${task}`) ?? 0, megabytes))
    }
  } catch {
    // It ended while it was looked at.
  }
}

/** Until the node serves reads that hold all of the data. */
async function untilReady(address: string): Promise<number> {
  const startMs = performance.now()
  const sql = 'SELECT max(id) FROM big'
  for (;;) {
    try {
      const read = { database: 'main', sql, consistency: 'local' }
      const { results } = await ask(address, '/query', read)
      if (Array.isArray(results)) return performance.now() - startMs
    } catch {
      // Not listening yet, or without the data.
    }
    await pause(20)
  }
}

const megabytes = Number(process.argv[2] ?? 200)
const print = (line: string): unknown => process.stdout.write(`${line}\n`)
// A small log, so that the new node can't be fed from it.
const options = ['--max-log-bytes', '65536', '--segment-size-bytes', '65536', ...LARGE_STATEMENTS]
await withCluster('snapshot', { nodes: 1, directory: process.argv[3], options }, async cluster => {
  const address = cluster.addresses[0] ?? ''
  const filledMs = performance.now()
  await fillTables(address, megabytes, TABLE)
  print(`filled ${megabytes} MB in ${((performance.now() - filledMs) / 1000).toFixed(1)} s`)
  const over = new AbortController()
  const writers = [1, 2, 3, 4].map(() => write(address, over.signal))
  await pause(QUIET_MS)
  const peaks = new Map<string, number>()
  const joinMs = performance.now()
  const joined = await cluster.join('n2', { isLearner: true })
  const sampling = setInterval(() => {
    for (const nodeId of ['n1', 'n2']) noteMemory(cluster.pid(nodeId) ?? 0, peaks, nodeId)
  }, SAMPLE_MS)
  const steps = new Map<string, number>()
  const look = async (): Promise<void> => {
    try {
      const { snapshot } = await ask(joined.address, '/status')
      const { step } = (snapshot ?? { step: 'none' }) as { step: string }
      if (!steps.has(step)) steps.set(step, performance.now() - joinMs)
    } catch {
      // Not listening yet.
    }
  }
  const watching = setInterval(() => void look(), 50)
  const readyMs = await untilReady(joined.address)
  const readyAtMs = performance.now()
  clearInterval(watching)
  await pause(1000)
  clearInterval(sampling)
  over.abort()
  const samples = (await Promise.all(writers)).flat()
  print(`joined, with the data, after ${(readyMs / 1000).toFixed(1)} s; begun after:`)
  for (const [step, atMs] of steps) print(`  ${step} ${(atMs / 1000).toFixed(1)} s`)
  print(`before: ${percentiles(samples.filter(({ atMs }) => atMs < joinMs))}`)
  const meanwhile = samples.filter(({ atMs }) => atMs >= joinMs && atMs < readyAtMs)
  print(`meanwhile: ${percentiles(meanwhile)}`)
  for (const [name, peak] of [...peaks].toSorted(([a], [b]) => (a < b ? -1 : 1)))
    print(`peak memory of ${name}: ${peak.toFixed(0)} MB`)
  await cluster.kill('n2', 'SIGTERM')
  cluster.restart('n2')
  print(`started again in ${((await untilReady(joined.address)) / 1000).toFixed(2)} s`)
})
