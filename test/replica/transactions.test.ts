/** Interactive transactions on a leader: turns, leases, fates, and changes of role at every step. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import { OPTIONS } from './doubles.ts'
import { TransactionsBench } from './transactions-bench.ts'

test('a transaction runs step by step, sees its own writes, and commits as one entry', () => {
  using bench = new TransactionsBench()
  const entries = bench.log.entries.length
  const client = bench.begin()
  const inserted = client.execute('INSERT INTO t VALUES (2, 5)')
  bench.settle()
  assert.equal(inserted.code, 'ok')
  const seen = client.query('SELECT a FROM t WHERE id = 2')
  bench.settle()
  assert.deepEqual(seen.rows, [[5n]])
  const committed = client.commit()
  bench.settle()
  assert.equal(committed.code, 'ok')
  assert.equal(bench.log.entries.length, entries + 1)
  assert.deepEqual(bench.rows('SELECT a FROM t WHERE id = 2'), [[5n]])
  assert.equal(bench.executor.openTransactions, 0)
})

test('alone, an idle transaction keeps the writer; a write takes it after a moment', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('UPDATE t SET a = 1 WHERE id = 1')
  bench.settle()
  bench.pass(1000)
  client.query('SELECT a FROM t WHERE id = 1')
  bench.settle()
  assert.equal(bench.counters.transactionReplays, 0)

  const write = bench.sql('INSERT INTO t VALUES (2, 2)')
  bench.settle()
  assert.equal(write.code, 'nothing', 'it has spoken just now')
  bench.pass(5)
  assert.equal(write.code, 'ok')
  const seen = client.query('SELECT id, a FROM t WHERE id = 1')
  bench.settle()
  assert.deepEqual(seen.rows, [[1n, 1n]])
  assert.equal(bench.counters.transactionReplays, 1)
  const committed = client.commit()
  bench.settle()
  assert.equal(committed.code, 'ok')
})

test('one that was overtaken in what it read hears of a conflict, and only then', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.query('SELECT a FROM t')
  bench.settle()
  bench.sql('UPDATE t SET a = 7')
  bench.pass(5)
  const step = client.execute('UPDATE t SET a = a + 1')
  bench.settle()
  assert.equal(step.code, 'TRANSACTION_CONFLICT')
  assert.equal(step.error.retry, 'transaction')
  assert.equal(bench.counters.transactionConflicts, 1)
  // Its name says so for as long as it is remembered, also to a commit.
  for (const heard of [client.query('SELECT 1'), client.commit()]) {
    bench.settle()
    assert.equal(heard.code, 'TRANSACTION_CONFLICT')
  }
  assert.deepEqual(bench.rows('SELECT a FROM t'), [[7n]])
})

test('a conflict is found at the commit, too, and nothing is logged', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('UPDATE t SET a = a + 1 RETURNING a')
  bench.settle()
  bench.sql('UPDATE t SET a = 7')
  bench.pass(5)
  const entries = bench.log.entries.length
  const commit = client.commit()
  bench.settle()
  assert.equal(commit.code, 'TRANSACTION_CONFLICT')
  assert.equal(bench.log.entries.length, entries)
})

test('one that only read is answered after a proof of leadership begun after its last read', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  const entries = bench.log.entries.length
  client.query('SELECT a FROM t')
  bench.settle()
  bench.commitsAtOnce = false
  const commit = client.commit()
  bench.settle()
  assert.equal(commit.code, 'nothing')
  bench.log.answerRound(bench.log.commitIndex)
  assert.equal(commit.code, 'ok')
  assert.equal(bench.log.entries.length, entries)

  const deposed = bench.begin()
  deposed.query('SELECT a FROM t')
  bench.settle()
  const lost = deposed.commit()
  bench.log.become('follower', 3, 2)
  assert.equal(lost.code, 'TRANSACTION_LOST')
})

test('one that only read commits what it saw, though others have changed it since', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  const seen = client.query('SELECT a FROM t')
  bench.settle()
  bench.sql('UPDATE t SET a = 7')
  bench.pass(5)
  const commit = client.commit()
  bench.settle()
  assert.deepEqual(seen.rows, [[0n]])
  assert.equal(commit.code, 'ok', 'it stands before that write')
})

test('a step of a query may not write', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  const step = client.query('DELETE FROM t')
  bench.settle()
  assert.equal(step.code, 'INVALID_REQUEST')
  assert.equal(client.commit().code, 'nothing')
})

test('steps that come at once run in their order', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  const heard = [2, 3, 4].map(id => client.execute(`INSERT INTO t VALUES (${id}, ${id})`))
  const sum = client.query('SELECT sum(a) FROM t')
  const commit = client.commit()
  bench.settle()
  assert.deepEqual([...heard.map(({ code }) => code), commit.code], ['ok', 'ok', 'ok', 'ok'])
  assert.deepEqual(sum.rows, [[9n]])
})

test('a rolled back transaction leaves nothing, and its name is of no use any more', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('DELETE FROM t')
  bench.settle()
  assert.equal(client.rollback().code, 'ok')
  for (const heard of [client.rollback(), client.query('SELECT 1'), client.commit()]) {
    bench.settle()
    assert.equal(heard.code, 'TRANSACTION_LOST')
  }
  assert.deepEqual(bench.rows('SELECT a FROM t'), [[0n]])
})

test('a rollback while a step runs waits for it, and what is queued behind is not run', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  const running = client.execute('DELETE FROM t')
  const queued = client.execute('SELECT 1')
  const rollback = client.rollback()
  assert.equal(rollback.code, 'nothing')
  bench.settle()
  assert.equal(running.code, 'ok')
  assert.equal(queued.code, 'TRANSACTION_LOST')
  assert.equal(rollback.code, 'ok')
  assert.deepEqual(bench.rows('SELECT a FROM t'), [[0n]])
})

test('a transaction that nobody speaks to expires, and one that lasts too long', () => {
  using bench = new TransactionsBench({ transactionIdleTimeoutMs: 1000, maxTransactionMs: 2500 })
  const quiet = bench.begin()
  quiet.execute('DELETE FROM t')
  const long = bench.begin()
  bench.settle()
  for (let seconds = 0; seconds < 3; seconds += 1) {
    bench.pass(900)
    long.query('SELECT 1')
    bench.settle()
  }
  for (const client of [quiet, long]) {
    assert.equal(client.commit().code, 'TRANSACTION_EXPIRED')
    assert.equal(client.query('SELECT 1').code, 'TRANSACTION_EXPIRED')
  }
  assert.equal(bench.counters.transactionsExpired, 2)
  assert.deepEqual(bench.rows('SELECT a FROM t'), [[0n]])

  const short = bench.begin({ maxMs: 10 })
  bench.pass(11)
  assert.equal(short.commit().code, 'TRANSACTION_EXPIRED')
})

test('no lease ends a transaction whose commit is in the log', () => {
  using bench = new TransactionsBench({ transactionIdleTimeoutMs: 100, maxTransactionMs: 100 })
  const client = bench.begin()
  client.execute('UPDATE t SET a = 5')
  bench.settle()
  bench.commitsAtOnce = false
  const commit = client.commit()
  bench.settle()
  const again = client.commit()
  bench.pass(1000)
  assert.deepEqual([commit.code, again.code], ['nothing', 'nothing'])
  bench.log.commitProposal()
  bench.settle()
  assert.deepEqual([commit.code, again.code], ['ok', 'ok'])
})

test('a commit that was not confirmed in time is unknown, and asking again tells the truth', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('UPDATE t SET a = 5')
  bench.settle()
  bench.commitsAtOnce = false
  const commit = client.commit()
  bench.settle()
  bench.pass(5001)
  assert.equal(commit.code, 'COMMIT_TIMEOUT')
  assert.equal(client.execute('SELECT 1').code, 'INVALID_REQUEST', 'it may be committed')
  assert.equal(client.rollback().code, 'INVALID_REQUEST')
  const again = client.commit()
  bench.commitsAtOnce = true
  bench.settle()
  assert.equal(again.code, 'ok')
  assert.deepEqual(
    again.outcome?.type === 'ok' && 'value' in again.outcome && again.outcome.value,
    {
      transaction: client.name,
      index: bench.log.commitIndex,
      results: [],
      isRepeat: true,
    },
  )
})

test('a second commit that comes while the first waits or is under way hears of the first', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('UPDATE t SET a = 5')
  bench.settle()
  bench.isPaused = true
  const [first, second] = [client.commit(), client.commit()]
  const step = client.execute('SELECT 1')
  bench.commitsAtOnce = false
  bench.isPaused = false
  bench.pass(20)
  const third = client.commit()
  assert.deepEqual([first.code, second.code, third.code], ['nothing', 'nothing', 'nothing'])
  assert.equal(step.code, 'INVALID_REQUEST')
  bench.commitsAtOnce = true
  bench.settle()
  assert.deepEqual([first.code, second.code, third.code], ['ok', 'ok', 'ok'])
  assert.deepEqual(bench.rows('SELECT a FROM t'), [[5n]])
})

test('of a commit that is forgotten nobody says that it was not', () => {
  const oneKey = { sessionsMax: 9, keysMax: 1, droppedNamesMax: 9, openRowBytesMax: 1 }
  for (const key of [undefined, 'mine']) {
    using bench = new TransactionsBench({}, oneKey)
    const client = bench.begin()
    client.execute('UPDATE t SET a = 5')
    bench.settle()
    const first = client.commit(key)
    bench.settle()
    const other = bench.begin()
    other.execute('UPDATE t SET a = 6')
    bench.settle()
    const later = other.commit()
    bench.settle()
    const again = [client.commit(key), other.commit()]
    bench.settle()

    assert.deepEqual([first.code, later.code], ['ok', 'ok'])
    assert.deepEqual(
      again.map(({ code }) => code),
      ['REQUEST_EXPIRED', 'ok'],
    )
    // What began after all that was forgotten can still be told.
    const unheard = bench.begin()
    unheard.rollback()
    bench.settle()
    assert.equal(unheard.commit().code, 'TRANSACTION_LOST')
  }
})

test('after a change of leader a commit learns from the log whether the first one counted', () => {
  for (const survives of [true, false]) {
    using bench = new TransactionsBench()
    const client = bench.begin()
    client.execute('UPDATE t SET a = 5')
    bench.settle()
    bench.commitsAtOnce = false
    const commit = client.commit(survives ? 'mine' : undefined)
    bench.settle()
    bench.log.become('follower', 3, 2)
    assert.equal(commit.code, 'LEADERSHIP_LOST')
    assert.equal(commit.error.fate, 'unknown')
    if (survives) bench.log.commitProposal(false)
    else bench.log.proposed.shift()
    bench.commitsAtOnce = true
    bench.lead(4)
    const again = client.commit(survives ? 'mine' : undefined)
    bench.settle()
    assert.equal(again.code, survives ? 'ok' : 'TRANSACTION_LOST')
    assert.deepEqual(bench.rows('SELECT a FROM t'), [[survives ? 5n : 0n]])
  }
})

test('a commit that took effect is known at a new leader under whatever id it is asked again', () => {
  const pairs = [
    ['mine', undefined],
    [undefined, 'mine'],
    ['mine', 'another'],
    ['mine', 'mine'],
    [undefined, undefined],
  ] as const
  for (const [first, second] of pairs) {
    using bench = new TransactionsBench()
    const client = bench.begin()
    client.execute('UPDATE t SET a = a + 5')
    bench.settle()
    const commit = client.commit(first)
    bench.settle()
    assert.equal(commit.code, 'ok')
    // Its leader is another process, which remembers nothing of it.
    bench.forgetEndings()
    const again = client.commit(second)
    bench.settle()
    assert.equal(again.code, 'ok', `first ${first}, then ${second}`)
    assert.deepEqual(bench.rows('SELECT a FROM t'), [[5n]])
  }
})

test('the id of a transaction that is still open can be taken by nobody unseen', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('UPDATE t SET a = 5')
  bench.settle()
  const id = { type: 'key', key: `transaction ${client.name}` } as const
  const cancel = bench.write({ type: 'cancel', database: 'd', id })
  bench.pass(5)
  assert.equal(cancel.code, 'REQUEST_CANCELLED')
  const commit = client.commit('mine')
  bench.settle()
  assert.equal(commit.code, 'REQUEST_CANCELLED')
  assert.deepEqual(bench.rows('SELECT a FROM t'), [[0n]])
})

test('a change of leader at any step ends the transaction with an error that says run it again', () => {
  const steps = [
    (): void => {},
    (bench: TransactionsBench): void => bench.engineStep(),
    (bench: TransactionsBench): void => bench.settle(),
  ]
  for (const advance of steps) {
    for (const role of ['follower', 'leader'] as const) {
      using bench = new TransactionsBench()
      const client = bench.begin()
      const step = client.execute('UPDATE t SET a = 5')
      advance(bench)
      bench.log.become(role, 3, role === 'leader' ? 1 : 2)
      if (step.code !== 'ok') assert.equal(step.code, 'TRANSACTION_LOST')
      bench.log.commitForeign('noop')
      bench.settle()
      if (role === 'follower') bench.lead(4)
      const next = client.execute('SELECT 1')
      bench.settle()
      assert.equal(next.code, 'TRANSACTION_LOST')
      assert.equal(next.error.fate, 'not-applied')
      assert.deepEqual(bench.rows('SELECT a FROM t'), [[0n]])
    }
  }
})

test('a writer that dies between two steps is no error: the transaction is repeated', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('UPDATE t SET a = a + 5 RETURNING a')
  bench.settle()
  bench.killWriter()
  const seen = client.query('SELECT a FROM t')
  bench.settle()
  assert.deepEqual(seen.rows, [[5n]])
  const commit = client.commit()
  bench.settle()
  assert.equal(commit.code, 'ok')
})

test('a writer that dies while a step or the commit runs is tried again, once', () => {
  for (const last of ['step', 'commit'] as const) {
    using bench = new TransactionsBench()
    const client = bench.begin()
    client.execute('UPDATE t SET a = 5')
    bench.settle()
    const call = last === 'step' ? client.query('SELECT a FROM t') : client.commit()
    bench.killWriter()
    assert.equal(call.code, 'ok', last)

    const unlucky = bench.begin()
    unlucky.execute('UPDATE t SET a = 6')
    bench.settle()
    const again = last === 'step' ? unlucky.query('SELECT a FROM t') : unlucky.commit()
    bench.killWriter()
    assert.equal(again.code, 'ok', 'each one for itself')
  }
  using bench = new TransactionsBench()
  const deadly = bench.begin()
  for (const code of ['ok', 'TRANSACTION_LOST']) {
    const step = deadly.query('SELECT 1')
    bench.killWriter()
    assert.equal(step.code, code)
  }
})

test('a statement that runs away is stopped; its transaction ends and others are repeated', () => {
  using bench = new TransactionsBench({ maxExecuteMs: 1000 })
  const other = bench.begin()
  other.execute('UPDATE t SET a = 5')
  bench.settle()
  const client = bench.begin()
  const runaway = client.query('SELECT 1')
  bench.clock.pass(5)
  bench.executor.sweep()
  // The engine does not answer within the limit.
  bench.clock.pass(1001)
  bench.executor.sweep()
  bench.settle()
  assert.equal(runaway.code, 'STATEMENT_TIMEOUT')
  assert.equal(runaway.error.details['transaction'], 'over')
  bench.pass(100)
  assert.equal(client.commit().code, 'STATEMENT_TIMEOUT')
  const seen = other.query('SELECT a FROM t')
  bench.settle()
  assert.deepEqual(seen.rows, [[5n]])
})

test('open transactions, their bytes and their steps are bounded', () => {
  using bench = new TransactionsBench({ maxTransactions: 2, maxTransactionsBytes: 1000 })
  const [first, second] = [bench.begin(), bench.begin()]
  const refused = bench.call({ type: 'begin', database: 'd', maxMs: undefined })
  assert.equal(refused.code, 'OVERLOADED')
  first.execute(`SELECT '${'x'.repeat(800)}'`)
  bench.settle()
  const step = second.execute(`SELECT '${'x'.repeat(800)}'`)
  assert.equal(step.code, 'TRANSACTION_LOST', 'it gives way, so that those who go on can')
  assert.match(step.error.message, /hold as much as they may/)
  assert.equal(first.rollback().code, 'ok')
  bench.begin().execute(`SELECT '${'x'.repeat(800)}'`)
  bench.begin()
})

test('a transaction whose entry is too large for the log is refused, and leaves nothing', () => {
  using bench = new TransactionsBench({ maxTransactionsBytes: 1 << 30 })
  const client = bench.begin()
  const big = `INSERT INTO t (a) VALUES ('${'x'.repeat(900_000)}')`
  for (let step = 0; step < 18; step += 1) client.execute(big)
  bench.settle()
  const last = client.execute(big)
  bench.settle()
  assert.equal(last.code, 'TOO_LARGE')
  assert.equal(last.error.details['transaction'], 'over')
  assert.equal(client.commit().code, 'TOO_LARGE')
  bench.settle()
  assert.deepEqual(bench.rows('SELECT count(*) FROM t'), [[1n]])
})

test('writes and transactions that speak without a pause take turns', () => {
  using bench = new TransactionsBench({ transactionTurnMs: 50 })
  const client = bench.begin()
  client.execute('INSERT INTO t VALUES (100, 0)')
  bench.settle()
  const write = bench.sql('INSERT INTO t VALUES (2, 2)')
  let waitedMs = 0
  while (write.code === 'nothing') {
    client.execute('UPDATE t SET a = a + 1 WHERE id = 100')
    bench.settle()
    bench.pass(2)
    waitedMs += 2
    assert(waitedMs <= 60, 'the write waits no longer than a turn')
  }
  assert(waitedMs >= 40, 'one that speaks keeps its turn for a while')
  const commit = client.commit()
  bench.settle()
  assert.equal(commit.code, 'ok')
})

test('an entry of the log itself is applied at once, though a transaction has the writer', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('UPDATE t SET a = 5')
  bench.settle()
  bench.log.commitForeign('noop')
  bench.settle()
  assert.equal(bench.executor.appliedIndex, bench.log.commitIndex)
  const seen = client.query('SELECT a FROM t')
  bench.settle()
  assert.deepEqual(seen.rows, [[5n]])
})

test('one that has begun goes before those that begin, and those are not forgotten', () => {
  using bench = new TransactionsBench()
  const begun = bench.begin()
  begun.execute('UPDATE t SET a = 1')
  bench.settle()
  const others = Array.from({ length: 20 }, () => bench.begin())
  const heard = others.map(other => other.query('SELECT 1'))
  let steps = 0
  while (heard.some(({ code }) => code === 'nothing')) {
    const step = begun.execute('UPDATE t SET a = a + 1')
    bench.pass(6)
    assert.equal(step.code, 'ok', 'who has begun waits for one other at most')
    steps += 1
    assert(steps < 400, 'all get their turn')
  }
  assert(steps > 20)
})

test('while nothing may begin, no step and no commit does; afterwards all go on', () => {
  using bench = new TransactionsBench()
  const client = bench.begin()
  client.execute('UPDATE t SET a = 5')
  bench.settle()
  bench.isPaused = true
  const commit = client.commit()
  bench.pass(100)
  assert.equal(commit.code, 'nothing')
  bench.isPaused = false
  bench.pass(20)
  assert.equal(commit.code, 'ok')
})

test('a stopping node lets its transactions go, but for a commit that is under way', () => {
  using bench = new TransactionsBench()
  const [client, committing] = [bench.begin(), bench.begin()]
  committing.execute('UPDATE t SET a = 5')
  bench.settle()
  bench.commitsAtOnce = false
  const commit = committing.commit()
  bench.settle()
  const waiting = client.execute('SELECT 1')
  bench.executor.stopAdmission()
  assert.equal(waiting.code, 'TRANSACTION_LOST')
  assert.equal(bench.call({ type: 'begin', database: 'd', maxMs: undefined }).code, 'SHUTTING_DOWN')
  bench.commitsAtOnce = true
  bench.settle()
  assert.equal(commit.code, 'ok')
})

test('a failure that undoes everything ends the transaction and says so', () => {
  using bench = new TransactionsBench()
  const nowhere = bench.begin({ database: 'nowhere' })
  const step = nowhere.query('SELECT 1')
  bench.settle()
  assert.equal(step.code, 'UNKNOWN_DATABASE')
  assert.equal(step.error.details['transaction'], 'over')
  assert.equal(nowhere.commit().code, 'TRANSACTION_LOST')
})

test('a name that no node gave is none, and one that was not begun is not open', () => {
  using bench = new TransactionsBench()
  const foreign = `9.1.1.0.${'ab'.repeat(16)}.d`
  const call = { transaction: foreign, database: 'd', statements: [] } as const
  assert.equal(bench.call({ type: 'query', ...call }).code, 'TRANSACTION_LOST')
  const commit = bench.call({ type: 'commit', transaction: foreign, id: undefined })
  bench.settle()
  assert.equal(commit.code, 'TRANSACTION_LOST')
})

test('without room on the disk a transaction neither writes nor commits, and waits for room', () => {
  using bench = new TransactionsBench()
  const [writing, refusedStep, reading] = [bench.begin(), bench.begin(), bench.begin()]
  writing.execute('UPDATE t SET a = 7')
  bench.settle()
  bench.noRoom = new DbError('DISK_FULL', 'the disk is nearly full')

  assert.equal(refusedStep.execute('UPDATE t SET a = 8').code, 'DISK_FULL')
  assert.equal(refusedStep.commit().code, 'TRANSACTION_LOST', 'there is no half of it')
  const refused = writing.commit()
  assert.equal(refused.code, 'DISK_FULL')
  assert.equal(refused.error.fate, 'not-applied')
  const read = reading.query('SELECT a FROM t')
  bench.pass(OPTIONS.transactionTurnMs)
  assert.deepEqual(read.rows, [[0n]])
  const end = reading.commit()
  bench.settle()
  assert.equal(end.code, 'ok', 'it only read')

  bench.noRoom = undefined
  const commit = writing.commit()
  bench.settle()
  assert.equal(commit.code, 'ok')
  assert.deepEqual(bench.rows('SELECT a FROM t'), [[7n]])
})
