/** Takes back the verdict that the files of a node that does not run are wrong. */
import { Catalogue } from './catalogue.ts'
import { nodeFileSystem } from './file-system.ts'
import { currentGeneration } from './generation.ts'

/** `directory` is the engine's. Can be repeated. */
export function pardonFiles(directory: string): void {
  const generation = currentGeneration(directory, nodeFileSystem)
  if (generation === undefined) return
  const catalogue = new Catalogue(generation)
  try {
    catalogue.verdicts.pardon()
  } finally {
    catalogue.close()
  }
}
