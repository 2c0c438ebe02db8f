/** MariaDB with Galera: three nodes that all could be written to; one is. */
import { join } from 'node:path'
import { must } from '../../../src/base/assert.ts'
import { freePorts } from '../../../src/cli/local-cluster.ts'
import { until } from '../children.ts'
import { MYSQL_DATABASE } from '../drivers/mysql.ts'
import { needDebian } from '../install.ts'
import { schema } from '../sql.ts'
import type { Deployment, Place, System } from '../system.ts'
import {
  MARIADB_PROGRAMS,
  MARIADB_SETTINGS,
  MariadbNode,
  USER,
  emptyData,
  mariadbVersion,
  newPassword,
} from './mariadb.ts'

const NODES = 3
const LIBRARY = '/usr/lib/galera/libgalera_smm.so'
/** Of each node: clients, replication, incremental and full transfers of state. */
const PORTS_PER_NODE = 4

export const GALERA: System = {
  name: 'galera',
  title: 'MariaDB Galera',
  nodes: NODES,
  acknowledged:
    'flushed on the node written to, received and ordered by the others, not flushed there',
  settings: [
    'wsrep_sst_method = rsync',
    'wsrep_slave_threads = 4',
    'gcache.size = 128M',
    ...MARIADB_SETTINGS,
  ],
  abilities: {
    workloads: ['insert', 'update', 'bulk', 'point-read', 'range-read', 'mixed', 'transaction'],
    levels: ['local', 'causal'],
  },
  find: async mayInstall =>
    needDebian(mayInstall, ['mariadb-server', 'galera-4', 'rsync'], {
      programs: [...MARIADB_PROGRAMS, 'rsync'],
      files: [LIBRARY],
    }),
  start,
}

async function start({ directory, children }: Place): Promise<Deployment> {
  const ports = await freePorts(NODES * PORTS_PER_NODE)
  const portsOf = (at: number): number[] =>
    ports.slice(at * PORTS_PER_NODE, (at + 1) * PORTS_PER_NODE)
  const group = Array.from({ length: NODES }, (_, at) => `127.0.0.1:${portsOf(at)[1]}`).join()
  const empty = emptyData(directory)
  const nodes = Array.from({ length: NODES }, (_, at) => {
    const settings = settingsOf(`n${at + 1}`, group, portsOf(at))
    const own = join(directory, `n${at + 1}`)
    const port = must(portsOf(at)[0])
    return new MariadbNode({ directory: own, port, serverId: at + 1, settings, children })
  })
  for (const node of nodes) node.prepare(empty)
  const [first, ...others] = nodes
  const writer = must(first)
  const password = newPassword()
  await writer.start('--wsrep-new-cluster')
  await untilSynced(writer)
  writer.createUser(password, false)
  writer.sql(`CREATE DATABASE ${MYSQL_DATABASE}`)
  writer.sql(`USE ${MYSQL_DATABASE}; ${schema('BIGINT', 'VARCHAR(200)').join(';\n')}`)
  // One after the other: a node that gives its state away gives it to one.
  for (const node of others) {
    await node.start()
    await untilSynced(node)
  }
  return {
    version: `${mariadbVersion()}, galera ${writer.status('wsrep_provider_version')}`,
    target: level => ({
      driver: 'mysql',
      address: writer.address,
      level,
      user: USER,
      password,
    }),
    pids: () => nodes.map(({ pid }) => pid),
    settle: async () => {
      // A causal read waits until its node has applied what was committed before.
      for (const node of nodes) node.sql('SET wsrep_sync_wait = 1; SELECT 1')
      return Promise.resolve()
    },
    nodes: NODES,
    ids: (node, from, to) => must(nodes[node]).ids(from, to),
    totals: node => must(nodes[node]).totals(),
  }
}

function settingsOf(name: string, group: string, ports: readonly number[]): string[] {
  const [, replication, incremental, full] = ports
  const provider = [
    `gmcast.listen_addr=tcp://127.0.0.1:${replication}`,
    `ist.recv_addr=127.0.0.1:${incremental}`,
    'gcache.size=128M',
  ]
  return [
    'binlog-format=ROW',
    'default-storage-engine=InnoDB',
    'innodb-autoinc-lock-mode=2',
    'wsrep-on=ON',
    `wsrep-provider=${LIBRARY}`,
    'wsrep-cluster-name=peers',
    `wsrep-cluster-address=gcomm://${group}`,
    `wsrep-node-name=${name}`,
    `wsrep-node-address=127.0.0.1:${replication}`,
    'wsrep-sst-method=rsync',
    `wsrep-sst-receive-address=127.0.0.1:${full}`,
    'wsrep-slave-threads=4',
    `wsrep-provider-options="${provider.join(';')}"`,
  ]
}

async function untilSynced(node: MariadbNode): Promise<void> {
  await until('a Galera node is synced', () =>
    Promise.resolve(node.status('wsrep_local_state_comment') === 'Synced'),
  )
}
