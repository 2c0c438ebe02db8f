/** Consensus alone under faults: a fixed set of seeds, repetition, and that the runs aren't idle. */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { runSeed } from '../../sim/run-seed.ts'
import { QUIET } from '../../sim/world.ts'

const recipe = (seed: number, nodes?: number): Parameters<typeof runSeed>[0] => ({
  seed,
  isRaftOnly: true,
  hasManyTransactions: false,
  nodes,
  steps: 3000,
})

test('no invariant of the algorithm breaks in the fixed set of seeds', () => {
  const totals = new Map<string, number>()
  for (let seed = 1; seed <= 60; seed++) {
    const { failure, counts } = runSeed(recipe(seed), QUIET)
    assert.equal(failure, undefined, `seed ${seed}: ${failure?.message}`)
    for (const [kind, count] of Object.entries(counts)) {
      totals.set(kind, (totals.get(kind) ?? 0) + count)
    }
  }

  // Without these the seeds would prove little.
  for (const kind of ['crash', 'partition', 'pause', 'membership', 'install', 'read', 'transfer']) {
    assert((totals.get(kind) ?? 0) > 20, `only ${totals.get(kind)} of "${kind}"`)
  }
  assert((totals.get('commit') ?? 0) > 1000)
})

test('a seed run twice gives the same trace; another seed gives another', () => {
  const first = runSeed(recipe(7, 5), QUIET)

  assert.equal(runSeed(recipe(7, 5), QUIET).hash, first.hash)
  assert.notEqual(runSeed(recipe(8, 5), QUIET).hash, first.hash)
})
