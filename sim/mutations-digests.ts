/** Bugs in the digests of all data: each condemns who is right, or leaves who is wrong. */
import type { Mutation } from './mutation.ts'

const RULE = 'src/replica/data-digest.ts'
const OPINIONS = 'src/replica/data-opinions.ts'
const TAKER = 'src/replica/digest-taker.ts'

export const DIGEST_MUTATIONS: readonly Mutation[] = [
  {
    name: 'entries are handed over behind a digest point',
    mode: 'whole',
    file: 'src/replica/applying.ts',
    find: ' &&\n      this.#digestPoint === undefined\n',
    replace: '\n',
  },
  {
    name: 'the engine goes on before all files are read for a digest',
    mode: 'whole',
    file: TAKER,
    find: '    task.isBegun = true\n',
    replace: '    task.isBegun = true\n    this.#resume()\n',
  },
  {
    name: 'a file that is ahead of the others is digested',
    mode: 'whole',
    file: 'src/engine/sqlite/read-transactions.ts',
    find: 'if (applied <= index) continue',
    replace: 'if (applied >= 0) continue',
  },
  {
    name: "what only a node's own disk knows is part of its digest",
    mode: 'whole',
    file: 'src/engine/sqlite/data-digest.ts',
    find: '`SELECT applied, dropped_floor,',
    replace: '`SELECT applied, floor, dropped_floor,',
  },
  {
    name: 'a digest leaves out rows',
    mode: 'whole',
    file: 'src/engine/sqlite/data-digest.ts',
    find: '    yield* addDatabase(database, sum)\n',
    replace: '',
  },
  {
    name: 'who contradicts a majority about its data goes on',
    mode: 'whole',
    file: OPINIONS,
    find: 'if (own === undefined || own === verdict) continue',
    replace: "if (own !== 'nothing') continue",
  },
  {
    name: 'a digest counts although its data were copied later',
    mode: 'whole',
    file: RULE,
    find: 'return index <= copiedIndex ? SILENT : taken',
    replace: 'return index < 0 ? SILENT : taken',
  },
  {
    name: 'silence about data is taken for a disagreement',
    mode: 'whole',
    file: RULE,
    find: "  if (valuesOf(electorate, opinionOf).size < 2) return { type: 'wait' }\n",
    replace: '',
  },
  {
    name: 'a voter alone judges the data of its learners',
    mode: 'whole',
    file: RULE,
    find: "  if (voters.length < 2 && votersOutgoing.length < 2) return { type: 'wait' }\n",
    replace: '',
  },
  {
    name: 'who copied the data of a wrong leader keeps them',
    file: 'src/replica/disputes.ts',
    find: 'return index <= holder.copiedIndex ? AS_WRITTEN : undefined',
    replace: 'return undefined',
    mode: 'whole',
  },
  {
    name: 'who has other data than a majority may give them to others',
    mode: 'whole',
    file: 'src/replica/disputes.ts',
    find: 'this.dispute !== undefined || this.data.isSuspect(raftId)',
    replace: 'this.dispute !== undefined',
  },
  {
    name: 'a dispute about data is past before all who differed have spoken again',
    mode: 'whole',
    file: OPINIONS,
    find: 'later > index && spoke.every(each => this.hasSaid(each, later)),',
    replace: 'later > index && spoke.length > 0,',
  },
  {
    name: 'a replica answers for files that it has no more',
    mode: 'whole',
    file: 'src/replica/replica.ts',
    find: 'onInstalled: () => this.#digests.forget(),',
    replace: 'onInstalled: () => {},',
  },
]
