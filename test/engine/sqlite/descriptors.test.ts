import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openFilesOf, openFilesWithin } from '../../../src/engine/sqlite/descriptors.ts'

const limits = (soft: string): string =>
  `Limit                     Soft Limit           Hard Limit           Units
Max processes             91234                91234                processes
Max open files            ${soft.padEnd(20)} 1048576              files
`

test('as many databases are held open as descriptors allow, and no more than are wanted', () => {
  assert.equal(openFilesOf(limits('1048576'), 1024, 64), 1024)
  assert.equal(openFilesOf(limits('unlimited'), 1024, 64), 1024)
  assert.equal(openFilesOf(limits('1024'), 1024, 64), 320)
  assert.equal(openFilesOf(limits('256'), 1024, 64), 64)
  assert.equal(openFilesOf(limits('20'), 1024, 64), 1)
  assert.equal(openFilesOf('something else', 1024, 64), 64)
  assert.equal(openFilesOf(undefined, 1024, 64), 64)
})

test('this process has a number of its own', () => {
  const own = openFilesWithin(1024, 64)
  assert(own >= 1 && own <= 1024)
})
