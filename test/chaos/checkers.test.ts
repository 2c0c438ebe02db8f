import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SimRandom } from '../../sim/sim-random.ts'
import { checkBank } from './bank.ts'
import { checkCounter, checkExactlyOnce } from './exactly-once.ts'
import type { ToldFate } from './exactly-once.ts'
import { Claims, Expectations } from './fault.ts'
import { faultsNamed, planFaults } from './nemesis.ts'
import {
  checkDigests,
  checkLag,
  checkLeaders,
  checkOrder,
  checkProgress,
  checkSessions,
} from './sights.ts'
import { meanSlowness, takeSample } from './slowness.ts'

const beginnings = (complaints: readonly string[]): string[] =>
  complaints.map(text => /^\w+/.exec(text)?.[0] ?? '')

test('a row is there once if acknowledged, never if denied, at most once if unknown', () => {
  const told = new Map<number, ToldFate>([
    [1, 'ok'],
    [2, 'not-applied'],
    [3, 'unknown'],
    [4, 'unknown'],
  ])
  assert.deepEqual(checkExactlyOnce(told, [1, 3]), [])
  assert.deepEqual(beginnings(checkExactlyOnce(told, [3])), ['lost'])
  assert.deepEqual(beginnings(checkExactlyOnce(told, [1, 2])), ['denied'])
  assert.deepEqual(beginnings(checkExactlyOnce(told, [1, 1])), ['doubled'])
  assert.deepEqual(beginnings(checkExactlyOnce(told, [1, 3, 3])), ['doubled'])
  assert.deepEqual(beginnings(checkExactlyOnce(told, [1, 9])), ['invented'])
})

test('a counter stands between what surely and what possibly took effect', () => {
  const told: ToldFate[] = ['ok', 'ok', 'unknown', 'not-applied']
  for (const count of [2, 3]) assert.deepEqual(checkCounter(told, count), [])
  for (const count of [1, 4]) assert.equal(checkCounter(told, count).length, 1)
})

test('money that appears, vanishes, is owed or lies in no account is noticed', () => {
  const seen = (...balances: number[]): string[] => checkBank([{ balances, what: 'a' }], 3, 30)
  assert.deepEqual(seen(10, 15, 5), [])
  assert.equal(seen(10, 15, 6).length, 1)
  assert.equal(seen(10, 15, 4).length, 1)
  assert.equal(seen(40, -5, -5).length, 1)
  assert.equal(seen(15, 15).length, 1)
})

test('a local read may miss what is younger than its lag, and nothing older', () => {
  const writes = [
    { key: 1, value: 1, endMs: 100 },
    { key: 1, value: 2, endMs: 200 },
    { key: 2, value: 9, endMs: 0 },
  ]
  const at = (startMs: number, value: number): string[] =>
    checkLag(writes, [{ key: 1, value, startMs, maxLagMs: 50, what: 'a' }])
  assert.deepEqual(at(250, 1), [])
  assert.equal(at(251, 1).length, 1)
  assert.deepEqual(at(251, 2), [])
  assert.equal(at(160, 0).length, 1)
})

test('a session that goes back behind its own reads or writes is noticed', () => {
  const write = (value: number) => ({ type: 'write', key: 1, value, what: 'w' }) as const
  const read = (value: number) => ({ type: 'read', key: 1, value, what: 'r' }) as const
  assert.deepEqual(checkSessions([[write(1), read(1), read(2), write(3), read(3)], [read(0)]]), [])
  assert.equal(checkSessions([[write(2), read(1)]]).length, 1)
  assert.equal(checkSessions([[read(2), read(1)]]).length, 1)
})

test('writes of one client out of their order are noticed, gaps are not', () => {
  const row = (writer: number, value: number) => ({ writer, value })
  assert.deepEqual(checkOrder([row(1, 1), row(2, 1), row(1, 4), row(2, 2)]), [])
  assert.equal(checkOrder([row(1, 2), row(1, 1)]).length, 1)
  assert.equal(checkOrder([row(1, 1), row(1, 1)]).length, 1)
})

test('two leaders are wrong in one term only', () => {
  const sight = (nodeId: string, term: number) => ({ nodeId, term })
  assert.deepEqual(checkLeaders([sight('n1', 1), sight('n2', 2), sight('n1', 1)]), [])
  assert.equal(checkLeaders([sight('n1', 1), sight('n2', 1)]).length, 1)
})

test('two digests at one index must be equal, at two they may differ', () => {
  const sight = (nodeId: string, index: number, digest: string) => {
    return { nodeId, index, digest, database: 'a' }
  }
  assert.deepEqual(checkDigests([sight('n1', 1, 'x'), sight('n2', 2, 'y')]), [])
  assert.deepEqual(checkDigests([sight('n1', 1, 'x'), sight('n2', 1, 'x')]), [])
  assert.equal(checkDigests([sight('n1', 1, 'x'), sight('n2', 1, 'y')]).length, 1)
})

test('a pause of all writes is wrong while a majority is well, and only then', () => {
  const hurt = (beginMs: number, endMs: number, ...hurts: string[]) => {
    return { beginMs, endMs, hurts, nodes: 3 }
  }
  const stalls = (...disturbances: Parameters<typeof checkProgress>[1]): number =>
    checkProgress([0, 50, 250, 300], disturbances, () => 100).length
  assert.equal(checkProgress([300, 0, 100, 200], [], () => 100).length, 0)
  assert.equal(stalls(), 1)
  assert.equal(stalls(hurt(40, 260, 'n1')), 1)
  assert.equal(stalls(hurt(40, 260, 'n1'), hurt(60, 240, 'n1')), 1)
  assert.equal(stalls(hurt(40, 260, 'n1'), hurt(60, 240, 'n2')), 0)
  assert.equal(stalls({ beginMs: 60, endMs: 240, nodes: 3 }), 0)
  assert.equal(stalls(hurt(60, 140, 'n1', 'n2')), 1, 'there was time enough after it')
  assert.equal(stalls(hurt(60, 160, 'n1', 'n2')), 0)
  assert.equal(stalls({ beginMs: 40, endMs: 260, hurts: ['n1'], nodes: 2 }), 0)
})

test('a gap may last as long as the slowness of the machine in it allows', () => {
  const samples = [
    { atMs: 20, factor: 9 },
    { atMs: 60, factor: 1 },
    { atMs: 240, factor: 2 },
  ]
  const limitMs = (fromMs: number, toMs: number): number =>
    100 * meanSlowness(samples, fromMs, toMs)
  assert.equal(limitMs(50, 250), 150)
  assert.equal(limitMs(300, 400), 100, 'nothing is known of that time')
  assert.equal(checkProgress([0, 50, 250, 300], [], limitMs).length, 1)
  assert.equal(checkProgress([0, 50, 190, 200], [], limitMs).length, 1)
  assert.equal(checkProgress([0, 110, 250, 340], [], limitMs).length, 0)
  assert(takeSample().factor >= 1)
})

test('a seed plans the same faults each time, and every kind has its turn', () => {
  const planOf = (seed: number): string[] => {
    const plan = planFaults(faultsNamed(undefined), new SimRandom(seed, 'plan'), 60_000)
    return plan.map(({ atMs, lastsMs, kind, random }) => {
      return `${kind.name} ${atMs} ${lastsMs} ${random.next()}`
    })
  }
  assert.deepEqual(planOf(3), planOf(3))
  assert.notDeepEqual(planOf(3), planOf(4))
  const seen = new Set<string>()
  for (let seed = 1; seed <= 30; seed += 1) {
    for (const line of planOf(seed)) seen.add(line.split(' ')[0] ?? '')
  }
  assert.deepEqual(
    [...seen].sort(),
    faultsNamed(undefined)
      .map(({ name }) => name)
      .sort(),
  )
  assert.throws(() => faultsNamed(['kill', 'kil']), /no fault is called kil;/)
})

test('what takes the last majority runs alone, and only when no change can still take effect', () => {
  let nowMs = 0
  const claims = new Claims(() => nowMs)
  const first = claims.share()
  const second = claims.share()
  assert(first !== undefined && second !== undefined)
  first()
  assert.equal(claims.alone(), undefined)
  second()
  assert.equal(claims.alone(), undefined, 'a change without an answer may be under way')
  nowMs = 20_000
  const alone = claims.alone()
  assert(alone !== undefined)
  assert.equal(claims.alone(), undefined)
  assert.equal(claims.share(), undefined)
  alone()
  assert(claims.share() !== undefined)
})

test('what a fault expected in vain is a complaint of its own judge', () => {
  const expectations = new Expectations()
  assert.deepEqual(expectations.judge(), [])
  expectations.check('one', undefined)
  expectations.check('two', 'it is not so')
  expectations.check('two', undefined)
  assert.deepEqual(expectations.judge(), [
    { checker: 'one', checked: 1, complaints: [], undecided: 0 },
    { checker: 'two', checked: 2, complaints: ['it is not so'], undecided: 0 },
  ])
})
