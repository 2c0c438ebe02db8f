import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DiskOperation } from '../../sim/sim-disk.ts'
import { SURVIVALS } from '../../sim/sim-file.ts'
import type { Entry } from '../../src/raft/types.ts'
import { DIRECTORY, Machine } from './kit.ts'
import { FOUNDING } from './model.ts'

function entriesFrom(first: number, count: number, sizeBytes = 100): readonly Entry[] {
  return Array.from({ length: count }, (_, position): Entry => {
    const index = first + position
    return { term: 1, index, type: 'normal', data: new Uint8Array(sizeBytes).fill(index) }
  })
}

function describe(operations: readonly DiskOperation[]): readonly string[] {
  return operations.map(({ type, path }) => `${type} ${path.replace(`${DIRECTORY}/`, '')}`)
}

const FIRST = '0000000000000001.seg'
const SECOND = '0000000000000002.seg'

test('a new log is made in an order that no power cut can break', () => {
  const machine = new Machine(1)
  const operations: DiskOperation[] = []
  machine.record(operations)

  machine.openFlushed()

  assert.deepEqual(describe(operations), [
    'sync-directory group-1',
    'sync-directory ',
    `write ${FIRST}.tmp`,
    `sync ${FIRST}.tmp`,
    `rename ${FIRST}`,
    `sync-directory ${DIRECTORY}`,
    `write ${FIRST}.tmp`,
  ])
})

test('what waits during a flush goes out with one write and one flush', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  machine.settle()
  const operations: DiskOperation[] = []
  machine.record(operations)

  wal.append({ entries: entriesFrom(1, 1, 10) }, () => undefined)
  for (let index = 2; index <= 9; index++) {
    wal.append({ entries: entriesFrom(index, 1, 10) }, () => undefined)
  }
  machine.complete(done => wal.flush(done))

  assert.deepEqual(
    operations.map(operation => operation.type),
    ['write', 'sync', 'write', 'sync'],
  )
})

test('a flush with nothing to flush costs no flush of the disk', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  machine.complete(done => wal.append({ entries: entriesFrom(1, 1) }, done))
  machine.settle()
  machine.complete(done => wal.flush(done))
  const operations: DiskOperation[] = []
  machine.record(operations)

  machine.complete(done => wal.flush(done))
  machine.complete(done => wal.append({ entries: [] }, done))

  assert(!operations.some(operation => operation.type === 'sync'))
})

test('a segment that is full is flushed before the next one gets its name', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  machine.complete(done => wal.append({ entries: entriesFrom(1, 6, 200) }, done))
  // A commit index alone is not flushed by itself.
  machine.complete(done =>
    wal.append({ entries: [], hardState: { term: 0, vote: 0, commit: 3 } }, done),
  )
  wal.tidy()
  machine.settle()
  const operations: DiskOperation[] = []
  machine.record(operations)

  machine.complete(done => wal.append({ entries: entriesFrom(7, 3, 200) }, done))

  assert.deepEqual(describe(operations), [
    `sync ${FIRST}.tmp`,
    `write ${SECOND}.tmp`,
    `sync ${SECOND}.tmp`,
    `rename ${SECOND}`,
    `sync-directory ${DIRECTORY}`,
    `write ${SECOND}.tmp`,
    `sync ${SECOND}.tmp`,
  ])
})

test('segments are removed after the new base is flushed, and gone when it says so', () => {
  for (const survival of SURVIVALS) {
    for (let seed = 1; seed <= 10; seed++) {
      const machine = new Machine(seed)
      const wal = machine.openFlushed()
      for (let first = 1; first <= 40; first += 4) {
        machine.complete(done => wal.append({ entries: entriesFrom(first, 4, 200) }, done))
      }
      const commit = { term: 0, vote: 0, commit: 40 }
      machine.complete(done => wal.append({ entries: [], hardState: commit }, done))
      machine.settle()
      const operations: DiskOperation[] = []
      machine.record(operations)

      machine.complete(done => wal.compact(30, FOUNDING, done))

      const types = operations.map(operation => operation.type)
      const flushed = types.indexOf('sync')
      assert(flushed >= 0 && flushed < types.indexOf('remove'), types.join())
      assert(types.lastIndexOf('sync-directory') > types.lastIndexOf('remove'), types.join())
      const names = machine.disk.names.list(DIRECTORY)
      assert(!names.includes(FIRST) && !names.includes('0000000000000005.seg'), names.join())
      machine.disk.powerCut(survival)
      assert.deepEqual(machine.disk.names.list(DIRECTORY), names)
      const again = machine.open()
      assert.deepEqual([again.firstIndex(), again.lastIndex()], [31, 40])
      const kept = again.entries(31, 41, Number.POSITIVE_INFINITY)
      assert.deepEqual(kept, entriesFrom(31, 10, 200))
    }
  }
})

test('the segment that is written to is never removed', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  machine.complete(done =>
    wal.append({ entries: entriesFrom(1, 3), hardState: { term: 0, vote: 0, commit: 3 } }, done),
  )

  machine.complete(done => wal.compact(3, FOUNDING, done))

  assert.deepEqual(machine.disk.names.list(DIRECTORY), [FIRST])
  const again = machine.openFlushed()
  assert.deepEqual([again.firstIndex(), again.lastIndex(), again.term(3)], [4, 3, 1])
})

test('a vote that only removed segments held is in the head of the next one', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  const hardState = { term: 7, vote: 3, commit: 8 }
  machine.complete(done => wal.append({ entries: entriesFrom(1, 8, 200), hardState }, done))
  machine.complete(done => wal.append({ entries: entriesFrom(9, 8, 200) }, done))
  machine.complete(done => wal.compact(8, FOUNDING, done))
  const names = machine.disk.names.list(DIRECTORY)
  assert(!names.includes(FIRST), names.join())

  assert.deepEqual(machine.open().initialState().hardState, hardState)
})

test('zeros are written ahead of the log, and not beyond the size of a segment', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  const sizes: number[] = []
  for (let index = 1; index <= 13; index++) {
    machine.complete(done => wal.append({ entries: entriesFrom(index, 1, 60) }, done))
    sizes.push(machine.disk.file(`${DIRECTORY}/${FIRST}`).sizeBytes)
  }

  // A record takes 104 bytes; head and mark take 512 each, and 512 are filled ahead.
  assert.equal(sizes[0], 1024 + 104 + 512)
  assert(new Set(sizes).size < 6, `the file grew with most appends: ${sizes.join()}`)
  assert.equal(Math.max(...sizes), 2560)
})
