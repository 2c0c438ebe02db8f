/** A cluster as a point of a curve wants it: its nodes, what lies between them, and its data. */
import { spawnSync } from 'node:child_process'
import { statfsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { must } from '../../src/base/assert.ts'
import { LocalCluster } from '../../src/cli/local-cluster.ts'
import type { LocalClusterOptions, LocalNode } from '../../src/cli/local-cluster.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { ProxyNetwork } from '../../test/chaos/proxy-network.ts'
import { ask } from '../one-by-one.ts'
import { forEachOf } from '../pool.ts'
import type { Settings } from './curves.ts'
import { TABLE, databaseName, loadedRowsOf } from './rows.ts'

const SLOW_FLUSH = fileURLToPath(new URL('slow-flush.ts', import.meta.url))
const TIMEOUT_MS = 60_000
/** Of one statement that loads rows: it must be over long before a node stops it. */
const LOAD_BYTES = 16_000_000
const AT_ONCE = 16
/** A large row needs its page, its place in the WAL and the log, and SQLite some room besides. */
const DISK_PER_DATA = 1.5
const DISK_SPARE_BYTES = 4e9
const SYNC_BYTES_MIN = 50_000_000

/** What the leader has counted since it started. */
export interface Counters {
  readonly batches: number
  readonly requests: number
}

export class CurveCluster {
  readonly settings: Settings
  readonly #cluster: LocalCluster
  readonly #network: ProxyNetwork | undefined
  #leaderId = ''

  private constructor(
    settings: Settings,
    cluster: LocalCluster,
    network: ProxyNetwork | undefined,
  ) {
    this.settings = settings
    this.#cluster = cluster
    this.#network = network
  }

  /** Why there is no room for it below `directory`; undefined if there is. */
  static whyNot(
    { loadedRows, rowBytes, voters, learners }: Settings,
    directory: string,
  ): string | undefined {
    const { bavail, bsize } = statfsSync(directory)
    const data = loadedRows * rowBytes * (voters + learners)
    const needed = data * DISK_PER_DATA + DISK_SPARE_BYTES
    if (bavail * bsize >= needed) return undefined
    const gigabytes = (bytes: number): string => (bytes / 1e9).toFixed(0)
    return `it needs ${gigabytes(needed)} GB of free disk, and ${gigabytes(bavail * bsize)} are there`
  }

  /** Starts and loads it; stops it again if that fails. */
  static async start(settings: Settings, directory: string): Promise<CurveCluster> {
    const { voters, learners, flushMs } = settings
    const network = settings.delayMs === undefined ? undefined : makeNetwork()
    const restore = flushMs === undefined ? undefined : slowFlushes(flushMs)
    let made: CurveCluster | undefined
    try {
      const places = network === undefined ? undefined : await placesOf(network, settings)
      const cluster = await LocalCluster.start({ nodes: voters, directory, ...places })
      made = new CurveCluster(settings, cluster, network)
      for (let at = 1; at <= learners; at += 1) {
        await cluster.join(`l${at}`, { isLearner: true })
        // One after the other: ten programs that start at once take each other's time to get ready.
        await cluster.ready()
      }
      await made.#load()
      return made
    } catch (error) {
      await (made?.stop() ?? network?.close())
      throw error
    } finally {
      restore?.()
    }
  }

  /** The leader first. */
  get nodes(): readonly LocalNode[] {
    const { nodes } = this.#cluster
    return [this.leader, ...nodes.filter(({ nodeId }) => nodeId !== this.#leaderId)]
  }

  get leader(): LocalNode {
    return must(this.#cluster.nodes.find(({ nodeId }) => nodeId === this.#leaderId))
  }

  pids(nodes: readonly LocalNode[]): number[] {
    return nodes.map(({ nodeId }) => must(this.#cluster.pid(nodeId)))
  }

  /** Resolves when every node has done what was acknowledged before. */
  async settle(): Promise<void> {
    for (const node of this.nodes) await this.query(node, databaseName(0), 'SELECT 1')
  }

  /** Rows of a linearizable read on one node. */
  async query(node: LocalNode, database: string, sql: string): Promise<number[][]> {
    const question = { database, sql, consistency: 'linearizable', timeoutMs: TIMEOUT_MS }
    const { results } = await ask(node.address, '/query', question)
    return (results as { rows: number[][] }[])[0]?.rows ?? []
  }

  async counters(): Promise<Counters> {
    const text = await (await fetch(`http://${this.leader.address}/metrics`)).text()
    const value = (name: string): number =>
      Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? 0)
    return {
      batches: value('lockstep_batches_total'),
      requests: value('lockstep_batch_requests_total'),
    }
  }

  /** Whether the node that led when it began leads still. */
  async isLeaderSame(): Promise<boolean> {
    return (await this.#cluster.leader()) === this.#leaderId
  }

  async stop(): Promise<void> {
    await this.#cluster.stop()
    await this.#network?.close()
  }

  async #load(): Promise<void> {
    this.#leaderId = await this.#cluster.ready()
    const { databases, loadedRows, rowBytes, delayMs, voters } = this.settings
    const numbers = Array.from({ length: databases }, (_, number) => number)
    await forEachOf(numbers, AT_ONCE, number => this.#loadDatabase(number))
    await this.settle()
    // What waits in the system's memory for the disk would be written while something is measured.
    if (loadedRows * rowBytes >= SYNC_BYTES_MIN) spawnSync('sync')
    if (delayMs === undefined) return
    const names = this.#cluster.nodes.slice(0, voters).map(({ nodeId }) => nodeId)
    for (const from of names) {
      for (const to of names) {
        if (from !== to) await this.#network?.slow(from, to, { delayMs, jitterMs: 0, loss: 0 })
      }
    }
  }

  async #loadDatabase(number: number): Promise<void> {
    const database = databaseName(number)
    const { rowBytes } = this.settings
    await this.#execute({ action: 'create_db', database })
    await this.#execute({ database, sql: TABLE })
    const rows = loadedRowsOf(number, this.settings)
    const step = Math.max(1, Math.floor(LOAD_BYTES / rowBytes))
    for (let first = 1; first <= rows; first += step) {
      const last = Math.min(rows, first + step - 1)
      const sql = `
        WITH RECURSIVE n(x) AS (SELECT ${first} UNION ALL SELECT x + 1 FROM n WHERE x < ${last})
        INSERT INTO t (id, a, b) SELECT x, printf('%0${rowBytes}d', x), 0 FROM n`
      await this.#execute({ database, sql })
    }
  }

  async #execute(body: Readonly<Record<string, unknown>>): Promise<void> {
    await ask(this.leader.address, '/execute', { ...body, timeoutMs: TIMEOUT_MS })
  }
}

/** Makes nodes that are started from now on flush slowly, until what it gives is called. */
function slowFlushes(flushMs: number): () => void {
  const before = process.env['NODE_OPTIONS']
  process.env['NODE_OPTIONS'] = `${before ?? ''} --import ${SLOW_FLUSH}`.trim()
  process.env['FLUSH_MS'] = String(flushMs)
  return () => {
    delete process.env['FLUSH_MS']
    if (before === undefined) delete process.env['NODE_OPTIONS']
    else process.env['NODE_OPTIONS'] = before
  }
}

function makeNetwork(): ProxyNetwork {
  return new ProxyNetwork(new SimRandom(1, 'delay'))
}

async function placesOf(
  network: ProxyNetwork,
  { voters }: Settings,
): Promise<Pick<LocalClusterOptions, 'ports' | 'advertised'>> {
  const places = []
  for (let at = 1; at <= voters; at += 1) places.push(await network.place(`n${at}`))
  return {
    ports: places.map(({ listen }) => Number(listen.split(':')[1])),
    advertised: places.map(({ address }) => address),
  }
}
