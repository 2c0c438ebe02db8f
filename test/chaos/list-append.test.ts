import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SimRandom } from '../../sim/sim-random.ts'
import { checkListAppend } from './list-append.ts'
import type { ListAction, ListTransaction } from './list-append.ts'

const append = (key: number, value: number): ListAction => ({ type: 'append', key, value })
const read = (key: number, ...values: number[]): ListAction => ({ type: 'read', key, values })
const during = (startMs: number, endMs: number, ...actions: ListAction[]): ListTransaction => ({
  actions,
  outcome: 'ok',
  startMs,
  endMs,
})
const complaints = (...transactions: ListTransaction[]): string[] =>
  checkListAppend(transactions, 'strict-serializable').map(text => text.split(':')[0] ?? '')

test('each anomaly is called by its name, and its honest twin is accepted', () => {
  const one = during(0, 1, append(1, 10))
  const two = during(2, 3, append(1, 11))
  assert.deepEqual(complaints(one, two, during(4, 5, read(1, 10, 11))), [])
  assert.deepEqual(complaints(one, two, during(4, 5, read(1, 10, 12))), ['garbage'])
  assert.deepEqual(complaints(one, two, during(4, 5, read(1, 10, 11, 10))), ['duplicate'])
  const denied: ListTransaction = { ...two, outcome: 'not-applied' }
  assert.deepEqual(complaints(one, denied, during(4, 5, read(1, 10))), [])
  assert.deepEqual(complaints(one, denied, during(4, 5, read(1, 10, 11))), ['G1a'])
  const both = during(0, 9, append(1, 20), append(1, 21))
  assert.deepEqual(complaints(both, during(0, 9, read(1, 20, 21))), [])
  assert.deepEqual(complaints(both, during(0, 9, read(1, 20)), during(0, 9, read(1, 20, 21))), [
    'G1b',
  ])
  assert.deepEqual(complaints(during(0, 9, append(1, 30), read(1, 30))), [])
  assert.deepEqual(complaints(during(0, 9, append(1, 30), read(1))), ['internal'])
  assert.deepEqual(complaints(one, two, during(0, 9, read(1, 10, 11)), during(0, 9, read(1, 11))), [
    'incompatible-order',
  ])
})

test('an acknowledged append that a later read misses is found, an unknown one may miss', () => {
  const first = during(0, 1, append(1, 10))
  const late = during(5, 6, read(1))
  assert.deepEqual(complaints(first, late), ['G-single-realtime'])
  assert.deepEqual(complaints({ ...first, outcome: 'unknown', endMs: Infinity }, late), [])
  // Read at the same time, either is right.
  assert.deepEqual(complaints(first, during(1, 6, read(1))), [])
})

test('a stale read breaks strict serializability only', () => {
  const history = [
    during(0, 1, append(1, 10)),
    during(2, 3, append(1, 11)),
    during(4, 5, read(1, 10)),
    during(6, 7, read(1, 10, 11)),
  ]
  assert.deepEqual(complaints(...history), ['G-single-realtime'])
  assert.deepEqual(checkListAppend(history, 'serializable'), [])
})

test('write skew, lost update and cycles of writes and reads are told apart', () => {
  const skew = [
    during(0, 9, read(1), append(2, 20)),
    during(0, 9, read(2), append(1, 10)),
    during(20, 21, read(1, 10), read(2, 20)),
  ]
  assert.deepEqual(complaints(...skew), ['G2'])
  const lost = [
    during(0, 9, read(1), append(1, 10)),
    during(0, 9, read(1), append(1, 11)),
    during(20, 21, read(1, 10, 11)),
  ]
  assert.deepEqual(complaints(...lost), ['G-single'])
  const writes = [
    during(0, 9, append(1, 10), append(2, 20)),
    during(0, 9, append(1, 11), append(2, 21)),
    during(20, 21, read(1, 10, 11), read(2, 21, 20)),
  ]
  assert.deepEqual(complaints(...writes), ['G0'])
  const circular = [
    during(0, 9, append(1, 10), read(2, 20)),
    during(0, 9, append(2, 20), read(1, 10)),
  ]
  assert.deepEqual(complaints(...circular), ['G1c'])
})

test('half of a batch, writes against real time and readers who disagree are told apart', () => {
  const batch = during(0, 9, append(1, 10), append(2, 20))
  assert.deepEqual(complaints(batch, during(0, 9, read(1, 10), read(2, 20))), [])
  assert.deepEqual(complaints(batch, during(0, 9, read(1, 10), read(2))), ['G-single'])
  const first = during(0, 1, append(1, 10))
  const second = during(2, 3, append(1, 11))
  assert.deepEqual(complaints(first, second, during(4, 5, read(1, 11, 10))), ['G0-realtime'])
  assert.deepEqual(complaints(during(0, 1, read(1, 10)), during(2, 3, append(1, 10))), [
    'G1c-realtime',
  ])
  // A long fork: each reader has seen a write that the other has not.
  const fork = [
    during(0, 9, append(1, 10)),
    during(0, 9, append(2, 20)),
    during(0, 9, read(1, 10), read(2)),
    during(0, 9, read(1), read(2, 20)),
  ]
  assert.deepEqual(complaints(...fork), ['G2'])
})

test('random histories of an honest store pass, of a dishonest one each kind is found', () => {
  for (let seed = 1; seed <= 12; seed += 1) {
    assert.deepEqual(run(seed, 'honest', 'strict-serializable'), [], `seed ${seed}`)
    for (const fault of ['snapshot', 'lost-update', 'stale', 'aborted', 'doubled'] as const) {
      const found = run(seed, fault, 'strict-serializable')
      assert(found.length > 0, `seed ${seed}: ${fault} was not found`)
    }
    // Old snapshots for readers only are serializable, and not more.
    assert.deepEqual(run(seed, 'stale', 'serializable'), [], `seed ${seed}`)
  }
})

type StoreFault = 'honest' | 'snapshot' | 'lost-update' | 'stale' | 'aborted' | 'doubled'

/** 600 transactions of some clients at a store in memory with or without a fault. */
function run(seed: number, fault: StoreFault, order: 'strict-serializable' | 'serializable') {
  const random = new SimRandom(seed, 'lists')
  const history: ListTransaction[] = []
  let lists = new Map<number, readonly number[]>()
  let older = lists
  let value = 0
  for (let turn = 0; turn < 300; turn += 1) {
    const nowMs = turn * 10
    // Two transactions at a time; with a fault of isolation both see the state before either.
    const before = lists
    for (let client = 0; client < 2; client += 1) {
      const isIsolated = fault === 'snapshot' || fault === 'lost-update'
      let seen = isIsolated ? before : lists
      const actions: ListAction[] = []
      const isReader = random.chance(0.4)
      if (fault === 'stale' && isReader) seen = older
      const mine = new Map(seen)
      for (let count = random.between(1, 4); count > 0; count -= 1) {
        const key = random.below(4)
        const values = mine.get(key) ?? []
        if (isReader || random.chance(0.5)) actions.push({ type: 'read', key, values })
        else {
          value += 1
          actions.push({ type: 'append', key, value })
          mine.set(key, [...values, value])
        }
      }
      const isDenied = random.chance(0.05)
      const isLost = random.chance(0.05)
      const isKept = isLost ? random.chance(0.5) : !isDenied || fault === 'aborted'
      if (isKept) lists = merge(lists, actions, mine, fault)
      const outcome = isLost ? 'unknown' : isDenied ? 'not-applied' : 'ok'
      history.push({
        actions: outcome === 'ok' ? actions : actions.filter(({ type }) => type === 'append'),
        outcome,
        startMs: nowMs,
        endMs: isLost ? Infinity : nowMs + 5,
      })
    }
    if (turn % 8 === 0) older = lists
  }
  const last = [...lists].map(([key, values]): ListAction => ({ type: 'read', key, values }))
  history.push(during(10_000, 10_001, ...last))
  return checkListAppend(history, order)
}

function merge(
  lists: ReadonlyMap<number, readonly number[]>,
  actions: readonly ListAction[],
  mine: ReadonlyMap<number, readonly number[]>,
  fault: StoreFault,
): Map<number, readonly number[]> {
  const merged = new Map(lists)
  for (const action of actions) {
    if (action.type === 'read') continue
    const { key, value } = action
    const twice = fault === 'doubled' && value % 50 === 0 ? [value] : []
    if (fault === 'lost-update') merged.set(key, mine.get(key) ?? [])
    else merged.set(key, [...(merged.get(key) ?? []), value, ...twice])
  }
  return merged
}
