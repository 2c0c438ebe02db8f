import assert from 'node:assert/strict'
import { test } from 'node:test'
import { entriesSizeBytes } from '../../src/raft/entries.ts'
import type { Entry } from '../../src/raft/types.ts'
import { DIRECTORY, Machine } from './kit.ts'
import { createEntry } from './model.ts'

/** A machine with a log of `count` entries on disk, none of which is cached. */
function logOf(count: number): { readonly machine: Machine; readonly entries: readonly Entry[] } {
  const machine = new Machine(5)
  const wal = machine.openFlushed()
  const entries = Array.from({ length: count }, (_, position) => {
    return createEntry(1, position + 1, machine.random)
  })
  for (const [position, entry] of entries.entries()) {
    const commit = position
    wal.append({ entries: [entry], hardState: { term: 1, vote: 2, commit } }, () => undefined)
    if (position % 7 === 0) machine.settle()
  }
  machine.complete(done => wal.close(done))
  return { machine, entries }
}

test('any range of entries is read from disk as it was appended, up to the size asked for', () => {
  const { machine, entries } = logOf(60)
  const wal = machine.openFlushed()
  for (let round = 0; round < 300; round++) {
    const low = machine.random.between(1, 60)
    const high = machine.random.between(low + 1, 61)
    const sizeBytes = machine.random.pick([0, 100, 1000, 5000, Number.POSITIVE_INFINITY])

    const found = wal.entries(low, high, sizeBytes)

    assert(typeof found !== 'string')
    assert.deepEqual(found, entries.slice(low - 1, low - 1 + found.length))
    assert(found.length === 1 || entriesSizeBytes(found) <= sizeBytes)
    const isAll = found.length === high - low
    const next = entries.slice(low - 1, low + found.length)
    assert(isAll || entriesSizeBytes(next) > sizeBytes, 'one more would have fitted')
  }
})

test('an entry that changed on disk is never handed out: the log fails', () => {
  const { machine } = logOf(60)
  const wal = machine.openFlushed()
  // Entry 1 comes after the head and the mark, of 512 bytes each.
  machine.disk.flip(`${DIRECTORY}/0000000000000001.seg`, 1024 + 30, 1)

  assert.throws(() => wal.entries(1, 61, Number.POSITIVE_INFINITY), {
    code: 'CORRUPT',
    message: /0000000000000001\.seg is damaged at byte 1024: entry 1 is not readable/,
  })
  assert.deepEqual(
    machine.failures.map(failure => failure.code),
    ['CORRUPT'],
  )
  let isAcknowledged = false
  wal.flush(() => {
    isAcknowledged = true
  })
  machine.settle()
  assert.equal(isAcknowledged, false)
})

test('a log that the disk can not read is not opened, and fails when it is open', () => {
  const { machine, entries } = logOf(60)
  const disk = machine.disk.mount()
  const read = disk.read.bind(disk)
  const unreadable = (): never => {
    throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' })
  }
  const failure = {
    code: 'DISK_FAILED',
    message: /the disk failed to read the log in group-1\/log \(EIO: i\/o error, read\)/,
  }
  disk.read = unreadable
  assert.throws(() => machine.open({ disk }), failure)
  disk.read = read
  const wal = machine.openFlushed({ disk })
  assert.deepEqual(wal.entries(1, 2, 0), entries.slice(0, 1))

  disk.read = unreadable
  assert.throws(() => wal.entries(1, 61, Number.POSITIVE_INFINITY), failure)
  assert.deepEqual(
    machine.failures.map(({ code }) => code),
    ['DISK_FAILED'],
  )
  disk.read = read
  wal.append({ entries: [] }, () => assert.fail('nothing is acknowledged any more'))
  wal.flush(() => assert.fail('nothing is acknowledged any more'))
  machine.settle()
})
