/** How far a log may be forgotten. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PeerHealth } from '../../src/log/log.ts'
import { compactionTarget, presentFloor } from '../../src/replica/compaction.ts'

const MAX = 1000
const LIMITS = { maxLogBytes: MAX, logReserveBytes: 100 }
const NOBODY = { presentFloor: Infinity }

function peer(facts: Partial<PeerHealth>): PeerHealth {
  return {
    raftId: 2,
    nodeId: 'n2',
    address: '',
    isConnected: true,
    lastContactMs: 0,
    retries: 0,
    matchIndex: 0,
    progress: undefined,
    offeredIndex: undefined,
    ...facts,
  }
}

test('a small log keeps what a member lacks, and what the engine does not hold', () => {
  const status = { firstIndex: 1, lastIndex: 100, sizeBytes: MAX }
  const held = { durableIndex: 80, floor: 30, ...NOBODY }
  assert.deepEqual(compactionTarget(status, held, LIMITS), { upTo: 30, isHeldByEngine: false })
  assert.equal(compactionTarget(status, { ...held, durableIndex: 20 }, LIMITS).upTo, 20)
})

test('a large log waits for nobody else, and half of it stays', () => {
  const status = { firstIndex: 101, lastIndex: 300, sizeBytes: MAX + 1 }
  const held = { durableIndex: 290, floor: 0, ...NOBODY }
  assert.deepEqual(compactionTarget(status, held, LIMITS), { upTo: 200, isHeldByEngine: false })
  // Who is not that far behind is spared all the same.
  assert.equal(compactionTarget(status, { ...held, floor: 250 }, LIMITS).upTo, 250)
})

test('who is there and catches up is waited for, up to the reserve', () => {
  const status = { firstIndex: 101, lastIndex: 300, sizeBytes: MAX + 100 }
  const held = { durableIndex: 290, floor: 0, presentFloor: 150 }
  assert.equal(compactionTarget(status, held, LIMITS).upTo, 150)
  // Half of the log stays for whoever else comes, as always.
  assert.equal(compactionTarget(status, { ...held, presentFloor: 250 }, LIMITS).upTo, 200)
  assert.equal(compactionTarget({ ...status, sizeBytes: MAX + 101 }, held, LIMITS).upTo, 200)
})

test('a member that takes a snapshot goes on after it, and one that is away is not waited for', () => {
  const following = peer({ matchIndex: 90 })
  assert.equal(presentFloor([]), Infinity)
  assert.equal(presentFloor([following, peer({ matchIndex: 0, offeredIndex: 70 })]), 70)
  assert.equal(presentFloor([following, peer({ matchIndex: 80, offeredIndex: 70 })]), 80)
  // One of which nothing is known yet may need all.
  assert.equal(presentFloor([following, peer({})]), 0)
  assert.equal(presentFloor([following, peer({ isConnected: false })]), 90)
  assert.equal(presentFloor([peer({ matchIndex: undefined })]), Infinity, 'it does not lead')
})

test('never is forgotten what the engine could lose; it is asked to make that durable', () => {
  const status = { firstIndex: 101, lastIndex: 300, sizeBytes: MAX + 1 }
  const held = { durableIndex: 120, floor: 300, ...NOBODY }
  const target = compactionTarget(status, held, LIMITS)
  assert.deepEqual(target, { upTo: 120, isHeldByEngine: true })
})
