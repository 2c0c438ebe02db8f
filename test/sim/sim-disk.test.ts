import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Scheduler } from '../../sim/scheduler.ts'
import { SimDisk } from '../../sim/sim-disk.ts'
import type { Survival } from '../../sim/sim-file.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import type { Disk, DiskCallback, DiskError, DiskFile } from '../../src/base/ports.ts'

interface Machine {
  readonly disk: SimDisk
  readonly scheduler: Scheduler
  /** Starts an operation, runs until it is done, and gives its error. */
  readonly run: (operation: (done: DiskCallback) => void) => DiskError | undefined
}

function createMachine(seed = 1, capacityBytes = Number.POSITIVE_INFINITY): Machine {
  const scheduler = new Scheduler()
  const disk = new SimDisk({
    random: new SimRandom(seed, 'disk'),
    later: (delayMs, callback) => void scheduler.after(delayMs, callback),
    capacityBytes,
  })
  return {
    disk,
    scheduler,
    run: operation => {
      const outcome: { error?: DiskError | undefined; isDone: boolean } = { isDone: false }
      operation(error => Object.assign(outcome, { error, isDone: true }))
      assert(scheduler.runUntil(Number.POSITIVE_INFINITY, () => outcome.isDone))
      return outcome.error
    },
  }
}

/** A file that is there for good, with 3,000 bytes of ones flushed. */
function flushedFile({ disk, run }: Machine): { readonly mount: Disk; readonly file: DiskFile } {
  const mount = disk.mount()
  const file = mount.open('f', { create: true })
  run(done => file.write(0, [new Uint8Array(3000).fill(1)], done))
  run(done => file.sync(done))
  run(done => mount.syncDirectory('', done))
  return { mount, file }
}

function contentAfter(survival: Survival, seed: number): Uint8Array {
  const machine = createMachine(seed)
  const { file } = flushedFile(machine)
  machine.run(done => file.write(1000, [new Uint8Array(1500).fill(2)], done))
  machine.run(done => file.write(2500, [new Uint8Array(1500).fill(3)], done))
  machine.disk.powerCut(survival)
  return machine.disk.mount().read('f', 0, 10_000)
}

test('what was flushed survives every power cut, what was not survives in part', () => {
  for (let seed = 1; seed <= 50; seed++) {
    for (const survival of ['nothing', 'everything', 'prefix', 'sectors'] as const) {
      const bytes = contentAfter(survival, seed)

      assert(bytes.subarray(0, 1000).every(byte => byte === 1))
      assert(bytes.subarray(1000, 2500).every(byte => byte === 1 || byte === 2))
      assert(bytes.subarray(2500, 3000).every(byte => byte === 1 || byte === 3))
      assert(bytes.subarray(3000).every(byte => byte === 0 || byte === 3))
      assert(bytes.length >= 3000 && bytes.length <= 4000)
    }
  }
})

test('a power cut may keep later sectors without earlier ones, and tear a sector', () => {
  let hasHole = false
  let isTorn = false
  for (let seed = 1; seed <= 50; seed++) {
    const bytes = contentAfter('sectors', seed)
    hasHole ||= bytes[1100] === 1 && bytes[2200] === 2
    isTorn ||= bytes[1100] !== bytes[1500]
  }
  assert(hasHole && isTorn)
})

test('nothing and everything are what they say', () => {
  for (let seed = 1; seed <= 20; seed++) {
    assert(contentAfter('nothing', seed).every(byte => byte <= 1))
    assert.deepEqual(
      [...contentAfter('everything', seed).subarray(2490, 2510)],
      [...Array.from({ length: 10 }, () => 2), ...Array.from({ length: 10 }, () => 3)],
    )
  }
})

test('a durable write survives alone: what was written before it may be lost, and never covers it', () => {
  let isLost = false
  for (let seed = 1; seed <= 50; seed++) {
    for (const survival of ['nothing', 'everything', 'prefix', 'sectors'] as const) {
      const machine = createMachine(seed)
      const { file } = flushedFile(machine)
      machine.run(done => file.write(1000, [new Uint8Array(1500).fill(2)], done))
      machine.run(done => file.writeDurably(2000, [new Uint8Array(1500).fill(3)], done))
      machine.disk.powerCut(survival)
      const bytes = machine.disk.mount().read('f', 0, 10_000)

      assert.equal(bytes.length, 3500)
      assert(bytes.subarray(2000).every(byte => byte === 3))
      assert(bytes.subarray(1000, 2000).every(byte => byte === 1 || byte === 2))
      isLost ||= bytes[1500] === 1
    }
  }
  assert(isLost)
})

test('of a durable write that fails any part may be kept', () => {
  const kept = new Set<number>()
  for (let seed = 1; seed <= 50; seed++) {
    const machine = createMachine(seed)
    const { file } = flushedFile(machine)
    machine.disk.onOperation = ({ type }) =>
      type === 'sync' ? { type: 'error', code: 'EIO' } : undefined
    const error = machine.run(done => file.writeDurably(0, [new Uint8Array(2048).fill(2)], done))
    assert.equal(error?.code, 'EIO')
    machine.disk.powerCut('nothing')
    const bytes = machine.disk.mount().read('f', 0, 2048)
    assert(bytes.every(byte => byte === 1 || byte === 2))
    kept.add(bytes.filter(byte => byte === 2).length)
  }
  assert(kept.size > 3, [...kept].join())
})

test('a name survives for certain only after its directory was flushed', () => {
  const kept = { created: 0, renamed: 0, removed: 0 }
  const seeds = 40
  for (let seed = 1; seed <= seeds; seed++) {
    const machine = createMachine(seed)
    const { mount } = flushedFile(machine)
    mount.open('created', { create: true })
    machine.run(done => mount.rename('f', 'renamed', done))
    machine.disk.powerCut()
    const names = machine.disk.mount().list('')
    assert.equal(names.includes('f'), !names.includes('renamed'), 'a rename is all or nothing')
    if (names.includes('created')) kept.created++
    if (names.includes('renamed')) kept.renamed++

    const again = machine.disk.mount()
    const file = again.open('g', { create: true })
    machine.run(done => file.sync(done))
    machine.run(done => again.syncDirectory('', done))
    machine.run(done => again.remove('g', done))
    machine.disk.powerCut()
    if (!machine.disk.mount().list('').includes('g')) kept.removed++
  }
  for (const count of Object.values(kept)) assert(count > 5 && count < seeds - 5, String(count))
})

test('a directory flush covers what was done before it was asked for', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const machine = createMachine(seed)
    const { mount } = flushedFile(machine)
    machine.run(done => mount.rename('f', 'g', done))
    machine.run(done => mount.syncDirectory('', done))
    machine.disk.powerCut()
    assert.deepEqual(machine.disk.mount().list(''), ['g'])
  }
})

test('a directory that was not flushed is lost with all that is in it', () => {
  let lost = 0
  for (let seed = 1; seed <= 20; seed++) {
    const machine = createMachine(seed)
    const mount = machine.disk.mount()
    mount.makeDirectory('a/b')
    const file = mount.open('a/b/f', { create: true })
    machine.run(done => file.sync(done))
    machine.run(done => mount.syncDirectory('a/b', done))
    machine.disk.powerCut()
    const names = machine.disk.mount().list('a/b')
    if (names.length === 0) lost++
    else assert.deepEqual(names, ['f'])
  }
  assert(lost > 3)
})

test('a process that ends loses its calls and nothing else', () => {
  const machine = createMachine()
  const { file } = flushedFile(machine)
  machine.run(done => file.write(3000, [Uint8Array.of(7, 7)], done))
  let isCalled = false
  file.sync(() => {
    isCalled = true
  })

  machine.disk.processCrash()

  while (machine.scheduler.runNext()) assert.equal(isCalled, false)
  file.write(0, [Uint8Array.of(9)], () => assert.fail('a dead process wrote'))
  while (machine.scheduler.runNext()) assert.equal(isCalled, false)
  assert.deepEqual([...machine.disk.mount().read('f', 2999, 9)], [1, 7, 7])
  machine.disk.powerCut('nothing')
  assert.deepEqual([...machine.disk.mount().read('f', 2999, 9)], [1])
})

test('operations on a file take effect in the order of the calls', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const machine = createMachine(seed)
    const file = machine.disk.mount().open('f', { create: true })
    const order: number[] = []
    for (let byte = 1; byte <= 5; byte++) {
      file.write(0, [Uint8Array.of(byte)], () => order.push(byte))
      file.sync(() => order.push(-byte))
    }
    while (machine.scheduler.runNext()) assert(order.length <= 10)
    assert.deepEqual(order, [1, -1, 2, -2, 3, -3, 4, -4, 5, -5])
    assert.deepEqual([...machine.disk.file('f').read(0, 9)], [5])
  }
})

test('a flush that fails leaves bytes in the cache that no later flush will store', () => {
  let lost = 0
  for (let seed = 1; seed <= 20; seed++) {
    const machine = createMachine(seed)
    const { file } = flushedFile(machine)
    machine.run(done => file.write(0, [new Uint8Array(3000).fill(2)], done))
    machine.disk.onOperation = ({ type }) =>
      type === 'sync' ? { type: 'error', code: 'EIO' } : undefined
    assert.equal(machine.run(done => file.sync(done))?.code, 'EIO')
    machine.disk.onOperation = () => undefined

    assert.equal(
      machine.run(done => file.sync(done)),
      undefined,
    )

    assert(
      machine.disk
        .file('f')
        .read(0, 3000)
        .every(byte => byte === 2),
    )
    machine.disk.powerCut('everything')
    if (machine.disk.file('f').read(0, 3000).includes(1)) lost++
  }
  assert(lost > 10)
})

test('a full disk takes what fits and says so', () => {
  const machine = createMachine(1, 4000)
  const { file } = flushedFile(machine)

  const error = machine.run(done => file.write(3000, [new Uint8Array(2000).fill(2)], done))

  assert.equal(error?.code, 'ENOSPC')
  assert.equal(machine.disk.file('f').sizeBytes, 4000)
  assert.equal(
    machine.run(done => file.write(0, [new Uint8Array(4000)], done)),
    undefined,
  )
})

test('a crash ends the process in the middle of the operation', () => {
  const sizes = new Set<number>()
  for (let seed = 1; seed <= 20; seed++) {
    const machine = createMachine(seed)
    const { file } = flushedFile(machine)
    let crashCount = 0
    machine.disk.onOperation = ({ type }) => (type === 'write' ? { type: 'crash' } : undefined)
    machine.disk.onCrash = () => crashCount++
    file.write(3000, [new Uint8Array(1000).fill(2)], () => assert.fail('called back'))
    while (machine.scheduler.runNext()) assert(crashCount <= 1)
    assert.equal(crashCount, 1)
    sizes.add(machine.disk.file('f').sizeBytes)
  }
  assert(sizes.size > 5, 'how much of the write happened depends on chance')
})

test('the same seed gives the same disk', () => {
  assert.deepEqual(contentAfter('sectors', 7), contentAfter('sectors', 7))
})
