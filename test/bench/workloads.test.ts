import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LOADED_ROWS } from '../../bench/peers/operations.ts'
import { WORKLOADS, casesOf, interleave } from '../../bench/peers/workloads.ts'

test('rounds go over all systems before one comes again', () => {
  assert.deepEqual(interleave(['a', 'b', 'c'], 2), ['a', 'b', 'c', 'a', 'b', 'c'])
  assert.deepEqual(interleave(['a'], 0), [])
})

test('a system is measured at what it can do, and reads at each of its levels', () => {
  const abilities = { workloads: ['insert', 'point-read', 'mixed'], levels: ['strong', 'weak'] }
  const cases = casesOf(abilities, { connections: [1, 64] })
  assert.deepEqual(
    cases.map(({ workload, connections, level }) => [workload.name, connections, level]),
    [
      ['insert', 1, 'strong'],
      ['insert', 64, 'strong'],
      ['point-read', 1, 'strong'],
      ['point-read', 64, 'strong'],
      ['point-read', 1, 'weak'],
      ['point-read', 64, 'weak'],
      ['mixed', 1, 'strong'],
      ['mixed', 64, 'strong'],
    ],
  )
  assert.deepEqual(casesOf(abilities, { workloads: ['bulk'] }), [])
})

test('a system for one connection is measured at that once', () => {
  const abilities = { workloads: ['insert'], levels: [], connectionsMax: 1 }
  const cases = casesOf(abilities, { connections: [1, 16, 64] })
  assert.deepEqual(
    cases.map(({ connections }) => connections),
    [1],
  )
})

test('every workload stays within the loaded rows, at both ends of chance', () => {
  for (const extreme of [(): number => 0, (below: number): number => below - 1]) {
    for (const { name, next } of WORKLOADS) {
      const operation = next({ takeIds: () => 1, below: extreme })
      if (operation.type === 'read') {
        assert(operation.firstId >= 1, name)
        assert(operation.firstId + operation.rows - 1 <= LOADED_ROWS, name)
      } else if (operation.type === 'update') {
        assert(operation.id >= 1 && operation.id <= LOADED_ROWS, name)
      } else if (operation.type === 'transaction') {
        assert(operation.from >= 1 && operation.from < operation.to, name)
        assert(operation.to <= LOADED_ROWS, name)
      }
    }
  }
})
