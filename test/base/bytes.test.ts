import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ByteReader, ByteWriter } from '../../src/base/bytes.ts'
import { DbError } from '../../src/base/errors.ts'

const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 200 }),
  fc.string({ unit: 'binary-ascii', maxLength: 80 }),
  fc.constantFrom('', '\ufeffmark', 'a\0b', 'ä'.repeat(48), 'x'.repeat(49), '🧭'),
)
const field = fc.oneof(
  fc.record({ type: fc.constant('u8' as const), value: fc.integer({ min: 0, max: 255 }) }),
  fc.record({ type: fc.constant('u32' as const), value: fc.integer({ min: 0, max: 2 ** 32 - 1 }) }),
  fc.record({ type: fc.constant('f64' as const), value: fc.double() }),
  fc.record({ type: fc.constant('varint' as const), value: fc.maxSafeNat() }),
  fc.record({
    type: fc.constant('zigzag64' as const),
    value: fc.oneof(
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.bigInt({ min: -300n, max: 300n }),
      fc.integer({ min: 0, max: 63 }).map(bits => 2n ** BigInt(bits) - 1n),
      fc.constantFrom(-(2n ** 63n), 2n ** 63n - 1n, -(2n ** 31n), 2n ** 32n),
    ),
  }),
  fc.record({ type: fc.constant('utf8' as const), value: text }),
  fc.record({ type: fc.constant('bytes' as const), value: fc.uint8Array({ maxLength: 300 }) }),
)
type Field = typeof field extends fc.Arbitrary<infer T> ? T : never

function write(writer: ByteWriter, item: Field): void {
  switch (item.type) {
    case 'u8':
    case 'u32':
    case 'f64':
    case 'varint':
      return writer[item.type](item.value)
    case 'zigzag64':
      return writer.zigzag64(item.value)
    case 'utf8':
      return writer.utf8(item.value)
    case 'bytes':
      return writer.bytes(item.value)
  }
}

test('what a writer wrote, a reader reads, whatever the order and the room', () => {
  fc.assert(
    fc.property(
      fc.array(field, { maxLength: 40 }),
      fc.integer({ min: 0, max: 64 }),
      (items, room) => {
        const writer = new ByteWriter(room)
        for (const item of items) write(writer, item)
        assert.equal(writer.view().length, writer.length)

        const reader = new ByteReader(writer.finish())
        for (const item of items) {
          const value = reader[item.type]()
          assert.deepEqual(value, item.value)
        }
        reader.expectEnd()
      },
    ),
  )
})

test('every prefix of what was written is refused as corrupt, never read as something else', () => {
  const writer = new ByteWriter()
  writer.varint(300)
  writer.zigzag64(-(2n ** 62n))
  writer.utf8('überall')
  writer.f64(Math.PI)
  writer.bytes(new Uint8Array(7))
  const whole = writer.finish()

  for (let length = 0; length < whole.length; length++) {
    assert.throws(
      () => {
        const reader = new ByteReader(whole.subarray(0, length))
        reader.varint()
        reader.zigzag64()
        reader.utf8()
        reader.f64()
        reader.bytes()
      },
      (error: unknown) => error instanceof DbError && error.code === 'CORRUPT',
    )
  }
})

test('numbers that never end are refused', () => {
  const endless = new Uint8Array(32).fill(0xff)
  assert.throws(() => new ByteReader(endless).varint(), { code: 'CORRUPT' })
  assert.throws(() => new ByteReader(endless).zigzag64(), { code: 'CORRUPT' })
})

test('an integer over 64 bits and a fraction are never written', () => {
  const writer = new ByteWriter()
  assert.throws(() => writer.zigzag64(2n ** 63n), { name: 'AssertionError' })
  assert.throws(() => writer.varint(1.5), { name: 'AssertionError' })
  assert.throws(() => writer.varint(-1), { name: 'AssertionError' })
  assert.throws(() => writer.u32(2 ** 32), { name: 'AssertionError' })
})

test('a lone surrogate becomes the replacement character', () => {
  const writer = new ByteWriter()
  writer.utf8('a\ud800b')
  assert.equal(new ByteReader(writer.finish()).utf8(), 'a\ufffdb')
})

test('bytes left over are told', () => {
  const reader = new ByteReader(new Uint8Array([1, 2]))
  reader.u8()
  assert.equal(reader.remaining, 1)
  assert.throws(() => reader.expectEnd(), { code: 'CORRUPT' })
})

test('a length that is known only afterwards is set in its place', () => {
  const writer = new ByteWriter()
  writer.u32(0)
  writer.utf8('body')
  writer.setU32(0, writer.length - 4)

  const reader = new ByteReader(writer.finish())
  assert.equal(reader.u32(), reader.remaining)
})

test('a text of any length comes back, wherever in it something is not ASCII', () => {
  for (let length = 0; length <= 60; length++) {
    const ascii = Array.from({ length }, (_, at) => String.fromCharCode(32 + (at % 95))).join('')
    const texts = [ascii]
    for (let at = 0; at < length; at++) {
      texts.push(`${ascii.slice(0, at)}\u007f${ascii.slice(at)}`)
      texts.push(`${ascii.slice(0, at)}\u0080${ascii.slice(at + 1)}`)
    }
    const writer = new ByteWriter()
    for (const text of texts) writer.utf8(text)
    const reader = new ByteReader(writer.finish())
    for (const text of texts) assert.equal(reader.utf8(), text)
    reader.expectEnd()
  }
})
