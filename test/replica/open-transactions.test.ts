/** Interactive transactions that can't go on, and what is told of how one ended. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import type { RequestId } from '../../src/engine/engine.ts'
import { TransactionsBench } from './transactions-bench.ts'

const key = (text: string): RequestId => ({ type: 'key', key: text })

test('a step that was not run in time ends its transaction: a commit behind it commits no half', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('UPDATE t SET a = 1')
  bench.settle()
  bench.commitsAtOnce = false
  const write = bench.sql('INSERT INTO t VALUES (9, 9)')
  bench.pass(5)
  const late = client.executeWithin(50, 'UPDATE t SET a = 2')
  const commit = client.commit()
  bench.pass(51)
  for (const heard of [late, commit, client.commit(), client.query('SELECT 1')]) {
    assert.equal(heard.code, 'TRANSACTION_LOST')
    assert.equal(heard.error.retry, 'transaction')
    assert.match(heard.error.message, /past its deadline/)
  }
  bench.commitsAtOnce = true
  bench.settle()
  assert.equal(write.code, 'ok')
  assert.deepEqual(bench.rows('SELECT id, a FROM t'), [
    [1n, 0n],
    [9n, 9n],
  ])
})

test('a step that is late when its turn comes is not run, whoever looks first', () => {
  for (const hasWriter of [true, false]) {
    using bench = new TransactionsBench()
    const client = bench.begin()
    if (hasWriter) client.execute('UPDATE t SET a = 1')
    bench.settle()
    bench.isPaused = true
    const late = client.executeWithin(50, 'UPDATE t SET a = 2')
    const commit = client.commit()
    bench.clock.pass(50)
    bench.isPaused = false
    // Something else than the sweep has the replica look for work.
    const write = bench.sql('INSERT INTO t VALUES (9, 9)')
    bench.settle()
    assert.deepEqual([late.code, commit.code], ['TRANSACTION_LOST', 'TRANSACTION_LOST'])
    bench.pass(20)
    assert.equal(write.code, 'ok')
    assert.deepEqual(bench.rows('SELECT a FROM t WHERE id = 1'), [[0n]])
  }
})

test('what is late behind a step that runs is told at once, and ends the transaction after it', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  const running = client.execute('UPDATE t SET a = 1')
  const late = client.executeWithin(50, 'UPDATE t SET a = 2')
  const commit = client.commit()
  bench.clock.pass(51)
  bench.executor.sweep()
  assert.deepEqual([running.code, late.code], ['nothing', 'TRANSACTION_LOST'])
  assert.equal(commit.code, 'TRANSACTION_LOST')
  assert.equal(client.commit().code, 'TRANSACTION_LOST', 'it can not come back')
  bench.settle()
  assert.equal(running.code, 'ok')
  assert.equal(client.commit().code, 'TRANSACTION_LOST')
  assert.equal(bench.executor.openTransactions, 0)
  assert.deepEqual(bench.rows('SELECT a FROM t'), [[0n]])
})

test('a step that finds no room ends its transaction, also for a commit behind it', () => {
  using bench = new TransactionsBench({ maxTransactionsBytes: 1000 })
  const client = bench.begin()
  client.execute('UPDATE t SET a = 1')
  bench.settle()
  const refused = client.execute(`UPDATE t SET a = '${'x'.repeat(2000)}'`)
  const commit = client.commit()
  bench.settle()
  assert.deepEqual([refused.code, commit.code], ['TRANSACTION_LOST', 'TRANSACTION_LOST'])
  assert.deepEqual(bench.rows('SELECT a FROM t'), [[0n]])
})

test('on a tie steps and commits are refused as writes are, and nothing goes on after it', () => {
  using bench = new TransactionsBench()
  const [client, waiting] = [bench.begin(), bench.begin()]
  waiting.execute('UPDATE t SET a = 3')
  client.execute('UPDATE t SET a = 1')
  bench.pass(5)
  bench.isPaused = true
  const queued = waiting.commit()
  const before = bench.log.entries.length
  bench.refusal = new DbError('DISPUTED', 'no majority agrees')
  const refused = [
    bench.sql('UPDATE t SET a = 2'),
    client.commit(),
    client.query('SELECT a FROM t'),
    bench.call({ type: 'begin', database: 'd', maxMs: undefined }),
  ]
  bench.pass(20)
  bench.isPaused = false
  bench.pass(20)
  for (const heard of [...refused, queued]) assert.equal(heard.code, 'DISPUTED')
  assert.equal(bench.log.entries.length, before)
  bench.refusal = undefined
  assert.equal(client.commit().code, 'DISPUTED', 'it is over')
  assert.deepEqual(bench.rows('SELECT a FROM t'), [[0n]])
})

test('commits that wait for the first one are bounded; the others hear that it may take effect', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('UPDATE t SET a = 5')
  bench.settle()
  bench.isPaused = true
  const queued = Array.from({ length: 20 }, () => client.commit())
  bench.isPaused = false
  bench.commitsAtOnce = false
  bench.pass(20)
  const late = Array.from({ length: 20 }, () => client.commit())
  const refused = [...queued, ...late].filter(({ code }) => code !== 'nothing')
  assert.equal(refused.length, 23)
  for (const { code, error } of refused) {
    assert.deepEqual([code, error.fate], ['COMMIT_TIMEOUT', 'unknown'])
  }
  bench.commitsAtOnce = true
  bench.settle()
  const others = [...queued, ...late].filter(heard => !refused.includes(heard))
  for (const { code } of others) assert.equal(code, 'ok')
  assert.equal(client.commit().code, 'nothing')
  bench.settle()
  assert.deepEqual(bench.rows('SELECT a FROM t'), [[5n]])
})

test('a commit is told what became of the first one, whichever id either of them had', () => {
  for (const [first, second] of [
    ['mine', undefined],
    [undefined, 'mine'],
    ['mine', 'other'],
  ]) {
    using bench = new TransactionsBench()
    const client = bench.begin()
    client.execute('UPDATE t SET a = 5')
    bench.settle()
    client.commit(first)
    bench.settle()
    const again = client.commit(second)
    bench.settle()
    assert.equal(again.code, 'ok', `${first} ${second}`)
  }
})

test('a leader that never heard of it does not call it lost if it was committed without the id', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('UPDATE t SET a = 5')
  bench.settle()
  client.commit()
  bench.settle()
  bench.forgetEndings()
  const again = client.commit('mine')
  bench.settle()
  assert.equal(again.code, 'ok')
})

test('a step of a transaction that is forgotten is told that a commit may have counted', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('UPDATE t SET a = 5')
  bench.settle()
  client.commit()
  bench.settle()
  bench.forgetEndings()
  const step = client.query('SELECT 1')
  assert.equal(step.code, 'TRANSACTION_LOST')
  assert.match(step.error.message, /commit it again to hear its fate/)
})

test('the id of a write is none of a commit, also when the transaction is not open any more', () => {
  using bench = new TransactionsBench({ transactionIdleTimeoutMs: 100 })
  const statements = [{ sql: 'UPDATE t SET a = 7', params: [] }]
  bench.write({ type: 'statements', database: 'd', statements, id: key('mine') })
  bench.settle()
  const open = bench.begin()
  open.execute('UPDATE t SET a = 1')
  bench.settle()
  const refused = open.commit('mine')
  bench.settle()
  assert.equal(refused.code, 'REQUEST_ID_REUSED')

  const lost = bench.begin()
  lost.execute('UPDATE t SET a = 2')
  bench.settle()
  bench.forgetEndings()
  const commit = lost.commit('mine')
  bench.settle()
  assert.equal(commit.code, 'REQUEST_ID_REUSED')
  assert.deepEqual(bench.rows('SELECT a FROM t'), [[7n]])
})
