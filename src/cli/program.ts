/** Where this program's own files are, from source or from the published build. */
import { fileURLToPath } from 'node:url'

/** The path of another file of this folder, named without its ending. */
export function programPath(name: string): string {
  const ending = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  return fileURLToPath(new URL(`./${name}.${ending}`, import.meta.url))
}
