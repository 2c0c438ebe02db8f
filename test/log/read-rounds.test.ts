import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import { ReadRounds } from '../../src/log/read-rounds.ts'
import { ManualClock } from '../replica/doubles.ts'

function bench(): {
  rounds: ReadRounds
  asked: Uint8Array[]
  clock: ManualClock
  wait: (timeoutMs?: number) => (number | string)[]
} {
  const asked: Uint8Array[] = []
  const clock = new ManualClock()
  const rounds = new ReadRounds({
    raftId: 2,
    clock,
    random: { below: () => 5, bytes: count => new Uint8Array(count) },
    retryMs: 1000,
    ask: context => asked.push(context),
  })
  const wait = (timeoutMs = 10_000): (number | string)[] => {
    const heard: (number | string)[] = []
    rounds.wait(timeoutMs, outcome =>
      heard.push(outcome instanceof DbError ? outcome.code : outcome),
    )
    return heard
  }
  return { rounds, asked, clock, wait }
}

function last(asked: readonly Uint8Array[]): Uint8Array {
  const context = asked.at(-1)
  assert(context !== undefined)
  return context
}

test('a read that comes while a round is under way is answered by the next one, never by this', () => {
  const { rounds, asked, wait } = bench()
  const first = wait()
  const second = wait()
  const third = wait()
  assert.equal(asked.length, 1)

  rounds.answer(last(asked), 7)

  assert.deepEqual(first, [7])
  assert.deepEqual([second, third], [[], []])
  assert.equal(asked.length, 2)
  rounds.answer(last(asked), 9)
  assert.deepEqual([second, third], [[9], [9]])
})

test('rounds have different contexts, and an answer to an old one answers nobody', () => {
  const { rounds, asked, wait } = bench()
  wait()
  const old = last(asked)
  rounds.answer(old, 1)
  const later = wait()
  assert.notDeepEqual(last(asked), old)

  rounds.answer(old, 2)

  assert.deepEqual(later, [])
})

test('a round without an answer is asked again under another context', () => {
  const { rounds, asked, clock, wait } = bench()
  const heard = wait()
  const old = last(asked)
  clock.pass(1001)
  rounds.tick()
  assert.equal(asked.length, 2)

  rounds.answer(old, 3)
  assert.deepEqual(heard, [])
  rounds.answer(last(asked), 4)
  assert.deepEqual(heard, [4])
})

test('another leader is asked at once', () => {
  const { rounds, asked, wait } = bench()
  wait()
  rounds.leaderChanged()
  assert.equal(asked.length, 2)
})

test('a read whose deadline passes hears that nobody leads, once', () => {
  const { rounds, asked, clock, wait } = bench()
  const heard = wait(500)
  const patient = wait(5000)
  clock.pass(600)
  rounds.tick()
  assert.deepEqual(heard, ['NO_LEADER'])

  rounds.answer(last(asked), 4)
  assert.deepEqual(heard, ['NO_LEADER'])
  assert.deepEqual(patient, [4])
})

test('when the node stops, everybody who waits is told', () => {
  const { rounds, wait } = bench()
  const heard = [wait(), wait()]
  rounds.fail(new DbError('SHUTTING_DOWN', 'stopping'))
  assert.deepEqual(heard, [['SHUTTING_DOWN'], ['SHUTTING_DOWN']])
})
