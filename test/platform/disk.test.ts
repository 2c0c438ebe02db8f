import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { crc32 } from '../../src/base/crc32.ts'
import type { DiskCallback, DiskError } from '../../src/base/ports.ts'
import { RealDisk, fastCrc32 } from '../../src/platform/disk.ts'
import type { ConfState, Entry } from '../../src/raft/types.ts'
import { Wal } from '../../src/wal/wal.ts'

function temporaryDirectory(context: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'lockstep-disk-'))
  context.after(() => rmSync(path, { recursive: true }))
  return path
}

function completed(operation: (done: DiskCallback) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    operation(error => {
      if (error === undefined) resolve()
      else reject(error)
    })
  })
}

test('bytes are written where they belong, whatever pieces they come in', async context => {
  const root = temporaryDirectory(context)
  const disk = new RealDisk(root)
  disk.makeDirectory('a/b')
  const file = disk.open('a/b/f', { create: true })
  const pieces = Array.from({ length: 3000 }, (_, position) => Uint8Array.of(position & 255))

  await completed(done => file.write(5, [new Uint8Array(0), ...pieces], done))
  await completed(done => file.sync(done))
  file.close()

  const expected = Buffer.concat([new Uint8Array(5), ...pieces])
  assert.deepEqual(readFileSync(join(root, 'a/b/f')), expected)
  assert.equal(disk.sizeBytes('a/b/f'), 3005)
  assert.deepEqual(disk.read('a/b/f', 3000, 100), new Uint8Array(expected.subarray(3000)))
  assert.deepEqual(disk.read('a/b/f', 4000, 100), new Uint8Array(0))
})

test('operations on a file take effect in order and never call back inside', async context => {
  const disk = new RealDisk(temporaryDirectory(context))
  const file = disk.open('f', { create: true })
  const order: string[] = []
  let isInside = true
  const note = (name: string) => () => {
    assert.equal(isInside, false)
    order.push(name)
  }

  file.write(0, [Uint8Array.of(1)], note('first'))
  file.write(0, [], note('nothing'))
  file.sync(note('flush'))
  const last = completed(done => file.write(0, [Uint8Array.of(2)], done))
  file.close()
  isInside = false

  await last
  assert.deepEqual(order, ['first', 'nothing', 'flush'])
  assert.deepEqual(disk.read('f', 0, 9), Uint8Array.of(2))
})

test('a durable write takes its turn among the others, and is read back as any other', async context => {
  const root = temporaryDirectory(context)
  const disk = new RealDisk(root)
  const file = disk.open('f', { create: true })
  context.after(() => file.close())
  const order: string[] = []
  const note = (name: string) => (error: DiskError | undefined) => {
    assert.equal(error, undefined)
    order.push(name)
  }

  file.write(0, [Uint8Array.of(1, 1, 1, 1)], note('first'))
  file.writeDurably(1, [Uint8Array.of(2), Uint8Array.of(), Uint8Array.of(2)], note('durable'))
  file.write(2, [Uint8Array.of(3)], note('third'))
  await completed(done => file.sync(done))

  assert.deepEqual(order, ['first', 'durable', 'third'])
  assert.deepEqual([...readFileSync(join(root, 'f'))], [1, 2, 3, 1])
  assert.deepEqual([...disk.read('f', 0, 4)], [1, 2, 3, 1])
})

test('durable writes in place and large ones by a thread take effect in the order asked', async context => {
  const root = temporaryDirectory(context)
  const disk = new RealDisk(root)
  const file = disk.open('f', { create: true })
  context.after(() => file.close())
  const large = new Uint8Array(512 * 1024).fill(7)
  const order: string[] = []

  file.writeDurably(0, [Uint8Array.of(1, 1)], () => order.push('here'))
  file.writeDurably(2, [large], () => order.push('by a thread'))
  const last = completed(done => file.writeDurably(1, [Uint8Array.of(2)], done))
  assert.deepEqual(order, [], 'nothing calls back inside')
  await last

  assert.deepEqual(order, ['here', 'by a thread'])
  assert.deepEqual(readFileSync(join(root, 'f')), Buffer.concat([Uint8Array.of(1, 2), large]))
})

test('opening does not empty a file, and creates one only when told to', async context => {
  const root = temporaryDirectory(context)
  const disk = new RealDisk(root)
  writeFileSync(join(root, 'f'), 'abc')

  const file = disk.open('f', { create: true })
  await completed(done => file.write(1, [Uint8Array.of(0x78)], done))
  file.close()

  assert.equal(readFileSync(join(root, 'f'), 'utf8'), 'axc')
  assert.throws(() => disk.open('missing', { create: false }), { code: 'ENOENT' })
})

test('names are listed, renamed and removed, and reads follow them', async context => {
  const root = temporaryDirectory(context)
  const disk = new RealDisk(root)
  writeFileSync(join(root, 'b'), 'old')
  writeFileSync(join(root, 'a'), 'new')
  assert.deepEqual(disk.read('b', 0, 9), new Uint8Array(Buffer.from('old')))

  await completed(done => disk.rename('a', 'b', done))
  await completed(done => disk.syncDirectory('', done))

  assert.deepEqual(disk.list(''), ['b'])
  assert.deepEqual(disk.read('b', 0, 9), new Uint8Array(Buffer.from('new')))
  await completed(done => disk.remove('b', done))
  assert.deepEqual(readdirSync(root), [])
  assert.throws(() => disk.read('b', 0, 1), { code: 'ENOENT' })
  assert.deepEqual(disk.list('nowhere'), [])
})

test('an error of the system comes to the caller with its code', async context => {
  const disk = new RealDisk(temporaryDirectory(context))

  await assert.rejects(
    completed(done => disk.remove('missing', done)),
    { code: 'ENOENT' },
  )
  await assert.rejects(
    completed(done => disk.rename('missing', 'x', done)),
    { code: 'ENOENT' },
  )
  await assert.rejects(
    completed(done => disk.syncDirectory('missing', done)),
    { code: 'ENOENT' },
  )
})

test('many files can be read in turn', context => {
  const root = temporaryDirectory(context)
  const disk = new RealDisk(root)
  for (let file = 0; file < 30; file++) writeFileSync(join(root, `f${file}`), String(file))
  for (let round = 0; round < 3; round++) {
    for (let file = 0; file < 30; file++) {
      assert.equal(Buffer.from(disk.read(`f${file}`, 0, 9)).toString(), String(file))
    }
  }
})

test('the fast checksum is the pure one', () => {
  const bytes = Uint8Array.from({ length: 5000 }, (_, position) => (position * 7) & 255)
  for (const end of [0, 1, 100, 199, 200, 201, 4096, 5000]) {
    assert.equal(fastCrc32(bytes, 0, end, 77), crc32(bytes, 0, end, 77))
    assert.equal(fastCrc32(bytes, end >> 1, end, 0), crc32(bytes, end >> 1, end, 0))
  }
})

test('a log on a real disk is found again, as it was acknowledged', async context => {
  const root = temporaryDirectory(context)
  const voters: ConfState = {
    voters: [1, 2, 3],
    learners: [],
    votersOutgoing: [],
    learnersNext: [],
    autoLeave: false,
  }
  const members = { confState: voters, book: new Uint8Array([7, 7]) }
  const open = (): Wal =>
    Wal.open({
      disk: new RealDisk(root),
      directory: 'group-1/log',
      identity: { clusterId: 'c', groupId: 1, raftId: 1 },
      options: { segmentSizeBytes: 64 * 1024, cacheSizeBytes: 10_000 },
      initialMembers: members,
      checksum: fastCrc32,
      onFatal: error => assert.fail(error),
    })
  const entries = Array.from({ length: 500 }, (_, position): Entry => {
    const data = new Uint8Array((position * 37) % 3000).fill(position)
    return { term: 1 + Math.floor(position / 100), index: position + 1, type: 'normal', data }
  })
  const wal = open()
  let acknowledged = 0
  const all = new Promise<void>(resolve => {
    for (const [position, entry] of entries.entries()) {
      const hardState = { term: entry.term, vote: 2, commit: position }
      wal.append({ entries: [entry], hardState }, () => {
        acknowledged++
        if (acknowledged === entries.length) resolve()
      })
    }
  })
  await all
  await new Promise<void>(resolve => wal.compact(200, members, resolve))
  await new Promise<void>(resolve => wal.close(resolve))

  const again = open()

  assert.deepEqual(again.initialState(), {
    hardState: { term: 5, vote: 2, commit: 499 },
    confState: voters,
  })
  assert.deepEqual(again.base().book, members.book)
  assert.deepEqual(again.entries(201, 501, Number.POSITIVE_INFINITY), entries.slice(200))
  await new Promise<void>(resolve => again.flush(resolve))
  assert.equal(again.flushedIndex(), 500)
  await new Promise<void>(resolve => again.close(resolve))
})
