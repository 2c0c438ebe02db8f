import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SimRandom } from '../../sim/sim-random.ts'
import { checkRegister } from './linearizability.ts'
import type { RegisterAction, RegisterOperation } from './linearizability.ts'

const read = (value: number): RegisterAction => ({ type: 'read', value })
const write = (value: number): RegisterAction => ({ type: 'write', value })
const set = (expected: number, value: number, isSet?: boolean): RegisterAction => ({
  type: 'compare-and-set',
  expected,
  value,
  isSet,
})
const during = (startMs: number, endMs: number, action: RegisterAction): RegisterOperation => ({
  action,
  startMs,
  endMs,
})

test('what happened one after another is linearizable only with the right answers', () => {
  const first = during(0, 1, write(1))
  assert.equal(checkRegister([first, during(2, 3, read(1))], 0), 'linearizable')
  assert.equal(checkRegister([first, during(2, 3, read(0))], 0), 'not-linearizable')
  assert.equal(checkRegister([first, during(2, 3, read(7))], 0), 'not-linearizable')
})

test('a read beside a write may see either value, but two reads never go back', () => {
  const writing = during(0, 10, write(1))
  for (const value of [0, 1]) {
    assert.equal(checkRegister([writing, during(2, 3, read(value))], 0), 'linearizable')
  }
  const forth = [writing, during(2, 3, read(0)), during(4, 5, read(1))]
  const back = [writing, during(2, 3, read(1)), during(4, 5, read(0))]
  assert.equal(checkRegister(forth, 0), 'linearizable')
  assert.equal(checkRegister(back, 0), 'not-linearizable')
})

test('a write of unknown fate may happen late or never, but not twice and not before its call', () => {
  const lost = during(0, Infinity, write(1))
  const later = during(20, 21, write(2))
  assert.equal(checkRegister([lost, during(5, 6, read(0))], 0), 'linearizable')
  assert.equal(
    checkRegister(
      [lost, during(5, 6, read(0)), during(7, 8, read(1)), later, during(30, 31, read(2))],
      0,
    ),
    'linearizable',
  )
  assert.equal(
    checkRegister([lost, during(7, 8, read(1)), later, during(30, 31, read(1))], 0),
    'not-linearizable',
  )
  assert.equal(
    checkRegister([during(1, 2, read(1)), during(3, Infinity, write(1))], 0),
    'not-linearizable',
  )
})

test('of two that expected the same value only one may have found it', () => {
  const one = during(0, 5, set(0, 1, true))
  assert.equal(checkRegister([one, during(0, 5, set(0, 2, false))], 0), 'linearizable')
  assert.equal(checkRegister([one, during(0, 5, set(0, 2, true))], 0), 'not-linearizable')
  // Without an answer it may have failed.
  const silent = during(0, Infinity, set(0, 2))
  assert.equal(checkRegister([one, silent, during(6, 7, read(1))], 0), 'linearizable')
})

test('a search that takes too long is undecided, and never called sound', () => {
  // Twenty writes at once and an answer that none of them gives: every order must be tried.
  const writes = Array.from({ length: 20 }, (_, at) => during(0, 100, write(at + 1)))
  const history = [...writes, during(0, 100, read(99))]
  assert.equal(checkRegister(history, 0, 10_000), 'undecided')
  assert.equal(checkRegister(writes, 0, 10_000), 'linearizable')
})

test('any history of an honest register is accepted, and any answer from the past rejected', () => {
  for (let seed = 1; seed <= 80; seed += 1) {
    const { history, stale } = randomHistory(new SimRandom(seed, 'register'))
    assert.equal(checkRegister(history, 0), 'linearizable', `seed ${seed}`)
    assert.equal(checkRegister(stale, 0), 'not-linearizable', `seed ${seed}`)
  }
})

/** Some clients at one register; `stale` is the same with one answer that was replaced before. */
function randomHistory(random: SimRandom): {
  history: RegisterOperation[]
  stale: RegisterOperation[]
} {
  const history: RegisterOperation[] = []
  const clientFreeAt = [0, 0, 0, 0, 0]
  let state = 0
  let value = 0
  let replacedAtMs = Infinity
  for (let nowMs = 10; nowMs < 1500; nowMs += random.between(1, 10)) {
    const client = clientFreeAt.findIndex(freeAt => freeAt < nowMs)
    if (client < 0) continue
    const startMs = Math.max(clientFreeAt[client] ?? 0, nowMs - random.between(0, 9))
    const isLost = random.chance(0.1)
    const endMs = isLost ? Infinity : nowMs + random.between(0, 9)
    clientFreeAt[client] = isLost ? nowMs + 10 : endMs
    value += 1
    const kind = random.below(3)
    const before = state
    if (kind === 0) history.push({ startMs, endMs, action: read(state) })
    else if (kind === 1) {
      state = value
      history.push({ startMs, endMs, action: write(value) })
    } else {
      const isSet = random.chance(0.5)
      const expected = isSet ? state : value + 10_000
      if (isSet) state = value
      history.push({ startMs, endMs, action: set(expected, value, isLost ? undefined : isSet) })
    }
    if (before === 0 && state !== 0) replacedAtMs = nowMs + 20
  }
  // Nobody writes 0, so that a read that begins after it was surely replaced can't see it.
  const stale = [...history, during(replacedAtMs + 2000, replacedAtMs + 2001, read(0))]
  return { history, stale }
}
