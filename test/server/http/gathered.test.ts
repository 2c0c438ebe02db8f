import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { Gathered } from '../../../src/server/http/gathered.ts'

test('pieces of any size come out whole and in order, as often as it is used', () => {
  const size = fc.oneof(fc.nat(10), fc.nat(700), fc.integer({ min: 4000, max: 70_000 }))
  const gathered = new Gathered()
  fc.assert(
    fc.property(fc.array(size, { maxLength: 40 }), sizes => {
      const pieces = sizes.map((length, at) => Buffer.alloc(length, at + 1))
      for (const piece of pieces) gathered.push(piece)
      const expected = Buffer.concat(pieces)
      assert.equal(gathered.sizeBytes, expected.length)
      assert.ok(gathered.take().equals(expected))
      assert.equal(gathered.sizeBytes, 0)
    }),
  )
  gathered.push(Buffer.from('lost'))
  gathered.clear()
  assert.equal(gathered.take().length, 0)
})

test('what it keeps takes about twice its length, however small or mixed the pieces are', () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const usedBytes = (): number => {
    collect()
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    return heapUsed + arrayBuffers
  }
  for (const sizes of [[1], [1, 5000], [3000, 1, 9000]]) {
    const gathered = new Gathered()
    const before = usedBytes()
    for (let at = 0; gathered.sizeBytes < 400_000; at += 1) {
      gathered.push(Buffer.from('x'.repeat(sizes[at % sizes.length] ?? 0)))
    }
    const keptBytes = usedBytes() - before
    assert.ok(keptBytes < 1_500_000, `${keptBytes} bytes for pieces of ${sizes.join()}`)
    assert.ok(gathered.sizeBytes >= 400_000)
  }
})
