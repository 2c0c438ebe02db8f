/** Interactive transactions that give way at once: when they do, how many, and when none does. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Client, type Heard, TransactionsBench } from './transactions-bench.ts'

/** Row 1 is there; these are rows of their own. */
function withRows(bench: TransactionsBench, count: number): void {
  const rows = Array.from({ length: count }, (_, at) => `(${at + 2}, 0)`)
  bench.sql(`INSERT INTO t VALUES ${rows.join()}`)
  bench.settle()
}

function bump(client: Client, id: number): Heard {
  return client.execute(`UPDATE t SET a = a + 1 WHERE id = ${id} RETURNING a`)
}

function codes(all: readonly Heard[]): string {
  return all.map(({ code }) => code).join(' ')
}

/** Commits so many transactions one after another, each on a row of its own. */
function commitMany(bench: TransactionsBench, count: number): void {
  for (let at = 0; at < count; at += 1) {
    const client = bench.begin()
    bump(client, 2)
    bench.settle()
    const commit = client.commit()
    bench.settle()
    assert.equal(commit.code, 'ok')
  }
}

/** How many of `count` transactions that begin at once are answered without any time passing. */
function countInterleaved(bench: TransactionsBench, count: number): number {
  const clients = Array.from({ length: count }, () => bench.begin())
  const heard: Heard[] = []
  for (const client of clients) {
    heard.push(client.query('SELECT 1'))
    bench.settle()
  }
  const answered = heard.filter(({ code }) => code === 'ok').length
  for (const client of clients) client.rollback()
  bench.settle()
  return answered
}

/** Two on one row, of which one has committed and the other one has met a conflict. */
function conflict(bench: TransactionsBench): void {
  const [winner, loser] = [bench.begin(), bench.begin()]
  for (const client of [winner, loser]) {
    bump(client, 1)
    bench.settle()
  }
  winner.commit()
  bench.settle()
  const commit = loser.commit()
  bench.settle()
  assert.equal(commit.code, 'TRANSACTION_CONFLICT')
}

test('two that touch different rows go on step by step, and nobody waits for the other', () => {
  using bench = new TransactionsBench()
  withRows(bench, 2)
  const clients = [bench.begin(), bench.begin()]
  for (let round = 1; round <= 5; round += 1) {
    for (const [at, client] of clients.entries()) {
      const step = bump(client, at + 2)
      bench.settle()
      assert.deepEqual(step.rows, [[BigInt(round)]])
    }
  }
  assert.equal(bench.counters.transactionReplays, 8)
  for (const client of clients) {
    const commit = client.commit()
    bench.settle()
    assert.equal(commit.code, 'ok')
  }
  assert.deepEqual(bench.rows('SELECT a FROM t WHERE id > 1'), [[5n], [5n]])
})

test('a transaction alone keeps the writer and is never repeated', () => {
  using bench = new TransactionsBench()
  commitMany(bench, 40)
  assert.equal(bench.counters.transactionReplays, 0)
})

test('those that ask to be committed while others run are one entry', () => {
  using bench = new TransactionsBench()
  withRows(bench, 8)
  commitMany(bench, 10)
  const clients = [3, 4, 5, 6].map(id => {
    const client = bench.begin()
    bump(client, id)
    bench.settle()
    return client
  })
  const entries = bench.log.entries.length
  const running = bench.begin().query('SELECT 1')
  const commits = clients.map(client => client.commit())
  bench.settle()
  assert.equal(codes([running, ...commits]), 'ok ok ok ok ok')
  assert.equal(bench.log.entries.length, entries + 1)
  assert.deepEqual(bench.rows('SELECT a FROM t WHERE id BETWEEN 3 AND 6'), [[1n], [1n], [1n], [1n]])
})

test('in one entry, too, one that rests on what another one changes hears of a conflict', () => {
  using bench = new TransactionsBench()
  withRows(bench, 2)
  commitMany(bench, 10)
  const clients = [1, 1, 3].map(id => {
    const client = bench.begin()
    bump(client, id)
    bench.settle()
    return client
  })
  bench.begin().query('SELECT 1')
  const commits = clients.map(client => client.commit())
  bench.settle()
  assert.equal(codes(commits), 'ok TRANSACTION_CONFLICT ok')
  assert.deepEqual(bench.rows('SELECT a FROM t WHERE id <> 2'), [[1n], [1n]])
})

test('those that the writer did not look at, behind a known id, ask again and are committed', () => {
  using bench = new TransactionsBench()
  withRows(bench, 4)
  commitMany(bench, 10)
  const first = bench.begin()
  bump(first, 3)
  bench.settle()
  assert.equal(first.commit('k').code, 'nothing')
  bench.settle()
  const clients = [4, 5].map(id => {
    const client = bench.begin()
    bump(client, id)
    bench.settle()
    return client
  })
  bench.begin().query('SELECT 1')
  const commits = clients.map((client, at) => client.commit(at === 0 ? 'k' : undefined))
  bench.settle()
  assert.equal(codes(commits), 'REQUEST_ID_REUSED ok')
  assert.deepEqual(bench.rows('SELECT a FROM t WHERE id BETWEEN 3 AND 5'), [[1n], [0n], [1n]])
})

test('after a conflict each keeps the writer while its client speaks, until it went well for long', () => {
  using bench = new TransactionsBench()
  withRows(bench, 2)
  assert.equal(countInterleaved(bench, 2), 2)
  conflict(bench)
  assert.equal(countInterleaved(bench, 2), 1)
  commitMany(bench, 31)
  assert.equal(countInterleaved(bench, 2), 1)
  commitMany(bench, 1)
  assert.equal(countInterleaved(bench, 2), 2)
  // The next time it takes twice as long.
  conflict(bench)
  commitMany(bench, 63)
  assert.equal(countInterleaved(bench, 2), 1)
  commitMany(bench, 1)
  assert.equal(countInterleaved(bench, 2), 2)
})

test('as many as go well are half done at once, more with each commit, half after a conflict', () => {
  using bench = new TransactionsBench()
  withRows(bench, 2)
  assert.equal(countInterleaved(bench, 20), 2)
  commitMany(bench, 10)
  assert.equal(countInterleaved(bench, 20), 12)
  // Of two more commits in this, one comes before the conflict.
  conflict(bench)
  const half = countInterleaved(bench, 20)
  assert.equal(half, 6)
  // From here on one more with each round of them.
  commitMany(bench, half)
  assert.equal(countInterleaved(bench, 20), half + 1)
})

test('who begins waits for those that are half done, but not for silent ones', () => {
  using bench = new TransactionsBench()
  const heard: Heard[] = []
  for (let at = 0; at < 4; at += 1) {
    heard.push(bench.begin().query('SELECT 1'))
    bench.settle()
  }
  assert.equal(codes(heard), 'ok ok nothing nothing')
  bench.clock.pass(5)
  bench.settle()
  assert.equal(codes(heard), 'ok ok ok ok')
})

test('one with many steps, or large ones, keeps the writer: its repeats cost their square', () => {
  using bench = new TransactionsBench()
  for (const isLarge of [false, true]) {
    const [long, other] = [bench.begin(), bench.begin()]
    for (let steps = 0; steps < (isLarge ? 1 : 16); steps += 1) {
      long.query(isLarge ? `SELECT length('${'x'.repeat(20_000)}')` : 'SELECT 1')
      bench.settle()
    }
    const step = other.query('SELECT 1')
    bench.settle()
    assert.equal(step.code, 'nothing', `large: ${isLarge}`)
    bench.pass(5)
    assert.equal(step.code, 'ok')
    for (const client of [long, other]) client.rollback()
    bench.pass(5)
  }
})

test('one that takes the writer long is not repeated for others at once', () => {
  using bench = new TransactionsBench()
  const [slow, other] = [bench.begin(), bench.begin()]
  slow.query('SELECT 1')
  // Time passes while it runs.
  bench.clock.pass(11)
  bench.settle()
  const step = other.query('SELECT 1')
  bench.settle()
  assert.equal(step.code, 'nothing')
  bench.pass(5)
  assert.equal(step.code, 'ok')
})

test('an engine that repeats at a price is not asked to', () => {
  using bench = new TransactionsBench({}, undefined, { repeatsCheaply: false })
  commitMany(bench, 10)
  assert.equal(countInterleaved(bench, 2), 1)
})

/** Three with a step each that were sent to the writer together. */
function sentTogether(bench: TransactionsBench): { clients: Client[]; heard: Heard[] } {
  withRows(bench, 4)
  commitMany(bench, 10)
  const clients = [bench.begin(), bench.begin(), bench.begin()]
  const write = bench.sql('INSERT INTO t VALUES (100, 0)')
  const heard = clients.map((client, at) => bump(client, at + 3))
  // The write is executed, replicated and committed, and then the steps are sent.
  while (write.code === 'nothing') {
    bench.engineStep()
    if (bench.log.proposed.length > 0) bench.log.commitProposal()
  }
  assert.equal(codes(heard), 'nothing nothing nothing')
  return { clients, heard }
}

test('a writer that dies with steps of several runs all of them again, and none is lost', () => {
  using bench = new TransactionsBench()
  const { clients, heard } = sentTogether(bench)
  bench.killWriter()
  bench.settle()
  assert.equal(codes(heard), 'ok ok ok')
  const commits = clients.map(client => client.commit())
  bench.settle()
  assert.equal(codes(commits), 'ok ok ok')
  assert.deepEqual(bench.rows('SELECT a FROM t WHERE id BETWEEN 3 AND 5'), [[1n], [1n], [1n]])
})

test('a change of leader while steps of several run ends them all, and the writer goes on', () => {
  using bench = new TransactionsBench()
  const { heard } = sentTogether(bench)
  bench.log.become('follower', 3, 2)
  assert.equal(codes(heard), 'TRANSACTION_LOST TRANSACTION_LOST TRANSACTION_LOST')
  bench.lead(4)
  assert.deepEqual(bench.rows('SELECT sum(a) FROM t WHERE id > 2'), [[0n]])
})

test('a writer that dies while several are committed tries each of them alone', () => {
  using bench = new TransactionsBench()
  withRows(bench, 4)
  commitMany(bench, 10)
  const clients = [3, 4, 5].map(id => {
    const client = bench.begin()
    bump(client, id)
    bench.settle()
    return client
  })
  const running = bench.begin().query('SELECT 1')
  const commits = clients.map(client => client.commit())
  while (running.code === 'nothing') bench.engineStep()
  const entries = bench.log.entries.length
  bench.killWriter()
  bench.settle()
  assert.equal(codes(commits), 'ok ok ok')
  assert.equal(bench.log.entries.length, entries + 3)
})
