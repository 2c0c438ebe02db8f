/** Bugs in what a node does about its disk: room that runs out, and snapshots that were damaged. */
import type { Mutation } from './mutation.ts'

export const DISK_MUTATIONS: readonly Mutation[] = [
  {
    name: 'a leader without room takes writes until its log can not be written',
    mode: 'scripted',
    file: 'src/replica/leading.ts',
    find: 'const noRoom = takesRoom(body) ? this.#parts.noRoom() : undefined',
    replace: 'const noRoom = undefined',
  },
  {
    name: 'a leader without room hands over to one that has none either',
    mode: 'scripted',
    file: 'src/replica/hand-over.ts',
    find: 'const mayBe = target === undefined || !isShort(raftId)',
    replace: 'const mayBe = true',
  },
]
