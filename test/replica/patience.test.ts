/** A client that is slower than a transaction may idle gets to its commit, too. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OPTIONS } from './doubles.ts'
import { TransactionsBench } from './transactions-bench.ts'

/** So long the client takes from an answer to its next call. */
const THINK_MS = 4 * OPTIONS.transactionIdleMs

/** The id that a transaction inserts is one that writes beside it take, if it gives way to them. */
function tryOnce(bench: TransactionsBench): string {
  const client = bench.begin()
  bench.settle()
  client.execute("INSERT INTO t (a) VALUES ('of a transaction')")
  bench.settle()
  // A write waits all the time.
  bench.sql("INSERT INTO t (a) VALUES ('beside it')")
  bench.settle()
  bench.pass(THINK_MS)
  const commit = client.commit()
  bench.settle()
  bench.pass(100 * OPTIONS.transactionIdleMs)
  return commit.code
}

for (const repeatsCheaply of [true, false]) {
  test(`conflicts earn a slow client more time (cheap repeats: ${repeatsCheaply})`, () => {
    using bench = new TransactionsBench({}, undefined, { repeatsCheaply })
    const codes = Array.from({ length: 8 }, () => tryOnce(bench))
    assert.equal(codes[0], 'TRANSACTION_CONFLICT')
    assert.deepEqual(codes.slice(4), ['ok', 'ok', 'ok', 'ok'], codes.join(' '))

    // What goes well for a while brings the short limits back: then the first one conflicts again.
    for (let round = 0; round < 64; round += 1) {
      const client = bench.begin()
      bench.settle()
      client.execute("INSERT INTO t (a) VALUES ('alone')")
      bench.settle()
      assert.equal(client.commit().code, 'nothing')
      bench.settle()
    }
    assert.equal(tryOnce(bench), 'TRANSACTION_CONFLICT')
  })
}
