/**
 * Frames of a lane: how a stream of bytes is cut into what was sent.
 *
 *     u32 length of the body, big-endian
 *     u32 CRC-32 of the body
 *     body
 *
 * A frame of length 0 is a ping; it shows life and is not handed on.
 */
import { crc32 } from 'node:zlib'
import { DbError } from '../base/errors.ts'

export const FRAME_HEADER_BYTES = 8

/** Largest body. Larger ones are neither sent nor read. */
export const FRAME_BODY_BYTES_MAX = 32 * 1024 * 1024

/** Frames up to this size are copied together, larger ones are written from where they lie. */
const COPY_BYTES_MAX = 16 * 1024

/** What a ping looks like on the wire. */
export const PING: Uint8Array = new Uint8Array(FRAME_HEADER_BYTES)

/** The frames as few chunks to write one after another; bodies are not copied if they are large. */
export function encodeFrames(bodies: readonly Uint8Array[]): Uint8Array[] {
  let copiedBytes = 0
  for (const body of bodies) {
    copiedBytes += FRAME_HEADER_BYTES + (body.length <= COPY_BYTES_MAX ? body.length : 0)
  }
  const copied = Buffer.allocUnsafe(copiedBytes)
  const chunks: Uint8Array[] = []
  let start = 0
  let end = 0
  for (const body of bodies) {
    copied.writeUInt32BE(body.length, end)
    copied.writeUInt32BE(crc32(body), end + 4)
    end += FRAME_HEADER_BYTES
    if (body.length <= COPY_BYTES_MAX) {
      copied.set(body, end)
      end += body.length
    } else {
      chunks.push(copied.subarray(start, end), body)
      start = end
    }
  }
  if (end > start) chunks.push(copied.subarray(start, end))
  return chunks
}

/**
 * Cuts what arrives into frames. Bodies that lie in one chunk are views of it, others are copied
 * together once; nobody writes to either again, so the receiver may keep them.
 */
export class FrameReader {
  readonly #onFrame: (body: Uint8Array) => void
  readonly #header = Buffer.allocUnsafe(FRAME_HEADER_BYTES)
  #headerLength = 0
  /** The body under way, present if it was not complete in the chunk that brought its header. */
  #body: Uint8Array | undefined
  #bodyLength = 0
  #error: DbError | undefined

  /** `onFrame` gets each body in order. */
  constructor(onFrame: (body: Uint8Array) => void) {
    this.#onFrame = onFrame
  }

  /**
   * Returns CORRUPT if the bytes are no frame: the stream can't be read any further. It is returned
   * so that nothing that `onFrame` throws is ever taken for it.
   */
  push(chunk: Uint8Array): DbError | undefined {
    let offset = 0
    while (offset < chunk.length && this.#error === undefined) {
      offset =
        this.#headerLength < FRAME_HEADER_BYTES
          ? this.#takeHeader(chunk, offset)
          : this.#takeBody(chunk, offset)
    }
    return this.#error
  }

  #takeHeader(chunk: Uint8Array, offset: number): number {
    const count = Math.min(FRAME_HEADER_BYTES - this.#headerLength, chunk.length - offset)
    this.#header.set(chunk.subarray(offset, offset + count), this.#headerLength)
    this.#headerLength += count
    if (this.#headerLength === FRAME_HEADER_BYTES) {
      const length = this.#header.readUInt32BE(0)
      if (length > FRAME_BODY_BYTES_MAX) {
        this.#error = new DbError(
          'CORRUPT',
          `a frame of ${length} bytes is announced, the limit is ${FRAME_BODY_BYTES_MAX}`,
        )
      }
      if (length === 0) this.#finish(new Uint8Array(0))
    }
    return offset + count
  }

  #takeBody(chunk: Uint8Array, offset: number): number {
    const length = this.#header.readUInt32BE(0)
    const available = chunk.length - offset
    if (this.#body === undefined && available >= length) {
      this.#finish(chunk.subarray(offset, offset + length))
      return offset + length
    }
    // Not cleared: only a body that was filled completely is handed on.
    this.#body ??= Buffer.allocUnsafeSlow(length)
    const count = Math.min(length - this.#bodyLength, available)
    this.#body.set(chunk.subarray(offset, offset + count), this.#bodyLength)
    this.#bodyLength += count
    if (this.#bodyLength === length) this.#finish(this.#body)
    return offset + count
  }

  #finish(body: Uint8Array): void {
    const announced = this.#header.readUInt32BE(4)
    const actual = crc32(body)
    this.#headerLength = 0
    this.#body = undefined
    this.#bodyLength = 0
    if (announced !== actual) {
      this.#error = new DbError(
        'CORRUPT',
        `a frame of ${body.length} bytes has checksum ${actual}, announced was ${announced}`,
      )
    } else if (body.length > 0) {
      this.#onFrame(body)
    }
  }
}
