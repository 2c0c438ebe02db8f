/**
 * The engines under which the same tests of real clusters run: how each starts, what is killed
 * when "the process that runs SQL" is, and how data are changed behind a node's back.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, test, type TestContext } from 'node:test'
import { createConnection } from 'mysql2/promise'
import { must } from '../../src/base/assert.ts'
import type { LocalCluster } from '../../src/cli/local-cluster.ts'
import { MariaDbServer, whyNoMariaDb } from '../fixtures/mariadb-server.ts'
import { type Dialect, DIALECTS, type EngineName } from './dialects.ts'
import { startCluster, until } from './kit.ts'

type StartOptions = Parameters<typeof startCluster>[1] & {
  /** A server for each node, where servers are killed; one for all otherwise. SQLite has none. */
  readonly hasOwnServers?: boolean
}

/** A cluster, and what can be done to its engines. */
export interface EngineCluster {
  readonly cluster: LocalCluster
  /** SIGKILL of what runs a node's SQL: its child, or its server. */
  readonly killSql: (nodeId: string) => Promise<void>
  /** Starts it again, if it does not come back by itself. */
  readonly startSql: (nodeId: string) => Promise<void>
  /** Changes what a node has, as no entry says; the node runs when it is done. */
  readonly changeBehind: (nodeId: string, database: string, sql: string) => Promise<void>
}

export interface Engine {
  readonly name: EngineName
  readonly dialect: Dialect
  /** Why it can't be had here. */
  readonly whyNot: string | undefined
  /** Three nodes, unless `options` say otherwise; all of it ends with the test. */
  start(t: TestContext, options?: StartOptions): Promise<EngineCluster>
}

const SQLITE: Engine = {
  name: 'sqlite',
  whyNot: undefined,
  dialect: DIALECTS.sqlite,
  async start(t, options) {
    const cluster = await startCluster(t, options)
    return {
      cluster,
      killSql: async nodeId => killChildren(must(cluster.pid(nodeId))),
      startSql: async () => {},
      changeBehind: async (nodeId, database, sql) => {
        // A file has one writer.
        await cluster.kill(nodeId, 'SIGTERM')
        changeFile(
          must(cluster.nodes.find(node => node.nodeId === nodeId)).directory,
          database,
          sql,
        )
        cluster.restart(nodeId)
        await cluster.ready()
      },
    }
  },
}

const MARIADB: Engine = {
  name: 'mariadb',
  whyNot: whyNoMariaDb(),
  dialect: DIALECTS.mariadb,
  async start(t, { hasOwnServers = false, ...options } = {}) {
    const servers = hasOwnServers ? await ownServers(t, options.nodes ?? 3) : [await sharedServer()]
    clusters += 1
    const prefix = hasOwnServers ? '' : `c${clusters}`
    const serverOf = (nodeId: string): MariaDbServer =>
      must(servers[hasOwnServers ? Number(nodeId.slice(1)) - 1 : 0], `a server of ${nodeId}`)
    const prefixOf = (nodeId: string): string => (prefix === '' ? '' : `${prefix}${nodeId}_`)
    const cluster = await startCluster(t, {
      ...options,
      nodeOptions: nodeId => [
        '--engine',
        serverOf(nodeId).url(prefixOf(nodeId)),
        ...(options.nodeOptions?.(nodeId) ?? []),
      ],
    })
    return {
      cluster,
      killSql: nodeId => serverOf(nodeId).kill(),
      startSql: nodeId => serverOf(nodeId).restart(),
      changeBehind: (nodeId, database, sql) =>
        runOnServer(serverOf(nodeId), `${prefixOf(nodeId)}${database}`, sql),
    }
  },
}

/** How many clusters this process has started, to keep their databases apart. */
let clusters = 0
let shared: Promise<MariaDbServer> | undefined

/** One for all clusters of a test file, since it takes seconds to make one. */
function sharedServer(): Promise<MariaDbServer> {
  shared ??= MariaDbServer.start()
  return shared
}

after(async () => (await shared)?.stop())

async function ownServers(t: TestContext, count: number): Promise<MariaDbServer[]> {
  const servers: MariaDbServer[] = []
  t.after(() => Promise.all(servers.map(server => server.stop())))
  for (let at = 0; at < count; at += 1) servers.push(await MariaDbServer.start())
  return servers
}

async function runOnServer(server: MariaDbServer, database: string, sql: string): Promise<void> {
  const { hostname, port, username } = new URL(server.url(''))
  const options = { host: hostname, port: Number(port), user: username, database }
  const connection = await createConnection(options)
  try {
    await connection.query(sql)
  } finally {
    await connection.end()
  }
}

function changeFile(directory: string, database: string, sql: string): void {
  const [path] = globSync(join(directory, 'group-1', 'engine', '**', 'system.sqlite'))
  const system = new DatabaseSync(must(path), { readOnly: true })
  const select = 'SELECT made_by FROM lockstep_database WHERE name = ?'
  const number = system.prepare(select).get(database)?.['made_by']
  system.close()
  const [file] = globSync(join(directory, 'group-1', 'engine', '**', `db-${String(number)}.sqlite`))
  const changed = new DatabaseSync(must(file, `the file of ${database}`))
  const { changes } = changed.prepare(sql).run()
  changed.close()
  assert(changes > 0, `${sql} changed nothing`)
}

async function killChildren(pid: number): Promise<void> {
  const { stdout } = spawnSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' })
  const children = stdout.split('\n').filter(Boolean).map(Number)
  assert(children.length > 0, 'a node has processes that run SQL')
  for (const child of children) process.kill(child, 'SIGKILL')
  await until(
    () => children.filter(isAlive),
    alive => alive.length === 0,
  )
}

function isAlive(pid: number): boolean {
  const { stdout } = spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' })
  return stdout.trim() !== '' && !stdout.startsWith('Z')
}

/** Every engine that there is, whether this machine has it or not. */
export const ENGINES: readonly Engine[] = [SQLITE, MARIADB]

/** Registers a test once for every engine. */
export function testEngines(
  title: string,
  body: (t: TestContext, engine: Engine) => Promise<void>,
): void {
  for (const engine of ENGINES) {
    const options = engine.whyNot === undefined ? {} : { skip: engine.whyNot }
    test(`${title} (${engine.name})`, options, t => body(t, engine))
  }
}
