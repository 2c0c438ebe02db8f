/** One MariaDB server that flushes at each commit, and no other node: what replication is measured by. */
import { join } from 'node:path'
import { freePorts } from '../../../src/cli/local-cluster.ts'
import { must } from '../../../src/base/assert.ts'
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

export const MARIADB: System = {
  name: 'mariadb',
  title: 'MariaDB alone',
  nodes: 1,
  acknowledged: 'flushed on one server, no other node',
  settings: ['no binlog', ...MARIADB_SETTINGS],
  abilities: {
    workloads: ['insert', 'update', 'bulk', 'point-read', 'range-read', 'mixed', 'transaction'],
    levels: ['local'],
  },
  find: async mayInstall =>
    needDebian(mayInstall, ['mariadb-server'], { programs: MARIADB_PROGRAMS }),
  start,
}

async function start({ directory, children }: Place): Promise<Deployment> {
  const port = must((await freePorts(1))[0])
  const own = join(directory, 'alone')
  const server = new MariadbNode({ directory: own, port, serverId: 1, settings: [], children })
  server.prepare(emptyData(directory))
  await server.start()
  const password = newPassword()
  server.createUser(password, false)
  server.sql(`CREATE DATABASE ${MYSQL_DATABASE}`)
  server.sql(`USE ${MYSQL_DATABASE}; ${schema('BIGINT', 'VARCHAR(200)').join(';\n')}`)
  return {
    version: mariadbVersion(),
    target: level => ({ driver: 'mysql', address: server.address, level, user: USER, password }),
    pids: () => [server.pid],
    settle: () => Promise.resolve(),
    nodes: 1,
    ids: (_node, from, to) => server.ids(from, to),
    totals: () => server.totals(),
  }
}
