/**
 * Random statements in random batches on one engine; its entries on others: one by one, many to a
 * message, and from copies of the files taken midway. Everything must come out the same: outcomes,
 * rows and rowids. LOCKSTEP_FUZZ_SEEDS=20 runs more seeds, LOCKSTEP_FUZZ_SEED=7 runs that one.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestResult, WriteRequest } from '../../../src/engine/engine.ts'
import { FuzzRandom, FuzzStatements } from './fuzz-statements.ts'
import { createDatabase, dropDatabase, neverTwice, Replica } from './replica.ts'

const BATCHES = 100
const REQUESTS_MAX = 8
const DATABASES = ['d', 'e']

interface Tally {
  requests: number
  failed: number
  statements: number
}

/** Runs a seed's batches on `leader` and calls `between` after each. */
function drive(leader: Replica, seed: number, between: (batch: number) => void): Tally {
  const random = new FuzzRandom(seed)
  const statements = new FuzzStatements(random)
  const tally: Tally = { requests: 0, failed: 0, statements: 0 }
  for (const database of DATABASES) leader.write(createDatabase(database))
  for (const setUp of statements.setUp(DATABASES)) leader.write(setUp)
  for (let batch = 0; batch < BATCHES; batch++) {
    const requests: WriteRequest[] = []
    for (let i = 1 + random.below(REQUESTS_MAX); i > 0; i--) {
      requests.push(statements.request(random.pick(DATABASES)))
    }
    if (random.below(40) === 0) {
      requests.push(random.below(2) === 0 ? createDatabase('x') : dropDatabase('x'))
    }
    leader.nowMs += random.below(5000)
    if (random.below(7) === 0) {
      // A leader that is deposed: whatever it executed must leave no trace, on itself neither.
      leader.execute(...requests)
      leader.rollback()
      continue
    }
    count(tally, leader.write(...requests), requests)
    if (random.below(20) === 0) leader.checkpoint()
    between(batch)
  }
  return tally
}

function count(tally: Tally, results: readonly RequestResult[], requests: WriteRequest[]): void {
  tally.requests += results.length
  tally.failed += results.filter(result => result.type === 'failed').length
  for (const request of requests) {
    if (request.type === 'statements') tally.statements += request.statements.length
  }
}

function assertSame(replica: Replica, leader: Replica, what: string): void {
  const names = leader.withReader(reader => reader.databases())
  assert.deepEqual(
    replica.withReader(reader => reader.databases()),
    names,
    what,
  )
  assert.deepEqual(replica.dataDigest(), leader.dataDigest(), what)
  for (const name of names) {
    assert.deepEqual(replica.digest(name), leader.digest(name), `${what}: ${name}`)
    assert.deepEqual(replica.query('PRAGMA integrity_check', name), [['ok']], `${what}: ${name}`)
  }
}

function fuzz(seed: number): Tally {
  using leader = new Replica({ walPagesMax: 200 })
  const cut = new FuzzRandom(seed + 1_000_000)
  const copies: { replica: Replica; from: number }[] = []
  using follower = new Replica({ walPagesMax: 50 })
  try {
    const tally = drive(leader, seed, batch => {
      // One follower keeps up entry by entry.
      for (const entry of leader.entries.slice(follower.index)) {
        const { divergence } = follower.apply(entry)
        assert.equal(divergence, undefined, JSON.stringify(divergence))
      }
      if (batch % 40 === 20) copies.push({ replica: leader.copy(), from: leader.index })
      if (batch % 10 !== 9) return
      // Nothing that was told to be durable is lost, and nothing else is needed to catch up.
      const { durableIndex } = follower.apply()
      const replica = follower.powerCutCopy(bound => cut.below(bound))
      copies.push({ replica, from: 0 })
      assert(replica.opened.appliedIndex >= durableIndex)
    })
    assertSame(follower, leader, `seed ${seed}, entry by entry`)

    // It runs no statement without a savepoint.
    using late = new Replica({ alterSqlForTests: neverTwice() })
    assert.equal(late.follow(leader).divergence, undefined, `seed ${seed}, all at once`)
    assertSame(late, leader, `seed ${seed}, all at once`)
    for (const { replica, from } of copies) {
      assert(replica.index <= leader.index)
      assert.equal(replica.follow(leader).divergence, undefined, `seed ${seed}, copy at ${from}`)
      assertSame(replica, leader, `seed ${seed}, copy at ${from}`)
    }
    return tally
  } finally {
    for (const { replica } of copies) replica[Symbol.dispose]()
  }
}

const only = process.env['LOCKSTEP_FUZZ_SEED']
const seedCount = Number(process.env['LOCKSTEP_FUZZ_SEEDS'] ?? 3)
const seeds =
  only === undefined ? Array.from({ length: seedCount }, (_, i) => i + 1) : [Number(only)]

for (const seed of seeds) {
  test(`replicas agree on random statements, seed ${seed}`, () => {
    const { requests, failed, statements } = fuzz(seed)

    // A fuzz in which nothing fails, or nothing succeeds, shows little.
    assert(failed > requests * 0.15 && failed < requests * 0.6, `${failed} of ${requests} failed`)
    assert(statements > 500, `${statements} statements`)
  })
}
