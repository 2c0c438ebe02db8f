import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  FRAME_HEADER_BYTES,
  FRAME_SIZE_BYTES_MAX,
  FrameReader,
  writeFrameHeader,
} from '../../../src/engine/sqlite/frames.ts'

function framed(bodies: readonly Uint8Array[]): Uint8Array {
  const size = bodies.reduce((sum, body) => sum + FRAME_HEADER_BYTES + body.length, 0)
  const bytes = new Uint8Array(size)
  let offset = 0
  for (const body of bodies) {
    writeFrameHeader(bytes, offset, body.length)
    bytes.set(body, offset + FRAME_HEADER_BYTES)
    offset += FRAME_HEADER_BYTES + body.length
  }
  return bytes
}

/** Reads the stream cut at the given places, through one buffer that is overwritten each time. */
function readInPieces(stream: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const bodies: Uint8Array[] = []
  const reader = new FrameReader(body => bodies.push(body.slice()))
  const buffer = new Uint8Array(stream.length)
  let from = 0
  for (const to of [...cuts, stream.length]) {
    buffer.fill(0xee)
    buffer.set(stream.subarray(from, to))
    reader.push(buffer.subarray(0, to - from))
    from = to
  }
  return bodies
}

const bodiesArbitrary = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 })

test('frames come out whole and in order wherever the stream is cut once', () => {
  fc.assert(
    fc.property(bodiesArbitrary, bodies => {
      const stream = framed(bodies)
      for (let cut = 0; cut <= stream.length; cut++) {
        assert.deepEqual(readInPieces(stream, [cut]), bodies)
      }
    }),
    { numRuns: 60 },
  )
})

test('frames come out whole and in order wherever the stream is cut often', () => {
  fc.assert(
    fc.property(bodiesArbitrary, fc.array(fc.nat(300), { maxLength: 30 }), (bodies, places) => {
      const stream = framed(bodies)
      const cuts = places.map(place => Math.min(place, stream.length)).sort((a, b) => a - b)
      assert.deepEqual(readInPieces(stream, cuts), bodies)
    }),
    { numRuns: 400 },
  )
})

test('frames come out whole when the stream comes byte by byte', () => {
  const bodies = [new Uint8Array(0), new Uint8Array(300).fill(7), Uint8Array.of(1, 2, 3)]
  const stream = framed(bodies)

  const cuts = Array.from(stream, (_, index) => index)

  assert.deepEqual(readInPieces(stream, cuts), bodies)
})

test('a body larger than a megabyte keeps its length in all four header bytes', () => {
  const body = new Uint8Array(0x0102_0304).fill(9)

  const [read] = readInPieces(framed([body]), [3, 70_000])

  assert.equal(read?.length, body.length)
  assert.deepEqual(framed([body]).subarray(0, 4), Uint8Array.of(4, 3, 2, 1))
})

test('a length over the limit is a broken invariant, not an allocation', () => {
  const reader = new FrameReader(() => assert.fail('there is no frame'))

  assert.throws(() => reader.push(Uint8Array.of(255, 255, 255, 255)), /4294967295 bytes/)
  assert.throws(() => writeFrameHeader(new Uint8Array(4), 0, FRAME_SIZE_BYTES_MAX + 1), /limit/)
})
