/** Bugs in the request ids: each lets a write take effect twice, or lies about its fate. */
import type { Mutation } from './mutation.ts'

const IDS = 'src/engine/sqlite/request-ids.ts'
const REMEMBERED = 'src/engine/sqlite/remembered-ids.ts'

export const IDS_MUTATIONS: readonly Mutation[] = [
  {
    name: 'a request that comes again is executed again',
    mode: 'whole',
    file: IDS,
    find: 'const found = this.#find(request, file)',
    replace: 'const found = FRESH as Found',
  },
  {
    name: 'an id is not written with its effect',
    mode: 'whole',
    file: 'src/engine/sqlite/execute-batch.ts',
    find: 'file.commit(index, this.nowMs, this.#ids.recordsOf(file.requests))',
    replace: 'file.commit(index, this.nowMs)',
  },
  {
    name: 'what was cancelled is not written down',
    mode: 'whole',
    file: IDS,
    find: '    records.addCancelled(this.#scoped(request))\n',
    replace: '',
  },
  {
    name: 'what was cancelled may be executed',
    mode: 'whole',
    file: IDS,
    find: "    if (there.type !== 'fresh') return there\n",
    replace: '',
  },
  {
    name: 'requests of one batch know nothing of each other',
    mode: 'whole',
    file: IDS,
    find: '    if (fate !== undefined) return fate\n    const found',
    replace: '    const found',
  },
  {
    name: 'a forgotten session is taken for a new one',
    mode: 'whole',
    file: REMEMBERED,
    find: 'return wanted.birth > this.#floor ? FRESH : EXPIRED',
    replace: 'return FRESH',
  },
  {
    name: 'the floor is not written down',
    mode: 'whole',
    file: 'src/engine/sqlite/request-book.ts',
    find: '    return [BigInt(this.#floor), BigInt(this.#openRow), this.#openIds.view()]\n',
    replace: '    return [-1n, BigInt(this.#openRow), this.#openIds.view()]\n',
  },
  {
    name: 'a sequence below the window is taken for a new one',
    mode: 'whole',
    file: REMEMBERED,
    find: 'if (sequence <= session.last - SESSION_WINDOW) return EXPIRED',
    replace: 'if (sequence <= session.last - SESSION_WINDOW) return FRESH',
  },
  {
    name: 'after a restart the newest ids are not known',
    mode: 'whole',
    file: 'src/engine/sqlite/request-book.ts',
    find: '    if (this.#openRow !== 0) ids.add(this.#openRow, idsOf(this.#openIds.view()))\n',
    replace: '',
  },
  {
    name: 'a database made again knows nothing of what was written to the last one',
    mode: 'whole',
    file: 'src/engine/sqlite/file-set.ts',
    find: 'this.#catalogue.droppedAt(name) - 1',
    replace: '-1',
  },
  {
    name: 'a write to a database that is gone was never applied',
    mode: 'whole',
    file: IDS,
    find: "    return isOlder ? { type: 'expired' } : FRESH\n",
    replace: '    return FRESH\n',
  },
  {
    name: 'another body under the same id gets the answer of the first',
    mode: 'whole',
    file: IDS,
    find: 'if (low !== found.hash.low || high !== found.hash.high) {',
    replace: 'if (low !== found.hash.low && high !== found.hash.high && low < 0) {',
  },
  {
    name: 'a session may come from the future',
    mode: 'whole',
    file: IDS,
    find: 'id.session.birth > commitIndex',
    replace: 'id.session.birth > commitIndex + 1e6',
  },
  {
    name: 'a follower believes a leader that executes a request again',
    mode: 'whole',
    file: IDS,
    find: '    if (this.#inBatch(request) !== undefined) return false\n',
    replace: '    if (request.id !== undefined) return true\n',
  },
  {
    name: 'a follower remembers other answers than the leader',
    mode: 'whole',
    file: 'src/engine/sqlite/apply-batch.ts',
    find: 'const keepsRows = hasId(request)',
    replace: 'const keepsRows = false',
  },
]
