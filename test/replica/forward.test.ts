import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteWriter } from '../../src/base/bytes.ts'
import { DbError } from '../../src/base/errors.ts'
import { Peers } from '../../src/log/peers.ts'
import { decodeOutcome, encodeOutcome } from '../../src/replica/outcome-codec.ts'
import { Forwarder } from '../../src/replica/forward.ts'
import type { WriteCallback, WriteOutcome } from '../../src/replica/types.ts'
import { ManualClock, ManualNetwork } from './doubles.ts'

class Bench {
  readonly clock = new ManualClock()
  readonly network = new ManualNetwork()
  readonly executed: { request: Uint8Array; timeoutMs: number; done: WriteCallback }[] = []
  readonly follower = this.#node(2, 5)
  readonly leader = this.#node(1, 6)

  #node(raftId: number, life: number): Forwarder {
    const peers = new Peers(this.network.transportOf(raftId), this.clock, 1)
    const forwarder = new Forwarder({
      peers,
      clock: this.clock,
      random: { below: () => life, bytes: count => new Uint8Array(count) },
      maxWaiting: 2,
      handlers: {
        write: (request, timeoutMs, reply) => {
          const done = (outcome: WriteOutcome): void => {
            const writer = new ByteWriter()
            encodeOutcome(writer, outcome)
            reply(writer.finish())
          }
          this.executed.push({ request, timeoutMs, done })
        },
        transaction: (request, _timeoutMs, reply) => reply(request.toReversed()),
      },
    })
    peers.listen()
    return forwarder
  }

  forward(timeoutMs = 1000, hasId = false): WriteOutcome[] {
    const heard: WriteOutcome[] = []
    const call = { kind: 'write', body: new Uint8Array([1, 2, 3]), hasId } as const
    this.follower.forward(1, call, timeoutMs, outcome =>
      heard.push(outcome.type === 'failed' ? outcome : decodeOutcome(outcome.answer)),
    )
    return heard
  }
}

function code(heard: readonly WriteOutcome[]): string {
  const [outcome] = heard
  if (outcome === undefined) return 'nothing'
  return outcome.type === 'ok' ? 'ok' : outcome.error.code
}

test('a forwarded write reaches the leader as it is, and its whole answer comes back', () => {
  const bench = new Bench()
  const heard = bench.forward(700)
  bench.network.deliver()
  assert.deepEqual([...(bench.executed[0]?.request ?? [])], [1, 2, 3])
  assert.equal(bench.executed[0]?.timeoutMs, 700)

  const answer: WriteOutcome = {
    type: 'ok',
    index: 9,
    results: [
      { rowsAffected: 2, lastInsertId: -5n },
      {
        rowsAffected: 0,
        columns: ['a', 'b'],
        rows: [
          [null, 2n ** 62n],
          ['x', new Uint8Array([7])],
        ],
      },
    ],
  }
  bench.executed[0]?.done(answer)
  bench.network.deliver()

  assert.deepEqual(heard, [answer])
})

test('a call of a transaction reaches what carries those out, and its answer comes back', () => {
  const bench = new Bench()
  const heard: number[][] = []
  const call = { kind: 'transaction', body: new Uint8Array([1, 2]), hasId: false } as const
  bench.follower.forward(1, call, 700, outcome => {
    assert(outcome.type === 'answered')
    heard.push([...outcome.answer.raw(outcome.answer.remaining)])
  })
  bench.network.deliver()
  bench.network.deliver()
  assert.deepEqual(heard, [[2, 1]])
  assert.equal(bench.executed.length, 0)
})

test('an error keeps its code, message and details on the way', () => {
  const bench = new Bench()
  const heard = bench.forward()
  bench.network.deliver()
  const error = new DbError('SQL_CONSTRAINT', 'duplicate', { details: { statement: 1 } })
  bench.executed[0]?.done({ type: 'failed', error })
  bench.network.deliver()

  assert(heard[0]?.type === 'failed')
  assert.equal(heard[0].error.code, 'SQL_CONSTRAINT')
  assert.deepEqual(heard[0].error.details, { statement: 1 })
})

test('a frame that comes twice is executed once', () => {
  const bench = new Bench()
  bench.forward()
  bench.forward()
  bench.network.deliver(2)
  assert.equal(bench.executed.length, 2)
})

test('a broken connection to the leader means unknown, and nothing is sent again', () => {
  const bench = new Bench()
  const heard = bench.forward()
  bench.network.lose()
  bench.network.cut(2, 1)
  assert.equal(code(heard), 'CONNECTION_LOST')

  bench.network.deliver()
  assert.equal(bench.executed.length, 0)
})

test('a frame that never left this node means not applied', () => {
  const bench = new Bench()
  bench.network.isUp = false
  assert.equal(code(bench.forward()), 'NO_LEADER')
})

test('a leader that does not answer in time leaves the fate unknown, and its late answer is ignored', () => {
  const bench = new Bench()
  const heard = bench.forward(1000)
  bench.network.deliver()
  bench.clock.pass(1501)
  bench.follower.sweep()
  assert.equal(code(heard), 'COMMIT_TIMEOUT')

  bench.executed[0]?.done({ type: 'ok', index: 1, results: [] })
  bench.network.deliver()
  assert.equal(heard.length, 1)
})

test('more than may wait are refused', () => {
  const bench = new Bench()
  bench.forward()
  bench.forward()
  assert.equal(code(bench.forward()), 'OVERLOADED')
})

test('when another leads, who has an id is told so at once and the others wait for their answer', () => {
  const bench = new Bench()
  const [bare, named] = [bench.forward(), bench.forward(1000, true)]
  bench.follower.leaderChanged(1)
  assert.deepEqual([code(bare), code(named)], ['nothing', 'nothing'])
  bench.follower.leaderChanged(3)
  assert.deepEqual([code(bare), code(named)], ['nothing', 'LEADERSHIP_LOST'])
  bench.network.deliver()
  for (const { done } of bench.executed) done({ type: 'ok', index: 1, results: [] })
  bench.network.deliver()
  assert.deepEqual([code(bare), named.length], ['ok', 1])
})
