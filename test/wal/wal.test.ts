import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Entry } from '../../src/raft/types.ts'
import type { Wal } from '../../src/wal/wal.ts'
import { DIRECTORY, Machine } from './kit.ts'
import { FOUNDERS, FOUNDING, describeState, readState, stored, voters } from './model.ts'

function entriesFrom(first: number, count: number, term = 1, sizeBytes = 50): readonly Entry[] {
  return Array.from({ length: count }, (_, position): Entry => {
    const index = first + position
    return { term, index, type: 'normal', data: new Uint8Array(sizeBytes).fill(index) }
  })
}

/** What `entries` of the whole log are. */
function all(wal: Wal): readonly Entry[] {
  return readState(wal).entries
}

function never(): void {
  assert.fail('acknowledged')
}

test('a new log begins with the membership it was founded with', () => {
  const machine = new Machine(1)
  const wal = machine.open()

  assert.deepEqual(wal.initialState(), {
    hardState: { term: 0, vote: 0, commit: 0 },
    confState: FOUNDERS,
  })
  assert.deepEqual([wal.firstIndex(), wal.lastIndex(), wal.term(0)], [1, 0, 0])
  machine.complete(done => wal.close(done))
  assert.deepEqual(
    machine.open({ initialMembers: stored(voters(9)) }).initialState().confState,
    FOUNDERS,
  )
})

test('what is appended can be read at once and is flushed later', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  let isDone = false

  wal.append({ entries: entriesFrom(1, 3) }, () => {
    isDone = true
  })

  assert.deepEqual(all(wal), entriesFrom(1, 3))
  assert.deepEqual([wal.lastIndex(), wal.flushedIndex(), isDone], [3, 0, false])
  machine.settle()
  assert.deepEqual([wal.flushedIndex(), isDone], [3, true])
})

test('an acknowledgement never comes inside the call', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  let isInside = true
  const later = (): void => assert.equal(isInside, false)

  wal.append({ entries: [] }, later)
  wal.append({ entries: [], hardState: { term: 1, vote: 0, commit: 0 } }, later)
  wal.flush(later)
  wal.compact(0, FOUNDING, later)

  isInside = false
  machine.settle()
})

test('acknowledgements come in the order of the calls', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  const order: number[] = []
  for (let index = 1; index <= 20; index++) {
    wal.append({ entries: entriesFrom(index, 1) }, () => order.push(index))
    if (index % 3 === 0) wal.append({ entries: [] }, () => order.push(index + 0.5))
  }

  machine.settle()

  assert.deepEqual(
    order,
    [...order].sort((left, right) => left - right),
  )
  assert.equal(order.length, 26)
})

test('a commit index alone waits for no flush, a term or a vote does', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  machine.complete(done =>
    wal.append({ entries: entriesFrom(1, 3), hardState: { term: 1, vote: 0, commit: 0 } }, done),
  )
  machine.settle()
  let syncCount = 0
  machine.disk.onOperation = ({ type }) => {
    if (type === 'sync') syncCount++
    return undefined
  }
  const store = (term: number, vote: number, commit: number): void => {
    machine.complete(done => wal.append({ entries: [], hardState: { term, vote, commit } }, done))
  }

  store(1, 0, 2)
  assert.equal(syncCount, 0)
  store(1, 2, 2)
  assert.equal(syncCount, 1)
  store(2, 2, 2)
  assert.equal(syncCount, 2)
  machine.disk.powerCut('nothing')
  assert.deepEqual(machine.open().initialState().hardState, { term: 2, vote: 2, commit: 2 })
})

test('a batch costs one write and one flush; commit index and mark are written later, with no flush', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  machine.settle()
  wal.tidy()
  machine.settle()
  const types: string[] = []
  machine.disk.onOperation = ({ type, sizeBytes }) => {
    if (type !== 'write' || sizeBytes > 0) types.push(type)
    return undefined
  }
  const commit = (index: number): void => {
    const hardState = { term: 0, vote: 0, commit: index }
    machine.complete(done => wal.append({ entries: [], hardState }, done))
  }

  for (let index = 1; index <= 3; index++) {
    machine.complete(done => wal.append({ entries: entriesFrom(index, 1) }, done))
    commit(index)
    machine.settle()
  }
  assert.deepEqual(types.splice(0), ['write', 'sync', 'write', 'sync', 'write', 'sync'])
  assert.equal(wal.initialState().hardState.commit, 3)

  wal.tidy()
  wal.tidy()
  machine.settle()
  assert.deepEqual(types.splice(0), ['write', 'write'])
  wal.tidy()
  machine.settle()
  assert.deepEqual(types, [])
  machine.disk.processCrash()
  assert.equal(machine.open().initialState().hardState.commit, 3)
})

test('a commit index that was not written yet goes with the next batch, or is as if never said', () => {
  for (const [hasNext, expected] of [
    [false, 0],
    [true, 2],
  ] as const) {
    const machine = new Machine(1)
    const wal = machine.openFlushed()
    machine.complete(done => wal.append({ entries: entriesFrom(1, 2) }, done))
    const hardState = { term: 0, vote: 0, commit: 2 }
    machine.complete(done => wal.append({ entries: [], hardState }, done))
    if (hasNext) machine.complete(done => wal.append({ entries: entriesFrom(3, 1) }, done))
    machine.disk.powerCut('nothing')
    assert.equal(machine.open().initialState().hardState.commit, expected)
  }
})

test('entries that conflict are replaced, in reads at once and on disk for ever', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  machine.complete(done => wal.append({ entries: entriesFrom(1, 6) }, done))

  wal.append({ entries: entriesFrom(4, 1, 2) }, () => undefined)

  const expected = [...entriesFrom(1, 3), ...entriesFrom(4, 1, 2)]
  assert.deepEqual(all(wal), expected)
  assert.deepEqual([wal.lastIndex(), wal.term(4), wal.term(5)], [4, 2, 'unavailable'])
  machine.complete(done => wal.append({ entries: entriesFrom(5, 1, 3) }, done))
  machine.disk.powerCut('nothing')
  const again = machine.openFlushed()
  assert.deepEqual(all(again), [...expected, ...entriesFrom(5, 1, 3)])
  machine.complete(done => again.append({ entries: entriesFrom(6, 2, 3) }, done))
  machine.disk.powerCut('nothing')
  assert.deepEqual(all(machine.open()), [...expected, ...entriesFrom(5, 3, 3)])
})

test('a replaced entry does not make its successor flushed', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  machine.complete(done => wal.append({ entries: entriesFrom(1, 2) }, done))
  machine.settle()
  const flushed: number[] = []

  wal.append({ entries: entriesFrom(3, 4) }, () => flushed.push(wal.flushedIndex()))
  wal.append({ entries: entriesFrom(2, 3, 2) }, () => flushed.push(wal.flushedIndex()))

  assert.equal(wal.flushedIndex(), 1)
  machine.settle()
  assert.deepEqual(flushed, [1, 4])
})

test('entries are limited by size, but one is always given', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed({ options: { cacheSizeBytes: 1 << 20 } })
  machine.complete(done => wal.append({ entries: entriesFrom(1, 10) }, done))
  const count = (maxSizeBytes: number): number => wal.entries(1, 11, maxSizeBytes).length

  assert.deepEqual([count(0), count(115), count(116), count(1e9)], [1, 1, 2, 10])
})

test('reads outside of the log say so', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  const commit = { term: 1, vote: 0, commit: 8 }
  machine.complete(done => wal.append({ entries: entriesFrom(1, 10), hardState: commit }, done))
  machine.complete(done => wal.compact(5, FOUNDING, done))

  assert.deepEqual(
    [wal.term(4), wal.term(5), wal.term(10), wal.term(11)],
    ['compacted', 1, 1, 'unavailable'],
  )
  assert.equal(wal.entries(5, 7, 1e9), 'compacted')
  assert.equal(wal.entries(9, 12, 1e9), 'unavailable')
  assert.deepEqual(wal.entries(11, 11, 1e9), [])
  assert.deepEqual(wal.entries(6, 11, 1e9), entriesFrom(6, 5))
})

test('a base is kept with its term and membership, and an older one changes nothing', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  const commit = { term: 1, vote: 0, commit: 8 }
  machine.complete(done => wal.append({ entries: entriesFrom(1, 10), hardState: commit }, done))

  wal.compact(7, stored(voters(1, 2)), () => undefined)
  wal.compact(6, stored(voters(1)), () => undefined)

  machine.settle()
  machine.disk.powerCut('nothing')
  const again = machine.open()
  assert.deepEqual(again.base(), { index: 7, term: 1, ...stored(voters(1, 2)) })
  assert.deepEqual(all(again), entriesFrom(8, 3))
})

test('an installed snapshot voids the log and takes its place', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  for (let first = 1; first <= 41; first += 8) {
    machine.complete(done => wal.append({ entries: entriesFrom(first, 8, 1, 200) }, done))
  }
  const snapshot = { index: 100, term: 5, ...stored(voters(4, 5, 6)) }
  const hardState = { term: 6, vote: 4, commit: 100 }

  wal.append({ snapshot, entries: entriesFrom(101, 1, 6), hardState }, () => undefined)

  assert.deepEqual([wal.firstIndex(), wal.lastIndex(), wal.term(100)], [101, 101, 5])
  assert.equal(wal.flushedIndex() < 100, true)
  machine.settle()
  assert.equal(wal.flushedIndex(), 101)
  assert.equal(machine.disk.names.list(DIRECTORY).length, 1)
  machine.disk.powerCut('nothing')
  const again = machine.open()
  assert.deepEqual(again.base(), snapshot)
  assert.deepEqual(again.initialState(), { hardState, confState: snapshot.confState })
  assert.deepEqual(all(again), entriesFrom(101, 1, 6))
})

test('an unfinished removal of segments is finished by the next life', () => {
  const machine = new Machine(2)
  const wal = machine.openFlushed()
  for (let first = 1; first <= 41; first += 8) {
    machine.complete(done => wal.append({ entries: entriesFrom(first, 8, 1, 200) }, done))
  }
  const commit = { term: 1, vote: 0, commit: 40 }
  machine.complete(done => wal.append({ entries: [], hardState: commit }, done))
  machine.disk.onOperation = ({ type }) => (type === 'remove' ? { type: 'crash' } : undefined)
  wal.compact(40, FOUNDING, never)
  machine.settle()
  machine.disk.onOperation = () => undefined
  const count = machine.disk.names.list(DIRECTORY).length

  const again = machine.openFlushed()
  assert.deepEqual([again.firstIndex(), again.lastIndex()], [41, 48])
  machine.complete(done =>
    again.append({ entries: [], hardState: { ...commit, commit: 41 } }, done),
  )
  machine.complete(done => again.compact(41, FOUNDING, done))

  assert(machine.disk.names.list(DIRECTORY).length < count)
})

for (const { name, at, code } of [
  { name: 'a write that finds the disk full', at: 'write', code: 'ENOSPC' },
  { name: 'a write that fails', at: 'write', code: 'EIO' },
  { name: 'a flush that fails', at: 'sync', code: 'EIO' },
] as const) {
  test(`${name} ends all acknowledgements and is reported once`, () => {
    const machine = new Machine(1)
    const wal = machine.openFlushed()
    machine.complete(done => wal.append({ entries: entriesFrom(1, 1) }, done))
    machine.settle()
    let faults = 1
    machine.disk.onOperation = ({ type }) => {
      return type === at && faults-- > 0 ? { type: 'error', code } : undefined
    }

    wal.append({ entries: entriesFrom(2, 1) }, never)
    wal.append({ entries: entriesFrom(3, 1) }, never)
    machine.settle()
    // The next flush would succeed: the system believes that the lost pages are clean.
    wal.append({ entries: entriesFrom(4, 1) }, never)
    wal.flush(never)
    wal.close(never)
    machine.settle()

    assert.deepEqual(
      machine.failures.map(failure => failure.code),
      [code === 'ENOSPC' ? 'DISK_FULL' : 'DISK_FAILED'],
    )
    assert.match(machine.failures[0]?.message ?? '', /log in group-1\/log/)
    machine.disk.powerCut()
    assert.deepEqual(all(machine.open()).slice(0, 1), entriesFrom(1, 1))
  })
}

test('a disk that gets full loses nothing that was acknowledged', () => {
  const machine = new Machine(1, 5000)
  const wal = machine.openFlushed()
  let acknowledged = 0
  for (let index = 1; index <= 100; index++) {
    wal.append({ entries: entriesFrom(index, 1) }, () => {
      acknowledged = index
    })
    machine.scheduler.runNext()
    machine.scheduler.runNext()
  }
  machine.settle()
  assert.deepEqual(
    machine.failures.map(failure => failure.code),
    ['DISK_FULL'],
  )
  assert(acknowledged > 10 && acknowledged < 60, `${acknowledged}`)
  machine.disk.powerCut()

  const found = all(machine.open())

  assert.deepEqual(found, entriesFrom(1, found.length))
  assert(found.length >= acknowledged)
})

test('a fault while a segment is begun or removed is fatal, too', () => {
  for (const type of ['rename', 'remove', 'sync-directory'] as const) {
    const machine = new Machine(1)
    const wal = machine.openFlushed()
    machine.disk.onOperation = operation => {
      return operation.type === type ? { type: 'error', code: 'EIO' } : undefined
    }
    for (let first = 1; first <= 25; first += 8) {
      const hardState = { term: 1, vote: 0, commit: first }
      wal.append({ entries: entriesFrom(first, 8, 1, 250), hardState }, () => undefined)
      machine.settle()
    }
    if (machine.failures.length === 0) wal.compact(20, FOUNDING, never)
    machine.settle()

    assert.deepEqual(
      machine.failures.map(failure => failure.code),
      ['DISK_FAILED'],
      type,
    )
  }
})

test('a log that is closed takes nothing, and finds everything when it is opened', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  wal.append({ entries: entriesFrom(1, 5) }, () => undefined)
  const state = describeState(readState(wal))

  machine.complete(done => {
    wal.close(done)
    wal.append({ entries: entriesFrom(6, 1) }, never)
  })

  machine.settle()
  machine.disk.powerCut('nothing')
  assert.equal(describeState(readState(machine.open())), state)
})

test('what a correct core never asks for ends the process', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed()
  const hardState = { term: 2, vote: 3, commit: 4 }
  machine.complete(done => wal.append({ entries: entriesFrom(1, 6, 2), hardState }, done))
  const store = (state: Partial<typeof hardState>): void => {
    wal.append({ entries: [], hardState: { ...hardState, ...state } }, never)
  }

  assert.throws(() => wal.append({ entries: entriesFrom(8, 1, 2) }, never), /a gap/)
  assert.throws(() => wal.append({ entries: entriesFrom(4, 1, 3) }, never), /a committed one/)
  assert.throws(() => wal.append({ entries: entriesFrom(7, 1, 1) }, never), /term 1 after term 2/)
  assert.throws(() => store({ term: 1 }), /term 1 after term 2/)
  assert.throws(() => store({ vote: 1 }), /vote for 1 in term 2 after one for 3/)
  assert.throws(() => store({ commit: 3 }), /commit 3 after 4/)
  assert.throws(() => store({ commit: 7 }), /commit 7, the log ends at 6/)
  assert.throws(() => wal.compact(5, FOUNDING, never), /base 5, commit 4/)
  assert.throws(() => wal.compact(9, FOUNDING, never), /the log ends at 6/)
})
