/** An engine over a real MariaDB server, as tests of this engine drive it. */
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import type { SqlValue } from '../../../src/base/sql.ts'
import { Connection } from '../../../src/engine/mysql/connection.ts'
import { MysqlEngine } from '../../../src/engine/mysql/mysql-engine.ts'
import { parseServerAddress } from '../../../src/engine/mysql/server-address.ts'
import type { DataDigest, Done } from '../../../src/engine/snapshot.ts'
import { SystemClock } from '../../../src/platform/clock.ts'
import { EngineHarness } from '../harness.ts'

export interface MysqlNode extends AsyncDisposable {
  readonly prefix: string
  readonly harness: EngineHarness
}

let prefixes = 0

/**
 * A node with a prefix of its own, and the log of another one. `port`: of its server; `directory`:
 * for files of snapshots.
 */
export async function startNode(
  port: number,
  entries: EngineHarness['entries'] = [],
  directory = '',
): Promise<MysqlNode> {
  prefixes += 1
  const prefix = `d${prefixes}_`
  const address = parseServerAddress(`mysql://root@127.0.0.1:${port}/?prefix=${prefix}`)
  const owner = { clusterId: 'c', nodeId: prefix, incarnation: 'i' }
  const parts = { address, owner, clock: new SystemClock(), readersMax: 2 }
  const open = (directory: string): Promise<MysqlEngine> =>
    Promise.resolve(new MysqlEngine({ ...parts, directory }))
  const harness = await EngineHarness.open(open, directory, entries)
  return { prefix, harness, [Symbol.asyncDispose]: () => harness.stop() }
}

/** Runs statements as any client of the server may, behind the node's back; rows of the last. */
export async function behindItsBack(
  port: number,
  ...sql: readonly string[]
): Promise<readonly (readonly SqlValue[])[]> {
  const connection = await Connection.open(parseServerAddress(`mysql://root@127.0.0.1:${port}/`))
  try {
    let rows: readonly (readonly SqlValue[])[] = []
    for (const each of sql) rows = await connection.rows(each)
    return rows
  } finally {
    connection.close()
  }
}

/** Takes a digest of all data; `afterBegin` runs while they are still to be read. */
export function digestOf(
  { harness }: MysqlNode,
  afterBegin: () => void = () => {},
): Promise<Done<{ readonly digest: DataDigest }>> {
  return new Promise(resolve => {
    const task = harness.engine.snapshots.digest({
      onReady: () => task.begin(harness.index),
      onBegun: afterBegin,
      onDone: resolve,
    })
  })
}

/** The digest that such a task is expected to give. */
export async function soundDigest(node: MysqlNode, afterBegin?: () => void): Promise<DataDigest> {
  const outcome = await digestOf(node, afterBegin)
  assert(outcome.type === 'ok', inspect(outcome))
  return outcome.digest
}
