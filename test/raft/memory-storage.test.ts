/** The storage that tests and the simulator use keeps what a stored log keeps. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { entrySizeBytes } from '../../src/raft/entries.ts'
import { MemoryStorage } from '../../src/raft/memory-storage.ts'
import { NO_LIMIT } from '../../src/raft/types.ts'
import { bytes, entry, log, snapshotAt } from './kit.ts'

/** Entries 4 and 5 of terms 4 and 5 after a compacted entry 3 of term 3. */
function compacted(): MemoryStorage {
  const storage = new MemoryStorage()
  storage.append(log(1, 2, 3, 4, 5))
  storage.compact(3)
  return storage
}

test('terms are known from the entry before the first one to the last', () => {
  const storage = compacted()
  assert.deepEqual(
    [2, 3, 4, 5, 6].map(index => storage.term(index)),
    ['compacted', 3, 4, 5, 'unavailable'],
  )
  assert.deepEqual([storage.firstIndex(), storage.lastIndex()], [4, 5])
})

test('entries are read up to a size, at least one', () => {
  const storage = compacted()
  const indexes = (low: number, high: number, maxSizeBytes: number): unknown => {
    const entries = storage.entries(low, high, maxSizeBytes)
    return typeof entries === 'string' ? entries : entries.map(one => one.index)
  }
  assert.equal(indexes(3, 5, NO_LIMIT), 'compacted')
  assert.deepEqual(indexes(4, 6, NO_LIMIT), [4, 5])
  assert.deepEqual(indexes(4, 6, 0), [4])
  assert.deepEqual(indexes(4, 6, entrySizeBytes(entry(4, 4)) * 2 - 1), [4])
  assert.throws(() => storage.entries(4, 7, NO_LIMIT), /last is 5/)
})

test('appending replaces from the first given index on and keeps what is compacted compacted', () => {
  const cases = [
    { appended: [entry(4, 4), entry(5, 5)], terms: [4, 5] },
    { appended: [entry(4, 4), entry(6, 5)], terms: [4, 6] },
    { appended: [entry(4, 4), entry(5, 5), entry(5, 6)], terms: [4, 5, 5] },
    { appended: [entry(3, 2), entry(3, 3), entry(5, 4)], terms: [5] },
    { appended: [entry(5, 4)], terms: [5] },
    { appended: [entry(5, 6)], terms: [4, 5, 5] },
    { appended: [entry(3, 2), entry(3, 3)], terms: [4, 5] },
    { appended: [], terms: [4, 5] },
  ]
  for (const { appended, terms } of cases) {
    const storage = compacted()
    storage.append(appended)
    const entries = storage.entries(4, storage.lastIndex() + 1, NO_LIMIT)
    assert(typeof entries !== 'string')
    assert.deepEqual(
      entries.map(one => one.term),
      terms,
    )
  }
  assert.throws(() => compacted().append([entry(5, 7)]), /gap after 5/)
})

test('compacting goes forward only, and not beyond the end', () => {
  const storage = compacted()
  assert.equal(storage.compact(3), 'compacted')
  assert.equal(storage.compact(5), 'done')
  assert.deepEqual([storage.firstIndex(), storage.lastIndex(), storage.term(5)], [6, 5, 5])
  assert.throws(() => storage.compact(6), /beyond 5/)
})

test('a snapshot is made of what is there, and never older than the last', () => {
  const storage = compacted()
  const confState = snapshotAt(1, 1, [1, 2, 3]).metadata.confState
  const made = storage.createSnapshot(4, confState, bytes('four'))
  assert(made !== 'out-of-date')
  assert.deepEqual(made.metadata, { index: 4, term: 4, confState })
  assert.equal(storage.createSnapshot(4, undefined, bytes('again')), 'out-of-date')
  assert.equal(storage.snapshot(), made)
  assert.deepEqual(storage.initialState().confState, confState)
})

test('a received snapshot replaces the log; an older one is refused', () => {
  const storage = compacted()
  assert.equal(storage.applySnapshot(snapshotAt(9, 7, [1])), 'done')
  assert.deepEqual([storage.firstIndex(), storage.lastIndex(), storage.term(9)], [10, 9, 7])
  assert.equal(storage.applySnapshot(snapshotAt(8, 7, [1])), 'out-of-date')
  assert.equal(storage.entries(10, 10, NO_LIMIT), 'unavailable')
})
