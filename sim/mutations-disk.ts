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
  {
    name: 'a leader proposes what no majority has room for',
    mode: 'scripted',
    file: 'src/replica/room.ts',
    find: "role === 'leader' ? neededAndShort(logStatus(), heard()) : []",
    replace: '[]',
  },
  {
    name: 'what garbled files gave is answered before they are replaced',
    mode: 'scripted',
    file: 'src/replica/executor.ts',
    find: 'if (FULL_OR_FAILING.has(error.code))',
    replace: 'if (DISK_FAULTS.has(error.code))',
    tests: ['test/replica/executor-faults.test.ts'],
  },
  {
    name: 'a snapshot that was damaged is given away for ever',
    mode: 'scripted',
    file: 'src/server/http/snapshot.ts',
    find: 'if (crc32(chunk) === chunks[number]) return chunk',
    replace: 'if (chunks.length > 0) return chunk',
  },
  {
    name: 'a staged snapshot of an earlier life is believed by its mark',
    mode: 'scripted',
    file: 'src/engine/sqlite/staging.ts',
    find: 'if (whyWrong(join(generation, file.name), file, fileSystem) === undefined) continue',
    replace: 'if (file.name !== null) continue',
  },
  {
    name: 'who gave a garbled snapshot is asked again and again',
    mode: 'scripted',
    file: 'src/replica/snapshots.ts',
    find: "const isBad = error.code === 'CORRUPT' || this.#failures > 1",
    replace: 'const isBad = false',
  },
]
