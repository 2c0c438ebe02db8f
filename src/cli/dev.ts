/** `lockstep dev`: a cluster of real processes on this machine, for trying things out. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { must } from '../base/assert.ts'
import { createClient } from '../client/index.ts'
import { LocalCluster, parseNodeCount } from './local-cluster.ts'
import { invocation } from './program.ts'

/** Starts the nodes, says how to talk to them, and stops them on SIGINT or SIGTERM. */
export async function dev(given: {
  readonly nodes: string
  readonly data?: string
  readonly options: readonly string[]
}): Promise<void> {
  const nodes = parseNodeCount(given.nodes)
  const directory = given.data ?? mkdtempSync(join(tmpdir(), 'lockstep-dev-'))
  // Listened for from the start: Ctrl-C during the start must not leave nodes behind.
  const stopped = new Promise<void>(resolve => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, resolve)
  })
  const cluster = await LocalCluster.start({ nodes, directory, options: given.options })
  try {
    await createDatabase(cluster)
    await printHelp(cluster, directory)
    await stopped
  } finally {
    await cluster.stop()
  }
  // Only after a clean end: what a failure left behind says why.
  if (given.data === undefined) rmSync(directory, { recursive: true, force: true })
}

async function createDatabase(cluster: LocalCluster): Promise<void> {
  const client = createClient({ nodes: cluster.addresses })
  await client.command({ action: 'create_db', database: 'main' })
}

async function printHelp(cluster: LocalCluster, directory: string): Promise<void> {
  const leader = await cluster.leader()
  const addresses = cluster.addresses.join(',')
  const first = must(cluster.addresses[0], 'address of the first node')
  const lockstep = invocation()
  const lines = [
    `${cluster.nodes.length} nodes run, their files are in ${directory}:`,
    ...cluster.nodes.map(({ nodeId, address }) => {
      const role = nodeId === leader ? 'leader' : 'follower'
      return `  ${nodeId}  ${address}  ${role}, process ${cluster.pid(nodeId)}`
    }),
    '',
    'Write and read (there is a database "main"):',
    `  ${lockstep} sql --nodes ${addresses} "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)"`,
    `  ${lockstep} sql --nodes ${addresses} "INSERT INTO t (name) VALUES (?)" Ada`,
    `  curl --json '{"database":"main","sql":"SELECT * FROM t"}' http://${first}/query`,
    'Look at the nodes, and kill one to see the others go on:',
    `  ${lockstep} status --nodes ${addresses}`,
    'Ctrl-C stops them.',
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}
