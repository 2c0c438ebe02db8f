/** Where this program's own files are, from source or from the published build. */
import { fileURLToPath } from 'node:url'

const isSource = import.meta.url.endsWith('.ts')

/** How a person starts this program: in a checkout it is in no PATH. */
export function invocation(): string {
  return isSource ? 'npm run lockstep --' : 'lockstep'
}

/** The path of another file of this folder, named without its ending. */
export function programPath(name: string): string {
  const ending = isSource ? 'ts' : 'js'
  return fileURLToPath(new URL(`./${name}.${ending}`, import.meta.url))
}
