/** The end of the log that is not known to be stored. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { UnstableLog } from '../../src/raft/unstable-log.ts'
import { entry, snapshotAt } from './kit.ts'

/** Entries 5 and 6 of term 1 after a stored entry 4. */
function unstableLog(): UnstableLog {
  const log = new UnstableLog(5, undefined)
  log.truncateAndAppend([entry(1, 5), entry(1, 6)])
  return log
}

function termsFrom(log: UnstableLog, low: number): number[] {
  return log.slice(low, (log.lastIndex() ?? low - 1) + 1).map(one => one.term)
}

test('entries are appended, cut off or replaced, wherever they begin', () => {
  const cases = [
    { from: 7, offset: 5, terms: [1, 1, 2] },
    { from: 6, offset: 5, terms: [1, 2] },
    { from: 5, offset: 5, terms: [2] },
    { from: 3, offset: 3, terms: [2] },
  ]
  for (const { from, offset, terms } of cases) {
    const log = unstableLog()
    log.truncateAndAppend([entry(2, from)])
    assert.equal(log.offset, offset, `from ${from}`)
    assert.deepEqual(termsFrom(log, offset), terms, `from ${from}`)
  }
})

test('a gap is never appended over', () => {
  assert.throws(() => unstableLog().truncateAndAppend([entry(2, 8)]), /gap after 6/)
})

test('entries are handed out once, and again if they are replaced meanwhile', () => {
  const log = unstableLog()
  assert.deepEqual(
    log.nextEntries().map(one => one.index),
    [5, 6],
  )
  log.acceptInProgress()
  assert.equal(log.hasNextEntries(), false)

  log.truncateAndAppend([entry(1, 7)])
  assert.deepEqual(
    log.nextEntries().map(one => one.index),
    [7],
  )
  log.acceptInProgress()

  log.truncateAndAppend([entry(2, 6)])
  assert.deepEqual(
    log.nextEntries().map(one => [one.term, one.index]),
    [[2, 6]],
  )
  assert.equal(log.offsetInProgress, 6)
})

test('stored entries leave, the rest stays', () => {
  const log = unstableLog()
  log.acceptInProgress()
  log.stableTo(5, 1)

  assert.deepEqual([log.offset, log.entryCount, log.offsetInProgress], [6, 1, 7])
  log.stableTo(6, 1)
  assert.deepEqual([log.offset, log.entryCount, log.lastIndex()], [7, 0, undefined])
})

test('a report of an entry that was replaced, or is gone, changes nothing', () => {
  const log = unstableLog()
  log.acceptInProgress()
  log.truncateAndAppend([entry(2, 5), entry(2, 6)])

  log.stableTo(5, 1)
  log.stableTo(4, 1)
  log.stableTo(9, 2)

  assert.deepEqual([log.offset, log.entryCount], [5, 2])
})

test('a snapshot replaces everything and is handed out once', () => {
  const log = unstableLog()
  const snapshot = snapshotAt(9, 3, [1])
  log.restore(snapshot)

  assert.deepEqual([log.offset, log.entryCount], [10, 0])
  assert.deepEqual([log.firstIndex(), log.lastIndex(), log.term(9)], [10, 9, 3])
  assert.equal(log.nextSnapshot(), snapshot)
  log.acceptInProgress()
  assert.equal(log.nextSnapshot(), undefined)
  assert.equal(log.snapshot, snapshot)

  log.stableSnapshotTo(8)
  assert.equal(log.snapshot, snapshot, 'another snapshot was stored')
  log.stableSnapshotTo(9)
  assert.equal(log.snapshot, undefined)
})

test('a snapshot leaves nothing of what came after its index either', () => {
  const log = unstableLog()
  log.restore(snapshotAt(5, 2, [1]))
  assert.deepEqual([log.offset, log.entryCount, log.lastIndex()], [6, 0, 5])
})

test('a report that names the index of the snapshot stores no entry', () => {
  const log = unstableLog()
  log.restore(snapshotAt(9, 3, [1]))
  log.truncateAndAppend([entry(3, 10)])
  log.stableTo(9, 3)
  assert.deepEqual([log.offset, log.entryCount], [10, 1])
})

test('what is handed out is not changed by what follows', () => {
  const log = unstableLog()
  const handedOut = log.nextEntries()
  log.truncateAndAppend([entry(2, 6), entry(2, 7)])
  assert.deepEqual(
    handedOut.map(one => one.term),
    [1, 1],
  )
})

test('a slice must lie within the entries', () => {
  const log = unstableLog()
  assert.throws(() => log.slice(4, 6), /not within/)
  assert.throws(() => log.slice(5, 8), /not within/)
  assert.deepEqual(log.slice(5, 7).length, 2)
})
