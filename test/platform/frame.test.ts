/** Frames: whatever is sent comes out, however the stream is cut, and damage is noticed. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { DbError } from '../../src/base/errors.ts'
import { encodeFrames, FRAME_BODY_BYTES_MAX, FrameReader, PING } from '../../src/platform/frame.ts'

const bodies = fc.array(
  fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 40 }),
    // Over the size from which bodies are not copied, and so written as chunks of their own.
    fc.integer({ min: 16_300, max: 16_500 }).map(size => new Uint8Array(size).fill(size % 251)),
  ),
  { maxLength: 8 },
)

/** Cuts bytes into pieces of the given sizes, again and again. */
function cut(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const pieces: Uint8Array[] = []
  for (let offset = 0, turn = 0; offset < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1
    pieces.push(bytes.subarray(offset, offset + size))
    offset += size
  }
  return pieces
}

function read(pieces: readonly Uint8Array[]): { frames: Buffer[]; error: DbError | undefined } {
  const frames: Buffer[] = []
  const reader = new FrameReader(body => frames.push(Buffer.from(body)))
  let error: DbError | undefined
  for (const piece of pieces) error = reader.push(piece)
  return { frames, error }
}

test('every sequence of frames comes out as it went in, wherever the stream is cut', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1, maxLength: 5 })
  fc.assert(
    fc.property(bodies, sizes, (sent, sizes) => {
      const { frames, error } = read(cut(Buffer.concat(encodeFrames(sent)), sizes))

      assert.equal(error, undefined)
      assert.deepEqual(
        frames,
        sent.map(body => Buffer.from(body)),
      )
    }),
    { numRuns: 200 },
  )
})

test('frames are read when each byte arrives alone', () => {
  const sent = [Buffer.from('one'), Buffer.from('t'), Buffer.alloc(300, 3)]

  const { frames } = read(cut(Buffer.concat(encodeFrames(sent)), [1]))

  assert.deepEqual(frames, sent)
})

test('small frames are written together, a large body from where it lies', () => {
  const small = Array.from({ length: 100 }, () => new Uint8Array(10))
  const large = new Uint8Array(100_000)

  const chunks = encodeFrames([...small, large, ...small])

  assert.deepEqual(
    chunks.map(chunk => chunk.length),
    [100 * 18 + 8, 100_000, 100 * 18],
  )
  assert.equal(chunks[1], large)
})

test('a ping between frames is passed over', () => {
  const [one = PING] = encodeFrames([Buffer.from('one')])
  const [two = PING] = encodeFrames([Buffer.from('two')])

  const { frames } = read(cut(Buffer.concat([PING, one, PING, PING, two, PING]), [5]))

  assert.deepEqual(frames.map(String), ['one', 'two'])
})

test('each flipped bit of a frame is noticed, and nothing after it is handed on', () => {
  const bytes = Buffer.concat(encodeFrames([Buffer.from('first'), Buffer.from('second')]))
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = Buffer.from(bytes)
    damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7))

    const { frames, error } = read([damaged, ...Array<Uint8Array>(4).fill(PING)])

    // A longer length waits for bytes that never come; everything else is CORRUPT at once.
    const intact = bit < 13 * 8 ? [] : ['first']
    assert.deepEqual(frames.map(String), intact, `bit ${bit}`)
    const claimsMore = error === undefined && (bit < 32 || (bit >= 13 * 8 && bit < 17 * 8))
    assert(claimsMore || error?.code === 'CORRUPT', `bit ${bit}`)
  }
})

test('a frame over the limit is refused before any memory is taken for it', () => {
  const header = Buffer.alloc(8)
  header.writeUInt32BE(FRAME_BODY_BYTES_MAX + 1)

  const { error } = read([header])

  assert.match(error?.message ?? '', /a frame of 33554433 bytes is announced/)
})

test('what the receiver of a frame throws is not taken for a damaged frame', () => {
  const reader = new FrameReader(() => {
    throw new RangeError('a bug of the receiver')
  })

  assert.throws(() => reader.push(Buffer.concat(encodeFrames([Buffer.from('x')]))), RangeError)
})
