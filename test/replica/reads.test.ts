import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import { Reads } from '../../src/replica/reads.ts'
import type { Outcome, ReadAnswer, ReadOptions } from '../../src/replica/types.ts'
import { ManualClock, ManualEngine, ManualLog } from './doubles.ts'

const REQUEST = { database: 'd', statements: [], maxRows: 1, maxBytes: 1 }

class Bench {
  readonly log = new ManualLog()
  readonly engine = new ManualEngine()
  readonly clock = new ManualClock()
  applied = 0
  lagMs: number | undefined
  refusal: DbError | undefined
  outage: DbError | undefined
  readonly corrupt: string[] = []
  readonly reads = new Reads({
    log: this.log,
    engine: this.engine,
    clock: this.clock,
    maxWaiting: 2,
    appliedIndex: () => this.applied,
    lagMs: () => this.lagMs,
    onWaiting: () => {},
    refusal: () => this.refusal,
    outage: () => this.outage,
    onCorrupt: reason => this.corrupt.push(reason),
  })

  query(options: Partial<ReadOptions>): Outcome<ReadAnswer>[] {
    const heard: Outcome<ReadAnswer>[] = []
    const full = { consistency: 'linearizable', timeoutMs: 1000, ...options } as const
    this.reads.query(REQUEST, full, outcome => heard.push(outcome))
    return heard
  }

  apply(index: number): void {
    this.applied = index
    this.reads.onApplied()
  }

  /** The oldest query that reached the engine sees `appliedIndex`. */
  answer(appliedIndex: number): void {
    this.engine.queries.shift()?.done({ type: 'ok', appliedIndex, results: [] })
  }
}

function code(heard: readonly Outcome<unknown>[]): string {
  const [outcome] = heard
  if (outcome === undefined) return 'nothing'
  return outcome.type === 'ok' ? 'ok' : outcome.error.code
}

test('a linearizable read waits for a round and then until that index is applied', () => {
  const bench = new Bench()
  const heard = bench.query({})
  assert.equal(bench.engine.queries.length, 0)
  bench.log.answerRound(5)
  assert.equal(bench.engine.queries.length, 0)
  bench.apply(4)
  assert.equal(bench.engine.queries.length, 0)

  bench.apply(5)
  bench.answer(3)

  assert.deepEqual(heard, [{ type: 'ok', value: { index: 5, results: [] } }])
})

test('the index of an answer is never below what its reader has seen', () => {
  const bench = new Bench()
  bench.apply(5)
  const heard = bench.query({ consistency: 'local' })
  bench.answer(8)
  assert.deepEqual(heard, [{ type: 'ok', value: { index: 8, results: [] } }])
})

test('a session read waits until this node has applied what the session has seen', () => {
  const bench = new Bench()
  bench.apply(6)
  const heard = bench.query({ consistency: 'session', atLeastIndex: 7 })
  assert.equal(bench.engine.queries.length, 0)
  bench.apply(7)
  bench.answer(7)
  assert.equal(code(heard), 'ok')
})

test('a session read that does not get there in time fails and is not served stale', () => {
  const bench = new Bench()
  const heard = bench.query({ consistency: 'session', atLeastIndex: 7 })
  bench.clock.pass(1001)
  bench.reads.sweep()
  assert.equal(code(heard), 'STALE_READ')

  bench.apply(7)
  assert.equal(bench.engine.queries.length, 0)
})

test('a read that waits in vain tells why the node is not going on', () => {
  const bench = new Bench()
  const heard = bench.query({ consistency: 'session', atLeastIndex: 7 })
  bench.outage = new DbError('SERVER_DOWN', 'the server is away')
  bench.clock.pass(1001)
  bench.reads.sweep()
  const [outcome] = heard
  assert(outcome?.type === 'failed')
  assert.match(outcome.error.message, /applied entry 0 and did not reach 7.*: the server is away$/)
})

test('a local read asks nobody, and with a bound fails when the node is older or does not know', () => {
  const bench = new Bench()
  bench.query({ consistency: 'local' })
  assert.equal(bench.engine.queries.length, 1)
  assert.equal(code(bench.query({ consistency: 'local', maxLagMs: 100 })), 'STALE_READ')
  bench.lagMs = 101
  assert.equal(code(bench.query({ consistency: 'local', maxLagMs: 100 })), 'STALE_READ')
  bench.lagMs = 100
  assert.equal(code(bench.query({ consistency: 'local', maxLagMs: 100 })), 'nothing')
  assert.equal(bench.engine.queries.length, 2)
})

test('no leader fails a linearizable read; it is not served from here', () => {
  const bench = new Bench()
  const heard = bench.query({})
  bench.log.answerRound(new DbError('NO_LEADER', 'none'))
  assert.equal(code(heard), 'NO_LEADER')
  assert.equal(bench.engine.queries.length, 0)
})

test('more reads than may wait are refused, and places become free again', () => {
  const bench = new Bench()
  bench.query({})
  bench.query({ consistency: 'session', atLeastIndex: 9 })
  assert.equal(code(bench.query({})), 'OVERLOADED')

  bench.log.answerRound(0)
  assert.equal(code(bench.query({})), 'nothing')
})

test('a node that diverged refuses every read', () => {
  const bench = new Bench()
  bench.refusal = new DbError('DIVERGED', 'odd one out')
  assert.equal(code(bench.query({ consistency: 'local' })), 'DIVERGED')
})

test('a node that has never had all there was does not say what there is not', () => {
  const bench = new Bench()
  const unknown = { code: 'UNKNOWN_DATABASE', message: 'there is no database d' } as const
  const ask = (consistency: ReadOptions['consistency']): string => {
    const heard = bench.query({ consistency })
    if (consistency === 'linearizable') bench.log.answerRound(0)
    bench.engine.queries.shift()?.done({ type: 'failed', error: unknown })
    return code(heard)
  }
  assert.equal(ask('local'), 'NOT_READY')
  // Who asked the leader first, or is of the age that is known, tells the truth.
  assert.equal(ask('linearizable'), 'UNKNOWN_DATABASE')
  bench.lagMs = 100_000
  assert.equal(ask('local'), 'UNKNOWN_DATABASE')
})
