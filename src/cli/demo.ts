/**
 * `npm start`: three nodes on this machine, the world's cities loaded into them, and what came of
 * it. With --kill-leader the leader is killed in the middle of the load; with --exit the nodes are
 * stopped when all is shown, otherwise they run until Ctrl-C. With --engine the data are on MySQL
 * servers.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { SingleBar } from 'cli-progress'
import Table from 'cli-table3'
import { Command } from 'commander'
import { must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import { createClient } from '../client/client.ts'
import type { Client } from '../client/client.ts'
import type { DigestResponse } from '../protocol/http-api.ts'
import { createTable, DATABASE, loadCities, readCities, TABLE } from './cities.ts'
import type { City, LoadReport } from './cities.ts'
import { type DemoEngine, DemoServers, parseDemoEngine } from './demo-servers.ts'
import { LocalCluster, parseNodeCount } from './local-cluster.ts'

interface DemoOptions {
  readonly central?: boolean
  readonly engine: string
  readonly exit?: boolean
  readonly killLeader?: boolean
  readonly nodes: string
  readonly rows?: string
}

/** The nodes and what holds their data. */
interface Stage {
  readonly cluster: LocalCluster
  readonly servers: DemoServers
}

/** Where in the load the leader is killed. */
const KILL_AT = 0.4
/** Lines of progress where the output is no terminal. */
const PROGRESS_STEPS = 10
const CATCH_UP_MS_MAX = 60_000
const IDS_PER_PAGE = 5000
/** A terminal sends one to all, and npm may pass on another. */
const IGNORED_SIGNALS = 2

async function main(): Promise<void> {
  const options = new Command('npm start --')
    .description('Starts nodes on this machine and loads the cities of the world into them.')
    .option('--exit', 'stop the nodes when done')
    .option('--kill-leader', 'kill the leader with SIGKILL in the middle of the load')
    .option('--nodes <count>', 'how many nodes', '3')
    .option('--rows <count>', 'load only the first so many cities')
    .option(
      '--engine <engine>',
      'sqlite; mysql, private MariaDB servers; or mysql://USER:PASSWORD@HOST:PORT',
      'sqlite',
    )
    .option('--central', 'with --engine mysql: one MariaDB server for all nodes')
    .parse()
    .opts<DemoOptions>()
  const nodes = parseNodeCount(options.nodes)
  const engine = parseDemoEngine(options.engine, options.central === true)
  const cities = citiesToLoad(options.rows)
  mkdirSync('.lockstep', { recursive: true })
  const directory = mkdtempSync(join('.lockstep', 'demo-'))
  // Listened for from the start: Ctrl-C stops the demonstration wherever it is.
  const interrupted = untilInterrupted()
  const starting = setStage(engine, nodes, directory)
  try {
    const isSound = await Promise.race([show(starting, cities, options, interrupted), interrupted])
    if (isSound === false) process.exitCode = 1
    if (isSound !== undefined && options.exit !== true) {
      await printInvitation(await starting)
      await interrupted
    }
  } finally {
    // Also what was still being started; a start that failed has stopped all of it itself.
    const stage = await starting.catch(() => undefined)
    if (stage !== undefined) await strike(stage)
    rmSync(directory, { recursive: true, force: true })
  }
}

/** The rows of the load. Throws INVALID_REQUEST. */
function citiesToLoad(count: string | undefined): readonly City[] {
  const cities = readCities()
  if (count === undefined) return cities
  if (/^[1-9]\d{0,6}$/.test(count)) return cities.slice(0, Number(count))
  throw new DbError('INVALID_REQUEST', `--rows must be a whole number from 1, not ${count}`)
}

async function setStage(engine: DemoEngine, nodes: number, directory: string): Promise<Stage> {
  const nodeIds = Array.from({ length: nodes }, (_, at) => `n${at + 1}`)
  const servers = await DemoServers.start(engine, nodeIds, DATABASE)
  try {
    const nodeEnvironment = (nodeId: string): Readonly<Record<string, string>> =>
      servers.environment(nodeId)
    return { servers, cluster: await LocalCluster.start({ nodes, directory, nodeEnvironment }) }
  } catch (error) {
    await servers.stop()
    throw error
  }
}

/** The nodes first: one whose server goes away would take it for a fault. */
async function strike({ cluster, servers }: Stage): Promise<void> {
  await cluster.stop()
  await servers.stop()
}

/** Loads and checks; false if anything that was acknowledged is not as it should be. */
async function show(
  starting: Promise<Stage>,
  cities: readonly City[],
  options: DemoOptions,
  interrupted: Promise<void>,
): Promise<boolean> {
  const { cluster, servers } = await starting
  console.log(`${cluster.nodes.length} nodes run: ${cluster.addresses.join(', ')}`)
  if (servers.about !== '') console.log(servers.about)
  const client = createClient({ nodes: cluster.addresses })
  await createTable(client)
  const progress = createProgress(cities.length)
  const kill = options.killLeader === true ? killOnce(cluster, cities.length * KILL_AT) : undefined
  const abort = new AbortController()
  void interrupted.then(() => abort.abort())
  const report = await loadCities(client, cities, abort.signal, rows => {
    progress.update(rows)
    kill?.update(rows)
  }).finally(() => progress.stop())
  const killed = await kill?.done
  if (killed !== undefined) {
    console.log(`${killed} was killed in the middle of the load and is started again`)
    cluster.restart(killed)
    await cluster.ready()
  }
  const seconds = report.durationMs / 1000
  const rate = Math.round(report.rows / seconds)
  console.log(`${report.rows} rows in ${seconds.toFixed(1)} s: ${rate} rows/s, each write on a`)
  console.log(
    `majority of the disks before it was answered; ${report.unknown} writes had to be looked up`,
  )
  const isWhole = await checkRows(client, report)
  const isEqual = await printNodes(cluster, client)
  for (const line of await servers.countRows(TABLE)) console.log(line)
  return isWhole && isEqual
}

/** Every acknowledged row is there, once. */
async function checkRows(client: Client, report: LoadReport): Promise<boolean> {
  const times = new Map<number, number>()
  for (let from = 0; from <= report.rows; from += IDS_PER_PAGE) {
    const { rows } = await client.query<{ id: number }>(
      `SELECT id FROM ${TABLE} WHERE id >= ? AND id < ?`,
      [from, from + IDS_PER_PAGE],
      { database: DATABASE, timeoutMs: CATCH_UP_MS_MAX },
    )
    for (const { id } of rows) times.set(id, (times.get(id) ?? 0) + 1)
  }
  let missing = 0
  for (const [first, last] of report.acknowledged) {
    for (let id = first; id <= last; id += 1) if (!times.has(id)) missing += 1
  }
  const twice = [...times.values()].filter(count => count > 1).length
  console.log(`acknowledged rows missing: ${missing}, rows there twice: ${twice}`)
  return missing === 0 && twice === 0
}

/** A line for each node; true if all digests are equal. */
async function printNodes(cluster: LocalCluster, client: Client): Promise<boolean> {
  const table = new Table({
    head: ['node', 'address', 'role', 'applied index', `digest of ${TABLE}`],
    style: { head: [], border: [], compact: true },
  })
  const digests = new Set<string>()
  for (const { nodeId, address } of cluster.nodes) {
    const digest = await digestOf(address, must(client.token, 'a token'))
    const status = await client.status(address)
    digests.add(digest)
    table.push([nodeId, address, status.role, status.appliedIndex, digest])
  }
  console.log(table.toString())
  console.log(digests.size === 1 ? 'all digests are equal' : 'THE DIGESTS DIFFER')
  return digests.size === 1
}

/** The digest on one node, once it has applied everything that the token stands for. */
async function digestOf(address: string, token: string): Promise<string> {
  const search = new URLSearchParams({
    database: DATABASE,
    table: TABLE,
    consistency: 'session',
    atLeast: token,
    timeoutMs: String(CATCH_UP_MS_MAX),
  })
  const answer = await fetch(`http://${address}/digest?${search.toString()}`)
  if (!answer.ok)
    throw new DbError('NOT_READY', `no digest from ${address}: ${await answer.text()}`)
  return ((await answer.json()) as DigestResponse).digest
}

async function printInvitation({ cluster, servers }: Stage): Promise<void> {
  const address = must(cluster.addresses[0])
  const query = {
    database: DATABASE,
    sql: `SELECT name, lat, lng FROM ${TABLE} WHERE country = 'IS'`,
  }
  const json = "-H 'content-type: application/json'"
  const body = `'${JSON.stringify(query).replaceAll("'", "'\\''")}'`
  console.log(`
Query it:         curl -s http://${address}/query ${json} -d ${body}
Look at it:       npm run lockstep -- status --nodes ${address}`)
  if (servers.clientLine !== undefined) console.log(`As plain MySQL:   ${servers.clientLine}`)
  const leader = await cluster.leader()
  const pid = leader === undefined ? undefined : cluster.pid(leader)
  if (pid !== undefined) console.log(`Kill the leader:  kill -9 ${pid}     # ${leader ?? ''}`)
  console.log('Stop all:         Ctrl-C')
}

/** Kills the leader as soon as `rows` are acknowledged. */
function killOnce(
  cluster: LocalCluster,
  rows: number,
): { update: (acknowledged: number) => void; done: Promise<string | undefined> } {
  const { promise, resolve, reject } = Promise.withResolvers<string | undefined>()
  let isDue = true
  const kill = async (): Promise<void> => {
    const leader = await cluster.leader()
    if (leader !== undefined) await cluster.kill(leader)
    resolve(leader)
  }
  return {
    update: acknowledged => {
      if (!isDue || acknowledged < rows) return
      isDue = false
      kill().catch(reject)
    },
    done: promise,
  }
}

function createProgress(total: number): { update: (rows: number) => void; stop: () => void } {
  if (process.stdout.isTTY) {
    const bar = new SingleBar({
      format: 'loading {bar} {percentage}% | {value}/{total} | {eta} s left',
    })
    bar.start(total, 0)
    return { update: rows => bar.update(rows), stop: () => bar.stop() }
  }
  let shown = 0
  return {
    update: rows => {
      const step = Math.floor((rows / total) * PROGRESS_STEPS)
      if (step > shown) console.log(`loading: ${rows} of ${total} rows`)
      shown = step
    },
    stop: () => {},
  }
}

function untilInterrupted(): Promise<void> {
  return new Promise(resolve => {
    let signals = 0
    for (const signal of ['SIGINT', 'SIGTERM']) {
      process.on(signal, () => {
        signals += 1
        // Who asks again does not want to wait for a clean end.
        if (signals > IGNORED_SIGNALS) process.exit(1)
        resolve()
      })
    }
  })
}

try {
  await main()
} catch (error) {
  if (!(error instanceof DbError)) throw error
  console.error(error.message)
  process.exitCode = 1
}
// The handlers of signals, and requests that were given up, must not keep the process.
process.exit()
