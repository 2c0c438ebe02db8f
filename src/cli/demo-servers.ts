/**
 * What holds the data of a demonstration's nodes: SQLite, private MariaDB servers that start and
 * end with it, one a node or one for all, or a MySQL server that is there already.
 */
import { must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import { Connection } from '../engine/mysql/connection.ts'
import { quoteName } from '../engine/mysql/render.ts'
import { describeServer, parseServerAddress } from '../engine/mysql/server-address.ts'
import { MariaDbServer, whyNoMariaDb } from './mariadb-server.ts'

/** Which of them. */
export type DemoEngine =
  | { readonly type: 'sqlite' }
  | { readonly type: 'private'; readonly isCentral: boolean }
  | { readonly type: 'given'; readonly url: string }

/** What every node keeps on its server beside the demonstration's own database. */
const OWN_DATABASE = 'lockstep'

/** From `--engine` and `--central`. Throws INVALID_REQUEST, or NOT_READY without a server. */
export function parseDemoEngine(engine: string, isCentral: boolean): DemoEngine {
  if (isCentral && engine !== 'mysql') {
    throw new DbError('INVALID_REQUEST', '--central goes with --engine mysql')
  }
  if (engine === 'sqlite') return { type: 'sqlite' }
  if (engine !== 'mysql') {
    parseServerAddress(engine)
    return { type: 'given', url: engine }
  }
  const reason = whyNoMariaDb()
  if (reason === undefined) return { type: 'private', isCentral }
  const advice = 'npm run setup installs it where it is root on Debian'
  const other = 'a server that is there already is used by --engine mysql://USER:PASSWORD@HOST:PORT'
  throw new DbError('NOT_READY', `${reason}; ${advice}; ${other}`)
}

export class DemoServers {
  /** One line for people on what holds the data; empty for SQLite. */
  readonly about: string
  /** How to look at a node's data with a plain client, undefined if there is none. */
  readonly clientLine: string | undefined
  /** The URL for each node; none for SQLite. */
  readonly #urls: ReadonlyMap<string, string>
  readonly #database: string
  readonly #end: () => Promise<void>

  private constructor(given: {
    readonly about: string
    readonly urls: ReadonlyMap<string, string>
    readonly database: string
    readonly clientLine?: string
    readonly end?: () => Promise<void>
  }) {
    this.about = given.about
    this.clientLine = given.clientLine
    this.#urls = given.urls
    this.#database = given.database
    this.#end = given.end ?? (() => Promise.resolve())
  }

  /** Starts what is private; looks whether there is room on what is not. */
  static start(
    engine: DemoEngine,
    nodeIds: readonly string[],
    database: string,
  ): Promise<DemoServers> {
    if (engine.type === 'given') return DemoServers.#given(engine.url, nodeIds, database)
    if (engine.type === 'private') {
      return DemoServers.#private(engine.isCentral ? 1 : nodeIds.length, nodeIds, database)
    }
    return Promise.resolve(new DemoServers({ about: '', urls: new Map(), database }))
  }

  /** For the process of a node: a command line would show a password to everybody. */
  environment(nodeId: string): Readonly<Record<string, string>> {
    const url = this.#urls.get(nodeId)
    return url === undefined ? {} : { LOCKSTEP_ENGINE: url }
  }

  /** What a plain client of the servers counts in a table: a line for each node. */
  async countRows(table: string): Promise<string[]> {
    return Promise.all(
      [...this.#urls].map(async ([nodeId, url]) => {
        const address = parseServerAddress(url)
        const database = `${address.prefix}${this.#database}`
        const sql = `SELECT count(*) FROM ${quoteName(database)}.${quoteName(table)}`
        const [row] = await withConnection(url, connection => connection.rows(sql))
        const place = `${database}.${table} at ${describeServer(address)}`
        return `${nodeId}: ${String(row?.[0])} rows in ${place}`
      }),
    )
  }

  /** Ends what is private; removes from other servers what the demonstration made there. */
  async stop(): Promise<void> {
    await this.#end()
  }

  static async #private(
    count: number,
    nodeIds: readonly string[],
    database: string,
  ): Promise<DemoServers> {
    const started = await Promise.allSettled(
      Array.from({ length: count }, () => MariaDbServer.start()),
    )
    const servers = started.filter(({ status }) => status === 'fulfilled').map(valueOf)
    const end = async (): Promise<void> => {
      await Promise.all(servers.map(server => server.stop()))
    }
    const failed = started.find(({ status }) => status === 'rejected')
    if (failed?.status === 'rejected') {
      await end()
      throw failed.reason
    }
    const isCentral = count === 1 && nodeIds.length > 1
    const urls = new Map(
      nodeIds.map((nodeId, at) => {
        const server = must(servers[isCentral ? 0 : at])
        return [nodeId, server.url(isCentral ? `${nodeId}_` : '')]
      }),
    )
    const ports = servers.map(({ port }) => `127.0.0.1:${port}`).join(', ')
    const about = isCentral
      ? `all nodes keep their data on one MariaDB server, ${ports}, each under a prefix of its own`
      : `each node keeps its data on a MariaDB server of its own: ${ports}`
    const port = must(servers[0]).port
    const name = `${isCentral ? `${must(nodeIds[0])}_` : ''}${database}`
    const clientLine = `mariadb --no-defaults -h 127.0.0.1 -P ${port} -u root ${name}`
    return new DemoServers({ about, urls, database, clientLine, end })
  }

  static async #given(
    url: string,
    nodeIds: readonly string[],
    database: string,
  ): Promise<DemoServers> {
    const address = parseServerAddress(url)
    const server = describeServer(address)
    const prefixes = nodeIds.map(nodeId => `${address.prefix}${nodeId}_`)
    const rows = await withConnection(url, connection => connection.rows('SHOW DATABASES'))
    const taken = rows
      .map(([name]) => String(name))
      .find(name => prefixes.some(prefix => name.startsWith(prefix)))
    if (taken !== undefined) {
      const reason = `the MySQL server at ${server} has a database ${taken} already`
      const advice = 'nothing is overwritten; give another prefix, as --engine "mysql://…/?prefix="'
      throw new DbError('WRONG_DATA', `${reason}: ${advice}`)
    }
    // The names were free a moment ago: what is there under them in the end is the demonstration's.
    const end = async (): Promise<void> => {
      const drops = prefixes.flatMap(prefix =>
        [database, OWN_DATABASE].map(
          name => `DROP DATABASE IF EXISTS ${quoteName(`${prefix}${name}`)}`,
        ),
      )
      await withConnection(url, connection => connection.expect(drops.join(';')))
    }
    const urls = new Map(nodeIds.map((nodeId, at) => [nodeId, withPrefix(url, must(prefixes[at]))]))
    const names = prefixes.join(' ')
    const about = `all nodes keep their data on the MySQL server at ${server}, under ${names}`
    return new DemoServers({ about, urls, database, end })
  }
}

function withPrefix(url: string, prefix: string): string {
  const changed = new URL(url)
  changed.searchParams.set('prefix', prefix)
  return changed.href
}

async function withConnection<T>(
  url: string,
  use: (connection: Connection) => Promise<T>,
): Promise<T> {
  const connection = await Connection.open(parseServerAddress(url))
  try {
    return await use(connection)
  } finally {
    connection.close()
  }
}

function valueOf<T>(result: PromiseSettledResult<T>): T {
  return must(result.status === 'fulfilled' ? result.value : undefined)
}
