/**
 * Whether a server can carry a node: its version, and the settings without which statements would
 * give something else, or be lost. Settings that a session can change are changed instead
 * (connection.ts).
 */
import { DbError } from '../../base/errors.ts'
import type { Connection } from './connection.ts'
import { describeServer, type ServerAddress } from './server-address.ts'

/** What a node needs to know of its server. */
export interface ServerFacts {
  readonly isMariaDb: boolean
  /** Names the server as far as it matters for what statements give. */
  readonly build: string
  /** A transaction survives a power cut once it is committed. */
  readonly flushesAtCommit: boolean
}

const MARIADB_MIN = [10, 6] as const
const MYSQL_MIN = [8, 0] as const
const PACKET_BYTES_MIN = 16 * 1024 * 1024
const VARIABLES = [
  'binlog_format',
  'explicit_defaults_for_timestamp',
  'innodb_default_row_format',
  'innodb_flush_log_at_trx_commit',
  'innodb_page_size',
  'log_bin',
  'lower_case_table_names',
  'max_allowed_packet',
  'read_only',
  'secure_timestamp',
]

/** Looks at the server. Rejects with SERVER_UNFIT, and a sentence that says what to change. */
export async function checkServer(
  connection: Connection,
  address: ServerAddress,
): Promise<ServerFacts> {
  const [[version] = []] = await connection.rows('SELECT VERSION()')
  const names = VARIABLES.map(name => `'${name}'`).join(', ')
  const rows = await connection.rows(`SHOW VARIABLES WHERE variable_name IN (${names})`)
  const values = new Map(rows.map(([name, value]) => [String(name), String(value)]))
  const problem = findProblem(String(version), values)
  if (problem !== undefined) {
    const server = describeServer(address)
    throw new DbError('SERVER_UNFIT', `the MySQL server at ${server} ${problem}`)
  }
  const isMariaDb = isMariaDbVersion(String(version))
  const number = /^[\d.]+/.exec(String(version))?.[0] ?? ''
  const kind = isMariaDb ? 'mariadb' : 'mysql'
  const lowerCase = values.get('lower_case_table_names') ?? '0'
  return {
    isMariaDb,
    build: `${kind} ${number} lower_case_table_names=${lowerCase}`,
    flushesAtCommit: values.get('innodb_flush_log_at_trx_commit') === '1',
  }
}

/** What is wrong with a server, undefined if nothing is. `values`: variables of a connection. */
export function findProblem(
  version: string,
  values: ReadonlyMap<string, string>,
): string | undefined {
  const least = isMariaDbVersion(version) ? MARIADB_MIN : MYSQL_MIN
  const [major = 0, minor = 0] = version.split('.').map(Number.parseFloat)
  if (major < least[0] || (major === least[0] && minor < least[1])) {
    return `is of version ${version}; Lockstep needs MariaDB 10.6 or MySQL 8.0, or a newer one`
  }
  if (values.get('read_only') === 'ON') {
    return 'is read-only, as a replica of another server is; give the node a server of its own'
  }
  if (values.get('log_bin') === 'ON' && values.get('binlog_format') === 'STATEMENT') {
    return 'writes a binlog of statements, which can not say all; set binlog_format=ROW'
  }
  const secure = values.get('secure_timestamp') ?? 'NO'
  if (secure !== 'NO') return `lets nobody set the time (secure_timestamp=${secure}); set it to NO`
  // What fits in a row or a key of one server must fit in those of all.
  const rowFormat = values.get('innodb_default_row_format') ?? 'dynamic'
  if (rowFormat !== 'dynamic') {
    return `makes tables with ${rowFormat} rows; set innodb_default_row_format to dynamic`
  }
  const pageBytes = values.get('innodb_page_size') ?? '16384'
  if (pageBytes !== '16384') {
    return `has pages of ${pageBytes} bytes; take one that was made with innodb_page_size=16384`
  }
  // Connections set it where they can; before MariaDB 10.8.4 none can.
  if (values.get('explicit_defaults_for_timestamp') === 'OFF') {
    return 'gives TIMESTAMP columns defaults of its own; set explicit_defaults_for_timestamp=ON'
  }
  const packetBytes = Number(values.get('max_allowed_packet') ?? PACKET_BYTES_MIN)
  if (packetBytes < PACKET_BYTES_MIN) {
    return `takes packets of ${packetBytes} bytes; set max_allowed_packet to ${PACKET_BYTES_MIN}`
  }
  return undefined
}

function isMariaDbVersion(version: string): boolean {
  return /mariadb/i.test(version)
}
