/** node:sqlite alone, in the load generator's own process: what one disk and one core give. */
import { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { idsBy, totalsBy } from '../sql.ts'
import type { Query } from '../sql.ts'
import type { Deployment, Place, System } from '../system.ts'

export const SQLITE: System = {
  name: 'sqlite',
  title: 'node:sqlite alone',
  nodes: 1,
  acknowledged: 'flushed in one file, no server, no other node',
  settings: ['journal_mode = WAL', 'synchronous = FULL'],
  abilities: { workloads: ['insert', 'insert-64'], levels: [], connectionsMax: 1 },
  find: () => Promise.resolve(undefined),
  start: place => Promise.resolve(start(place)),
}

function start({ directory, children }: Place): Deployment {
  const path = join(directory, 'alone.db')
  const database = new DatabaseSync(path)
  database.exec('PRAGMA journal_mode = WAL')
  database.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b INTEGER NOT NULL)')
  children.atStop(() => Promise.resolve(database.close()))
  const query: Query = async sql => {
    const rows = database.prepare(sql).all()
    return Promise.resolve(rows.map(row => Object.values(row).map(Number)))
  }
  return {
    version: process.versions['sqlite'] ?? 'unknown',
    target: level => ({ driver: 'sqlite', address: path, level, user: '', password: '' }),
    pids: () => [],
    settle: () => Promise.resolve(),
    nodes: 1,
    ids: (_node, from, to) => idsBy(query, from, to),
    totals: () => totalsBy(query, false),
  }
}
