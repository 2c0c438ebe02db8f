/** Bugs in interactive transactions: in their turns, their repetition, their commit and its fate. */
import type { Mutation } from './mutation.ts'

export const TRANSACTION_MUTATIONS: readonly Mutation[] = [
  {
    name: 'a repeated transaction is not compared with what its client was told',
    mode: 'whole',
    file: 'src/engine/sqlite/interactive.ts',
    find: 'if (!again.isOver && isSameProof(again.proof, proof)) continue',
    replace: 'if (!again.isOver) continue',
  },
  {
    name: 'only what a transaction wrote is compared, not what it read',
    mode: 'whole',
    file: 'src/engine/sqlite/interactive.ts',
    find: 'if (!again.isOver && isSameProof(again.proof, proof)) continue',
    replace: 'if (!again.isOver && (isQuery || isSameProof(again.proof, proof))) continue',
  },
  {
    name: 'a transaction that only read commits without a proof of leadership',
    mode: 'whole',
    file: 'src/replica/transactions.ts',
    find: '    this.#parts.confirm(this.#commitOf(transaction, call))\n',
    replace:
      '    this.#commitOf(transaction, call).done({\n' +
      "      type: 'ok',\n      index: this.#parts.commitIndex(),\n      results: [],\n    })\n",
    tests: ['test/replica/transactions.test.ts'],
  },
  {
    name: 'what was rolled back to a savepoint goes into the entry',
    mode: 'whole',
    file: 'src/engine/savepoints.ts',
    find: 'loggedCount: found.loggedCount }',
    replace: 'loggedCount }',
  },
  {
    name: 'steps that only read shift the chance of those that are logged',
    mode: 'whole',
    file: 'src/engine/sqlite/interactive.ts',
    find: 'position: this.#logged.length,',
    replace: 'position: ordinal,',
  },
  {
    name: 'a second commit is told that the transaction is lost, whatever became of the first',
    mode: 'whole',
    file: 'src/replica/transactions.ts',
    find: 'const own = keyOf(call.transaction)',
    replace:
      "if (call.transaction) return fail(transactionLost('it is not open'))\n    const own = ''",
    tests: ['test/replica/transactions.test.ts'],
  },
  {
    name: 'the commit of a transaction carries no id of its own',
    mode: 'whole',
    file: 'src/replica/transactions.ts',
    find: '        ...ids,\n        commitIndex,\n',
    replace:
      '        ...(first.call.id !== undefined && { id: first.call.id }),\n        commitIndex,\n',
    tests: ['test/replica/transactions.test.ts'],
  },
  {
    name: 'a commit under the id of its client is not known by its own one',
    mode: 'whole',
    file: 'src/replica/transactions.ts',
    find: ': { id: call.id, ownId: own }',
    replace: ': { id: call.id }',
    tests: ['test/replica/transactions.test.ts'],
  },
  {
    name: 'a transaction outlives the reign in which it began',
    mode: 'whole',
    file: 'src/replica/transactions.ts',
    find: '    this.#open.endAll(error)\n',
    replace: '',
    tests: ['test/replica/transactions.test.ts'],
  },
  {
    name: 'a transaction keeps the writer while committed entries wait for it',
    mode: 'whole',
    file: 'src/replica/transaction-turns.ts',
    find: '    if (waiting.mustFollow) return this.#giveWay(turn)\n',
    replace: '',
    tests: ['test/replica/transactions.test.ts'],
  },
  {
    name: 'the lease of a transaction ends it while its commit is in the log',
    mode: 'whole',
    file: 'src/replica/open-transactions.ts',
    find: 'if (transaction.isCommitting) continue',
    replace: '',
    tests: ['test/replica/transactions.test.ts'],
  },
  {
    name: 'a commit is run although a step before it came too late',
    mode: 'whole',
    file: 'src/replica/open-transactions.ts',
    find: '        end(transaction, lateCall())\n',
    replace:
      '        const late = transaction.calls.splice(isRun ? 1 : 0, 1)\n' +
      "        for (const { done } of late) done({ type: 'failed', error: lateCall() })\n",
    tests: ['test/replica/open-transactions.test.ts'],
  },
  {
    name: 'transactions are interleaved as before, however many conflicts there are',
    mode: 'whole',
    file: 'src/replica/interleaving.ts',
    find: '    this.#width = Math.floor(this.#width / 2)\n',
    replace: '',
    tests: ['test/replica/interleaving.test.ts'],
  },
  {
    name: 'a step that gave way stays open in the engine',
    mode: 'whole',
    file: 'src/engine/sqlite/sqlite-writer.ts',
    find: 'if (isOver || givesWay) this.#rollback()',
    replace: 'if (isOver) this.#rollback()',
    tests: ['test/engine/sqlite/transaction-group.test.ts'],
  },
  {
    name: 'what conflicts within an entry of several is not undone',
    mode: 'whole',
    file: 'src/engine/sqlite/transaction-group.ts',
    find: 'else file.rollbackToSavepoint()',
    replace: 'else file.releaseSavepoint()',
    tests: ['test/engine/sqlite/transaction-group.test.ts'],
  },
  {
    name: 'transactions of one entry draw from its moment on followers, not from their own',
    mode: 'whole',
    file: 'src/engine/sqlite/apply-batch.ts',
    find: '    if (moment !== undefined) file.determinism.beginEntry(moment.nowMs, moment.seed)\n',
    replace: '',
    tests: ['test/engine/sqlite/transaction-group.test.ts'],
  },
  {
    name: 'commits that the writer did not look at are forgotten',
    mode: 'whole',
    file: 'src/replica/leading.ts',
    find: 'else this.#transactions.putBack(batch.commits.splice(reply.taken))',
    replace: 'else batch.commits.splice(reply.taken)',
    tests: ['test/replica/interleaving.test.ts'],
  },
]
