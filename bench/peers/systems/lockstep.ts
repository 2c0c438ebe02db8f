/** Lockstep itself: three nodes of three processes each, with SQLite or beside MariaDB servers. */
import { must } from '../../../src/base/assert.ts'
import { LocalCluster } from '../../../src/cli/local-cluster.ts'
import { createClient } from '../../../src/client/client.ts'
import { DATABASE } from '../drivers/lockstep.ts'
import { idsBy, schema, totalsBy } from '../sql.ts'
import type { Query } from '../sql.ts'
import type { Deployment, Place, System } from '../system.ts'

export const LOCKSTEP: System = {
  name: 'lockstep',
  title: 'Lockstep',
  nodes: 3,
  acknowledged: 'flushed on 2 of 3 nodes, executed on the leader',
  settings: ['defaults', 'every write carries a request id', 'HTTP, no pipelining'],
  abilities: {
    workloads: ['insert', 'update', 'bulk', 'point-read', 'range-read', 'mixed', 'transaction'],
    levels: ['linearizable', 'session', 'local'],
  },
  find: () => Promise.resolve(undefined),
  start: place => startLockstep(place, 'lockstep', { id: 'INTEGER', text: 'TEXT' }),
}

/** The same with another door: many requests in one body. */
export const LOCKSTEP_STREAM: System = {
  ...LOCKSTEP,
  name: 'lockstep-stream',
  title: 'Lockstep, streamed',
  settings: [
    'defaults',
    'every write carries a request id',
    'lines of a stream, up to 64 share it',
  ],
  abilities: { workloads: ['insert', 'update', 'bulk'], levels: ['linearizable'] },
  start: place => startLockstep(place, 'lockstep-stream', { id: 'INTEGER', text: 'TEXT' }),
}

/** Starts three nodes; `types`: of the columns of the tables. */
export async function startLockstep(
  { directory, children }: Place,
  driver: 'lockstep' | 'lockstep-stream',
  types: { readonly id: string; readonly text: string },
  nodeOptions: (nodeId: string) => readonly string[] = () => [],
): Promise<Deployment> {
  const cluster = await LocalCluster.start({ nodes: 3, directory, nodeOptions })
  children.atStop(() => cluster.stop())
  const leaderId = await cluster.ready()
  const leader = must(cluster.nodes.find(({ nodeId }) => nodeId === leaderId))
  const nodes = [leader, ...cluster.nodes.filter(node => node !== leader)]
  const client = createClient({ nodes: cluster.addresses, database: DATABASE, timeoutMs: 60_000 })
  await client.command({ action: 'create_db', database: DATABASE })
  for (const sql of schema(types.id, types.text)) await client.execute(sql)
  const queryOf = (node: number): Query => {
    const asked = createClient({
      nodes: [must(nodes[node]).address],
      database: DATABASE,
      discover: false,
      timeoutMs: 60_000,
    })
    return async sql => {
      const { rows } = await asked.query<Record<string, number | string>>(sql)
      // A sum is a text with an engine whose sums are exact.
      return rows.map(row => Object.values(row).map(Number))
    }
  }
  const status = (await (await fetch(`http://${leader.address}/status`)).json()) as {
    version?: string
  }
  return {
    version: status.version ?? 'of this checkout',
    target: level => ({
      driver,
      address: leader.address,
      level,
      user: '',
      password: '',
    }),
    pids: () => nodes.map(({ nodeId }) => must(cluster.pid(nodeId))),
    // A linearizable read of a node waits for what was acknowledged before.
    settle: async () => {
      for (const node of nodes.keys()) await queryOf(node)('SELECT 1')
    },
    nodes: 3,
    ids: (node, from, to) => idsBy(queryOf(node), from, to),
    totals: node => totalsBy(queryOf(node)),
  }
}
