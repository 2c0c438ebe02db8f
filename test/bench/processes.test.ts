import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  parseDeviceWrittenBytes,
  parseStat,
  parseWrittenBytes,
  usageOf,
} from '../../bench/processes.ts'

test('a line of stat is read, whatever the name of the command', () => {
  const rest = 'S 7 1 1 0 -1 4194304 100 0 0 0 30 12 5 3 20 0 7 0 1000 123456 2500 184467'
  for (const name of ['(node)', '(a b)', '(odd) name)', '(x) S 9 9)']) {
    const stat = parseStat(`4242 ${name} ${rest}`)
    assert.deepEqual(stat, {
      pid: 4242,
      parent: 7,
      // Its own 30 and 12 ticks, and 5 and 3 of children that have ended.
      cpuMicros: 500_000,
      memoryBytes: 2500 * 4096,
    })
  }
})

test('of the bytes of a process those given to the disk are taken', () => {
  const text = 'rchar: 9\nwchar: 8\nread_bytes: 7\nwrite_bytes: 4096\ncancelled_write_bytes: 5\n'
  assert.equal(parseWrittenBytes(text), 4096)
  assert.equal(parseWrittenBytes(''), 0)
})

test('of the statistics of a device the written sectors are taken', () => {
  const text = '    1000        2    30000       40     5000        6     7000       80        0'
  assert.equal(parseDeviceWrittenBytes(text), 7000 * 512)
})

test('a process that works is seen to work', { skip: process.platform !== 'linux' }, () => {
  const before = usageOf([process.pid])
  const untilMs = performance.now() + 60
  while (performance.now() < untilMs);
  const after = usageOf([process.pid])
  assert(after.cpuMicros > before.cpuMicros)
  assert(after.memoryBytes > 1e6)
})
