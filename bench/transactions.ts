/**
 * `node bench/transactions.ts`: what interactive transactions cost. First writers alone and writers
 * beside transactions that are open and idle, in short windows by turns, and the ratio of both with
 * its spread; then transactions of five statements at once, each on rows of its own, and all on the
 * same rows.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { must } from '../src/base/assert.ts'
import { LocalCluster } from '../src/cli/local-cluster.ts'
import { createClient } from '../src/client/client.ts'
import { latencies } from './latencies.ts'
import { usageOf } from './processes.ts'
import { SteadyLoad } from './steady-load.ts'

const DATABASE = 'bench'
const WARM_UP_MS = 2000
/** What opens and ends transactions is no part of a window. */
const SETTLE_MS = 100

type Client = ReturnType<typeof createClient>

interface Leader {
  readonly address: string
  readonly pid: number
}

interface Settings {
  readonly transactions: number
  readonly writers: number
  readonly windows: number
  readonly windowMs: number
  readonly rounds: number
}

async function main(): Promise<void> {
  const options = new Command('node bench/transactions.ts')
    .option('--transactions <count>', 'open transactions', '64')
    .option('--writers <count>', 'writers beside them', '16')
    .option('--windows <count>', 'windows beside idle transactions, each after one without', '12')
    .option('--window-ms <count>', 'length of a window', '500')
    .option('--rounds <count>', 'active transactions, one after another, of each worker', '5')
    .option('--nodes <count>', 'how many nodes', '3')
    .parse()
    .opts<
      Record<'transactions' | 'writers' | 'windows' | 'windowMs' | 'rounds' | 'nodes', string>
    >()
  const settings = {
    transactions: Number(options.transactions),
    writers: Number(options.writers),
    windows: Number(options.windows),
    windowMs: Number(options.windowMs),
    rounds: Number(options.rounds),
  }
  mkdirSync('.lockstep', { recursive: true })
  const directory = mkdtempSync(join('.lockstep', 'bench-'))
  const cluster = await LocalCluster.start({ nodes: Number(options.nodes), directory })
  try {
    const client = createClient({ nodes: cluster.addresses, database: DATABASE, timeoutMs: 60_000 })
    const leaderId = must(await cluster.leader(), 'a leader')
    const { address } = must(cluster.nodes.find(({ nodeId }) => nodeId === leaderId))
    const leader = { address, pid: must(cluster.pid(leaderId), 'the process of the leader') }
    await besideIdle(leader, client, settings)
    await active(client, settings, 'on rows of their own', worker => worker)
    await active(client, settings, 'all on the same rows', () => 0)
  } finally {
    await cluster.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

/** What writers got in one window. */
interface Window {
  readonly writesPerSecond: number
  /** Of the leader's processes, which a machine with other work to do changes least. */
  readonly cpuMicrosPerWrite: number
}

/**
 * Writers alone and beside idle transactions, in short windows by turns, beginning and ending alone.
 * Each window beside them is compared with the two around it, since the machine has its moods; how
 * much two windows alone differ tells what the figure is worth.
 */
async function besideIdle(leader: Leader, client: Client, settings: Settings): Promise<void> {
  const { transactions, writers, windows } = settings
  const load = new SteadyLoad({ database: DATABASE, addresses: [leader.address], writers })
  await load.start()
  await client.execute('CREATE TABLE counters (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)')
  const rows = Array.from({ length: transactions }, (_, id) => `(${id}, 0)`)
  await client.execute(`INSERT INTO counters VALUES ${rows.join()}`)
  await pause(WARM_UP_MS)
  const alone = [await measure(load, leader, settings.windowMs)]
  const beside: Window[] = []
  for (let round = 0; round < windows; round += 1) {
    const names = await openIdle(leader.address, transactions)
    await pause(SETTLE_MS)
    beside.push(await measure(load, leader, settings.windowMs))
    const end = (name: string): Promise<unknown> =>
      post(leader.address, `/transactions/${name}/rollback`, {})
    await Promise.all(names.map(end))
    await pause(SETTLE_MS)
    alone.push(await measure(load, leader, settings.windowMs))
  }
  await load.stop()
  const compare = (what: string, unit: string, of: (window: Window) => number): void => {
    const [without, withThem] = [alone.map(of), beside.map(of)]
    const around = withThem.map((_, at) => (must(without[at]) + must(without[at + 1])) / 2)
    const ratios = withThem.map((value, at) => value / must(around[at]))
    const noise = without.slice(1).map((value, at) => value / must(without[at]))
    const [a, b] = [quantile(without, 0.5).toFixed(0), quantile(withThem, 0.5).toFixed(0)]
    console.log(`${what}: ${a} ${unit} alone, ${b} beside ${transactions} idle transactions`)
    console.log(`  of the windows around: ${spread(ratios)}`)
    console.log(`  of a window alone and the one before: ${spread(noise)}`)
  }
  compare(`${writers} writers`, 'writes/s', window => window.writesPerSecond)
  compare('processor time of the leader', 'µs for a write', window => window.cpuMicrosPerWrite)
  if (load.failures.length > 0) console.log(`${load.failures.length} writes failed`)
}

async function measure(load: SteadyLoad, leader: Leader, forMs: number): Promise<Window> {
  const before = load.acknowledged.length
  const { cpuMicros } = usageOf([leader.pid])
  const fromMs = performance.now()
  await pause(forMs)
  const writes = load.acknowledged.length - before
  const writesPerSecond = (writes / (performance.now() - fromMs)) * 1000
  return {
    writesPerSecond,
    cpuMicrosPerWrite: (usageOf([leader.pid]).cpuMicros - cpuMicros) / writes,
  }
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((left, right) => left - right)
  return must(sorted[Math.round(share * (sorted.length - 1))])
}

/** Median, the middle half, and the ends. */
function spread(ratios: readonly number[]): string {
  const at = (share: number): string => `${(quantile(ratios, share) * 100).toFixed(1)} %`
  const half = `half of them ${at(0.25)} to ${at(0.75)}`
  return `${at(0.5)} (median of ${ratios.length}; ${half}, all ${at(0)} to ${at(1)})`
}

/** Opens transactions that have read and written, and leaves them. */
function openIdle(leader: string, count: number): Promise<string[]> {
  const open = async (id: number): Promise<string> => {
    const begun = await post(leader, '/transactions', { database: DATABASE })
    const name = String(begun['transaction'])
    const sql = 'UPDATE counters SET n = n + 1 WHERE id = ? RETURNING n'
    await post(leader, `/transactions/${name}/execute`, { sql, params: [id] })
    return name
  }
  return Promise.all(Array.from({ length: count }, (_, id) => open(id)))
}

/** Each worker runs transactions of five statements: two reads, two updates, an insert. */
async function active(
  client: Client,
  { transactions, rounds }: Settings,
  what: string,
  rowOf: (worker: number) => number,
): Promise<void> {
  const took = latencies()
  let attempts = 0
  const run = async (worker: number): Promise<void> => {
    for (let round = 0; round < rounds; round += 1) {
      const fromMs = performance.now()
      await client.transaction(async transaction => {
        attempts += 1
        const id = rowOf(worker)
        const read = 'SELECT n FROM counters WHERE id = ?'
        const { rows } = await transaction.query<{ n: number }>(read, [id])
        const n = must(rows[0]).n + 1
        await transaction.execute('UPDATE counters SET n = ? WHERE id = ?', [n, id])
        await transaction.execute('UPDATE counters SET n = n + 0 WHERE id = ?', [id])
        await transaction.query(read, [id])
        await transaction.execute('INSERT INTO steady (note) VALUES (?)', ['of a transaction'])
      })
      took.add(performance.now() - fromMs)
    }
  }
  const fromMs = performance.now()
  await Promise.all(Array.from({ length: transactions }, (_, worker) => run(worker)))
  const seconds = (performance.now() - fromMs) / 1000
  const [half, most] = [took.percentile(50).toFixed(0), took.percentile(99).toFixed(0)]
  console.log(
    `${transactions} at once, ${what}: ${(took.count / seconds).toFixed(0)} committed/s, ` +
      `median ${half} ms, p99 ${most} ms, ${(attempts / took.count).toFixed(2)} attempts each`,
  )
}

async function post(
  address: string,
  path: string,
  body: unknown,
): Promise<Readonly<Record<string, unknown>>> {
  const answer = await fetch(`http://${address}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const json = (await answer.json()) as Readonly<Record<string, unknown>>
  if (!answer.ok) throw new Error(`${path}: ${JSON.stringify(json)}`)
  return json
}

async function pause(ms: number): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, ms))
}

await main()
