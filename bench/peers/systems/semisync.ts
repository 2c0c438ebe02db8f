/**
 * MariaDB with two replicas and semi-synchronous replication: a commit waits until one replica has
 * received it. Whether that replica has also flushed it is a setting; both are measured.
 */
import { join } from 'node:path'
import { freePorts } from '../../../src/cli/local-cluster.ts'
import { must } from '../../../src/base/assert.ts'
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
const CATCH_UP_SECONDS_MAX = 120
/** The longest that can be set, 49 days: it never falls back to asynchronous replication. */
const TIMEOUT_MS = 4294967295

/** `syncRelayLog`: after so many events a replica flushes what it has received. */
function semisync(name: string, title: string, syncRelayLog: number, acknowledged: string): System {
  return {
    name,
    title,
    nodes: NODES,
    acknowledged,
    settings: [
      'semi-synchronous, AFTER_SYNC, waits for 1 of 2 replicas, never falls back',
      'sync_binlog = 1',
      `sync_relay_log = ${syncRelayLog}`,
      'slave_parallel_threads = 4',
      ...MARIADB_SETTINGS,
    ],
    abilities: {
      workloads: ['insert', 'update', 'bulk', 'point-read', 'range-read', 'mixed', 'transaction'],
      levels: ['primary', 'replica'],
    },
    find: async mayInstall =>
      needDebian(mayInstall, ['mariadb-server'], { programs: MARIADB_PROGRAMS }),
    start: place => start(place, syncRelayLog),
  }
}

export const SEMISYNC = semisync(
  'semisync',
  'MariaDB semi-sync',
  10_000,
  'flushed on the primary, in the memory of 1 of 2 replicas (the default)',
)
export const SEMISYNC_FLUSHED = semisync(
  'semisync-flushed',
  'MariaDB semi-sync, replica flushes',
  1,
  'flushed on the primary and in the relay log of 1 of 2 replicas',
)

async function start(place: Place, syncRelayLog: number): Promise<Deployment> {
  const { directory, children } = place
  const ports = await freePorts(NODES)
  const empty = emptyData(directory)
  const nodes = ports.map((port, at) => {
    const own = join(directory, `n${at + 1}`)
    const settings = settingsOf(own, at === 0, syncRelayLog)
    return new MariadbNode({ directory: own, port, serverId: at + 1, settings, children })
  })
  for (const node of nodes) node.prepare(empty)
  await Promise.all(nodes.map(node => node.start()))
  const primary = must(nodes[0])
  const replicas = nodes.slice(1)
  const password = newPassword()
  // Commits of the primary wait from its first moment: what comes before the replicas is not logged.
  for (const node of nodes) node.createUser(password, true)
  for (const replica of replicas) {
    replica.sql(`CHANGE MASTER TO master_host = '127.0.0.1', master_port = ${primary.port},
      master_user = '${USER}', master_password = '${password}', master_use_gtid = slave_pos,
      master_connect_retry = 1; SET GLOBAL read_only = 1; START SLAVE`)
  }
  await until('both replicas are connected', () =>
    Promise.resolve(primary.status('Rpl_semi_sync_master_clients') === String(replicas.length)),
  )
  primary.sql(`CREATE DATABASE ${MYSQL_DATABASE}`)
  const statements = schema('BIGINT', 'VARCHAR(200)')
  primary.sql(`USE ${MYSQL_DATABASE}; ${statements.join(';\n')}`)
  const settle = async (): Promise<void> => {
    const [position = ''] = primary.sql('SELECT @@gtid_binlog_pos')
    for (const replica of replicas) {
      const wait = `SELECT master_gtid_wait('${position}', ${CATCH_UP_SECONDS_MAX})`
      if (replica.sql(wait)[0] !== '0') throw new Error('a replica did not catch up')
    }
    // Without this a commit would have been acknowledged by nobody else.
    const alone = primary.status('Rpl_semi_sync_master_no_tx')
    if (alone !== '0') throw new Error(`${alone} commits did not wait for a replica`)
    return Promise.resolve()
  }
  await settle()
  return {
    version: mariadbVersion(),
    target: level => ({
      driver: 'mysql',
      address: (level === 'replica' ? must(replicas[0]) : primary).address,
      level,
      user: USER,
      password,
    }),
    pids: () => nodes.map(({ pid }) => pid),
    settle,
    nodes: NODES,
    ids: (node, from, to) => must(nodes[node]).ids(from, to),
    totals: node => must(nodes[node]).totals(),
  }
}

function settingsOf(directory: string, isPrimary: boolean, syncRelayLog: number): string[] {
  return [
    `log-bin=${join(directory, 'data', 'binlog')}`,
    'binlog-format=ROW',
    'sync-binlog=1',
    'log-slave-updates=ON',
    'gtid-strict-mode=ON',
    `relay-log=${join(directory, 'data', 'relay')}`,
    `sync-relay-log=${syncRelayLog}`,
    'slave-parallel-threads=4',
    `rpl-semi-sync-slave-enabled=${isPrimary ? 'OFF' : 'ON'}`,
    `rpl-semi-sync-master-enabled=${isPrimary ? 'ON' : 'OFF'}`,
    'rpl-semi-sync-master-wait-point=AFTER_SYNC',
    `rpl-semi-sync-master-timeout=${TIMEOUT_MS}`,
    'rpl-semi-sync-master-wait-no-slave=ON',
  ]
}
