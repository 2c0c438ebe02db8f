/**
 * What the way to the engine's processes and back costs: execute + commit of batches, and point
 * reads, on a quiet machine. `node bench/engine-process.ts [SECONDS]`.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { must } from '../src/base/assert.ts'
import type { Logger } from '../src/base/ports.ts'
import type { WriterReply } from '../src/engine/engine.ts'
import { encodeRequest } from '../src/engine/request.ts'
import { ProcessEngine } from '../src/engine/sqlite/process-engine.ts'
import { SystemClock } from '../src/platform/clock.ts'

const logger: Logger = { debug() {}, info() {}, warn: console.warn, error: console.error }
const runMs = Number(process.argv[2] ?? 2) * 1_000
const directory = mkdtempSync(join(tmpdir(), 'lockstep-bench-'))
const files = join(directory, 'engine')
mkdirSync(files)
const engine = await ProcessEngine.open({
  directory: files,
  childrenPath: join(directory, 'engine.pids'),
  clock: new SystemClock(),
  logger,
})

const waiting: ((reply: WriterReply) => void)[] = []
const writer = engine.startWriter({
  onReply: reply => must(waiting.shift())(reply),
  onExit: reason => logger.info({ reason }, 'the writer ended'),
})
let index = 0
let batch = 0
let rowId = 0

function ask(message: Parameters<typeof writer.send>[0]): Promise<WriterReply> {
  writer.send(message)
  return new Promise(resolve => waiting.push(resolve))
}

async function write(requests: readonly Uint8Array[]): Promise<void> {
  batch += 1
  const seed = new Uint8Array(16).fill(batch)
  const executed = await ask({
    type: 'execute',
    batch,
    nowMs: Date.now(),
    seed,
    commitIndex: 0,
    requests,
  })
  if (executed.type !== 'executed' || executed.entry === undefined) {
    throw new Error(`the batch failed: ${JSON.stringify(executed)}`)
  }
  index += 1
  await ask({ type: 'commit', batch, index })
}

function insert(): Uint8Array {
  rowId += 1
  const sql = 'INSERT INTO city VALUES (?, ?, ?, ?)'
  const params = [BigInt(rowId), `city number ${rowId}`, 'ES', rowId / 7]
  return encodeRequest({ type: 'statements', database: 'bench', statements: [{ sql, params }] })
}

function schema(sql: string): Uint8Array {
  const statements = [{ sql, params: [] }]
  return encodeRequest({ type: 'statements', database: 'bench', statements })
}

async function writes(size: number): Promise<void> {
  const latencies: number[] = []
  const cpu = process.cpuUsage()
  const beginMs = performance.now()
  while (performance.now() - beginMs < runMs) {
    const sentMs = performance.now()
    await write(Array.from({ length: size }, insert))
    latencies.push(performance.now() - sentMs)
  }
  report(`execute + commit, batches of ${size}`, latencies, size, cpu, performance.now() - beginMs)
}

async function reads(inFlight: number): Promise<void> {
  const latencies: number[] = []
  const cpu = process.cpuUsage()
  const beginMs = performance.now()
  const one = async (): Promise<void> => {
    while (performance.now() - beginMs < runMs) {
      const sentMs = performance.now()
      const id = BigInt(1 + Math.floor(Math.random() * rowId))
      await new Promise<void>((resolve, reject) => {
        const statements = [{ sql: 'SELECT * FROM city WHERE id = ?', params: [id] }]
        const request = { database: 'bench', statements, maxRows: 10, maxBytes: 100_000 }
        engine.query(request, 10_000, outcome => {
          if (outcome.type === 'ok' && outcome.results[0]?.rows?.length === 1) resolve()
          else reject(new Error(`the read failed: ${JSON.stringify(outcome)}`))
        })
      })
      latencies.push(performance.now() - sentMs)
    }
  }
  await Promise.all(Array.from({ length: inFlight }, one))
  report(`point reads, ${inFlight} in flight`, latencies, 1, cpu, performance.now() - beginMs)
}

function report(
  what: string,
  latencies: number[],
  size: number,
  cpuBefore: NodeJS.CpuUsage,
  tookMs: number,
): void {
  latencies.sort((a, b) => a - b)
  const at = (share: number): string =>
    `${((latencies[Math.floor(latencies.length * share)] ?? 0) * 1_000).toFixed(0)} µs`
  const cpu = process.cpuUsage(cpuBefore)
  const busy = ((cpu.user + cpu.system) / 10 / tookMs).toFixed(0)
  const perSecond = Math.round((latencies.length * size * 1_000) / tookMs)
  process.stdout.write(
    `${what.padEnd(36)} ${String(perSecond).padStart(8)}/s  p50 ${at(0.5).padStart(8)}  ` +
      `p99 ${at(0.99).padStart(8)}  main process ${busy} % of a core\n`,
  )
}

await ask({ type: 'open' })
await write([encodeRequest({ type: 'create-database', database: 'bench' })])
await write([
  schema('CREATE TABLE city (id INTEGER PRIMARY KEY, name TEXT, country TEXT, latitude REAL)'),
])
await writes(1)
await writes(64)
for (const inFlight of [1, 16, 64, 256]) await reads(inFlight)
await new Promise<void>(resolve => engine.stop(resolve))
rmSync(directory, { recursive: true })
