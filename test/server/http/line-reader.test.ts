import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { LineReader } from '../../../src/server/http/line-reader.ts'
import { ReceiveBudget } from '../../../src/server/http/read-body.ts'

/** All lines that come out when `chunks` go in; a refused one as the code of its error. */
function readAll(reader: LineReader, chunks: readonly Buffer[]): string[] {
  const seen: string[] = []
  const drain = (): void => {
    for (let line = reader.next(); line !== undefined; line = reader.next()) {
      seen.push(line.type === 'line' ? String(line.bytes) : line.error.code)
    }
  }
  for (const chunk of chunks) {
    reader.push(chunk)
    drain()
  }
  reader.end()
  drain()
  return seen
}

/** `bytes`, cut at `cuts`. */
function tear(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [0, ...cuts.map(cut => cut % (bytes.length + 1)), bytes.length]
  const sorted = places.toSorted((a, b) => a - b)
  return sorted.slice(1).map((end, at) => bytes.subarray(sorted[at], end))
}

test('however packets tear them, lines come out whole, long ones refused, and no byte is kept', () => {
  const line = fc.oneof(fc.constantFrom('', ' ', '\r', 'é', '{}'), fc.string({ maxLength: 12 }))
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.nat()), fc.boolean(), (lines, cuts, endsWhole) => {
      const clean = lines.map(text => text.replaceAll('\n', ' '))
      const bytes = Buffer.from(clean.join('\n') + (endsWhole ? '\n' : ''))
      const budget = new ReceiveBudget(1000)
      const seen = readAll(new LineReader(8, budget), tear(bytes, cuts))

      const expected = clean
        .filter(text => Buffer.byteLength(text) > 8 || /[^\0-\x20]/.test(text))
        .map(text => (Buffer.byteLength(text) > 8 ? 'TOO_LARGE' : text))
      assert.deepEqual(seen, expected)
      assert.equal(budget.take(1000), true)
    }),
  )
})

test('a line for which there is no room is refused, and those behind it are read', () => {
  const budget = new ReceiveBudget(4)
  const reader = new LineReader(100, budget)
  const seen = readAll(reader, [Buffer.from('123'), Buffer.from('456'), Buffer.from('\nab\nc')])

  assert.deepEqual(seen, ['OVERLOADED', 'ab', 'c'])
  assert.equal(budget.take(4), true)
})

test('what is kept of a line is let go when nobody reads on', () => {
  const budget = new ReceiveBudget(4)
  const reader = new LineReader(100, budget)
  reader.push(Buffer.from('abc'))
  assert.equal(reader.next(), undefined)
  assert.equal(reader.hasPartial, true)
  assert.equal(budget.take(2), false)
  reader.close()
  assert.equal(reader.hasPartial, false)
  assert.equal(budget.take(4), true)
})
