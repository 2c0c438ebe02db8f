/** Sizes of entries and batches cut to size. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  entriesSizeBytes,
  entrySizeBytes,
  limitSize,
  payloadsSizeBytes,
} from '../../src/raft/entries.ts'
import { NO_LIMIT } from '../../src/raft/types.ts'
import { entry } from './kit.ts'

test('a size is the payload and a head that grows with the numbers in it', () => {
  assert.equal(entrySizeBytes(entry(1, 1)), 6)
  assert.equal(entrySizeBytes(entry(1, 1, 'abc')), 6 + 2 + 3)
  assert.equal(entrySizeBytes(entry(1, 128)), 7)
  assert.equal(entrySizeBytes(entry(2 ** 40, 2 ** 52)), 4 + 6 + 8)
})

test('entries without payload count nothing against windows', () => {
  assert.equal(payloadsSizeBytes([entry(1, 1), entry(1, 2)]), 0)
  assert.equal(payloadsSizeBytes([entry(1, 1, 'ab'), entry(1, 2, 'c')]), 3)
})

test('a batch is cut where the next entry would be too much, but never to nothing', () => {
  const entries = [entry(4, 4, 'a'), entry(5, 5, 'b'), entry(6, 6, 'c')]
  const sizeBytes = entriesSizeBytes(entries.slice(0, 1))

  assert.equal(limitSize(entries, NO_LIMIT).length, 3)
  assert.equal(limitSize(entries, 0).length, 1)
  assert.equal(limitSize(entries, sizeBytes * 2).length, 2)
  assert.equal(limitSize(entries, sizeBytes * 3 - 1).length, 2)
  assert.equal(limitSize(entries, sizeBytes * 3).length, 3)
  assert.equal(limitSize([], 0).length, 0)
})
