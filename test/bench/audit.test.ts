import assert from 'node:assert/strict'
import { test } from 'node:test'
import { audit } from '../../bench/peers/audit.ts'
import type { Ledger } from '../../bench/peers/audit.ts'
import { LOADED_B, LOADED_ROWS } from '../../bench/peers/operations.ts'
import type { Deployment } from '../../bench/peers/system.ts'

const LOADED_SUM = LOADED_ROWS * LOADED_B

/** A database of two nodes that has these rows, and did so many updates. */
function having(ids: readonly number[], updates: number): Deployment {
  return {
    version: '1',
    target: level => ({ driver: 'sqlite', address: '', level, user: '', password: '' }),
    pids: () => [],
    settle: () => Promise.resolve(),
    nodes: 2,
    ids: (_node, from, to) => Promise.resolve(ids.filter(id => id >= from && id < to)),
    totals: () => Promise.resolve({ rows: ids.length, idSum: 0, loadedSum: LOADED_SUM + updates }),
  }
}

const ledger = (parts: Partial<Ledger>): Ledger => ({
  nextId: 1,
  unacknowledged: [],
  updatesAcknowledged: 0,
  updatesUnacknowledged: 0,
  ...parts,
})
const upTo = (last: number): number[] => Array.from({ length: last }, (_, at) => at + 1)

test('what was acknowledged and is there is right, over many pages', async () => {
  const verdict = await audit(
    having(upTo(25_000), 3),
    ledger({ nextId: 25_001, updatesAcknowledged: 3 }),
  )
  assert.deepEqual(verdict.faults, [])
  assert.equal(verdict.acknowledgedRows, 25_000)
  assert(verdict.isRight)
})

test('one acknowledged row that is missing is found, wherever it is', async () => {
  for (const lost of [1, 10_000, 10_001, 20_500]) {
    const ids = upTo(20_500).filter(id => id !== lost)
    const verdict = await audit(having(ids, 0), ledger({ nextId: 20_501 }))
    assert.equal(verdict.missingRows, 1)
    assert(!verdict.isRight)
  }
})

test('a row of unknown fate may be there or not', async () => {
  const unacknowledged: [number, number][] = [[3, 2]]
  for (const ids of [upTo(5), [1, 2, 5], [1, 2, 4, 5]]) {
    const verdict = await audit(having(ids, 0), ledger({ nextId: 6, unacknowledged }))
    assert.deepEqual(verdict.faults, [])
    assert.equal(verdict.acknowledgedRows, 3)
  }
})

test('updates count once each: one too few and one too many are found', async () => {
  const counted = { updatesAcknowledged: 10, updatesUnacknowledged: 2 }
  for (const [updates, isRight] of [
    [9, false],
    [10, true],
    [12, true],
    [13, false],
  ] as const) {
    const verdict = await audit(having([], updates), ledger(counted))
    assert.equal(verdict.isRight, isRight, String(updates))
  }
})
