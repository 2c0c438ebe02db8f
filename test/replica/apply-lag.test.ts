import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ApplyLag } from '../../src/replica/apply-lag.ts'

const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ type: fc.constant('commit' as const), bytes: fc.nat(99) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('apply' as const), upTo: fc.nat(60) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('reset' as const) }) },
)

test('the lag is the age of the oldest entry that no quorum has applied, and the bytes from it on', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const lag = new ApplyLag()
      let open: { index: number; atMs: number; bytes: number }[] = []
      let index = 0
      let nowMs = 500
      for (const move of steps) {
        nowMs += 10
        if (move.type === 'commit') {
          // Entries of others lie between, so that indexes have gaps.
          index += 1 + (move.bytes % 3)
          lag.committed(index, move.bytes, nowMs)
          open.push({ index, atMs: nowMs, bytes: move.bytes })
        } else if (move.type === 'apply') {
          lag.applied(move.upTo)
          open = open.filter(entry => entry.index > move.upTo)
        } else {
          lag.reset()
          open = []
        }
        assert.equal(lag.lagMs(nowMs + 3), open[0] === undefined ? 0 : nowMs + 3 - open[0].atMs)
        assert.equal(
          lag.lagBytes,
          open.reduce((sum, { bytes }) => sum + bytes, 0),
        )
      }
    }),
  )
})

test('over many entries the lag stays exact while old ones are dropped', () => {
  const lag = new ApplyLag()
  for (let index = 1; index <= 5000; index += 1) lag.committed(index, 10, index)
  for (let upTo = 100; upTo < 5000; upTo += 100) {
    lag.applied(upTo)
    assert.equal(lag.lagMs(6000), 6000 - (upTo + 1))
    assert.equal(lag.lagBytes, (5000 - upTo) * 10)
  }
  lag.applied(5000)
  assert.deepEqual([lag.lagMs(6000), lag.lagBytes], [0, 0])
})

test('a quorum that falls back after a restart takes nothing back', () => {
  const lag = new ApplyLag()
  lag.committed(1, 10, 0)
  lag.committed(2, 20, 5)
  lag.applied(1)
  lag.applied(0)
  assert.deepEqual([lag.lagMs(9), lag.lagBytes], [4, 20])
})
