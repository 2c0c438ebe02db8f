/**
 * Frames on the pipe between the main process and an engine process: the body's length as 4 bytes,
 * least significant first, then the body. A pipe is in order and loses nothing, so there is no
 * checksum; it may split anywhere, so frames are put together here.
 */
import { assert } from '../../base/assert.ts'

export const FRAME_HEADER_BYTES = 4

/** No message comes near it: a longer length means that something else wrote into the pipe. */
export const FRAME_SIZE_BYTES_MAX = 1 << 30

/** Writes the header of a frame with a body of `sizeBytes` into `target` at `offset`. */
export function writeFrameHeader(target: Uint8Array, offset: number, sizeBytes: number): void {
  assert(sizeBytes <= FRAME_SIZE_BYTES_MAX, `a frame of ${sizeBytes} bytes is over the limit`)
  target[offset] = sizeBytes
  target[offset + 1] = sizeBytes >>> 8
  target[offset + 2] = sizeBytes >>> 16
  target[offset + 3] = sizeBytes >>> 24
}

/** Takes chunks as the pipe gives them and calls back with whole bodies, in order. */
export class FrameReader {
  readonly #onFrame: (body: Uint8Array) => void
  readonly #header = new Uint8Array(FRAME_HEADER_BYTES)
  /** Bytes of `#header` that are filled; 0 while a body is being put together. */
  #headerLength = 0
  /** The body that is being put together, if it did not fit into one chunk. */
  #body: Uint8Array | undefined
  #bodyLength = 0

  /** `onFrame` must copy what it wants to keep: the bytes may be overwritten when it returns. */
  constructor(onFrame: (body: Uint8Array) => void) {
    this.#onFrame = onFrame
  }

  push(chunk: Uint8Array): void {
    let offset = 0
    while (offset < chunk.length) {
      if (this.#body !== undefined) {
        offset = this.#fillBody(this.#body, chunk, offset)
        continue
      }
      const missing = FRAME_HEADER_BYTES - this.#headerLength
      const taken = Math.min(missing, chunk.length - offset)
      for (let i = 0; i < taken; i++) {
        this.#header[this.#headerLength + i] = chunk[offset + i] ?? 0
      }
      this.#headerLength += taken
      offset += taken
      if (taken < missing) return
      this.#headerLength = 0
      offset = this.#beginBody(this.#bodySize(), chunk, offset)
    }
  }

  /** A body that lies within the chunk, as nearly all do, is handed over without a copy. */
  #beginBody(sizeBytes: number, chunk: Uint8Array, offset: number): number {
    if (chunk.length - offset >= sizeBytes) {
      this.#onFrame(chunk.subarray(offset, offset + sizeBytes))
      return offset + sizeBytes
    }
    this.#body = new Uint8Array(sizeBytes)
    this.#bodyLength = 0
    return offset
  }

  #fillBody(body: Uint8Array, chunk: Uint8Array, offset: number): number {
    const taken = Math.min(body.length - this.#bodyLength, chunk.length - offset)
    body.set(chunk.subarray(offset, offset + taken), this.#bodyLength)
    this.#bodyLength += taken
    if (this.#bodyLength === body.length) {
      this.#body = undefined
      this.#onFrame(body)
    }
    return offset + taken
  }

  #bodySize(): number {
    const [first = 0, second = 0, third = 0, fourth = 0] = this.#header
    const sizeBytes = first + second * 0x100 + third * 0x1_0000 + fourth * 0x100_0000
    assert(sizeBytes <= FRAME_SIZE_BYTES_MAX, `a frame says it has ${sizeBytes} bytes`)
    return sizeBytes
  }
}
