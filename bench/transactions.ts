/**
 * `node bench/transactions.ts`: what interactive transactions cost. First writers alone and writers
 * beside transactions that are open and idle, by turns, and the ratio of both; then transactions of
 * five statements at once, each on rows of its own, and all on the same rows.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { must } from '../src/base/assert.ts'
import { LocalCluster } from '../src/cli/local-cluster.ts'
import { createClient } from '../src/client/client.ts'
import { latencies } from './latencies.ts'
import { SteadyLoad } from './steady-load.ts'

const DATABASE = 'bench'
const WARM_UP_MS = 2000

type Client = ReturnType<typeof createClient>

interface Settings {
  readonly transactions: number
  readonly writers: number
  readonly rounds: number
  readonly roundMs: number
}

async function main(): Promise<void> {
  const options = new Command('node bench/transactions.ts')
    .option('--transactions <count>', 'open transactions', '64')
    .option('--writers <count>', 'writers beside them', '16')
    .option('--rounds <count>', 'measurements of each kind', '5')
    .option('--seconds <count>', 'length of a measurement', '3')
    .option('--nodes <count>', 'how many nodes', '3')
    .parse()
    .opts<Record<'transactions' | 'writers' | 'rounds' | 'seconds' | 'nodes', string>>()
  const settings = {
    transactions: Number(options.transactions),
    writers: Number(options.writers),
    rounds: Number(options.rounds),
    roundMs: Number(options.seconds) * 1000,
  }
  mkdirSync('.lockstep', { recursive: true })
  const directory = mkdtempSync(join('.lockstep', 'bench-'))
  const cluster = await LocalCluster.start({ nodes: Number(options.nodes), directory })
  try {
    const client = createClient({ nodes: cluster.addresses, database: DATABASE, timeoutMs: 60_000 })
    const leaderId = must(await cluster.leader(), 'a leader')
    const leader = must(cluster.nodes.find(({ nodeId }) => nodeId === leaderId)).address
    await besideIdle(leader, client, settings)
    await active(client, settings, 'on rows of their own', worker => worker)
    await active(client, settings, 'all on the same rows', () => 0)
  } finally {
    await cluster.stop('SIGKILL')
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Writers alone and beside idle transactions, by turns, since the machine has its moods. */
async function besideIdle(leader: string, client: Client, settings: Settings): Promise<void> {
  const load = new SteadyLoad({
    database: DATABASE,
    addresses: [leader],
    writers: settings.writers,
  })
  await load.start()
  await client.execute('CREATE TABLE counters (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)')
  const rows = Array.from({ length: settings.transactions }, (_, id) => `(${id}, 0)`)
  await client.execute(`INSERT INTO counters VALUES ${rows.join()}`)
  await pause(WARM_UP_MS)
  const rates: Record<'alone' | 'beside', number[]> = { alone: [], beside: [] }
  for (let round = 0; round < settings.rounds; round += 1) {
    rates.alone.push(await rateOf(load, settings.roundMs))
    const names = await openIdle(leader, settings.transactions)
    rates.beside.push(await rateOf(load, settings.roundMs))
    await Promise.all(names.map(name => post(leader, `/transactions/${name}/rollback`, {})))
  }
  await load.stop()
  // Round by round: the machine is the same for both of one round, if for any.
  const ratios = rates.alone.map((alone, round) => must(rates.beside[round]) / alone)
  const [alone, beside] = [median(rates.alone), median(rates.beside)]
  console.log(`${settings.writers} writers alone: ${alone.toFixed(0)} writes/s (median)`)
  console.log(
    `beside ${settings.transactions} idle transactions: ${beside.toFixed(0)} writes/s; ` +
      `${(median(ratios) * 100).toFixed(1)} % (median of the rounds)`,
  )
  if (load.failures.length > 0) console.log(`${load.failures.length} writes failed`)
}

async function rateOf(load: SteadyLoad, forMs: number): Promise<number> {
  const before = load.acknowledged.length
  const fromMs = performance.now()
  await pause(forMs)
  return ((load.acknowledged.length - before) / (performance.now() - fromMs)) * 1000
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
        await transaction.execute('INSERT INTO load (note) VALUES (?)', ['of a transaction'])
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

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return must(sorted[Math.floor(sorted.length / 2)])
}

async function pause(ms: number): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, ms))
}

await main()
