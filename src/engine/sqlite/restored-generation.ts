/** The catalogue and the pointer beside files of databases that come from a backup. */
import { join } from 'node:path'
import { restoredCatalogue, SYSTEM_FILE } from './catalogue.ts'
import { nodeFileSystem } from './file-system.ts'
import { adoptGeneration, writeDurably } from './generation.ts'

/**
 * Completes the first generation below `directory`, whose files of databases are there and flushed:
 * `databases` are their names with the numbers of their files.
 */
export function makeGeneration(
  directory: string,
  databases: ReadonlyMap<string, number>,
  asOf: { readonly index: number; readonly nowMs: number },
): void {
  const generation = join(directory, 'gen-1')
  const image = restoredCatalogue(databases, asOf.index, asOf.nowMs)
  writeDurably(join(generation, SYSTEM_FILE), image, nodeFileSystem)
  nodeFileSystem.syncDirectory(generation)
  adoptGeneration(generation, nodeFileSystem)
}
