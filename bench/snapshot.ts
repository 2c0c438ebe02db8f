/**
 * What a snapshot of a large database costs: `node bench/snapshot.ts [MB] [DIRECTORY]`. A node with so
 * much data takes writes all the time while an empty one joins and gets a snapshot. Prints times,
 * peak memory of all processes of both nodes, and how long writes took before and meanwhile.
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { LocalCluster } from '../src/cli/local-cluster.ts'
import { ask, type Sample, write } from './one-by-one.ts'

const MEGABYTES_PER_STATEMENT = 40
const ROW_BYTES = 4000
const QUIET_MS = 5000
const SAMPLE_MS = 100

async function fill(address: string, megabytes: number): Promise<void> {
  const execute = (sql: string): Promise<unknown> =>
    ask(address, '/execute', { database: 'main', sql, timeoutMs: 60_000 })
  await ask(address, '/execute', { action: 'create_db', database: 'main' })
  await execute('CREATE TABLE big (id INTEGER PRIMARY KEY, data)')
  await execute('CREATE TABLE small (id INTEGER PRIMARY KEY, text)')
  const rows = Math.round((MEGABYTES_PER_STATEMENT * 1e6) / ROW_BYTES)
  const numbers = `WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n WHERE x < ${rows})`
  for (let done = 0; done < megabytes; done += MEGABYTES_PER_STATEMENT) {
    await execute(`INSERT INTO big (data) ${numbers} SELECT zeroblob(${ROW_BYTES}) FROM n`)
  }
}

/** Resident memory of a process and its children, by what they are. */
function memoryOf(pid: number, into: Map<string, number>, name: string): void {
  const note = (kind: string, id: number): void => {
    const status = readFileSync(`/proc/${id}/status`, 'utf8')
    const kilobytes = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0)
    into.set(`${name} ${kind}`, Math.max(into.get(`${name} ${kind}`) ?? 0, kilobytes / 1024))
  }
  try {
    note('main', pid)
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim()
      for (const child of children === '' ? [] : children.split(' ')) {
        const words = readFileSync(`/proc/${child}/cmdline`, 'utf8').split('\0')
        note(words[2] ?? '?', Number(child))
      }
    }
  } catch {
    // It ended while it was looked at.
  }
}

function percentiles(samples: readonly Sample[]): string {
  const sorted = samples.map(({ durationMs }) => durationMs).toSorted((a, b) => a - b)
  const at = (part: number): string =>
    (sorted[Math.floor(part * (sorted.length - 1))] ?? 0).toFixed(1)
  return `${sorted.length} writes, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, worst ${at(1)} ms`
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
const directory = process.argv[3] ?? `.lockstep/bench-${process.pid}`
const print = (line: string): unknown => process.stdout.write(`${line}\n`)
// A small log, so that the new node can't be fed from it.
const options = [
  '--max-log-bytes',
  '65536',
  '--segment-size-bytes',
  '65536',
  '--max-execute-ms',
  '60000',
]
const cluster = await LocalCluster.start({ nodes: 1, directory, options })
try {
  const address = cluster.addresses[0] ?? ''
  const filledMs = performance.now()
  await fill(address, megabytes)
  print(`filled ${megabytes} MB in ${((performance.now() - filledMs) / 1000).toFixed(1)} s`)
  const over = new AbortController()
  const writers = [1, 2, 3, 4].map(() => write(address, over.signal))
  await pause(QUIET_MS)
  const peaks = new Map<string, number>()
  const joinMs = performance.now()
  const joined = await cluster.join('n2', { isLearner: true })
  const sampling = setInterval(() => {
    for (const nodeId of ['n1', 'n2']) memoryOf(cluster.pid(nodeId) ?? 0, peaks, nodeId)
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
} finally {
  await cluster.stop()
  rmSync(directory, { recursive: true, force: true })
}
