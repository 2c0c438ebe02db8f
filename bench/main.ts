/**
 * `npm run bench`: three nodes of three processes each and one load generator, all on this machine,
 * flush at commit on. One HTTP request is one insert; nothing is batched in the client. Figures are
 * of this run on this machine; compare ratios, not absolutes. With `--peers` and `--engines` it is
 * bench/peers/main.ts that runs, with `--curves` bench/curves/main.ts, with `--overload` and `--soak`
 * bench/overload/main.ts.
 */
import Table from 'cli-table3'
import { Command } from 'commander'
import { must } from '../src/base/assert.ts'
import type { LocalCluster } from '../src/cli/local-cluster.ts'
import { createClient } from '../src/client/client.ts'
import { withCluster } from './bench-cluster.ts'
import { measureCurves } from './curves/main.ts'
import type { Measured, Plan } from './generator.ts'
import { generate } from './generators.ts'
import { machine } from './machine.ts'
import { overload, soakBench } from './overload/main.ts'
import { compareEngines, comparePeers } from './peers/main.ts'
import { usageOf } from './processes.ts'

interface BenchOptions {
  readonly seconds: string
  readonly nodes: string
  readonly only?: string
  readonly json?: boolean
}

interface Row {
  readonly workload: string
  readonly connections: number
  readonly measured: Measured
  readonly rowsPerRequest: number
  readonly serverCpuMicros: number
  readonly memoryBytes: number
}

const DATABASE = 'bench'
const READ_ROWS = 10_000
const WARM_UP_MS = 1000
const HEAT_UP_MS = 4000
const GENERATOR = new URL('./generator.ts', import.meta.url)

async function main(): Promise<void> {
  const options = new Command('npm run bench --')
    .option('--seconds <count>', 'how long each row is measured', '5')
    .option('--nodes <count>', 'how many nodes', '3')
    .option('--only <text>', 'only workloads whose name holds this text')
    .option('--json', 'print JSON instead of a table')
    .option('--peers', 'compare with other databases; has options of its own: --peers --help')
    .option('--engines', 'compare both engines with MariaDB; has options of its own')
    .option('--curves', 'cost as work grows; has options of its own: --curves --help')
    .option('--overload', 'more than a cluster can take; has options of its own')
    .option('--soak', 'a steady load for minutes; has options of its own')
    .parse()
    .opts<BenchOptions>()
  await withCluster('bench', { nodes: Number(options.nodes) }, async cluster => {
    const rows = await measureAll(cluster, options)
    if (options.json === true)
      console.log(JSON.stringify({ machine: machine(), rows }, undefined, 2))
    else print(rows)
  })
}

async function measureAll(cluster: LocalCluster, options: BenchOptions): Promise<Row[]> {
  const leaderId = must(await cluster.leader(), 'a leader')
  const leader = must(cluster.nodes.find(({ nodeId }) => nodeId === leaderId)).address
  const client = createClient({ nodes: cluster.addresses, database: DATABASE, timeoutMs: 60_000 })
  await client.command({ action: 'create_db', database: DATABASE })
  await client.execute(
    'CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b INTEGER NOT NULL)',
  )
  await client.execute(
    'CREATE TABLE r (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b INTEGER NOT NULL)',
  )
  await client.execute(
    `WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < ${READ_ROWS})
     INSERT INTO r SELECT id, 'row number ' || id, id * 7 FROM n`,
  )
  const rows: Row[] = []
  // A server that has just started compiles while it serves: that is not what is measured here.
  const all = plans(leader, HEAT_UP_MS)
  let firstId = 1
  for (const { plan } of [must(all[2]), must(all.at(-1))]) {
    firstId += (await generate<Measured>(GENERATOR, { ...plan, firstId })).measured.idsUsed
  }
  for (const plan of plans(leader, Number(options.seconds) * 1000)) {
    if (options.only !== undefined && !plan.workload.includes(options.only)) continue
    const pids = cluster.nodes.map(({ nodeId }) => must(cluster.pid(nodeId)))
    const before = usageOf(pids)
    const startedMs = performance.now()
    const { measured } = await generate<Measured>(GENERATOR, { ...plan.plan, firstId })
    const elapsedMs = performance.now() - startedMs
    const after = usageOf(pids)
    firstId += measured.idsUsed
    // The warm-up is in the processes' CPU time and not in the requests: take its share out.
    const share = (measured.seconds * 1000) / elapsedMs
    const serverCpuMicros = (after.cpuMicros - before.cpuMicros) * share
    rows.push({
      ...plan,
      connections: plan.plan.connections,
      measured,
      serverCpuMicros,
      memoryBytes: after.memoryBytes,
    })
    if (options.json !== true) console.error(`${plan.workload} at ${plan.plan.connections}: done`)
  }
  return rows
}

interface Workload {
  readonly workload: string
  readonly rowsPerRequest: number
  readonly plan: Plan
}

function plans(leader: string, durationMs: number): Workload[] {
  const common = { addresses: [leader], durationMs, warmUpMs: WARM_UP_MS, firstId: 0 }
  const insert = JSON.stringify({
    database: DATABASE,
    sql: 'INSERT INTO t (id, a, b) VALUES (?, ?, ?)',
    params: ['{id}', 'some text that a row may hold', 42],
  }).replace('"{id}"', '{id}')
  const inserts = [1, 16, 64].map(connections => ({
    workload: 'insert, 1 row',
    rowsPerRequest: 1,
    plan: { ...common, path: '/execute', body: insert, connections, idsPerRequest: 1, idsTotal: 0 },
  }))
  const values = Array.from(
    { length: 100 },
    (_, at) => `({id+${at}}, 'some text that a row may hold', 42)`,
  )
  const bulk = JSON.stringify({
    database: DATABASE,
    sql: `INSERT INTO t (id, a, b) VALUES ${values.join(', ')}`,
  })
  const bulks = [1, 16].map(connections => ({
    workload: 'insert, 100 rows',
    rowsPerRequest: 100,
    plan: { ...common, path: '/execute', body: bulk, connections, idsPerRequest: 100, idsTotal: 0 },
  }))
  const reads = (['linearizable', 'local'] as const).flatMap(consistency =>
    [1, 16, 64].map(connections => ({
      workload: `point read, ${consistency}`,
      rowsPerRequest: 1,
      plan: {
        ...common,
        path: '/query',
        body: JSON.stringify({
          database: DATABASE,
          sql: 'SELECT a, b FROM r WHERE id = ?',
          params: ['{id}'],
          consistency,
        }).replace('"{id}"', '{id}'),
        connections,
        idsPerRequest: 1,
        idsTotal: READ_ROWS,
      },
    })),
  )
  return [...inserts, ...bulks, ...reads]
}

function print(rows: readonly Row[]): void {
  const table = new Table({
    head: [
      'workload',
      'conn.',
      'req/s',
      'rows/s',
      'p50 ms',
      'p99 ms',
      'p99.9 ms',
      'errors',
      'CPU µs/req',
      'generator',
      'MB',
    ],
  })
  for (const row of rows) {
    const { measured } = row
    const rate = measured.requests / measured.seconds
    table.push([
      row.workload,
      row.connections,
      Math.round(rate),
      Math.round(rate * row.rowsPerRequest),
      measured.p50Ms.toFixed(2),
      measured.p99Ms.toFixed(2),
      measured.p999Ms.toFixed(2),
      measured.errors,
      Math.round(row.serverCpuMicros / Math.max(1, measured.requests)),
      Math.round(measured.cpuMicros / Math.max(1, measured.requests)),
      Math.round(row.memoryBytes / 1e6),
    ])
    for (const sample of measured.samples) console.log(`error: ${sample}`)
  }
  console.log(table.toString())
  console.log(
    `CPU µs/req: of all processes of all nodes together; generator: bench/generator.ts, apart`,
  )
  console.log(JSON.stringify(machine()))
}

if (process.argv.includes('--peers')) await comparePeers()
else if (process.argv.includes('--engines')) await compareEngines()
else if (process.argv.some(word => /^--curves(?:=|$)/.test(word))) await measureCurves()
else if (process.argv.includes('--overload')) await overload()
else if (process.argv.includes('--soak')) await soakBench()
else await main()
