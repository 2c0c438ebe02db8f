/** The cluster that is loaded: three nodes of this checkout, and what is asked of them afterwards. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { must } from '../../src/base/assert.ts'
import { LocalCluster } from '../../src/cli/local-cluster.ts'
import type { LocalNode } from '../../src/cli/local-cluster.ts'
import { createClient } from '../../src/client/client.ts'
import { check } from './ledger.ts'
import type { Checked } from './ledger.ts'

const DATABASE = 'bench'
const PAGE_IDS = 50_000
const PATIENCE_MS = 120_000

export interface Role {
  readonly node: string
  readonly isLeader: boolean
  /** `main`, `writer` or `reader`. */
  readonly role: string
  readonly pid: number
}

export class Target {
  readonly cluster: LocalCluster
  readonly directory: string
  readonly leader: LocalNode
  readonly follower: LocalNode

  private constructor(cluster: LocalCluster, directory: string, leader: LocalNode) {
    this.cluster = cluster
    this.directory = directory
    this.leader = leader
    this.follower = must(cluster.nodes.find(node => node !== leader))
  }

  static async start(directory: string, options: readonly string[]): Promise<Target> {
    const cluster = await LocalCluster.start({ nodes: 3, directory, options })
    const leaderId = await cluster.ready()
    const leader = must(cluster.nodes.find(({ nodeId }) => nodeId === leaderId))
    const target = new Target(cluster, directory, leader)
    const client = createClient({ nodes: cluster.addresses, database: DATABASE })
    await client.command({ action: 'create_db', database: DATABASE })
    await client.execute(
      'CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b INTEGER NOT NULL)',
    )
    return target
  }

  /** Processes of all nodes that run now. */
  roles(): Role[] {
    const parents = new Map(
      this.cluster.nodes.map(node => [must(this.cluster.pid(node.nodeId)), node]),
    )
    return processes().flatMap(({ pid, parent }) => {
      const node = parents.get(pid) ?? parents.get(parent)
      if (node === undefined) return []
      const role = parents.has(pid) ? 'main' : kindOf(pid)
      return [{ node: node.nodeId, isLeader: node === this.leader, role, pid }]
    })
  }

  /** Compares what clients were told of the ids from `firstId` on with what is there. */
  async check(ledger: string, firstId: number): Promise<Checked> {
    const fates = readFileSync(ledger)
    const client = createClient({
      nodes: this.cluster.addresses,
      database: DATABASE,
      timeoutMs: PATIENCE_MS,
    })
    const total = { acknowledged: 0, unknown: 0, missing: 0, unwanted: 0 }
    for (let at = 0; at < fates.length; at += PAGE_IDS) {
      const page = fates.subarray(at, at + PAGE_IDS)
      const from = firstId + at
      const { rows } = await client.query<{ id: number }>(
        'SELECT id FROM t WHERE id >= ? AND id < ?',
        [from, from + page.length],
      )
      const found = check(
        page,
        from,
        rows.map(({ id }) => id),
      )
      total.acknowledged += found.acknowledged
      total.unknown += found.unknown
      total.missing += found.missing
      total.unwanted += found.unwanted
    }
    return total
  }

  /** A digest of all rows of each node. Nothing may be written meanwhile. */
  async digests(): Promise<string[]> {
    const asked = this.cluster.nodes.map(async ({ address }) => {
      const fields = `database=${DATABASE}&consistency=linearizable&timeoutMs=${PATIENCE_MS}`
      const answer = await fetch(`http://${address}/digest?${fields}`)
      const { digest, rowCount } = (await answer.json()) as { digest?: string; rowCount?: number }
      return `${must(digest, 'a digest')} of ${rowCount} rows`
    })
    return Promise.all(asked)
  }

  /** What a node has on its disk. */
  files(node: LocalNode): { logBytes: number; segments: number; sqliteWalBytes: number } {
    const log = filesBelow(join(node.directory, 'group-1', 'log'))
    const segments = log.filter(({ name }) => name.endsWith('.seg'))
    const engine = filesBelow(join(node.directory, 'group-1', 'engine'))
    return {
      logBytes: sumOf(log),
      segments: segments.length,
      sqliteWalBytes: sumOf(engine.filter(({ name }) => name.endsWith('-wal'))),
    }
  }
}

interface FileSize {
  readonly name: string
  readonly sizeBytes: number
}

function filesBelow(directory: string): FileSize[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).flatMap(name => {
    const stat = statSync(join(directory, name), { throwIfNoEntry: false })
    return stat?.isFile() === true ? [{ name, sizeBytes: stat.size }] : []
  })
}

function sumOf(files: readonly FileSize[]): number {
  return files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
}

function processes(): { pid: number; parent: number }[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(name => {
      const text = read(`/proc/${name}/stat`)
      const parent = Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1])
      return text === '' ? [] : [{ pid: Number(name), parent }]
    })
}

function kindOf(pid: number): string {
  const words = read(`/proc/${pid}/cmdline`).split('\0')
  return words.find(word => ['writer', 'reader', 'snapshot'].includes(word)) ?? 'other'
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // It ended meanwhile.
    return ''
  }
}
