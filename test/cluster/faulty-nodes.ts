/** A cluster of real processes whose SQL and disks go wrong when a test says so. */
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { LocalCluster } from '../../src/cli/local-cluster.ts'
import type { Engine } from './engines.ts'
import { makeDirectory, startCluster } from './kit.ts'

/** What goes wrong on a node, from now on. Statements that it has prepared already stay as they are. */
export type Fault =
  | { readonly type: 'sql'; readonly find: string; readonly replace: string }
  /** SQLite answers with this code. */
  | { readonly type: 'sql-error'; readonly find: string; readonly errcode: number }
  /** The same when a statement runs, also one that was prepared long ago. */
  | { readonly type: 'run-error'; readonly find: string; readonly errcode: number }
  /** Flushes of files whose path has this in it take longer, or fail. */
  | {
      readonly type: 'flush'
      readonly path: string
      readonly code?: string
      readonly delayMs?: number
    }
  | { readonly type: 'write'; readonly path: string; readonly code: string }
  | { readonly type: 'read'; readonly path: string; readonly code: string }
  | { readonly type: 'rename'; readonly path: string; readonly code: string }
  /** The system takes no more than this of a write at once. */
  | { readonly type: 'short-write'; readonly path: string; readonly sizeBytes: number }

export interface FaultyCluster {
  readonly cluster: LocalCluster
  /** Makes this go wrong on a node, and nothing else; an empty list makes it well. */
  readonly setFaults: (nodeId: string, faults: readonly Fault[]) => void
}

export async function startFaultyCluster(
  t: TestContext,
  options: {
    readonly nodes?: number
    readonly options?: readonly string[]
    /** SQLite if it is absent. */
    readonly engine?: Engine
  } = {},
): Promise<FaultyCluster> {
  const directory = makeDirectory(t)
  const faults = join(directory, 'faults')
  mkdirSync(faults)
  const hook = fileURLToPath(new URL('fault-hook.ts', import.meta.url))
  // Restarted nodes need it as well.
  process.env['FAULTS'] = faults
  process.env['NODE_OPTIONS'] = `--import ${hook}`
  const { engine, ...start } = options
  t.after(() => {
    delete process.env['FAULTS']
    delete process.env['NODE_OPTIONS']
  })
  const cluster = engine ? (await engine.start(t, start)).cluster : await startCluster(t, start)
  return {
    cluster,
    setFaults: (nodeId, list) => writeFaults(faults, nodeId, list),
  }
}

/** Says what goes wrong on a node whose fault hook looks into this directory. */
export function writeFaults(directory: string, nodeId: string, list: readonly Fault[]): void {
  const path = join(directory, `${nodeId}.json`)
  if (list.length === 0) {
    rmSync(path, { force: true })
    return
  }
  // Whole or not at all: a node may read it right now.
  writeFileSync(`${path}.new`, JSON.stringify(list))
  renameSync(`${path}.new`, path)
}
