/**
 * What a digest of all data costs: `node bench/digest.ts [MB] [DIRECTORY]`. Three nodes with so much
 * data take writes all the time, and compare their data every few seconds. Prints the time and the
 * processor time of a digest, and how long writes took beside one and without.
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { LocalCluster } from '../src/cli/local-cluster.ts'
import { ask, type Sample, write } from './one-by-one.ts'

/** About as in real tables: a few numbers and short texts. */
const ROW_BYTES = 130
const ROWS_PER_STATEMENT = 50_000
const INTERVAL_MS = 8000
const DIGESTS = 3
const SAMPLE_MS = 50
/** Of the processor time in /proc. */
const TICKS_PER_SECOND = 100

async function fill(address: string, megabytes: number): Promise<void> {
  const execute = (sql: string): Promise<unknown> =>
    ask(address, '/execute', { database: 'main', sql, timeoutMs: 60_000 })
  await ask(address, '/execute', { action: 'create_db', database: 'main' })
  await execute('CREATE TABLE big (id INTEGER PRIMARY KEY, n INTEGER, x REAL, a TEXT, b TEXT)')
  await execute('CREATE TABLE small (id INTEGER PRIMARY KEY, text)')
  const numbers = `WITH RECURSIVE i(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM i LIMIT ${ROWS_PER_STATEMENT})`
  const insert = `INSERT INTO big (n, x, a, b) ${numbers}
    SELECT x, x / 3.0, hex(randomblob(10)), hex(randomblob(40)) FROM i`
  const rows = (megabytes * 1e6) / ROW_BYTES
  for (let done = 0; done < rows; done += ROWS_PER_STATEMENT) await execute(insert)
}

/** Processor time, by process, of what takes digests for `pid`. */
function noteProcessorTime(pid: number, into: Map<number, number>): void {
  try {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim()
      for (const child of children === '' ? [] : children.split(' ').map(Number)) {
        const words = readFileSync(`/proc/${child}/cmdline`, 'utf8').split('\0')
        if (!words.includes('snapshot')) continue
        const fields = readFileSync(`/proc/${child}/stat`, 'utf8')
          .replace(/^.*\) /, '')
          .split(' ')
        into.set(child, (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND)
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

interface DigestState {
  readonly isRunning: boolean
  readonly durationMs: number
  readonly verifiedIndex: number
}

const megabytes = Number(process.argv[2] ?? 100)
const directory = process.argv[3] ?? `.lockstep/bench-${process.pid}`
const print = (line: string): unknown => process.stdout.write(`${line}\n`)
const options = ['--digest-interval-ms', String(INTERVAL_MS), '--max-execute-ms', '60000']
const cluster = await LocalCluster.start({ nodes: 3, directory, options })
try {
  const leaderId = await cluster.leader()
  const leader = cluster.nodes.find(({ nodeId }) => nodeId === leaderId)?.address ?? ''
  await fill(leader, megabytes)
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
  const seconds = [...processorTimes.values()].toSorted((a, b) => a - b)
  const median = (values: readonly number[]): number => values[Math.floor(values.length / 2)] ?? 0
  const took = median([...durationsMs].toSorted((a, b) => a - b)) / 1000
  const hundreds = megabytes / 100
  print(`${megabytes} MB, three nodes, ${DIGESTS} digests of each; of 100 MB:`)
  print(`  a digest takes ${(took / hundreds).toFixed(1)} s`)
  print(`  and ${(median(seconds) / hundreds).toFixed(2)} s of processor time on each node`)
  print(`without: ${percentiles(samples.filter(sample => !isBeside(sample)))}`)
  print(`beside:  ${percentiles(samples.filter(isBeside))}`)
} finally {
  await cluster.stop()
  rmSync(directory, { recursive: true, force: true })
}
