/** Bugs in the request ids: each lets a write take effect twice, or lies about its fate. */
import type { Mutation } from './mutation.ts'

const IDS = 'src/engine/request-ids.ts'
const REMEMBERED = 'src/engine/remembered-ids.ts'

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
    find: "return there.type === 'fresh' ? here : there",
    replace: 'return here',
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
    find: 'return [BigInt(sessions), BigInt(keys), BigInt(this.#openRow), this.#openIds.view()]',
    replace: 'return [-1n, BigInt(keys), BigInt(this.#openRow), this.#openIds.view()]',
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
    find: 'newDatabaseImage(index, this.#catalogue.droppedAt(name))',
    replace: 'newDatabaseImage(index, 0)',
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
    name: 'a session, or a key, may come from the future',
    mode: 'whole',
    file: IDS,
    find: 'if (birth > commitIndex) {',
    replace: 'if (birth > commitIndex + 1e6) {',
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
  {
    name: 'a forgotten key is taken for a new one',
    mode: 'whole',
    file: REMEMBERED,
    find: 'return birth >= this.#keyFloor ? FRESH : EXPIRED',
    replace: 'return FRESH',
  },
  {
    name: 'the floor of the keys does not rise',
    mode: 'whole',
    file: REMEMBERED,
    find: 'this.#keyFloor = Math.max(this.#keyFloor, this.countOf(row).last ?? entry)',
    replace: 'this.countOf(row)',
  },
  {
    name: 'the floor of the keys rises when the book is read',
    mode: 'whole',
    file: REMEMBERED,
    find: '    this.#floor = floor\n    this.#keyFloor = keyFloor\n',
    replace: '    this.#floor = floor\n',
  },
  {
    name: 'the floor of the keys is the first entry of the row, not the last',
    mode: 'whole',
    file: REMEMBERED,
    find: 'this.#keyFloor = Math.max(this.#keyFloor, this.countOf(row).last ?? entry)',
    replace: 'this.#keyFloor = Math.max(this.#keyFloor, this.countOf(row) && row)',
  },
  {
    name: 'a key of a dropped database is taken for a new one',
    mode: 'whole',
    file: 'src/engine/sqlite/request-book.ts',
    find: "return `${begin - 1}, ${begin}, 0, x''`",
    replace: "return `${begin - 1}, 0, 0, x''`",
  },
  {
    name: 'who asks for the fate of a key is taken to have sent it just now',
    mode: 'whole',
    file: 'src/server/http/handlers.ts',
    find: 'const id = requestIdOf(exchange.request, identity.historyId)\n  if (id === undefined) {',
    replace:
      'const id = requestIdOf(exchange.request, identity.historyId, () => entryNow(service))\n  if (id === undefined) {',
  },
  {
    name: 'a second commit asks for the fate as of now',
    mode: 'whole',
    file: 'src/replica/transactions.ts',
    find: "const id = asked.type === 'key' ? { ...asked, birth } : asked",
    replace:
      "const id = asked.type === 'key' ? { ...asked, birth: this.#parts.commitIndex() || birth } : asked",
  },
]
