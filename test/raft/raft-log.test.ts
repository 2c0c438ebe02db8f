/** The log as a whole: matching, appending, committing, reading, applying. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { entrySizeBytes } from '../../src/raft/entries.ts'
import { MemoryStorage } from '../../src/raft/memory-storage.ts'
import { RaftLog } from '../../src/raft/raft-log.ts'
import { type Entry, NO_LIMIT } from '../../src/raft/types.ts'
import { entry, log as entriesOf, snapshotAt } from './kit.ts'

function logWith(stored: readonly Entry[], unstable: readonly Entry[] = []): RaftLog {
  const storage = new MemoryStorage()
  storage.append(stored)
  const log = new RaftLog(storage, NO_LIMIT, undefined)
  if (unstable.length > 0) log.append(unstable)
  return log
}

function termsOf(log: RaftLog): number[] {
  const entries = log.slice(log.firstIndex(), log.lastIndex() + 1, NO_LIMIT)
  return entries === 'compacted' ? [] : entries.map(one => one.term)
}

test('a log is at least as up-to-date by a later last term, or by length in the same term', () => {
  const log = logWith(entriesOf(1, 2, 3))
  const cases = [
    { index: 2, term: 4, isUpToDate: true },
    { index: 3, term: 4, isUpToDate: true },
    { index: 4, term: 4, isUpToDate: true },
    { index: 2, term: 2, isUpToDate: false },
    { index: 3, term: 2, isUpToDate: false },
    { index: 4, term: 2, isUpToDate: false },
    { index: 2, term: 3, isUpToDate: false },
    { index: 3, term: 3, isUpToDate: true },
    { index: 4, term: 3, isUpToDate: true },
  ]
  for (const { index, term, isUpToDate } of cases) {
    assert.equal(log.isUpToDate({ index, term }), isUpToDate, `${term}/${index}`)
  }
})

/** A log of terms 1, 2, 3 with the first entry committed. */
function committedToOne(): RaftLog {
  const log = logWith(entriesOf(1, 2, 3))
  log.commitTo(1)
  return log
}

test('a leader’s entries are appended only after an entry that matches', () => {
  const cases = [
    // The entry before them has another term, or isn't there.
    { previous: [2, 3], entries: [entry(4, 4)], commit: 3, last: undefined, committed: 1 },
    { previous: [3, 4], entries: [entry(4, 5)], commit: 3, last: undefined, committed: 1 },
    // It is there: commit as far as the leader says.
    { previous: [3, 3], entries: [], commit: 3, last: 3, committed: 3 },
    { previous: [3, 3], entries: [], commit: 2, last: 3, committed: 2 },
    { previous: [3, 3], entries: [], commit: 0, last: 3, committed: 1 },
    { previous: [0, 0], entries: [], commit: 3, last: 0, committed: 1 },
    { previous: [3, 3], entries: [entry(4, 4)], commit: 4, last: 4, committed: 4 },
    { previous: [3, 3], entries: [entry(4, 4), entry(4, 5)], commit: 4, last: 5, committed: 4 },
    { previous: [2, 2], entries: [entry(4, 3)], commit: 3, last: 3, committed: 3 },
    { previous: [1, 1], entries: [entry(4, 2)], commit: 2, last: 2, committed: 2 },
  ]
  for (const [position, one] of cases.entries()) {
    const log = committedToOne()
    const [term = 0, index = 0] = one.previous
    assert.equal(log.maybeAppend({ term, index }, one.entries, one.commit), one.last, `${position}`)
    assert.equal(log.committed, one.committed, `case ${position}`)
  }
})

test('the commit index never passes the last entry that is known to match the leader’s log', () => {
  const log = logWith(entriesOf(1, 1, 1, 1))

  // Entries 3 and 4 may be a deposed leader's: this message says nothing about them.
  assert.equal(log.maybeAppend({ term: 1, index: 1 }, [entry(1, 2)], 4), 2)
  assert.equal(log.committed, 2)
})

test('a conflicting entry and all that follow it are replaced, agreeing ones are kept', () => {
  const cases = [
    { appended: [entry(2, 2)], terms: [1, 2] },
    { appended: [entry(1, 2), entry(2, 3)], terms: [1, 1, 2] },
    { appended: [entry(1, 4), entry(2, 5)], terms: [1, 1, 1, 1, 2] },
    // Nothing conflicts: what follows is not cut off, for the message may be an old one.
    { appended: [entry(1, 2)], terms: [1, 1, 1, 1] },
    { appended: [entry(1, 2), entry(1, 3)], terms: [1, 1, 1, 1] },
  ]
  for (const { appended, terms } of cases) {
    const log = logWith(entriesOf(1, 1), [entry(1, 3), entry(1, 4)])
    const first = appended[0]?.index ?? 0
    log.maybeAppend({ term: 1, index: first - 1 }, appended, 0)
    assert.deepEqual(termsOf(log), terms, `from ${first}`)
  }
})

test('a committed entry is never replaced', () => {
  const log = committedToOne()
  assert.throws(() => log.maybeAppend({ term: 0, index: 0 }, [entry(4, 1)], 1), /contradicts/)
  assert.throws(() => log.append([entry(4, 1)]), /committed/)
})

test('the commit index never goes back and never passes the end of the log', () => {
  const log = committedToOne()
  log.commitTo(3)
  log.commitTo(1)
  assert.equal(log.committed, 3)
  assert.throws(() => log.commitTo(4), /beyond the last entry 3/)
})

test('counting commits only entries of the given term', () => {
  const log = logWith(entriesOf(1, 2, 2))
  assert.equal(log.maybeCommit({ index: 3, term: 1 }), false)
  assert.equal(log.maybeCommit({ index: 1, term: 2 }), false)
  assert.equal(log.maybeCommit({ index: 4, term: 2 }), false)
  assert.equal(log.maybeCommit({ index: 4, term: 0 }), false)
  assert.equal(log.committed, 0)
  assert.equal(log.maybeCommit({ index: 3, term: 2 }), true)
  assert.equal(log.maybeCommit({ index: 3, term: 2 }), false)
})

test('a conflict hint skips every entry of a term that can not match', () => {
  const log = logWith(entriesOf(2, 2, 5, 5, 5, 7))
  const cases = [
    { index: 6, term: 7, hint: [6, 7] },
    { index: 6, term: 6, hint: [5, 5] },
    { index: 6, term: 4, hint: [2, 2] },
    { index: 4, term: 5, hint: [4, 5] },
    { index: 4, term: 4, hint: [2, 2] },
    { index: 6, term: 1, hint: [0, 0] },
    { index: 9, term: 9, hint: [9, 0] },
    { index: 0, term: 1, hint: [0, 0] },
  ]
  for (const { index, term, hint } of cases) {
    const found = log.findConflictByTerm(index, term)
    assert.deepEqual([found.index, found.term], hint, `index ${index} term ${term}`)
  }
})

test('after a compaction the term before the first entry is known, earlier ones are not', () => {
  const storage = new MemoryStorage()
  storage.append(entriesOf(1, 1, 2, 3))
  storage.compact(3)
  const log = new RaftLog(storage, NO_LIMIT, undefined)
  log.append([entry(4, 5)])

  assert.equal(log.firstIndex(), 4)
  assert.equal(log.term(2), 'compacted')
  assert.equal(log.term(3), 2)
  assert.equal(log.term(5), 4)
  assert.equal(log.term(6), 'unavailable')
  // An entry that is gone matches nothing, least of all "no term".
  assert.equal(log.matches({ index: 2, term: 0 }), false)
  assert.equal(log.matches({ index: 2, term: 1 }), false)
  assert.equal(log.matches({ index: 6, term: 0 }), false)
  assert.equal(log.matches({ index: 3, term: 2 }), true)
  assert.equal(log.slice(3, 5, NO_LIMIT), 'compacted')
  assert.deepEqual(log.findConflictByTerm(3, 1), { index: 2, term: 0 })
  assert.deepEqual([log.committed, log.applying, log.applied], [3, 3, 3])
})

test('a slice reaches over stored and unstable entries and is cut to size', () => {
  const log = logWith(entriesOf(1, 1, 1), [entry(1, 4), entry(1, 5), entry(1, 6)])
  const one = entrySizeBytes(entry(1, 1))
  const indexes = (low: number, high: number, maxSizeBytes: number): number[] => {
    const entries = log.slice(low, high, maxSizeBytes)
    return entries === 'compacted' ? [] : entries.map(each => each.index)
  }
  assert.deepEqual(indexes(2, 7, NO_LIMIT), [2, 3, 4, 5, 6])
  assert.deepEqual(indexes(2, 4, NO_LIMIT), [2, 3])
  assert.deepEqual(indexes(4, 6, NO_LIMIT), [4, 5])
  assert.deepEqual(indexes(2, 2, NO_LIMIT), [])
  assert.deepEqual(indexes(2, 7, 0), [2])
  assert.deepEqual(indexes(2, 7, one), [2])
  assert.deepEqual(indexes(2, 7, one * 2), [2, 3])
  assert.deepEqual(indexes(2, 7, one * 3 - 1), [2, 3])
  assert.deepEqual(indexes(2, 7, one * 3), [2, 3, 4])
  assert.deepEqual(indexes(3, 7, one + 1), [3])
  assert.deepEqual(indexes(5, 7, one), [5])
  assert.throws(() => log.slice(2, 8, NO_LIMIT), /not within/)
})

test('committed entries are handed out once, in order', () => {
  const log = logWith(entriesOf(1, 1, 1, 1))
  log.commitTo(3)

  assert.deepEqual(
    log.nextCommittedEntries(true).map(one => one.index),
    [1, 2, 3],
  )
  log.acceptApplying(3, 18, true)
  assert.equal(log.hasNextCommittedEntries(true), false)
  log.commitTo(4)
  assert.deepEqual(
    log.nextCommittedEntries(true).map(one => one.index),
    [4],
  )
  log.appliedTo(3, 18)
  assert.deepEqual([log.applied, log.applying, log.committed], [3, 3, 4])
  assert.throws(() => log.appliedTo(2, 0), /not within/)
  assert.throws(() => log.appliedTo(5, 0), /not within/)
})

test('entries that are committed but not stored here are handed out only if allowed', () => {
  const log = logWith(entriesOf(1, 1), [entry(1, 3)])
  log.commitTo(3)

  assert.deepEqual(
    log.nextCommittedEntries(false).map(one => one.index),
    [1, 2],
  )
  assert.deepEqual(
    log.nextCommittedEntries(true).map(one => one.index),
    [1, 2, 3],
  )
  log.acceptApplying(2, 12, false)
  assert.equal(log.hasNextCommittedEntries(false), false)
  log.unstable.acceptInProgress()
  log.unstable.stableTo(3, 1)
  assert.equal(log.hasNextCommittedEntries(true), true)
})

test('handing out pauses at the size limit and goes on without a gap as entries are applied', () => {
  const storage = new MemoryStorage()
  storage.append(entriesOf(1, 1, 1, 1, 1))
  const one = entrySizeBytes(entry(1, 1))
  const log = new RaftLog(storage, one * 2, undefined)
  log.commitTo(5)
  const handedOut: number[] = []

  while (log.applied < 5) {
    const entries = log.nextCommittedEntries(false)
    assert(entries.length === 1 || entries.length === 2)
    const last = entries.at(-1)?.index ?? 0
    log.acceptApplying(last, entries.length * one, false)
    assert.equal(log.hasNextCommittedEntries(false), false, 'the limit is reached')
    handedOut.push(...entries.map(each => each.index))
    log.appliedTo(last, entries.length * one)
    assert.equal(log.committed, 5, 'handing out page by page must not move the commit index')
  }

  assert.deepEqual(handedOut, [1, 2, 3, 4, 5])
})

test('handing out pauses when the next entry would pass the limit, though it is not reached', () => {
  const storage = new MemoryStorage()
  storage.append([entry(1, 1, 'a'), entry(1, 2, 'much longer than that')])
  const log = new RaftLog(storage, entrySizeBytes(entry(1, 1, 'a')) + 5, undefined)
  log.commitTo(2)

  const first = log.nextCommittedEntries(false)
  assert.deepEqual(
    first.map(one => one.index),
    [1],
  )
  log.acceptApplying(1, entrySizeBytes(entry(1, 1, 'a')), false)
  assert.equal(log.hasNextCommittedEntries(false), false)
  log.appliedTo(1, entrySizeBytes(entry(1, 1, 'a')))
  assert.deepEqual(
    log.nextCommittedEntries(false).map(one => one.index),
    [2],
  )
})

test('nothing is handed out while a snapshot waits to be installed', () => {
  const log = logWith(entriesOf(1, 1))
  log.commitTo(2)
  log.restore(snapshotAt(9, 2, [1]))

  assert.equal(log.hasNextCommittedEntries(true), false)
  assert.deepEqual([log.committed, log.firstIndex(), log.lastIndex()], [9, 10, 9])
  log.append([entry(2, 10)])
  log.commitTo(10)
  assert.equal(log.hasNextCommittedEntries(true), false)
  log.unstable.stableSnapshotTo(9)
  log.appliedTo(9, 0)
  assert.deepEqual(
    log.nextCommittedEntries(true).map(one => one.index),
    [10],
  )
})

test('unapplied entries are searched page by page to the end', () => {
  const storage = new MemoryStorage()
  storage.append([...entriesOf(1, 1, 1, 1), entry(1, 5, '', 'config'), entry(1, 6, '', 'config')])
  const log = new RaftLog(storage, 1, undefined)
  const isConfig = (one: Entry): boolean => one.type === 'config'

  log.commitTo(4)
  assert.equal(log.someUnapplied(isConfig), false)
  log.commitTo(5)
  assert.equal(log.someUnapplied(isConfig), true)
  log.appliedTo(5, 0)
  assert.equal(log.someUnapplied(isConfig), false)
})

test('a stored commit index outside of the log is damage', () => {
  const log = logWith(entriesOf(1, 1))
  assert.throws(() => log.loadCommit(3), /not within \[0, 2\]/)
})
