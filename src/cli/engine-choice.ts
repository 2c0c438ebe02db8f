/**
 * Which engine holds the data of a node: SQLite in files of its own, or a MySQL server. The choice
 * is for good: the log of a cluster is in the SQL of one of them, and a node notes in its directory
 * whose data it has.
 */
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { DbError } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import type { Engine } from '../engine/engine.ts'
import { MYSQL_BUILD, MysqlEngine } from '../engine/mysql/mysql-engine.ts'
import { StagedFiles } from '../engine/mysql/staged-files.ts'
import { ProcessEngine } from '../engine/sqlite/process-engine.ts'
import { writeFileDurably } from '../platform/durable-file.ts'
import type { IdentityOf } from './identity.ts'
import type { NodeSettings } from './node-settings.ts'

export interface EngineParts {
  readonly settings: Pick<NodeSettings, 'directory' | 'mysql' | 'maxReaders'>
  readonly identity: IdentityOf<'member'>
  readonly clock: Clock
  readonly logger: Logger
}

/** In the directory of the group, once the node's data are on a MySQL server. */
const NOTE = 'engine-mysql'
/** There are the files of snapshots of such a node. */
const SNAPSHOTS = 'snapshots'

/** Opens the engine that the settings name. Rejects with WRONG_DATA if the data are another's. */
export async function openEngine(parts: EngineParts): Promise<Engine> {
  const { settings, identity, clock, logger } = parts
  const { directory, mysql, maxReaders } = settings
  const group = join(directory, `group-${identity.groupId}`)
  if (mysql === undefined) {
    if (isOnMysql(directory, identity.groupId)) {
      throw wrongEngine(directory, 'on a MySQL server, which --engine mysql://... is to name')
    }
    // Ends what an earlier life of this node left running before any file is opened.
    return ProcessEngine.open({
      directory: join(group, 'engine'),
      childrenPath: join(directory, 'engine.pids'),
      clock,
      logger,
      pool: { readersMax: maxReaders },
    })
  }
  if (existsSync(join(group, 'engine'))) {
    throw wrongEngine(directory, 'in files of SQLite; start it without --engine')
  }
  mkdirSync(group, { recursive: true })
  noteMysql(group)
  const { clusterId, nodeId, incarnation } = identity
  const owner = { clusterId, nodeId, incarnation }
  return new MysqlEngine({
    address: mysql,
    owner,
    clock,
    readersMax: maxReaders,
    directory: join(group, SNAPSHOTS),
  })
}

/** Notes in the directory of a group that is being made that its data are on a MySQL server. */
export function noteMysql(group: string): void {
  writeFileDurably(join(group, NOTE), '', { mode: 0o600 })
}

/** What a node on a MySQL server is to adopt, in the directory of its group. */
export function stagedFiles(group: string): StagedFiles {
  return new StagedFiles(join(group, SNAPSHOTS), MYSQL_BUILD)
}

/** Whether the data of the node in this directory are on a MySQL server. */
export function isOnMysql(directory: string, groupId: number): boolean {
  return existsSync(join(directory, `group-${groupId}`, NOTE))
}

function wrongEngine(directory: string, where: string): DbError {
  return new DbError('WRONG_DATA', `the data of the node in ${directory} are ${where}`)
}

/** Names the engine and its build as far as replicas must have the same. */
export function engineBuild({ mysql }: NodeSettings): string {
  if (mysql !== undefined) return MYSQL_BUILD
  const database = new DatabaseSync(':memory:')
  try {
    const row = database.prepare('SELECT sqlite_source_id() AS id').get()
    const id = row?.['id']
    if (typeof id !== 'string') throw new DbError('INTERNAL', 'SQLite does not tell its build')
    return `sqlite ${id}`
  } finally {
    database.close()
  }
}
