/** Lockstep with its other engine: three nodes, each with a MariaDB server of its own. */
import { join } from 'node:path'
import { freePorts } from '../../../src/cli/local-cluster.ts'
import { needDebian } from '../install.ts'
import type { Deployment, Place, System } from '../system.ts'
import { LOCKSTEP, startLockstep } from './lockstep.ts'
import { MARIADB_PROGRAMS, MariadbNode, USER, emptyData, newPassword } from './mariadb.ts'

const NODES = 3

export const LOCKSTEP_MARIADB: System = {
  ...LOCKSTEP,
  name: 'lockstep-mariadb',
  title: 'Lockstep on MariaDB',
  acknowledged: 'flushed in the log of 2 of 3 nodes, executed and committed on the leader',
  settings: [
    '`--engine mysql://`, a server for each node',
    'every write carries a request id',
    'HTTP, no pipelining',
    'innodb_flush_log_at_trx_commit = 2, since the log is flushed',
    'innodb_buffer_pool_size = 256M',
    'performance_schema = OFF',
  ],
  find: async mayInstall =>
    needDebian(mayInstall, ['mariadb-server'], { programs: MARIADB_PROGRAMS }),
  start,
}

async function start(place: Place): Promise<Deployment> {
  const { directory, children } = place
  const ports = await freePorts(NODES)
  const empty = emptyData(directory)
  const servers = ports.map((port, at) => {
    const own = join(directory, `mariadb${at + 1}`)
    const settings = ['innodb-flush-log-at-trx-commit=2']
    return new MariadbNode({ directory: own, port, serverId: at + 1, settings, children })
  })
  for (const server of servers) server.prepare(empty)
  await Promise.all(servers.map(server => server.start()))
  const password = newPassword()
  for (const server of servers) server.createUser(password, false)
  const urlOf = (nodeId: string): string => {
    const server = servers[Number(nodeId.slice(1)) - 1]
    return `mysql://${USER}:${password}@${server?.address}/`
  }
  const types = { id: 'BIGINT', text: 'VARCHAR(200)' }
  const deployment = await startLockstep(place, 'lockstep', types, nodeId => [
    '--engine',
    urlOf(nodeId),
  ])
  return { ...deployment, pids: () => [...deployment.pids(), ...servers.map(({ pid }) => pid)] }
}
