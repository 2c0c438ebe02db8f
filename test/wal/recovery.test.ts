import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SimFile } from '../../sim/sim-file.ts'
import type { Entry } from '../../src/raft/types.ts'
import { encodeSegmentHeader, type SegmentHeader } from '../../src/wal/segment-header.ts'
import { crc32 } from '../../src/base/crc32.ts'
import type { Wal } from '../../src/wal/wal.ts'
import { DIRECTORY, IDENTITY, Machine, TINY } from './kit.ts'
import { FOUNDING, describeState, readState } from './model.ts'

function entryOf(index: number, sizeBytes = 100, term = 1): Entry {
  return { term, index, type: 'normal', data: new Uint8Array(sizeBytes).fill(index) }
}

function pathOf(sequence: number): string {
  return `${DIRECTORY}/${String(sequence).padStart(16, '0')}.seg`
}

/** Appends entries one flush each, in a log that is then left idle. */
function fill(machine: Machine, wal: Wal, first: number, last: number, sizeBytes = 100): void {
  for (let index = first; index <= last; index++) {
    const hardState = { term: 1, vote: 2, commit: index - 1 }
    machine.complete(done => wal.append({ entries: [entryOf(index, sizeBytes)], hardState }, done))
  }
  tidy(machine, wal)
}

function tidy(machine: Machine, wal: Wal): void {
  machine.settle()
  wal.tidy()
  machine.settle()
}

/** After the last byte of the first segment that isn't zero, rounded up to a record's beginning. */
function endOfContent(machine: Machine): number {
  const file = machine.disk.file(pathOf(1))
  const last = file.read(0, file.sizeBytes).findLastIndex(byte => byte !== 0)
  return Math.ceil((last + 1) / 8) * 8
}

/** Runs up to the next flush, at which the process is killed. */
function crashAtFlush(machine: Machine): void {
  machine.disk.onOperation = ({ type }) => (type === 'sync' ? { type: 'crash' } : undefined)
  machine.settle()
  machine.disk.onOperation = () => undefined
}

/** A machine that holds a log of three segments, which nobody has open. */
function machineWithLog(seed = 1): { readonly machine: Machine; readonly state: string } {
  const machine = new Machine(seed)
  const wal = machine.openFlushed()
  fill(machine, wal, 1, 20)
  machine.disk.processCrash()
  assert.equal(machine.disk.names.list(DIRECTORY).length, 3)
  return { machine, state: describeState(readState(wal)) }
}

test('a byte changed anywhere stops the node or changes nothing', () => {
  const { machine, state } = machineWithLog()
  let refusedCount = 0
  let harmlessCount = 0
  for (const name of machine.disk.names.list(DIRECTORY)) {
    const path = `${DIRECTORY}/${name}`
    const { sizeBytes } = machine.disk.file(path)
    for (let offset = 0; offset < sizeBytes; offset++) {
      machine.disk.flip(path, offset, 0x40)
      try {
        assert.equal(describeState(readState(machine.open())), state, `${path} ${offset}`)
        harmlessCount++
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'CORRUPT', String(error))
        refusedCount++
      }
      machine.disk.processCrash()
      machine.disk.flip(path, offset, 0x40)
    }
  }
  // Harmless are padding, the zeros after the end, and the mark, which holds nothing by itself.
  assert(refusedCount > 4500, `${refusedCount} refused`)
  assert(harmlessCount > 100, `${harmlessCount} harmless`)
})

test('a sector that reads as zeros stops the node or changes nothing', () => {
  const { machine, state } = machineWithLog()
  for (const name of machine.disk.names.list(DIRECTORY)) {
    const path = `${DIRECTORY}/${name}`
    const file = machine.disk.file(path)
    for (let start = 0; start < file.sizeBytes; start += 512) {
      const before = file.read(start, 512)
      for (const [position, byte] of before.entries())
        machine.disk.flip(path, start + position, byte)
      try {
        assert.equal(describeState(readState(machine.open())), state)
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'CORRUPT', String(error))
      }
      machine.disk.processCrash()
      for (const [position, byte] of before.entries())
        machine.disk.flip(path, start + position, byte)
    }
  }
})

test('the refusal names the file, the place, and what to do', () => {
  const { machine } = machineWithLog()
  machine.disk.flip(pathOf(2), 1100, 1)

  assert.throws(() => machine.open(), {
    code: 'CORRUPT',
    message:
      /group-1\/log\/0000000000000002\.seg is damaged at byte \d+: .*join again with an empty/,
  })
})

test('damage of the newest flushed entry is told from a torn write while the log is idle', () => {
  const machine = new Machine(3)
  const wal = machine.openFlushed()
  fill(machine, wal, 1, 1)
  machine.disk.processCrash()

  machine.disk.flip(pathOf(1), 1024 + 60, 1)

  assert.throws(() => machine.open(), { code: 'CORRUPT', message: /flushed, as byte 512 tells/ })
})

test('damage is found without the mark, too, by what later records say', () => {
  const machine = new Machine(3)
  const wal = machine.openFlushed()
  fill(machine, wal, 1, 3)
  machine.disk.processCrash()
  machine.disk.flip(pathOf(1), 512, 0xff)
  assert.equal(machine.open().lastIndex(), 3)
  machine.disk.processCrash()

  machine.disk.flip(pathOf(1), 1024 + 60, 1)

  assert.throws(() => machine.open(), {
    code: 'CORRUPT',
    message: /flushed, as byte 1\d\d\d tells/,
  })
})

test('a batch that was not flushed is cut off, and its bytes are cleared', () => {
  const machine = new Machine(4)
  const wal = machine.openFlushed()
  fill(machine, wal, 1, 2)
  const end = endOfContent(machine)
  wal.append({ entries: [entryOf(3, 600), entryOf(4, 50)] }, () => assert.fail('never flushed'))
  crashAtFlush(machine)
  // A sector of entry 3 never reached the disk; entry 4 did.
  const file = machine.disk.file(pathOf(1))
  for (const [position, byte] of file.read(end + 200, 64).entries()) {
    machine.disk.flip(pathOf(1), end + 200 + position, byte)
  }
  assert(endOfContent(machine) > end)

  const again = machine.openFlushed()

  assert.equal(again.lastIndex(), 2)
  machine.disk.powerCut('nothing')
  assert.equal(endOfContent(machine), end)
})

test('a commit index that was not flushed may be torn without damage to anything', () => {
  const machine = new Machine(5)
  const wal = machine.openFlushed()
  fill(machine, wal, 1, 3)
  const before = describeState(readState(wal))
  const torn = endOfContent(machine)
  machine.complete(done =>
    wal.append({ entries: [], hardState: { term: 1, vote: 2, commit: 3 } }, done),
  )
  tidy(machine, wal)
  wal.append({ entries: [entryOf(4)] }, () => assert.fail('never flushed'))
  crashAtFlush(machine)
  // Of the two batches that no flush has covered, the first is lost and the second is there.
  machine.disk.flip(pathOf(1), torn + 8, 0xff)

  assert.equal(describeState(readState(machine.open())), before)
})

test('a batch that was cut off never comes back, even when the same bytes come before it', () => {
  const machine = new Machine(6)
  const wal = machine.openFlushed()
  fill(machine, wal, 1, 3)
  const torn = endOfContent(machine)
  const commit = { entries: [], hardState: { term: 1, vote: 2, commit: 3 } }
  machine.complete(done => wal.append(commit, done))
  tidy(machine, wal)
  wal.append({ entries: [entryOf(4)] }, () => assert.fail('never flushed'))
  crashAtFlush(machine)
  machine.disk.flip(pathOf(1), torn + 8, 0xff)
  const again = machine.open()
  assert.equal(again.lastIndex(), 3)

  // The same record at the same place, so that entry 4, were it there, would continue the chain.
  machine.complete(done => again.append(commit, done))
  tidy(machine, again)
  machine.disk.processCrash()

  const third = machine.open()
  assert.equal(third.initialState().hardState.commit, 3)
  assert.equal(third.lastIndex(), 3)
})

test('what a killed process left in the page cache is not flushed before it is', () => {
  const machine = new Machine(7)
  const wal = machine.openFlushed()
  wal.append({ entries: [entryOf(1)] }, () => assert.fail('never flushed'))
  crashAtFlush(machine)

  const again = machine.open()

  assert.equal(again.lastIndex(), 1)
  assert.equal(again.flushedIndex(), 0)
  machine.complete(done => again.flush(done))
  assert.equal(again.flushedIndex(), 1)
  machine.disk.powerCut('nothing')
  assert.equal(machine.open().lastIndex(), 1)
})

test('even what needs no flush is acknowledged only after what was found is flushed', () => {
  const machine = new Machine(7)
  const wal = machine.openFlushed()
  wal.append({ entries: [entryOf(1)] }, () => assert.fail('never flushed'))
  crashAtFlush(machine)
  const again = machine.open()
  assert.equal(again.lastIndex(), 1)

  // A core that answers a leader with "I have entry 1" asks for nothing to be written.
  machine.complete(done => again.append({ entries: [] }, done))

  machine.disk.powerCut('nothing')
  assert.equal(machine.open().lastIndex(), 1)
})

test('damage at the end of a closed log is told from a torn write after a power cut, too', () => {
  const machine = new Machine(3)
  const wal = machine.openFlushed()
  fill(machine, wal, 1, 3)
  machine.complete(done => wal.append({ entries: [entryOf(4)] }, done))
  machine.complete(done => wal.close(done))
  machine.disk.powerCut('nothing')

  machine.disk.flip(pathOf(1), endOfContent(machine) - 40, 1)

  assert.throws(() => machine.open(), { code: 'CORRUPT', message: /flushed, as byte 512 tells/ })
})

test('a segment whose name only the cache knows is made to stay before it is written to', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const machine = new Machine(seed)
    const wal = machine.openFlushed()
    fill(machine, wal, 1, 6)
    // The process is killed after the rename of the second segment, before the directory's flush.
    machine.disk.onOperation = ({ type }) => {
      return type === 'sync-directory' ? { type: 'crash' } : undefined
    }
    wal.append({ entries: [entryOf(7, 1500)] }, () => assert.fail('never flushed'))
    machine.settle()
    machine.disk.onOperation = () => undefined
    assert.equal(machine.disk.names.list(DIRECTORY).length, 2)

    const again = machine.openFlushed()
    machine.complete(done => again.append({ entries: [entryOf(7)] }, done))
    machine.disk.powerCut('nothing')

    assert.equal(machine.open().lastIndex(), 7)
  }
})

test('a mark speaks of what was flushed, not of what was only written', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const machine = new Machine(seed)
    const wal = machine.openFlushed()
    const hardState = { term: 0, vote: 0, commit: 2 }
    wal.append({ entries: [entryOf(1), entryOf(2)] }, () => {
      // The mark is written after this commit index, which no flush has covered.
      wal.append({ entries: [], hardState }, () => undefined)
    })
    tidy(machine, wal)
    machine.disk.powerCut('sectors')

    assert.equal(machine.open().lastIndex(), 2)
  }
})

test('a log with a segment missing at the beginning or in the middle is refused', () => {
  for (const missing of [1, 2]) {
    const { machine } = machineWithLog()
    machine.disk.names.remove(pathOf(missing))

    assert.throws(() => machine.open(), {
      code: 'CORRUPT',
      message: /no file holds the entries 1 to \d+/,
    })
  }
})

test('a segment under the name of another, or of an older copy of the log, is refused', () => {
  const renamed = machineWithLog().machine
  renamed.disk.names.remove(pathOf(1))
  renamed.disk.names.rename(pathOf(2), pathOf(1))
  renamed.disk.names.rename(pathOf(3), pathOf(2))
  assert.throws(() => renamed.open(), { code: 'CORRUPT', message: /says that it is segment 2/ })

  // Two lives of one log that parted: their segments don't fit together.
  const one = machineWithLog().machine
  const other = new Machine(1)
  const wal = other.openFlushed()
  fill(other, wal, 1, 20, 99)
  const foreign = other.disk.file(pathOf(1))
  one.disk.names.remove(pathOf(1))
  one.disk.names.create(pathOf(1), foreign)
  assert.throws(() => one.open(), { code: 'CORRUPT' })
})

test('a segment that lost its end is refused', () => {
  const { machine } = machineWithLog()
  const file = machine.disk.file(pathOf(1))
  for (let offset = file.sizeBytes - 300; offset < file.sizeBytes; offset++) {
    const [byte = 0] = file.read(offset, 1)
    machine.disk.flip(pathOf(1), offset, byte)
  }

  assert.throws(() => machine.open(), { code: 'CORRUPT', message: /was flushed is not readable/ })
})

test('a last record that lost only its padding at a power cut is whole, now and later', () => {
  const machine = new Machine(1)
  const wal = machine.openFlushed({ options: { ...TINY, fillSizeBytes: 0 } })
  machine.complete(done => wal.append({ entries: [entryOf(1, 1)] }, done))
  machine.disk.processCrash()
  const whole = machine.disk.file(pathOf(1))
  const cut = new SimFile()
  cut.write(0, whole.read(0, whole.sizeBytes - 7))
  machine.disk.names.remove(pathOf(1))
  machine.disk.names.create(pathOf(1), cut)

  const again = machine.openFlushed({ options: { ...TINY, segmentSizeBytes: 1 } })
  assert.equal(again.lastIndex(), 1)
  machine.complete(done => again.append({ entries: [entryOf(2)] }, done))

  assert.deepEqual(machine.disk.names.list(DIRECTORY).length, 2)
  assert.equal(machine.open().lastIndex(), 2)
})

test('the log of another cluster, group or member is not touched', () => {
  for (const identity of [
    { ...IDENTITY, clusterId: 'c-0000' },
    { ...IDENTITY, groupId: 9 },
    { ...IDENTITY, raftId: 3 },
  ]) {
    const { machine, state } = machineWithLog()

    assert.throws(() => machine.open({ identity }), {
      code: 'WRONG_DATA',
      message: /belongs to member 2 of group 1 in cluster c-7f3a, and this node is member \d/,
    })
    machine.settle()
    assert.equal(describeState(readState(machine.open())), state)
  }
})

test('a log of a newer version is refused with a sentence that says so', () => {
  const { machine } = machineWithLog()
  const file = machine.disk.file(pathOf(3))
  const head = file.read(0, 512)
  const view = new DataView(head.buffer)
  view.setUint32(8, 3, true)
  view.setUint32(16, 0, true)
  view.setUint32(16, crc32(head, 0, 512, 0), true)
  file.write(0, head)

  assert.throws(() => machine.open(), { code: 'WRONG_DATA', message: /of log format 3/ })
})

test('an unfinished segment and files that came back at a power cut are cleared away', () => {
  const machine = new Machine(8)
  const wal = machine.openFlushed()
  fill(machine, wal, 1, 40)
  const first = machine.disk.file(pathOf(1))
  machine.complete(done => wal.compact(30, FOUNDING, done))
  machine.settle()
  machine.disk.processCrash()
  const names = machine.disk.names.list(DIRECTORY)
  assert(!names.includes('0000000000000001.seg') && !names.includes('0000000000000002.seg'))
  machine.disk.names.create(pathOf(1), first)
  machine.disk.names.create(`${pathOf(9)}.tmp`, first)

  const again = machine.openFlushed()

  assert.deepEqual([again.firstIndex(), again.lastIndex()], [31, 40])
  assert.deepEqual(machine.disk.names.list(DIRECTORY), names)
})

test('a log whose making was cut short is made anew', () => {
  for (let operation = 1; operation <= 6; operation++) {
    const machine = new Machine(operation)
    machine.disk.onOperation = ({ number }) => {
      return number === operation ? { type: 'crash' } : undefined
    }
    machine.open()
    machine.settle()
    machine.disk.powerCut()
    machine.disk.onOperation = () => undefined

    const wal = machine.openFlushed()

    fill(machine, wal, 1, 1)
    machine.disk.powerCut('nothing')
    assert.equal(machine.open().lastIndex(), 1)
  }
})

test('a node that is known to have had a log does not begin a new one', () => {
  const machine = new Machine(9)

  assert.throws(() => machine.open({ mustExist: true }), {
    code: 'WRONG_DATA',
    message: /there is nothing in group-1\/log.*must not take part/,
  })

  machine.openFlushed()
  machine.openFlushed({ mustExist: true })
})

test('a head that claims entries before it which nobody holds is refused', () => {
  const machine = new Machine(10)
  const header: SegmentHeader = {
    identity: IDENTITY,
    sequence: 5,
    seed: 1,
    previousEndOffset: 2000,
    previousBatch: 40,
    previousIndex: 40,
    previousTerm: 1,
    hardState: { term: 1, vote: 2, commit: 40 },
    base: { index: 12, term: 1, ...FOUNDING },
  }
  const mount = machine.disk.mount()
  mount.makeDirectory(DIRECTORY)
  mount.open(pathOf(5), { create: true })
  machine.disk.file(pathOf(5)).write(0, encodeSegmentHeader(header, crc32))

  assert.throws(() => machine.open(), {
    code: 'CORRUPT',
    message: /no file holds the entries 13 to 40, which should be before it/,
  })
})
