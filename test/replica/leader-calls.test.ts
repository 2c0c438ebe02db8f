/** Calls of transactions on their way from a follower to the leader. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError, type ErrorCode } from '../../src/base/errors.ts'
import { Peers } from '../../src/log/peers.ts'
import { newCounters } from '../../src/replica/counters.ts'
import { WriteStages } from '../../src/replica/write-stages.ts'
import { LeaderCalls } from '../../src/replica/leader-calls.ts'
import type { TransactionCall, TransactionOutcome } from '../../src/replica/transaction-call.ts'
import type { WriteCallback } from '../../src/replica/types.ts'
import { ManualClock, ManualLog, ManualNetwork, OPTIONS } from './doubles.ts'

const NAME = `1.2.3.${'ab'.repeat(16)}.d`
const STEP = { type: 'execute', transaction: NAME, request: new Uint8Array([1]) } as const
const COMMIT = { type: 'commit', transaction: NAME, id: undefined } as const
const DONE: TransactionOutcome = {
  type: 'ok',
  value: { transaction: NAME, index: 1, results: [] },
}

class Bench {
  readonly clock = new ManualClock()
  readonly network = new ManualNetwork()
  /** What the leader was asked, and how it answers. */
  readonly asked: string[] = []
  readonly answers: Partial<Record<TransactionCall['type'], ErrorCode>> = {}
  /** Writes that got to the leader, which says what `submit` says. */
  writes = 0
  refusesWrites = false
  readonly leader = this.#node(1)
  readonly follower = this.#node(2)

  constructor() {
    this.follower.leaderChanged(1)
  }

  #node(raftId: number): LeaderCalls {
    const peers = new Peers(this.network.transportOf(raftId), this.clock, 1)
    const calls = new LeaderCalls({
      log: new ManualLog(raftId),
      peers,
      clock: this.clock,
      random: { below: () => raftId, bytes: count => new Uint8Array(count) },
      options: { ...OPTIONS, maxForwardedRequests: 2 },
      counters: newCounters(),
      stages: new WriteStages(),
      submit: (_body, _timeoutMs, done) => this.submit(done),
      transact: (call, _timeoutMs, done) => {
        this.asked.push(call.type)
        const code = this.answers[call.type]
        done(code === undefined ? DONE : { type: 'failed', error: new DbError(code, 'no') })
      },
    })
    peers.listen()
    return calls
  }

  call(call: TransactionCall): { code: string } {
    const heard = { code: 'nothing' }
    this.follower.transact(call, 1000, outcome => {
      heard.code = outcome.type === 'ok' ? 'ok' : outcome.error.code
    })
    return heard
  }

  write(): { code: string } {
    const heard = { code: 'nothing' }
    this.follower.write(1, { body: new Uint8Array([1]), hasId: true }, 1000, outcome => {
      heard.code = outcome.type === 'ok' ? 'ok' : outcome.error.code
    })
    return heard
  }

  overload(): string {
    return this.follower.overload?.code ?? 'none'
  }

  submit(done: WriteCallback): void {
    this.writes += 1
    if (this.refusesWrites) done({ type: 'failed', error: new DbError('OVERLOADED', 'too many') })
    else done({ type: 'ok', index: 1, results: [] })
  }

  /** Everything gets where it is going, also what is answered or sent on then. */
  deliver(): void {
    for (let hops = 0; hops < 4; hops += 1) this.network.deliver()
  }
}

test('steps and a commit get to the leader in their order', () => {
  const bench = new Bench()
  const [step, commit] = [bench.call(STEP), bench.call(COMMIT)]
  bench.deliver()
  assert.deepEqual([step.code, commit.code, bench.asked], ['ok', 'ok', ['execute', 'commit']])
})

test('after a step that was lost on the way a commit has the rest rolled back', () => {
  const breaks = [
    (bench: Bench): void => void (bench.network.isUp = false),
    (bench: Bench): void => bench.follower.leaderChanged(undefined),
    (bench: Bench): void => {
      bench.call({ type: 'begin', database: 'd', maxMs: undefined })
      bench.call({ type: 'begin', database: 'd', maxMs: undefined })
    },
  ]
  for (const breakIt of breaks) {
    const bench = new Bench()
    breakIt(bench)
    const step = bench.call(STEP)
    bench.deliver()
    assert.equal(step.code, 'TRANSACTION_LOST')
    bench.network.isUp = true
    bench.follower.leaderChanged(1)
    bench.asked.length = 0
    bench.answers.commit = 'TRANSACTION_LOST'
    const commit = bench.call(COMMIT)
    bench.deliver()
    assert.equal(commit.code, 'TRANSACTION_LOST')
    assert.deepEqual(bench.asked, ['rollback', 'commit'])
  }
})

test('a step that may have been run counts as lost, and its answer is not waited for', () => {
  const bench = new Bench()
  const step = bench.call(STEP)
  bench.network.cut(2, 1)
  assert.equal(step.code, 'TRANSACTION_LOST')
  bench.call(COMMIT)
  bench.deliver()
  assert.deepEqual(bench.asked, ['execute', 'rollback', 'commit'])
})

test('when another leads, what waits for the last one is over, but for a commit', () => {
  const bench = new Bench()
  const begin = bench.call({ type: 'begin', database: 'd', maxMs: undefined })
  bench.follower.leaderChanged(3)
  assert.equal(begin.code, 'LEADERSHIP_LOST', 'and goes on to the next one')
  bench.follower.leaderChanged(1)
  const [step, rollback] = [bench.call(STEP), bench.call({ type: 'rollback', transaction: NAME })]
  bench.follower.leaderChanged(3)
  assert.deepEqual([step.code, rollback.code], ['TRANSACTION_LOST', 'TRANSACTION_LOST'])

  const other = new Bench()
  const commit = other.call(COMMIT)
  other.follower.leaderChanged(3)
  assert.equal(commit.code, 'nothing')
  other.deliver()
  assert.equal(commit.code, 'ok')
})

test('no commit is sent while its rollback is unanswered', () => {
  const bench = new Bench()
  bench.network.isUp = false
  bench.call(STEP)
  assert.equal(bench.call(COMMIT).code, 'NO_LEADER')
  bench.network.isUp = true
  const commit = bench.call(COMMIT)
  bench.network.lose()
  bench.network.cut(2, 1)
  assert.equal(commit.code, 'CONNECTION_LOST')
  assert.deepEqual(bench.asked, [])
})

test('a leader that refuses because too many wait there is spared other writes for a moment', () => {
  const bench = new Bench()
  bench.refusesWrites = true
  const first = bench.write()
  assert.equal(bench.overload(), 'none')
  bench.deliver()
  assert.deepEqual([first.code, bench.writes], ['OVERLOADED', 1])

  assert.equal(bench.overload(), 'OVERLOADED')
  assert.deepEqual([bench.write().code, bench.writes], ['OVERLOADED', 1])

  bench.refusesWrites = false
  bench.clock.pass(20)
  assert.equal(bench.overload(), 'none')
  const later = bench.write()
  bench.deliver()
  assert.deepEqual([later.code, bench.writes], ['ok', 2])
})

test('the word of a leader that has too many does not hold for the next one', () => {
  const bench = new Bench()
  bench.refusesWrites = true
  bench.write()
  bench.deliver()
  bench.follower.leaderChanged(3)
  assert.equal(bench.overload(), 'none')
})

test('a follower that has as many writes on their way as it may says so before it is asked', () => {
  const bench = new Bench()
  bench.write()
  bench.write()
  assert.deepEqual(bench.follower.overload?.details, { maxForwardedRequests: 2 })
  assert.equal(bench.write().code, 'OVERLOADED')
  bench.deliver()
  assert.equal(bench.overload(), 'none')
  assert.equal(bench.writes, 2)
})

test('a follower wants no more from who does not wait once half of what it may send is sent', () => {
  const bench = new Bench()
  assert.equal(bench.follower.wantedWrites, 1)
  bench.write()
  assert.equal(bench.follower.wantedWrites, 0)
  bench.deliver()
  assert.equal(bench.follower.wantedWrites, 1)
})
